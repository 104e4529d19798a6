//! What an operator can do to migrations, for the command line and the HTTP interface alike.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use chrono::{DateTime, Utc};
use pool::{PoolError, describe};
use sqlx::postgres::PgConnection;

use super::checksum::Checksum;
use super::definition::{Definition, DefinitionError};
use super::keyset::{self, Keyset, KeysetError};
use super::ledger::{self, Beginning, LedgerError, Run, State};
use super::lint::{self, Unsafe};
use super::names;
use super::rights::{self, Lacking};
use super::sweep::VerifyError;
use super::undo::Direction;
use crate::db::schema::none_if_absent;

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
    /// There is nothing to start.
    #[error(transparent)]
    Complete(#[from] Complete),
    /// There is nothing to take back.
    #[error(
        "`{name}` is taken back: run {run} did that{}, and the change has not been made since. `evenkeel \
         migrate start {name}` makes it again; `evenkeel migrate undo {name} --again` looks for rows that \
         got it since",
        .at.map(|at| at.format(" at %F %T UTC").to_string()).unwrap_or_default()
    )]
    TakenBack {
        /// The migration.
        name: String,
        /// The run that took it back.
        run: i64,
        /// When.
        at: Option<DateTime<Utc>>,
    },
    /// The role may not do what it would have to.
    #[error(transparent)]
    Rights(#[from] Lacking),
    /// Neither a file nor a run has the name.
    #[error(transparent)]
    Unknown(#[from] names::Unknown),
    /// No connection.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The database refused.
    #[error("{}", pool::describe(.0))]
    Database(#[from] sqlx::Error),
}

/// What is to be started is done already, by exactly this definition.
#[derive(Debug)]
pub struct Complete {
    name: String,
    run: i64,
    certified: bool,
    at: Option<DateTime<Utc>>,
    has_steps: bool,
    has_way_back: bool,
}

impl std::error::Error for Complete {}

impl fmt::Display for Complete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, run) = (&self.name, self.run);
        let done = if self.certified {
            "certified"
        } else {
            "completed"
        };
        let at = self.at.map(|at| at.format(" at %F %T UTC").to_string());
        write!(
            f,
            "`{name}` is complete: run {run} of it was {done}{}, and the file has not changed since.",
            at.unwrap_or_default()
        )?;
        if self.certified {
            write!(
                f,
                " `evenkeel migrate verify {name}` looks whether rows became pending since then."
            )?;
        }
        if !self.has_steps {
            return write!(
                f,
                " `evenkeel migrate start {name} --again` runs the statement again for such rows"
            );
        }
        write!(
            f,
            " Its schema statements are done and cannot be made twice: to change rows that became \
             pending since, put the statement into a migration of its own"
        )?;
        if self.has_way_back {
            write!(
                f,
                "; after `evenkeel migrate undo {name}` it can be started again"
            )?;
        }
        Ok(())
    }
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
/// take it; so is one that has nothing to do, because the last run was completed.
///
/// # Errors
/// [`ControlError`] says what to do.
pub async fn start(
    conn: &mut PgConnection,
    definition: &Definition,
    actor: &str,
) -> Result<Run, ControlError> {
    start_or_again(conn, definition, actor, false).await
}

/// As [`start`]; with `again` also when the last run was completed, for rows that became pending since.
///
/// # Errors
/// [`ControlError::Complete`] when it has schema statements, which cannot be made twice.
pub async fn start_or_again(
    conn: &mut PgConnection,
    definition: &Definition,
    actor: &str,
    again: bool,
) -> Result<Run, ControlError> {
    refuse_complete(conn, definition, again).await?;
    refuse_unsafe(definition)?;
    refuse_powerless(conn, definition).await?;
    // What the expand step creates cannot be looked up yet.
    if definition.expand.is_empty() && definition.has_backfill() {
        check(conn, definition).await?;
    }
    let start = Beginning::Start(Direction::Up);
    Ok(ledger::enqueue_as(conn, &definition.name, &definition.text, actor, start).await?)
}

/// Refuses what the newest run has completed, unless that was the way back, or the definition has
/// changed since in more than its spelling. `again` lets the rows of a plain migration be walked
/// once more.
async fn refuse_complete(
    conn: &mut PgConnection,
    definition: &Definition,
    again: bool,
) -> Result<(), ControlError> {
    let last = match ledger::latest(conn, &definition.name).await {
        Ok(last) => last,
        Err(LedgerError::NeverRun(_)) => return Ok(()),
        Err(err) => return Err(err.into()),
    };
    let has_steps = !definition.expand.is_empty() || !definition.contract.is_empty();
    let is_done = last.state == State::Completed && last.direction == Direction::Up;
    if !is_done || (again && !has_steps) || !declares(&last, definition) {
        return Ok(());
    }
    let certified: Option<DateTime<Utc>> =
        sqlx::query_scalar("SELECT made_at FROM evenkeel.certificates WHERE run_id = $1")
            .bind(last.id)
            .fetch_optional(conn)
            .await?;
    Err(Complete {
        name: definition.name.clone(),
        run: last.id,
        certified: certified.is_some(),
        at: certified.or(last.finished_at),
        has_steps,
        has_way_back: definition.down.is_some(),
    }
    .into())
}

