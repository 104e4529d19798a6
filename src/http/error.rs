//! Every error that a client sees: one problem document (RFC 9457).
//!
//! Each layer has its own error type; this file is where they become HTTP.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pool::{Class, PoolError};
use serde::Serialize;
use tracing::error;
use utoipa::ToSchema;

use super::outage::Fault;
use crate::store::accounts::AccountError;
use crate::store::orders::OrderError;
use crate::store::passwords::PasswordError;
use crate::store::{Remedy, StoreError};

/// The media type of a [`Problem`].
pub const PROBLEM: &str = "application/problem+json";
/// Seconds after which a request that met an overloaded database is worth repeating.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// A kind of problem: its stable name, title and status.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// The `type` member, a URI reference.
    pub uri: &'static str,
    /// The `title` member.
    pub title: &'static str,
    /// The status code.
    pub status: StatusCode,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $status:ident, $slug:literal, $title:literal;)*) => {
        impl Kind {
            $($(#[$doc])* pub const $name: Self = Self {
                uri: concat!("/problems/", $slug),
                title: $title,
                status: StatusCode::$status,
            };)*
        }
    };
}

kinds! {
    /// The request could not be read.
    MALFORMED = BAD_REQUEST, "malformed-request", "The request could not be read";
    /// No session, or one that has ended; not the operations token.
    UNAUTHENTICATED = UNAUTHORIZED, "unauthenticated", "Log in first";
    /// E-mail address or password is wrong.
    WRONG_CREDENTIALS = UNAUTHORIZED, "wrong-credentials", "E-mail address or password is wrong";
    /// Nothing here, or nothing that the caller may see.
    NOT_FOUND = NOT_FOUND, "not-found", "Not found";
    /// The address exists, but not for this method.
    METHOD_NOT_ALLOWED = METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed";
    /// The client takes no encoding in which the answer can be sent.
    NOT_ACCEPTABLE = NOT_ACCEPTABLE, "not-acceptable", "The answer cannot be sent as asked for";
    /// The body did not arrive in time.
    TOO_SLOW = REQUEST_TIMEOUT, "request-timeout", "The request took too long to arrive";
    /// The state of things does not permit it.
    CONFLICT = CONFLICT, "conflict", "Conflict";
    /// Another account has this e-mail address.
    EMAIL_TAKEN = CONFLICT, "email-taken", "Another account has this e-mail address";
    /// Fewer pieces are left than ordered.
    OUT_OF_STOCK = CONFLICT, "out-of-stock", "Out of stock";
    /// A line names what is not on sale, or not on sale together with the others.
    NOT_ON_SALE = CONFLICT, "not-on-sale", "Not on sale as ordered";
    /// The body is larger than the service reads.
    TOO_LARGE = PAYLOAD_TOO_LARGE, "body-too-large", "The request body is too large";
    /// The body is not JSON.
    UNSUPPORTED_MEDIA_TYPE = UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "Send JSON";
    /// Readable, but a field is not as it has to be.
    INVALID = UNPROCESSABLE_ENTITY, "invalid-fields", "Some fields are invalid";
    /// The idempotency key belongs to another request.
    KEY_REUSED = UNPROCESSABLE_ENTITY, "idempotency-key-reused",
        "The idempotency key belongs to another request";
    /// Too much was tried, for an account or from a network.
    TOO_MANY_ATTEMPTS = TOO_MANY_REQUESTS, "too-many-attempts", "Too many attempts";
    /// A fault of this service.
    INTERNAL = INTERNAL_SERVER_ERROR, "internal", "Internal error";
    /// Too busy, or the database cannot be reached.
    UNAVAILABLE = SERVICE_UNAVAILABLE, "unavailable", "Try again in a moment";
}

/// What is wrong with one field.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FieldError {
    /// Path of the field, e.g. `lines[2].sku`.
    pub field: String,
    /// What to change.
    pub message: String,
}

/// A problem document as in RFC 9457.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// Which kind of problem: a stable URI reference.
    pub r#type: &'static str,
    /// The kind in words.
    pub title: &'static str,
    /// The status code.
    pub status: u16,
    /// What happened this time and what to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// The fields that are invalid.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Seconds until a repetition is worth while; told in the header `Retry-After`.
    #[serde(skip)]
    retry_after: Option<u64>,
}

/// An error answer. Boxed, because results carry it everywhere and it is rare.
#[derive(Clone, Debug)]
pub struct ApiError(Box<(StatusCode, Problem, Option<Fault>)>);

