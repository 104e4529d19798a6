//! Sessions: opaque tokens, of which the database knows only a hash.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use rand::RngExt;
use sha2::{Digest, Sha256};
use sqlx::postgres::PgConnection;
use std::time::Duration;

use super::StoreError;

const ACCOUNT_BYTES: usize = 8;
const RANDOM_BYTES: usize = 32;

/// What a client shows to be recognised: its account, so that the look-up begins with it, and 256
/// random bits. Looked up by hash, therefore how much of a guess is right cannot be timed.
#[derive(Clone)]
pub struct Token([u8; ACCOUNT_BYTES + RANDOM_BYTES]);

/// Tokens never show up in logs.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token(account {})", self.account())
    }
}

impl Token {
    /// A new token of `account`.
    pub fn generate(account: i64) -> Self {
        let mut bytes = [0; ACCOUNT_BYTES + RANDOM_BYTES];
        bytes[..ACCOUNT_BYTES].copy_from_slice(&account.to_be_bytes());
        rand::rng().fill(&mut bytes[ACCOUNT_BYTES..]);
        Self(bytes)
    }

    /// Reads what [`Token::reveal`] wrote; `None` when it is not a token.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        bytes.try_into().ok().map(Self)
    }

    /// The text that the client keeps.
    pub fn reveal(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// The account that it claims to belong to. Only the database knows whether that is true.
    pub fn account(&self) -> i64 {
        let (account, _) = self.0.split_first_chunk().unwrap_or((&[0; 8], &[]));
        i64::from_be_bytes(*account)
    }

    /// What the database stores.
    pub fn hash(&self) -> Vec<u8> {
        Sha256::digest(self.0).to_vec()
    }
}

/// Opens a session for `account` and returns when it ends; removes the account's expired ones.
/// One statement.
///
/// # Errors
/// [`StoreError`]; the foreign key `sessions_account_id_fkey` when the account is gone.
pub async fn open(
    conn: &mut PgConnection,
    token: &Token,
    lifetime: Duration,
) -> Result<DateTime<Utc>, StoreError> {
    let expires_at = sqlx::query_scalar(
        "WITH expired AS (
             DELETE FROM sessions WHERE account_id = $1 AND expires_at <= now()
         )
         INSERT INTO sessions (account_id, token_hash, expires_at)
         VALUES ($1, $2, now() + make_interval(secs => $3))
         RETURNING expires_at",
    )
    .bind(token.account())
    .bind(token.hash())
    .bind(lifetime.as_secs_f64())
    .fetch_one(conn)
    .await?;
    Ok(expires_at)
}

/// Whether `token` belongs to a session that has not expired. One statement.
///
/// # Errors
/// [`StoreError`].
pub async fn is_open(conn: &mut PgConnection, token: &Token) -> Result<bool, StoreError> {
    let open = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM sessions
                        WHERE account_id = $1 AND token_hash = $2 AND expires_at > now())",
    )
    .bind(token.account())
    .bind(token.hash())
    .fetch_one(conn)
    .await?;
    Ok(open)
}

/// Ends a session; one that has ended already is no error. One statement.
///
/// # Errors
/// [`StoreError`].
pub async fn close(conn: &mut PgConnection, token: &Token) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM sessions WHERE account_id = $1 AND token_hash = $2")
        .bind(token.account())
        .bind(token.hash())
        .execute(conn)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_text_and_hides_in_logs() {
        let token = Token::generate(42);
        let read = Token::parse(&token.reveal()).expect("is a token");
        assert_eq!((read.account(), read.hash()), (42, token.hash()));
        assert_eq!(format!("{token:?}"), "Token(account 42)");
        for not_one in ["", "42", "ä", &token.reveal()[1..]] {
            assert!(Token::parse(not_one).is_none(), "{not_one:?}");
        }
    }
}
