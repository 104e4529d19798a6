//! What to do about a failure: whether to try smaller, later, or without the range.

use std::time::Duration;

use pool::{PoolError, describe};

use super::certificate::IssueError;
use super::fault::{self, Fault};
use super::keyset::KeysetError;
use super::ledger::{LedgerError, Tries};

/// Why work on the database failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No connection.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The database refused.
    #[error("{}", describe(.0))]
    Database(#[from] sqlx::Error),
    /// The ledger has no such run.
    #[error(transparent)]
    Ledger(LedgerError),
    /// The walk has come to its end, but that cannot be certified.
    #[error("the walk has come to its end, but it cannot be certified: {0}")]
    Uncertified(IssueError),
}

impl From<LedgerError> for Failure {
    fn from(err: LedgerError) -> Self {
        match err {
            LedgerError::Database(err) => Self::Database(err),
            other => Self::Ledger(other),
        }
    }
}

impl From<IssueError> for Failure {
    fn from(err: IssueError) -> Self {
        match err {
            IssueError::Pool(err) => Self::Pool(err),
            IssueError::Database(err) | IssueError::Keyset(KeysetError::Database(err)) => {
                Self::Database(err)
            }
            IssueError::Ledger(err) => err.into(),
            other => Self::Uncertified(other),
        }
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The connection or its surroundings failed: read the ledger and go on from there.
    Reread,
    /// Try half as many rows.
    Halve,
    /// Try the same again later.
    Wait,
    /// Report the range and go on behind it.
    SetAside,
    /// No range can succeed: the statement or the schema is wrong.
    GiveUp,
}

impl Failure {
    /// The five-character SQLSTATE, where the database gave one.
    pub fn sqlstate(&self) -> Option<String> {
        match self {
            Self::Database(sqlx::Error::Database(err))
            | Self::Pool(PoolError::Connect(sqlx::Error::Database(err))) => {
                err.code().map(|code| code.into_owned())
            }
            _ => None,
        }
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Pool(err) => fault::of_pool(err),
            Self::Database(err) => fault::of_driver(err),
            Self::Ledger(_) | Self::Uncertified(_) => Fault::Permanent,
        }
    }

    /// Whether somebody else's work was in the way, so that trying again can help.
    pub fn is_contention(&self) -> bool {
        self.fault() == Fault::Contention
    }

    /// Whether the database will not do it as things are, so that neither time nor other rows can help.
    pub fn is_permanent(&self) -> bool {
        self.fault() == Fault::Permanent
    }

    /// Whether the database does not understand or permit the SQL itself: a syntax error, a name or a
    /// right that is missing, something that it cannot do.
    pub fn is_of_sql(&self) -> bool {
        self.sqlstate().is_some_and(|code| {
            let classes = ["0A", "3F", "42"];
            classes.iter().any(|class| code.starts_with(class))
        })
    }

    /// Whether a value cannot be converted between the database's encoding and UTF-8.
    pub fn is_of_encoding(&self) -> bool {
        // Character not in repertoire, untranslatable character.
        let code = self.sqlstate();
        matches!(code.as_deref(), Some("22021" | "22P05")) || self.fault() == Fault::Unreadable
    }

    /// What to do after the batch failed for the `failures`-th time in a row; `smallest` when it
    /// cannot be made smaller, `tries` being how often a contended one is tried at that size.
    pub fn remedy(&self, smallest: bool, failures: u32, tries: u32) -> Remedy {
        match self.fault() {
            Fault::Permanent | Fault::Unreadable => Remedy::GiveUp,
            Fault::Lost | Fault::Environment | Fault::Busy => Remedy::Reread,
            Fault::Row | Fault::Contention if !smallest => Remedy::Halve,
            Fault::Contention if failures < tries => Remedy::Wait,
            Fault::Row | Fault::Contention => Remedy::SetAside,
        }
    }
}

/// Counts failures in a row and says how long to wait before the next try.
#[derive(Debug, Default)]
pub struct Patience {
    failures: u32,
    tries: Tries,
}

impl Patience {
    /// What came to nothing since the last batch was committed.
    pub fn tries(&self) -> &Tries {
        &self.tries
    }

    /// A try failed.
    pub fn note(&mut self, failure: &Failure) {
        self.tries.failed = self.tries.failed.saturating_add(1);
        self.tries.sqlstate = failure.sqlstate();
    }

    /// A try was cancelled in flight.
    pub fn note_cancelled(&mut self) {
        self.tries.cancelled += 1;
    }

    /// The ledger has been told of the tries.
    pub fn told(&mut self) {
        self.tries = Tries::default();
    }

    /// 50 ms, doubling to 2 s.
    pub fn pause(&mut self) -> Duration {
        let pause = Duration::from_millis(50 << self.failures.min(6));
        self.failures += 1;
        pause.min(Duration::from_secs(2))
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Something succeeded, or another thing is tried.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}
