//! Why a command did not do what was asked.

use pool::PoolError;

use crate::cli::database::DatabaseError;
use crate::cli::elsewhere::NoDefinitions;
use crate::cli::lint::LintError;
use crate::migration::control::ControlError;
use crate::migration::definition::DefinitionError;
use crate::migration::keyset::KeysetError;
use crate::migration::ledger::LedgerError;
use crate::migration::lint::Unsafe;
use crate::migration::retry::Failure;
use crate::migration::sweep::VerifyError;
use crate::migration::throttle::ThrottleError;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// No database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// No definitions.
    #[error(transparent)]
    Definitions(#[from] NoDefinitions),
    /// The migration or its run does not allow it.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The lint has findings.
    #[error(transparent)]
    Lint(#[from] LintError),
    /// The throttle was not made or removed.
    #[error(transparent)]
    Throttle(#[from] ThrottleError),
    /// The engine could not reach the database.
    #[error(transparent)]
    Engine(#[from] Failure),
    /// Why, in full.
    #[error("{0}")]
    Told(String),
}

macro_rules! through_control {
    ($($error:ty),*) => {$(
        impl From<$error> for MigrateError {
            fn from(err: $error) -> Self {
                Self::Control(err.into())
            }
        }
    )*};
}

through_control!(
    DefinitionError,
    LedgerError,
    KeysetError,
    VerifyError,
    Unsafe,
    PoolError,
    sqlx::Error
);
