//! Register, log out.

use std::time::Instant;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use garde::Validate;
use pool::Class;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::ApiError;
use super::extract::{Json, SessionToken, one_line};
use super::{cookies, log_in};
use crate::app::App;
use crate::brake::Origin;
use crate::store::accounts::{self, Account, AccountError};
use crate::store::generated;
use crate::store::passwords;
use crate::store::sessions;

/// The addresses of accounts and sessions.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(register))
        .routes(routes!(log_out))
        .routes(routes!(me))
}

#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Registration {
    /// E-mail address, by which the account logs in, in whatever letter case.
    #[garde(custom(email_address))]
    #[schema(
        min_length = 3,
        max_length = 254,
        pattern = r"^[^\s\u0000-\u001f\u007f-\u009f@]+@[^\s\u0000-\u001f\u007f-\u009f@]+$",
        example = "ann@example.org"
    )]
    email: String,
    /// 8 to 128 characters that are hard to guess: not one of the passwords that are tried first, and not
    /// made of the address or the name.
    #[garde(length(chars, min = 8, max = 128))]
    #[schema(
        min_length = 8,
        max_length = 128,
        pattern = r"^[^\u0000]*$",
        example = "correct horse battery staple"
    )]
    password: String,
    /// Name for people.
    #[garde(length(chars, max = 200), custom(one_line))]
    #[schema(
        max_length = 200,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$",
        example = "Ann"
    )]
    #[serde(default)]
    name: String,
}

/// For `garde(custom(...))`: an e-mail address, as far as one can tell without writing to it.
pub(super) fn email_address(text: &str, ctx: &()) -> garde::Result {
    one_line(text, ctx)?;
    let plausible = text
        .split_once('@')
        .is_some_and(|(name, host)| !name.is_empty() && !host.is_empty() && !host.contains('@'));
    if !plausible || text.chars().count() > 254 || text.contains(char::is_whitespace) {
        return Err(garde::Error::new("not an e-mail address"));
    }
    Ok(())
}

/// Register an account.
#[utoipa::path(post, path = "/api/accounts", tag = "accounts", request_body = Registration,
    responses((status = CREATED, body = Account),
        (status = CONFLICT, description = "Another account has this e-mail address"),
        (status = TOO_MANY_REQUESTS, description = "Too much was tried from this network")))]
async fn register(
    State(app): State<App>,
    origin: Origin,
    Json(new): Json<Registration>,
) -> Result<(StatusCode, axum::Json<Account>), ApiError> {
    if let Some(why) = passwords::objection(&new.password, &new.email, &new.name) {
        return Err(AccountError::WeakPassword(why).into());
    }
    if generated::is_reserved(&new.email) {
        return Err(AccountError::ReservedAddress.into());
    }
    let spent = app.brake.attempts.spend(origin, Instant::now());
    let open = spent.map_err(log_in::held_network)?;
    let registered = try_register(&app, new, open).await;
    // Nothing was found out by what failed for our sake.
    if registered.as_ref().is_err_and(ApiError::is_ours) {
        app.brake.attempts.give_back(origin, Instant::now());
    }
    Ok((StatusCode::CREATED, axum::Json(registered?)))
}

async fn try_register(app: &App, new: Registration, open: u32) -> Result<Account, ApiError> {
    let turn = app.passwords.turn(open).await;
    let turn = turn.map_err(|err| log_in::out_of_turn(err, open))?;
    // Hashed before a connection is taken: nothing waits for a computation while holding one.
    let hash = turn.hash(new.password).await.map_err(AccountError::from)?;
    let account = app.pool.run(Class::Account, async |conn| {
        accounts::register(conn, &new.email, &new.name, &hash).await
    });
    Ok(account.await?)
}

/// Log out: end the session whose token is sent.
#[utoipa::path(delete, path = "/api/sessions/current", tag = "accounts",
    security(("bearer" = []), ("cookie" = [])), responses((status = NO_CONTENT, description = "The session has ended",
        headers(("Set-Cookie" = String, description = "Removes the session's cookie")))))]
async fn log_out(
    State(app): State<App>,
    SessionToken(token): SessionToken,
) -> Result<Response, ApiError> {
    app.pool
        .run(Class::Account, async |conn| {
            sessions::close(conn, &token).await
        })
        .await?;
    let cookie = cookies::no_session(&app.settings.accounts);
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
