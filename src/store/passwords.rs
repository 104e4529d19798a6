//! Password hashes: argon2id, off the runtime's threads, and only a few at once.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a log-in waits for its turn. Beyond it the queue only grows.
const PATIENCE: Duration = Duration::from_secs(1);

/// Checked when there is no such account, so that the answer takes as long as for any other.
static NOBODY: LazyLock<Option<String>> =
    LazyLock::new(|| compute(&uuid::Uuid::new_v4().to_string()).ok());

/// Why a password was neither hashed nor checked.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// Too many log-ins at once.
    #[error("too many passwords are being checked")]
    Busy,
    /// The hash in the database is not one.
    #[error("password hash: {0}")]
    Hash(#[from] argon2::password_hash::Error),
    /// The computation was cancelled or panicked.
    #[error("password computation: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Hashes and checks passwords. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Passwords {
    turns: Arc<Semaphore>,
}

impl Passwords {
    /// At most `concurrency` computations at once.
    pub fn new(concurrency: usize) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(concurrency)),
        }
    }

    /// The hash of a new password, with a random salt, as a PHC string. Takes about 30 ms of a core.
    ///
    /// # Errors
    /// [`PasswordError::Busy`] after one second in the queue.
    pub async fn hash(&self, password: String) -> Result<String, PasswordError> {
        let turn = self.turn().await?;
        // The turn moves into the computation, which goes on when the client hangs up.
        let hash = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            compute(&password)
        });
        Ok(hash.await??)
    }

    /// Whether `password` has the hash `expected`. Without one the answer is no, after the same time.
    ///
    /// # Errors
    /// [`PasswordError::Busy`] after one second in the queue.
    pub async fn verify(
        &self,
        password: String,
        expected: Option<String>,
    ) -> Result<bool, PasswordError> {
        let turn = self.turn().await?;
        let verdict = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let known = expected.is_some();
            let hash = expected.or_else(|| NOBODY.clone()).unwrap_or_default();
            matches(&password, &hash).map(|matches| matches && known)
        });
        Ok(verdict.await??)
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, PasswordError> {
        let turn = tokio::time::timeout(PATIENCE, self.turns.clone().acquire_owned()).await;
        turn.ok().and_then(Result::ok).ok_or(PasswordError::Busy)
    }
}

fn compute(password: &str) -> Result<String, argon2::password_hash::Error> {
    let hash = Argon2::default().hash_password(password.as_bytes())?;
    Ok(hash.to_string())
}

fn matches(password: &str, hash: &str) -> Result<bool, argon2::password_hash::Error> {
    let hash = PasswordHash::new(hash)?;
    match Argon2::default().verify_password(password.as_bytes(), &hash) {
        Ok(()) => Ok(true),
        Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
        Err(err) => Err(err),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_of_an_account_that_exists_matches() {
        let passwords = Passwords::new(1);
        let hash = passwords
            .hash("correct horse".into())
            .await
            .expect("hashes");
        assert!(hash.starts_with("$argon2id$"));
        for (password, hash, matches) in [
            ("correct horse", Some(hash.clone()), true),
            ("correct horsf", Some(hash), false),
            ("correct horse", None, false),
        ] {
            let verdict = passwords.verify(password.into(), hash).await;
            assert_eq!(verdict.expect("verifies"), matches);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_that_never_gets_its_turn_is_told_so() {
        let passwords = Passwords::new(1);
        let _held = passwords.turn().await.expect("is free");
        let refused = passwords.hash("correct horse".into()).await;
        assert!(matches!(refused, Err(PasswordError::Busy)));
    }
}
