//! Log in, held up by the brake when too much is tried.

use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use chrono::{DateTime, Utc};
use garde::Validate;
use pool::Class;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::accounts::email_address;
use super::cookies;
use super::error::ApiError;
use super::extract::Json;
use crate::app::App;
use crate::brake::{Origin, Outcome};
use crate::config::Accounts;
use crate::store::accounts::AccountError;
use crate::store::log_ins::{self, Attempt, Claim, Opening};
use crate::store::passwords::PasswordError;
use crate::store::sessions::Token;

/// The address of log-ins.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(log_in))
}

#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct LogIn {
    /// E-mail address.
    #[garde(custom(email_address))]
    #[schema(
        min_length = 3,
        max_length = 254,
        pattern = r"^[^\s\u0000-\u001f\u007f-\u009f@]+@[^\s\u0000-\u001f\u007f-\u009f@]+$",
        example = "ann@example.org"
    )]
    email: String,
    /// Password.
    #[garde(length(chars, min = 1, max = 128))]
    #[schema(
        min_length = 1,
        max_length = 128,
        pattern = r"^[^\u0000]*$",
        example = "correct horse battery staple"
    )]
    password: String,
}

/// A session that was opened.
#[derive(Serialize, ToSchema)]
struct Session {
    /// Send it as `Authorization: Bearer …`. It is not shown again.
    token: String,
    /// When the session ends by itself.
    expires_at: DateTime<Utc>,
}

/// Log in.
#[utoipa::path(post, path = "/api/sessions", tag = "accounts", request_body = LogIn,
    responses((status = CREATED, body = Session, headers(("Set-Cookie" = String,
            description = "The session for browsers, and what this device is known by"))),
        (status = UNAUTHORIZED, description = "E-mail address or password is wrong"),
        (status = TOO_MANY_REQUESTS,
            description = "Too many passwords were tried for the account, or from this network")))]
async fn log_in(
    State(app): State<App>,
    origin: Origin,
    headers: HeaderMap,
    Json(login): Json<LogIn>,
) -> Result<Response, ApiError> {
    let device = cookies::device(&headers);
    let spent = app.brake.attempts.spend(origin, Instant::now());
    let opened = try_log_in(&app, &login, device, origin, spent).await;
    if spent.is_ok() && opened.as_ref().err().is_none_or(Refusal::is_no_guess) {
        app.brake.attempts.give_back(origin, Instant::now());
    }
    let outcome = match &opened {
        Ok(_) => Some(Outcome::Right),
        Err(refusal) => refusal.outcome(),
    };
    if let Some(outcome) = outcome {
        app.brake.log_ins.count(outcome);
    }
    Ok(answer(&opened?, &app.settings.accounts))
}

fn answer(opened: &Opened, settings: &Accounts) -> Response {
    let token = opened.session.reveal();
    let cookies = AppendHeaders([
        (header::SET_COOKIE, cookies::session(&token, settings)),
        (
            header::SET_COOKIE,
            cookies::remembered(&opened.device, settings),
        ),
    ]);
    let session = axum::Json(Session {
        token,
        expires_at: opened.expires_at,
    });
    (StatusCode::CREATED, cookies, session).into_response()
}

struct Opened {
    session: Token,
    device: Token,
    expires_at: DateTime<Utc>,
}

/// Why nobody was logged in.
enum Refusal {
    /// The password is wrong, or there is no such account.
    Wrong,
    /// Too many passwords were tried for the account.
    AccountHeld(Duration),
    /// Too much was tried from the network.
    NetworkHeld(Duration),
    /// Others' passwords come first.
    Busy(ApiError),
    /// The database, or a fault of this program.
    Failed(ApiError),
}

