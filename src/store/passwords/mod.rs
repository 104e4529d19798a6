//! Password hashes: argon2id, off the runtime's threads, and only a few at once.

mod choice;
mod turns;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};

pub use choice::objection;
pub use turns::Turn;
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

/// Hashes and checks passwords, a few at once. Cheap to clone.
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

    /// Waits for the right to compute. Those whose client has the least `open`
    /// ([`Attempts`](crate::brake::Attempts)) come first.
    ///
    /// # Errors
    /// [`PasswordError::Busy`] when others come first for too long.
    pub async fn turn(&self, open: u32) -> Result<Turn, PasswordError> {
        self.turns.take(open).await.ok_or(PasswordError::Busy)
    }
}

impl Turn {
    /// The hash of a new password, with a random salt, as a PHC string. Takes about 30 ms of a core.
    ///
    /// # Errors
    /// [`PasswordError`], which is a fault of this program.
    pub async fn hash(self, password: String) -> Result<String, PasswordError> {
        // The turn moves into the computation, which goes on when the client hangs up.
        let hash = tokio::task::spawn_blocking(move || {
            let _turn = self;
            compute(&password)
        });
        Ok(hash.await??)
    }

    /// Whether `password` has the hash `expected`. Without one the answer is no, after the same time.
    ///
    /// # Errors
    /// [`PasswordError`], which is a fault of this program.
    pub async fn verify(
        self,
        password: String,
        expected: Option<String>,
    ) -> Result<bool, PasswordError> {
        let verdict = tokio::task::spawn_blocking(move || {
            let _turn = self;
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
        let turn = async || passwords.turn(0).await.expect("is free");
        let hash = turn().await.hash("correct horse".into());
        let hash = hash.await.expect("hashes");
        assert!(hash.starts_with("$argon2id$"));
        for (password, hash, matches) in [
            ("correct horse", Some(hash.clone()), true),
            ("correct horsf", Some(hash), false),
            ("correct horse", None, false),
        ] {
            let verdict = turn().await.verify(password.into(), hash).await;
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
