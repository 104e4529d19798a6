//! Why a command did not do what was asked.

use std::path::PathBuf;

use crate::cli::database::DatabaseError;
use crate::cli::elsewhere::NoDefinitions;
use crate::cli::lint::LintError;
use crate::db::PoolError;
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
    /// The new definition could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The lint has findings.
    #[error(transparent)]
    Lint(#[from] LintError),
    /// The throttle was not made or removed.
    #[error(transparent)]
    Throttle(#[from] ThrottleError),
    /// The engine could not reach the database.
    #[error(transparent)]
    Engine(#[from] Failure),
    /// Rows are pending.
    #[error("{0} rows {1}; the first of them stands at {2} or before it")]
    Pending(i64, &'static str, String),
    /// The plan found that a run could not end; it has said why.
    #[error(
        "{0} rows of the samples stayed pending although they were changed, as the plan says above"
    )]
    StaysPending(i64),
    /// Rows are pending that the walk by key does not meet.
    #[error(
        "{0} rows {1} that the walk by key did not meet, for example {2}: they came \
         after it had passed, or the index does not lead to them; ask again, and if they are still \
         there, check the index (amcheck's bt_index_check) or repair it (REINDEX INDEX CONCURRENTLY)"
    )]
    Missed(i64, &'static str, String),
    /// The address of a replica is none.
    #[error("--replica cannot be used: {}; it should look like postgres://user@host/database", crate::db::describe(.0))]
    Replica(#[source] sqlx::Error),
    /// Files that are no definitions, which have been listed.
    #[error("{0} of the files cannot be used; the list says why (BROKEN)")]
    Broken(usize),
    /// Any of these, its advice made complete.
    #[error("{0}")]
    Told(String),
    /// The run did not complete.
    #[error("{0}")]
    Incomplete(String),
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