impl Refusal {
    /// Whether the client has tried nothing and is not to blame.
    fn is_no_guess(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::Failed(_))
    }

    fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Wrong => Some(Outcome::Wrong),
            Self::AccountHeld(_) => Some(Outcome::AccountHeld),
            Self::NetworkHeld(_) => Some(Outcome::NetworkHeld),
            Self::Busy(_) => Some(Outcome::Busy),
            Self::Failed(_) => None,
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Wrong => AccountError::WrongCredentials.into(),
            Refusal::AccountHeld(wait) => Self::too_many(
                "Too many passwords were tried for this e-mail address. A browser that has been logged in \
                 to the account before does not have to wait for the others.",
                wait,
            ),
            Refusal::NetworkHeld(wait) => held_network(wait),
            Refusal::Busy(err) | Refusal::Failed(err) => err,
        }
    }
}

impl From<AccountError> for Refusal {
    fn from(err: AccountError) -> Self {
        Self::Failed(err.into())
    }
}

/// Too much was tried from a network.
pub(super) fn held_network(wait: Duration) -> ApiError {
    ApiError::too_many(
        "Too many log-ins and registrations from your network.",
        wait,
    )
}

/// Too many passwords are being computed. Whoever has more than this one open is part of the crowd.
pub(super) fn out_of_turn(err: PasswordError, open: u32) -> ApiError {
    if matches!(err, PasswordError::Busy) && open > 1 {
        held_network(Duration::from_secs(1))
    } else {
        AccountError::from(err).into()
    }
}

/// `spent`: what the network has open, or when it may go on; a device that is known does not have to wait for
/// that. No connection is held while the password is checked or waits for its turn.
async fn try_log_in(
    app: &App,
    login: &LogIn,
    device: Option<Token>,
    origin: Origin,
    spent: Result<u32, Duration>,
) -> Result<Opened, Refusal> {
    let open = match (spent, &device) {
        (Ok(open), _) => open,
        (Err(wait), None) => return Err(Refusal::NetworkHeld(wait)),
        // Anybody can make up a cookie, so these are counted as well.
        (Err(_), Some(_)) => match app.brake.of_devices.spend(origin, Instant::now()) {
            Ok(_) => u32::MAX,
            Err(wait) => return Err(Refusal::NetworkHeld(wait)),
        },
    };
    // Before the attempt is counted, which is a statement: a crowd does not take up the connections either.
    let turn = app.passwords.turn(open).await;
    let turn = turn.map_err(|err| Refusal::Busy(out_of_turn(err, open)))?;
    let claim = app.pool.run(Class::Account, async |conn| {
        log_ins::claim(conn, &login.email, device.as_ref(), spent.is_ok()).await
    });
    let attempt = match (claim.await.map_err(AccountError::from)?, spent) {
        (Claim::Granted(attempt), _) => attempt,
        (Claim::TooEarly(_), Err(wait)) => return Err(Refusal::NetworkHeld(wait)),
        (Claim::TooEarly(wait), Ok(_)) => return Err(Refusal::AccountHeld(wait)),
    };
    let (password, hash) = (login.password.clone(), attempt.password_hash.clone());
    let matches = turn.verify(password, hash).await;
    let matches = matches.map_err(AccountError::from)?;
    let account = attempt.account.filter(|_| matches);
    let account = account.ok_or(Refusal::Wrong)?;
    open_session(app, login, account, device, &attempt).await
}

async fn open_session(
    app: &App,
    login: &LogIn,
    account: i64,
    device: Option<Token>,
    attempt: &Attempt,
) -> Result<Opened, Refusal> {
    let known = device.filter(|_| attempt.device_is_known);
    let device = known.unwrap_or_else(|| Token::generate(account));
    let session = Token::generate(account);
    let opening = Opening {
        email: &login.email,
        session: &session,
        lifetime: app.settings.accounts.session_lifetime,
        device: &device,
    };
    let opened = app.pool.run(Class::Account, async |conn| {
        log_ins::open(conn, &opening, attempt).await
    });
    let expires_at = opened.await.map_err(AccountError::from)?;
    Ok(Opened {
        session,
        device,
        expires_at,
    })
}