impl ApiError {
    /// An error of `kind`, with a sentence on what happened this time and what to do.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let problem = Problem {
            r#type: kind.uri,
            title: kind.title,
            status: kind.status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: None,
        };
        Self(Box::new((kind.status, problem, None)))
    }

    /// With what the log counts it as.
    pub fn because(mut self, fault: Fault) -> Self {
        self.0.2 = Some(fault);
        self
    }

    /// Fields that are not as they have to be.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        Self::new(Kind::INVALID, "").about(errors)
    }

    /// Whether the service could not do what was asked, or not now, whatever it was.
    pub fn is_ours(&self) -> bool {
        let status = self.0.0;
        status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
    }

    /// Says which fields it is about.
    fn about(mut self, errors: Vec<FieldError>) -> Self {
        self.0.1.errors = errors;
        self
    }

    /// One field that is not as it has to be.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError {
            field: field.into(),
            message: message.into(),
        }])
    }

    /// Nobody is logged in.
    pub fn unauthenticated() -> Self {
        Self::new(
            Kind::UNAUTHENTICATED,
            "Send the token of POST /api/sessions as a bearer token or as its cookie.",
        )
    }

    /// Too much was tried; after `wait` once more may be. `what` is a sentence.
    pub fn too_many(what: &str, wait: Duration) -> Self {
        // In whole seconds, and never sooner than it is true.
        let seconds = (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1);
        let detail = format!("{what} Try again in {seconds} s.");
        let mut error = Self::new(Kind::TOO_MANY_ATTEMPTS, detail);
        error.0.1.retry_after = Some(seconds);
        error
    }

    /// There is nothing here.
    pub fn not_found(what: &str) -> Self {
        Self::new(Kind::NOT_FOUND, format!("There is no such {what}."))
    }

    /// A fault of this service. `cause` is logged, with the request's id, and not told.
    pub fn internal(cause: &dyn std::error::Error) -> Self {
        error!(%cause, "internal error");
        Self::new(
            Kind::INTERNAL,
            "The fault has been logged under the id in the X-Request-Id header.",
        )
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, problem, fault) = *self.0;
        let retry_after = problem.retry_after.map(HeaderValue::from);
        let mut response = (status, Json(problem)).into_response();
        if let Some(fault) = fault {
            response.extensions_mut().insert(fault);
        }
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
        if let Some(retry_after) = retry_after {
            headers.insert(header::RETRY_AFTER, retry_after);
        }
        match status {
            StatusCode::SERVICE_UNAVAILABLE => headers.insert(header::RETRY_AFTER, RETRY_AFTER),
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
            }
            _ => None,
        };
        response
    }
}

impl From<PoolError> for ApiError {
    fn from(err: PoolError) -> Self {
        StoreError::from(err).into()
    }
}

impl From<StoreError> for ApiError {
    fn from(err: StoreError) -> Self {
        match err.remedy() {
            Remedy::Report => Self::internal(&err),
            Remedy::Correct => Self::new(
                Kind::INVALID,
                "A text contains a character that cannot be stored, such as NUL.",
            ),
            Remedy::Retry => {
                Self::new(Kind::UNAVAILABLE, unavailable(&err)).because(Fault::of(&err))
            }
        }
    }
}

fn unavailable(err: &StoreError) -> &'static str {
    match err {
        StoreError::Pool(PoolError::Saturated {
            class: Class::Checkout,
            ..
        }) => "Too many orders are being placed. This one was not: repeat it.",
        StoreError::Pool(PoolError::Saturated { .. }) => "Too many requests are waiting.",
        StoreError::Pool(PoolError::Connect(_) | PoolError::Closed) => {
            "The database cannot be reached. Nothing was sent to it: repeat the request."
        }
        _ => "The database does not answer.",
    }
}

impl From<AccountError> for ApiError {
    fn from(err: AccountError) -> Self {
        match err {
            AccountError::EmailTaken => Self::new(
                Kind::EMAIL_TAKEN,
                "Log in, or register with another e-mail address.",
            ),
            AccountError::WrongCredentials => Self::new(Kind::WRONG_CREDENTIALS, ""),
            AccountError::ReservedAddress => Self::field("email", err.to_string()),
            AccountError::WeakPassword(why) => Self::field("password", why),
            AccountError::NoSession => Self::unauthenticated(),
            AccountError::Password(PasswordError::Busy) => {
                Self::new(Kind::UNAVAILABLE, "Too many people are logging in.")
                    .because(Fault::new("too many log-ins", PasswordError::Busy))
            }
            AccountError::Password(err) => Self::internal(&err),
            AccountError::Store(err) => err.into(),
        }
    }
}

/// The order is well-formed; what the shop sells does not permit it.
fn not_on_sale(fields: impl IntoIterator<Item = String>, message: &str) -> ApiError {
    let errors = fields.into_iter().map(|field| FieldError {
        field,
        message: message.to_owned(),
    });
    ApiError::new(Kind::NOT_ON_SALE, "").about(errors.collect())
}

impl From<OrderError> for ApiError {
    fn from(err: OrderError) -> Self {
        match err {
            OrderError::NoSession => Self::unauthenticated(),
            OrderError::NotFound => Self::not_found("order"),
            OrderError::UnknownSku(lines) => {
                let lines = lines.into_iter().map(|line| format!("lines[{line}].sku"));
                not_on_sale(lines, "nothing on sale has this SKU")
            }
            OrderError::MixedCurrencies => not_on_sale(
                ["lines".to_owned()],
                "prices are in different currencies: place one order per currency",
            ),
            OrderError::TotalTooLarge => {
                not_on_sale(["lines".to_owned()], "the total is too large")
            }
            OrderError::OutOfStock(skus) => Self::new(
                Kind::OUT_OF_STOCK,
                format!("Fewer pieces are left than ordered: {}.", skus.join(", ")),
            ),
            OrderError::KeyReused => Self::new(
                Kind::KEY_REUSED,
                "Use a new Idempotency-Key for every new order.",
            ),
            OrderError::Store(err) => err.into(),
        }
    }
}

impl ApiError {
    /// The answer to an order that could not be placed. When the database went silent half-way,
    /// nobody knows whether it was; without a connection nothing was sent.
    pub fn placing(err: OrderError) -> Self {
        let sent = |err: &StoreError| {
            !matches!(
                err,
                StoreError::Pool(
                    PoolError::Saturated { .. } | PoolError::Connect(_) | PoolError::Closed
                )
            )
        };
        match err {
            OrderError::Store(err) if err.remedy() == Remedy::Retry && sent(&err) => Self::new(
                Kind::UNAVAILABLE,
                "The database does not answer. The order may have been placed: repeat the \
                     request with the same Idempotency-Key.",
            )
            .because(Fault::of(&err)),
            err => err.into(),
        }
    }
}
