//! What an operator can do to migrations, for the command line and the HTTP interface alike.

use std::path::Path;

use sqlx::postgres::PgConnection;

use super::checksum::Checksum;
use super::definition::{Definition, DefinitionError};
use super::keyset::{self, Keyset, KeysetError};
use super::ledger::{self, Beginning, LedgerError, Run};
use super::lint::{self, Unsafe};
use super::sweep::VerifyError;
use super::undo::Direction;
use crate::db::{PoolError, describe};

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
    #[error("{}", crate::db::describe(.0))]
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
        check(conn, definition).await?;
    }
    let start = Beginning::Start(Direction::Up);
    Ok(ledger::enqueue_as(conn, &definition.name, &definition.text, actor, start).await?)
}

/// Queues a run of `definition` that goes on where the last one was cancelled or failed, when that
/// was of exactly this definition.
///
/// # Errors
/// [`ControlError`] says what to do.
pub async fn start_from_last(
    conn: &mut PgConnection,
    definition: &Definition,
    actor: &str,
) -> Result<Run, ControlError> {
    refuse_unsafe(definition)?;
    let walked = if definition.expand.is_empty() {
        check(conn, definition).await?
    } else {
        Keyset::resolve(conn, definition).await?
    };
    let mut tx = keyset::reading(conn).await?;
    let end = walked.last(&mut tx).await?;
    tx.commit().await?;
    let Some(end) = end else {
        return start(conn, definition, actor).await;
    };
    let beginning = Beginning::FromLast(&end);
    Ok(ledger::enqueue_as(conn, &definition.name, &definition.text, actor, beginning).await?)
}

/// Queues a run of the statement for the way back.
///
/// # Errors
/// [`ControlError::Definition`] when none is declared; [`ControlError::Ledger`] when the migration
/// has never run.
pub async fn undo(
    conn: &mut PgConnection,
    definition: &Definition,
    actor: &str,
) -> Result<Run, ControlError> {
    refuse_unsafe(definition)?;
    let back = definition.clone().towards(Direction::Down);
    let back = back.ok_or_else(|| DefinitionError::NoWayBack(definition.name.clone()))?;
    check(conn, &back).await?;
    ledger::latest(conn, &definition.name).await?;
    let start = Beginning::Start(Direction::Down);
    Ok(ledger::enqueue_as(conn, &definition.name, &definition.text, actor, start).await?)
}

/// Refuses what could not run, or could not be certified at the end.
async fn check(conn: &mut PgConnection, definition: &Definition) -> Result<Keyset, ControlError> {
    let keyset = Keyset::resolve(conn, definition).await?;
    let checksum = Checksum::new(definition, &keyset);
    if let Err(err) = checksum.check(conn, &keyset).await {
        return Err(match &err {
            sqlx::Error::Database(_) => DefinitionError::Invalid {
                name: definition.name.clone(),
                line: definition.line_of("checksum"),
                problem: format!(
                    "the columns for the certificate cannot be read: {}; name them with `-- \
                     checksum: …`",
                    describe(&err)
                ),
            }
            .into(),
            _ => err.into(),
        });
    }
    Ok(keyset)
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
