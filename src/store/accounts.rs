//! Accounts: register, find. Logging in is `log_ins`.

use chrono::{DateTime, Utc};
use pool::PoolError;
use serde::Serialize;
use sqlx::FromRow;
use sqlx::postgres::PgConnection;
use utoipa::ToSchema;

use super::StoreError;
use super::passwords::PasswordError;
use super::sessions::Token;

/// Who shops here.
#[derive(Debug, Serialize, FromRow, ToSchema)]
pub struct Account {
    /// Number of the account.
    pub id: i64,
    /// E-mail address as its owner typed it.
    pub email: String,
    /// Name for people; may be empty.
    pub name: String,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
}

/// Why an account was not registered or recognised.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Another account has this e-mail address, if only in other letter case.
    #[error("another account has this e-mail address")]
    EmailTaken,
    /// No such account, or another password; which of them is not told.
    #[error("e-mail address or password is wrong")]
    WrongCredentials,
    /// The load generator removes accounts with such addresses.
    #[error(
        "addresses at {} are the load generator's; use one that mail reaches",
        super::generated::DOMAIN
    )]
    ReservedAddress,
    /// Too easy to guess; what to do instead.
    #[error("{0}")]
    WeakPassword(&'static str),
    /// The session has ended or never existed.
    #[error("there is no such session")]
    NoSession,
    /// The password could not be hashed or checked.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<PoolError> for AccountError {
    fn from(err: PoolError) -> Self {
        Self::Store(err.into())
    }
}

impl From<sqlx::Error> for AccountError {
    /// Constraint violations, by the constraint's name.
    fn from(err: sqlx::Error) -> Self {
        let err = StoreError::from(err);
        match err.constraint() {
            Some("accounts_email_key" | "accounts_email_key_key") => Self::EmailTaken,
            _ => Self::Store(err),
        }
    }
}

/// Registers an account. One statement.
///
/// # Errors
/// [`AccountError::EmailTaken`], also by an account from before addresses were compared without
/// letter case.
pub async fn register(
    conn: &mut PgConnection,
    email: &str,
    name: &str,
    password_hash: &str,
) -> Result<Account, AccountError> {
    sqlx::query_as(
        "INSERT INTO accounts (email, email_key, name, password_hash)
         SELECT $1, lower($1), $2, $3
         WHERE NOT EXISTS (
             SELECT FROM accounts WHERE email_key IS NULL AND lower(email) = lower($1)
         )
         RETURNING id, email, name, created_at",
    )
    .bind(email)
    .bind(name)
    .bind(password_hash)
    .fetch_optional(conn)
    .await?
    .ok_or(AccountError::EmailTaken)
}

/// The account of a session. One statement.
///
/// # Errors
/// [`AccountError::NoSession`].
pub async fn of_session(conn: &mut PgConnection, token: &Token) -> Result<Account, AccountError> {
    sqlx::query_as(
        "SELECT a.id, a.email, a.name, a.created_at
         FROM sessions s JOIN accounts a ON a.id = s.account_id
         WHERE s.account_id = $1 AND s.token_hash = $2 AND s.expires_at > now()",
    )
    .bind(token.account())
    .bind(token.hash())
    .fetch_optional(conn)
    .await?
    .ok_or(AccountError::NoSession)
}