/// Whether `run` executed what `definition` says; comments and white space say nothing.
fn declares(run: &Run, definition: &Definition) -> bool {
    let plain = |definition: Definition| Definition {
        text: String::new(),
        title: String::new(),
        owner: String::new(),
        ..definition
    };
    let then = Definition::parse(&run.migration, &run.definition);
    then.is_ok_and(|then| plain(then) == plain(definition.clone()))
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
    refuse_powerless(conn, definition).await?;
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

/// Queues a run of the statement for the way back. What is taken back already is refused, unless
/// `again` says that rows may have got the change since.
///
/// # Errors
/// [`ControlError::Definition`] when none is declared; [`ControlError::Ledger`] when the migration
/// has never run; [`ControlError::TakenBack`].
pub async fn undo(
    conn: &mut PgConnection,
    definition: &Definition,
    actor: &str,
    again: bool,
) -> Result<Run, ControlError> {
    refuse_unsafe(definition)?;
    let back = definition.clone().towards(Direction::Down);
    let back = back.ok_or_else(|| DefinitionError::NoWayBack(definition.name.clone()))?;
    refuse_powerless(conn, &back).await?;
    check(conn, &back).await?;
    let last = ledger::latest(conn, &definition.name).await?;
    let is_back = last.state == State::Completed && last.direction == Direction::Down;
    if is_back && !again {
        return Err(ControlError::TakenBack {
            name: last.migration,
            run: last.id,
            at: last.finished_at,
        });
    }
    let start = Beginning::Start(Direction::Down);
    Ok(ledger::enqueue_as(conn, &definition.name, &definition.text, actor, start).await?)
}

/// Refuses what the role of `conn` may not do. A run is driven by the role that queues it, or by one of
/// the same rights.
///
/// # Errors
/// [`ControlError::Rights`] says what to grant.
pub async fn refuse_powerless(
    conn: &mut PgConnection,
    definition: &Definition,
) -> Result<(), ControlError> {
    let lacking = rights::lacking(conn, definition).await?;
    if lacking.is_nothing() {
        Ok(())
    } else {
        Err(lacking.into())
    }
}

/// Refuses what could not run, or could not be certified at the end.
async fn check(conn: &mut PgConnection, definition: &Definition) -> Result<Keyset, ControlError> {
    let keyset = Keyset::resolve(conn, definition).await?;
    keyset.read_statement(conn, definition).await?;
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

/// A migration that is declared or has run.
#[derive(Debug)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// What its file says, or why it says nothing; `None` when there is no file any more.
    pub definition: Option<Result<Definition, DefinitionError>>,
    /// Its newest run.
    pub run: Option<Run>,
    /// Which way its newest completed run went: how the rows are, whatever the newest run is about to do
    /// or has left undone.
    pub stands: Option<Direction>,
}

/// The declared migrations, each with its newest run, and those that have run and whose file is gone,
/// in order of name. A broken file does not hide the others.
///
/// # Errors
/// [`ControlError`].
pub async fn list(conn: &mut PgConnection, dir: &Path) -> Result<Vec<Listed>, ControlError> {
    let runs = sqlx::query_as(
        "SELECT DISTINCT ON (migration) * FROM evenkeel.runs ORDER BY migration, id DESC",
    );
    let runs: Vec<Run> = none_if_absent(runs.fetch_all(&mut *conn).await)?;
    let completed = sqlx::query_as(
        "SELECT DISTINCT ON (migration) migration, direction
           FROM evenkeel.runs WHERE state = 'completed' ORDER BY migration, id DESC",
    );
    let completed: Vec<(String, Direction)> = none_if_absent(completed.fetch_all(conn).await)?;
    let stands: BTreeMap<_, _> = completed.into_iter().collect();
    let mut runs: BTreeMap<_, _> = runs.into_iter().map(|r| (r.migration.clone(), r)).collect();
    let declared = super::definition::load_each(dir)?.into_iter();
    let mut list: Vec<_> = declared
        .map(|(name, definition)| Listed {
            run: runs.remove(&name),
            stands: stands.get(&name).copied(),
            name,
            definition: Some(definition),
        })
        .collect();
    list.extend(runs.into_iter().map(|(name, run)| Listed {
        stands: stands.get(&name).copied(),
        name,
        definition: None,
        run: Some(run),
    }));
    list.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(list)
}
