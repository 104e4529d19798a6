//! Log in, held up by the brake when too much is tried.

use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use chrono::{DateTime, Utc};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::accounts::email_address;
use super::cookies;
use super::error::{ApiError, Problem};
use super::extract::Json;
use crate::app::App;
use crate::brake::{Origin, Outcome};
use crate::class::Class;
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
    email: String,
    /// Password.
    #[garde(length(chars, min = 1, max = 128))]
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
    responses(
        (status = CREATED, body = Session),
        (status = TOO_MANY_REQUESTS, body = Problem, content_type = "application/problem+json",
            description = "Too many passwords were tried for the account, or from this network",
            headers(("Retry-After" = u64, description = "Seconds until the next attempt")))))]
async fn log_in(
    State(app): State<App>,
    origin: Origin,
    headers: HeaderMap,
    Json(login): Json<LogIn>,
) -> Result<Response, ApiError> {
    let device = cookies::device(&headers);
    let spent = app.brake.attempts.spend(origin, Instant::now());
    let tried = try_log_in(&app, &login, device, spent).await;
    let outcome = match &tried {
        Ok(_) => Some(Outcome::Right),
        Err(Refusal::Wrong) => Some(Outcome::Wrong),
        Err(Refusal::AccountHeld(_)) => Some(Outcome::AccountHeld),
        Err(Refusal::NetworkHeld(_)) => Some(Outcome::NetworkHeld),
        Err(Refusal::Busy { .. }) => Some(Outcome::Busy),
        Err(Refusal::Failed(_)) => None,
    };
    if let Some(outcome) = outcome {
        app.brake.log_ins.count(outcome);
    }
    if spent.is_ok() && matches!(tried, Ok(_) | Err(Refusal::Failed(_))) {
        app.brake.attempts.give_back(origin, Instant::now());
    }
    let opened = tried?;
    let accounts = &app.settings.accounts;
    let token = opened.session.reveal();
    let cookies = AppendHeaders([
        (header::SET_COOKIE, cookies::session(&token, accounts)),
        (header::SET_COOKIE, cookies::remembered(&opened.device, accounts)),
    ]);
    let session = axum::Json(Session {
        token,
        expires_at: opened.expires_at,
    });
    Ok((StatusCode::CREATED, cookies, session).into_response())
}

struct Opened {
    session: Token,
    device: Token,
    expires_at: DateTime<Utc>,
}

/// Why nobody was logged in.
enum Refusal {
    Wrong,
    AccountHeld(Duration),
    NetworkHeld(Duration),
    /// `open`: what the network has open.
    Busy {
        open: u32,
    },
    Failed(ApiError),
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
            Refusal::Busy { open } => too_busy(open),
            Refusal::Failed(err) => err,
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
    ApiError::too_many("Too many log-ins and registrations from your network.", wait)
}

/// Too many passwords are being computed; who has more than this one open is part of the crowd.
pub(super) fn too_busy(open: u32) -> ApiError {
    if open > 1 {
        held_network(Duration::from_secs(1))
    } else {
        AccountError::from(PasswordError::Busy).into()
    }
}

/// No connection is held while the password is checked or waits for that. `spent`: what the network has open,
/// or when it may go on; a device that is known does not have to wait for that.
async fn try_log_in(
    app: &App,
    login: &LogIn,
    device: Option<Token>,
    spent: Result<u32, Duration>,
) -> Result<Opened, Refusal> {
    if let (Err(wait), None) = (spent, &device) {
        return Err(Refusal::NetworkHeld(wait));
    }
    let claim = app.pool.run(Class::Account, async |conn| {
        log_ins::claim(conn, &login.email, device.as_ref(), spent.is_ok()).await
    });
    let attempt = match (claim.await.map_err(AccountError::from)?, spent) {
        (Claim::Granted(attempt), _) => attempt,
        (Claim::TooEarly(_), Err(wait)) => return Err(Refusal::NetworkHeld(wait)),
        (Claim::TooEarly(wait), Ok(_)) => return Err(Refusal::AccountHeld(wait)),
    };
    // Whoever is known comes first.
    let open = spent.unwrap_or(0) * u32::from(!attempt.is_by_device());
    let (password, hash) = (login.password.clone(), attempt.password_hash.clone());
    let matches = match app.passwords.verify(password, hash, open).await {
        Err(PasswordError::Busy) => {
            give_back(app, login, device.as_ref(), &attempt).await?;
            return Err(Refusal::Busy { open });
        }
        verified => verified.map_err(AccountError::from)?,
    };
    let account = attempt.account.filter(|_| matches).ok_or(Refusal::Wrong)?;
    open_session(app, login, account, device, &attempt).await
}

async fn give_back(
    app: &App,
    login: &LogIn,
    device: Option<&Token>,
    attempt: &Attempt,
) -> Result<(), AccountError> {
    let given = app.pool.run(Class::Account, async |conn| {
        log_ins::give_back(conn, &login.email, device, attempt).await
    });
    Ok(given.await?)
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
