//! Password hashes: argon2id, off the runtime's threads, and only a few at once.

mod choice;
mod turns;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};

pub use choice::objection;
use turns::Turns;

/// Checked when there is no such account, so that the answer takes as long as for any other. Random bytes,
/// of which nobody knows a password.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$sJ1Dr9reck6MK7xpVi8BWg$2iQUqfIMrzWl/uqJGHJu6Q1pVZz8ZiH7hvTMF6eoSyI";

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
///
/// Whoever asks says how much its client has open ([`Attempts`](crate::brake::Attempts)): those with the least
/// come first.
#[derive(Clone, Debug)]
pub struct Passwords {
    turns: Turns,
}

impl Passwords {
    /// At most `concurrency` computations at once.
    pub fn new(concurrency: usize) -> Self {
        Self {
            turns: Turns::new(concurrency),
        }
    }

    /// The hash of a new password, with a random salt, as a PHC string. Takes about 30 ms of a core.
    ///
    /// # Errors
    /// [`PasswordError::Busy`] when others come first for too long.
    pub async fn hash(&self, password: String, open: u32) -> Result<String, PasswordError> {
        let turn = self.turns.take(open).await.ok_or(PasswordError::Busy)?;
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
    /// [`PasswordError::Busy`] when others come first for too long.
    pub async fn verify(
        &self,
        password: String,
        expected: Option<String>,
        open: u32,
    ) -> Result<bool, PasswordError> {
        let turn = self.turns.take(open).await.ok_or(PasswordError::Busy)?;
        let verdict = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let known = expected.is_some();
            let hash = expected.as_deref().unwrap_or(NOBODY);
            matches(&password, hash).map(|matches| matches && known)
        });
        Ok(verdict.await??)
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
            .hash("correct horse".into(), 0)
            .await
            .expect("hashes");
        assert!(hash.starts_with("$argon2id$"));
        for (password, hash, matches) in [
            ("correct horse", Some(hash.clone()), true),
            ("correct horsf", Some(hash), false),
            ("correct horse", None, false),
        ] {
            let verdict = passwords.verify(password.into(), hash, 0).await;
            assert_eq!(verdict.expect("verifies"), matches);
        }
    }

    #[tokio::test]
    async fn a_log_in_to_no_account_costs_as_much_as_any_other() {
        let hash = compute("correct horse").expect("hashes");
        let hash = PasswordHash::new(&hash).expect("is a hash");
        let nobody = PasswordHash::new(NOBODY).expect("is a hash");
        assert_eq!(
            (nobody.algorithm, nobody.version, &nobody.params),
            (hash.algorithm, hash.version, &hash.params)
        );
    }
}
