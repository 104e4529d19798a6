//! Register, log in, log out.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use garde::Validate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::ApiError;
use super::extract::{Json, SECURE_SESSION_COOKIE, SESSION_COOKIE, SessionToken, one_line};
use crate::app::App;
use crate::class::Class;
use crate::store::accounts::{self, Account, AccountError};
use crate::store::sessions::{self, Token};

/// The addresses of accounts and sessions.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(register))
        .routes(routes!(log_in))
        .routes(routes!(log_out))
        .routes(routes!(me))
}

#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Registration {
    /// E-mail address, by which the account logs in, in whatever letter case.
    #[garde(custom(email_address))]
    email: String,
    /// 8 to 128 characters.
    #[garde(length(chars, min = 8, max = 128))]
    #[schema(min_length = 8, max_length = 128)]
    password: String,
    /// Name for people.
    #[garde(length(chars, max = 200), custom(one_line))]
    #[serde(default)]
    name: String,
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

fn email_address(text: &str, ctx: &()) -> garde::Result {
    one_line(text, ctx)?;
    let parts = text.rsplit_once('@');
    let plausible = parts.is_some_and(|(name, host)| !name.is_empty() && !host.is_empty());
    if !plausible || text.len() > 254 || text.contains(char::is_whitespace) {
        return Err(garde::Error::new("not an e-mail address"));
    }
    Ok(())
}

/// Register an account.
#[utoipa::path(post, path = "/api/accounts", tag = "accounts", request_body = Registration,
    responses((status = CREATED, body = Account)))]
async fn register(
    State(app): State<App>,
    Json(new): Json<Registration>,
) -> Result<(StatusCode, axum::Json<Account>), ApiError> {
    // Hashed before a connection is taken: nothing waits for a computation while holding one.
    let hash = app
        .passwords
        .hash(new.password)
        .await
        .map_err(AccountError::from)?;
    let account = app
        .pool
        .run(Class::Account, async |conn| {
            accounts::register(conn, &new.email, &new.name, &hash).await
        })
        .await?;
    Ok((StatusCode::CREATED, axum::Json(account)))
}

/// Log in.
#[utoipa::path(post, path = "/api/sessions", tag = "accounts", request_body = LogIn,
    responses((status = CREATED, body = Session)))]
async fn log_in(State(app): State<App>, Json(login): Json<LogIn>) -> Result<Response, ApiError> {
    let account = verified(&app, login).await?;
    let token = Token::generate(account);
    let lifetime = app.settings.accounts.session_lifetime;
    let expires_at = app
        .pool
        .run(Class::Account, async |conn| {
            sessions::open(conn, &token, lifetime).await
        })
        .await?;
    let token = token.reveal();
    let cookie = set_cookie(
        &token,
        lifetime.as_secs(),
        app.settings.accounts.secure_cookies,
    );
    let session = axum::Json(Session { token, expires_at });
    Ok((StatusCode::CREATED, [(header::SET_COOKIE, cookie)], session).into_response())
}

/// The account whose password was shown. No connection is held while it is checked.
async fn verified(app: &App, login: LogIn) -> Result<i64, AccountError> {
    let known = app
        .pool
        .run(Class::Account, async |conn| {
            accounts::credentials(conn, &login.email).await
        })
        .await?;
    let (id, hash) = known.map(|known| (known.id, known.password_hash)).unzip();
    let matches = app.passwords.verify(login.password, hash).await?;
    id.filter(|_| matches).ok_or(AccountError::WrongCredentials)
}

/// Log out: end the session whose token is sent.
#[utoipa::path(delete, path = "/api/sessions/current", tag = "accounts",
    security(("bearer" = []), ("cookie" = [])), responses((status = NO_CONTENT)))]
async fn log_out(
    State(app): State<App>,
    SessionToken(token): SessionToken,
) -> Result<Response, ApiError> {
    app.pool
        .run(Class::Account, async |conn| {
            sessions::close(conn, &token).await
        })
        .await?;
    let cookie = set_cookie("", 0, app.settings.accounts.secure_cookies);
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}

/// Show the account that is logged in.
#[utoipa::path(get, path = "/api/me", tag = "accounts",
    security(("bearer" = []), ("cookie" = [])), responses((status = OK, body = Account)))]
async fn me(
    State(app): State<App>,
    SessionToken(token): SessionToken,
) -> Result<axum::Json<Account>, ApiError> {
    let account = app
        .pool
        .run(Class::Account, async |conn| {
            accounts::of_session(conn, &token).await
        })
        .await?;
    Ok(axum::Json(account))
}

fn set_cookie(value: &str, max_age: u64, secure: bool) -> HeaderValue {
    let (name, secure) = if secure {
        (SECURE_SESSION_COOKIE, "; Secure")
    } else {
        (SESSION_COOKIE, "")
    };
    let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={max_age}{secure}");
    // A token is base64url, so that this is always a valid header; if not, no cookie is safe.
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
