//! Why the demo could not be played.

use std::path::PathBuf;

use embedded_postgres::EmbeddedError;
use load::LoadError;

use crate::db::schema::SchemaError;
use crate::migration::definition::DefinitionError;
use crate::migration::keyset::KeysetError;
use crate::migration::ledger::LedgerError;
use crate::migration::sweep::VerifyError;
use crate::store::sample::SampleError;
use crate::watch::changes::ChangeError;
use crate::watch::log::LogError;

/// Why the demo could not be played to its end. A claim that did not hold is not an error: see
/// [`Evidence::broken_claims`](super::evidence::Evidence::broken_claims).
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// Ctrl-C or SIGTERM.
    #[error("interrupted; everything that the demo had created is gone")]
    Interrupted,
    /// A file could not be written or read.
    #[error("cannot {doing} {path}: {source}")]
    File {
        /// What was tried, as a verb.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The shop did not start or did not stay up.
    #[error("the shop process {problem}; its log ends with:\n{log}")]
    Shop {
        /// What happened.
        problem: String,
        /// The last lines of its log.
        log: String,
    },
    /// Not even the first step of the capacity measurement was sustained.
    #[error(
        "the shop did not sustain the lowest rate that was tried, so there is no peak to play: this \
         machine is too busy or too slow, try again when less runs on it"
    )]
    NoCapacity,
    /// The migration ended otherwise than complete.
    #[error("the migration is {state} instead of completed: {reason}")]
    Migration {
        /// The run's state.
        state: &'static str,
        /// What the ledger says.
        reason: String,
    },
    /// The embedded server.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// The sample shop.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The schema.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The load.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The migration's file.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// The migration's table.
    #[error(transparent)]
    Keyset(#[from] KeysetError),
    /// The ledger of runs.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The final check.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The journal of the watch.
    #[error(transparent)]
    Journal(#[from] LogError),
    /// The change that a story reports.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The demo's own connections.
    #[error("the demo's database: {}", pool::describe(.0))]
    Database(#[from] sqlx::Error),
}

impl DemoError {
    pub(super) fn file(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            doing,
            path,
            source,
        }
    }
}
