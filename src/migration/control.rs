//! What an operator can do to migrations, for the command line and the HTTP interface alike.

use std::path::Path;

use sqlx::postgres::PgConnection;

use super::definition::{Definition, DefinitionError};
use super::keyset::{Keyset, KeysetError};
use super::ledger::{self, LedgerError, Run};
use super::lint::{self, Unsafe};
use super::sweep::VerifyError;
use crate::db::PoolError;

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No such migration, or a file that is none.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// It would lock, rewrite or scan what shoppers use.
    #[error(transparent)]
    Unsafe(#[from] Unsafe),
    /// The table cannot be walked, or the statement does not run.
    #[error(transparent)]
    Keyset(KeysetError),
    /// The run's state does not allow it.
    #[error(transparent)]
    Ledger(LedgerError),
    /// No connection.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The database refused.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl From<KeysetError> for ControlError {
    fn from(err: KeysetError) -> Self {
        match err {
            KeysetError::Database(err) => Self::Database(err),
            other => Self::Keyset(other),
        }
    }
}

impl From<LedgerError> for ControlError {
    fn from(err: LedgerError) -> Self {
        match err {
            LedgerError::Database(err) => Self::Database(err),
            other => Self::Ledger(other),
        }
    }
}

impl From<VerifyError> for ControlError {
    fn from(err: VerifyError) -> Self {
        match err {
            VerifyError::Pool(err) => Self::Pool(err),
            VerifyError::Database(err) => Self::Database(err),
        }
    }
}

/// Queues a run of `definition`. One that cannot run is refused now, not by the process that would
/// take it.
///
/// # Errors
/// [`ControlError`] says what to do.
pub async fn start(
    conn: &mut PgConnection,
    definition: &Definition,
    actor: &str,
) -> Result<Run, ControlError> {
    refuse_unsafe(definition)?;
    // What the expand step creates cannot be looked up yet.
    if definition.expand.is_empty() && definition.has_backfill() {
        Keyset::resolve(conn, definition).await?;
    }
    Ok(ledger::enqueue(conn, &definition.name, &definition.text, actor).await?)
}

/// Refuses a definition in which the lint finds something without a reasoned exception.
///
/// # Errors
/// [`Unsafe`] lists the findings.
pub fn refuse_unsafe(definition: &Definition) -> Result<(), Unsafe> {
    Unsafe::refuse(lint::definition(definition))
}

/// The declared migrations, each with its newest run.
///
/// # Errors
/// [`ControlError`].
pub async fn list(
    conn: &mut PgConnection,
    dir: &Path,
) -> Result<Vec<(Definition, Option<Run>)>, ControlError> {
    let mut list = Vec::new();
    for definition in super::definition::load_all(dir)? {
        let run = match ledger::latest(conn, &definition.name).await {
            Ok(run) => Some(run),
            Err(LedgerError::NeverRun(_)) => None,
            Err(err) => return Err(err.into()),
        };
        list.push((definition, run));
    }
    Ok(list)
}
