//! What to do about a failure: whether to try smaller, later, or without the range.

use std::time::Duration;

use super::ledger::{LedgerError, Tries};
use crate::db::{PoolError, describe};

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
}

impl From<LedgerError> for Failure {
    fn from(err: LedgerError) -> Self {
        match err {
            LedgerError::Database(err) => Self::Database(err),
            other => Self::Ledger(other),
        }
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The connection is gone or busy: read the ledger and go on from there.
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
            Self::Database(sqlx::Error::Database(err)) => err.code().map(|code| code.into_owned()),
            _ => None,
        }
    }

    /// Whether somebody else's work was in the way, so that trying again can help.
    pub fn is_contention(&self) -> bool {
        // Deadlock, serialization, lock_not_available, query_canceled (statement_timeout).
        self.sqlstate()
            .is_some_and(|code| ["40P01", "40001", "55P03", "57014"].contains(&code.as_str()))
    }

    /// Whether the database does not understand or permit the SQL itself, so that neither time nor
    /// other rows can help.
    pub fn is_permanent(&self) -> bool {
        // Feature not supported; invalid schema name; syntax error or access rule violation.
        self.sqlstate().is_some_and(|code| {
            ["0A", "3F", "42"]
                .iter()
                .any(|class| code.starts_with(class))
        })
    }

    /// What to do after the batch failed for the `failures`-th time in a row; `smallest` when it
    /// cannot be made smaller, `tries` being how often a contended one is tried at that size.
    pub fn remedy(&self, smallest: bool, failures: u32, tries: u32) -> Remedy {
        match self.sqlstate() {
            None => Remedy::Reread,
            Some(_) if self.is_permanent() => Remedy::GiveUp,
            // Connection exceptions and operator intervention other than a cancelled query.
            Some(code) if code.starts_with("08") || (code.starts_with("57P")) => Remedy::Reread,
            // Too many connections, disk full, out of memory: not this range's fault.
            Some(code) if code.starts_with("53") => Remedy::Reread,
            Some(_) if !smallest => Remedy::Halve,
            Some(_) if self.is_contention() && failures < tries => Remedy::Wait,
            Some(_) => Remedy::SetAside,
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
