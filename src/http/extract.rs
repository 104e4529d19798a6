//! What handlers take out of requests. Everything that cannot be taken becomes a problem document
//! that names the field.

use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use pool::Class;
use serde::de::DeserializeOwned;

use super::clock::{Clock, SlowBody};
use super::cookies;
use super::error::{ApiError, FieldError, Kind};
use super::json::{self, Unfit};
use crate::app::App;
use crate::store::accounts;
use crate::store::sessions::Token;

/// A JSON body, read and validated.
pub struct Json<T>(pub T);

impl<S, T> FromRequest<S> for Json<T>
where
    S: Send + Sync,
    T: DeserializeOwned + garde::Validate<Context = ()>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        require_json(request.headers())?;
        let body = Bytes::from_request(request, state).await.map_err(unread)?;
        let body = std::str::from_utf8(&body).map_err(|err| {
            ApiError::new(Kind::MALFORMED, format!("The body is not UTF-8: {err}."))
        })?;
        let value: T = json::read(body)?;
        validate(&value)?;
        Ok(Self(value))
    }
}

/// A query string, read and validated.
pub struct Query<T>(pub T);

impl<S, T> FromRequestParts<S> for Query<T>
where
    S: Send + Sync,
    T: DeserializeOwned + garde::Validate<Context = ()>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        // The parser below would silently replace what is not UTF-8.
        if percent_encoding::percent_decode_str(query)
            .decode_utf8()
            .is_err()
        {
            return Err(ApiError::new(
                Kind::MALFORMED,
                "The query string is not UTF-8.",
            ));
        }
        let pairs = serde_urlencoded::Deserializer::new(form_urlencoded::parse(query.as_bytes()));
        let value: T = serde_path_to_error::deserialize(pairs).map_err(|err| {
            let field = match err.path().to_string() {
                // The path of the whole.
                whole if whole == "." => "query".to_owned(),
                field => field,
            };
            ApiError::field(field, err.inner().to_string())
        })?;
        validate(&value)?;
        Ok(Self(value))
    }
}

/// The only parameter in a route's path.
pub struct Path<T>(pub T);

impl<S, T> FromRequestParts<S> for Path<T>
where
    S: Send + Sync,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let malformed = |detail: String| ApiError::new(Kind::MALFORMED, detail);
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|err| malformed(err.body_text()))?;
        let Some((name, text)) = params.iter().next() else {
            return Err(ApiError::not_found("address"));
        };
        if text.contains('\0') {
            return Err(malformed(format!("{name} contains a NUL character.")));
        }
        let value = text
            .parse()
            .map_err(|err| malformed(format!("{name}: {err}.")))?;
        Ok(Self(value))
    }
}

/// The token of a session, from the `Authorization` header or else from the cookie.
///
/// The cookie needs no further defence against forged requests from other sites: it is
/// `SameSite=Lax`, which keeps it from their POST and DELETE requests, and bodies must be JSON,
/// which their forms cannot send.
pub struct SessionToken(pub Token);

impl FromRequestParts<App> for SessionToken {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let headers = &parts.headers;
        let text = match headers.get(header::AUTHORIZATION) {
            Some(value) => value.to_str().ok().and_then(bearer),
            None => cookies::session_token(headers, app.settings.accounts.secure_cookies),
        };
        text.and_then(Token::parse)
            .map(Self)
            .ok_or_else(ApiError::unauthenticated)
    }
}

/// A body that comes at once is read before anything is looked up: the statement that needs it knows
/// whose the session is.
const AT_ONCE: Duration = Duration::from_millis(50);

/// A JSON body from somebody who is logged in. Nobody else can make the service wait for one.
pub struct FromShopper<T>(pub Token, pub T);

impl<T> FromRequest<App> for FromShopper<T>
where
    T: DeserializeOwned + garde::Validate<Context = ()> + Send,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let SessionToken(token) = SessionToken::from_request_parts(&mut parts, app).await?;
        let clock = parts.extensions.get::<Clock>().cloned();
        let class = parts.extensions.get().copied().unwrap_or(Class::Account);
        let request = Request::from_parts(parts, body);
        let body = Json::from_request(request, app);
        tokio::pin!(body);
        if let Ok(body) = tokio::time::timeout(AT_ONCE, &mut body).await {
            return body.map(|Json(body)| Self(token, body));
        }
        if let Some(clock) = clock {
            clock.resume(Instant::now());
        }
        app.pool
            .run(class, async |conn| accounts::of_session(conn, &token).await)
            .await?;
        body.await.map(|Json(body)| Self(token, body))
    }
}

/// The `Idempotency-Key` header: 1 to 255 visible ASCII characters.
pub struct IdempotencyKey(pub String);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let mut keys = parts.headers.get_all("idempotency-key").iter();
        let (Some(key), None) = (keys.next(), keys.next()) else {
            return Err(ApiError::new(
                Kind::MALFORMED,
                "Send one Idempotency-Key header: a random text per order, the same when the \
                 request is repeated.",
            ));
        };
        let key = key.as_bytes();
        if !(1..=255).contains(&key.len()) || !key.iter().all(u8::is_ascii_graphic) {
            return Err(ApiError::new(
                Kind::MALFORMED,
                "Idempotency-Key must be 1 to 255 visible ASCII characters.",
            ));
        }
        Ok(Self(String::from_utf8_lossy(key).into_owned()))
    }
}

/// The token in the value of an `Authorization` header.
pub fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// For `garde(custom(...))`: text that fits on one line, without control characters.
pub fn one_line(text: &str, _: &()) -> garde::Result {
    if text.chars().any(char::is_control) {
        return Err(garde::Error::new("control characters are not allowed"));
    }
    Ok(())
}

fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let unsupported = |detail| Err(ApiError::new(Kind::UNSUPPORTED_MEDIA_TYPE, detail));
    let coding = headers.get(header::CONTENT_ENCODING);
    if coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return unsupported("Send the body as it is, without Content-Encoding.");
    }
    let kind = headers.get(header::CONTENT_TYPE);
    let essence = kind
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(str::trim);
    if essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
        return Ok(());
    }
    unsupported("Send the body with Content-Type: application/json.")
}

fn unread(rejection: BytesRejection) -> ApiError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return ApiError::new(Kind::TOO_LARGE, "Send less at once.");
    }
    if SlowBody::caused(&rejection) {
        return ApiError::new(
            Kind::TOO_SLOW,
            "The body did not arrive in time: send it again, faster or shorter.",
        );
    }
    ApiError::new(Kind::MALFORMED, "The body ended early.")
}

impl From<Unfit> for ApiError {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::NotJson(message) => {
                Self::new(Kind::MALFORMED, format!("The body is not JSON: {message}."))
            }
            Unfit::Part { path, message } if path.is_empty() => Self::field("body", message),
            Unfit::Part { path, message } => Self::field(path, message),
        }
    }
}

fn validate<T: garde::Validate<Context = ()>>(value: &T) -> Result<(), ApiError> {
    value.validate().map_err(|report| {
        let errors = report.iter().map(|(path, error)| FieldError {
            field: path.to_string(),
            message: error.to_string(),
        });
        ApiError::invalid(errors.collect())
    })
}
