//! Runs as rows: their states, who may change them, and what was done.
//!
//! Functions take a connection; the caller owns the transaction. Whoever drives a run writes under
//! its lease's fencing token: a process that lost the lease, however long it slept, changes nothing.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::FromRow;
use sqlx::postgres::{PgConnection, types::PgInterval};
use utoipa::ToSchema;

mod command;
mod lease;
mod proof;
mod quarantine;
mod repair;
mod state;
mod step;

use super::definition::{Definition, DefinitionError};
use super::keyset::{KeyNames, KeyValue};
use super::undo::Direction;
use crate::db::schema::none_if_absent;

pub use command::{Beginning, command, enqueue, enqueue_as, other_table, retry, set_deadline};
pub use lease::{Done, Tries, acquire, begin_phase, commit, find_empty, finish, renew};
pub use proof::note_proof;
pub use quarantine::{
    SetAside, quarantine, quarantined, resolve_quarantine, set_aside, set_aside_named,
};
pub use repair::{end_repair, failed_again, next_to_repair, repaired};
pub use state::{By, State, TRANSITIONS};
pub use step::{
    Begun, Statement, Step, begin_statement, enter, finish_statement, statements, wait,
};

/// Which walk over the table is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum Phase {
    /// The statement runs over every range.
    Main,
    /// Every range is searched for rows that are still pending.
    Sweep,
}

/// One execution of a migration.
#[derive(Clone, Debug, FromRow, Serialize, ToSchema)]
pub struct Run {
    /// Number of the run.
    pub id: i64,
    /// Name of the migration.
    pub migration: String,
    /// The file as it was when the run was queued.
    #[serde(skip)]
    pub definition: String,
    /// Where it is in its life.
    pub state: State,
    /// Which step of a change is under way; `None` when the migration is a backfill and no more.
    pub step: Option<Step>,
    /// Whether it makes the change or goes the way back.
    pub direction: Direction,
    /// Which walk is under way.
    pub phase: Phase,
    /// The last key done in this phase.
    pub cursor: Option<KeyValue>,
    /// The last key that existed when the phase began.
    pub end_key: Option<KeyValue>,
    /// Rows of the next batch.
    pub batch_rows: Option<i32>,
    /// Rows of the table when the run began, by the planner's estimate.
    pub rows_estimate: Option<i64>,
    /// Rows that the main phase has passed.
    pub rows_seen: i64,
    /// Rows changed in all phases.
    pub rows_changed: i64,
    /// Batches committed.
    pub batches: i64,
    /// Sweeps begun.
    pub sweep_pass: i32,
    /// Rows that the current sweep found pending.
    pub sweep_found: i64,
    /// Rows of these that it could not change and set aside.
    pub sweep_aside: i64,
    /// Number of the first batch of the current sweep.
    #[serde(skip)]
    pub sweep_from: Option<i64>,
    /// Share of the table that the main phase has passed, from 0 to 1; never falls.
    #[serde(skip)]
    pub share_done: f64,
    /// The cancelled or failed run whose cursor this one began from.
    pub follows: Option<i64>,
    /// Whether the ranges that are set aside are to be tried before anything else.
    pub repairing: bool,
    /// Batches that were tried again after an error.
    pub retries: i64,
    /// Batches that a critical signal cancelled in flight.
    pub cancelled_batches: i64,
    /// Seconds by what they were spent on: `working`, `resting`, `retrying`, or the source of what
    /// limited the pace.
    #[schema(value_type = Object)]
    pub time_spent: serde_json::Value,
    /// Who holds the lease.
    pub lease_holder: Option<String>,
    /// The fencing token; grows with every lease.
    pub lease_token: i64,
    /// When the lease ends unless it is renewed, by the database's clock.
    pub lease_until: Option<DateTime<Utc>>,
    /// What the holder last said of its pace.
    #[schema(value_type = Option<Object>)]
    pub pace: Option<serde_json::Value>,
    /// What the last second proof said, which reads the table by physical position; `None` before
    /// the first.
    #[schema(value_type = Option<crate::migration::physical::Physical>)]
    pub proof: Option<serde_json::Value>,
    /// When it should be done.
    pub deadline: Option<DateTime<Utc>>,
    /// Who queued it.
    pub started_by: String,
    /// Why it failed.
    pub error: Option<String>,
    /// When it was queued.
    pub created_at: DateTime<Utc>,
    /// When a process first took it.
    pub started_at: Option<DateTime<Utc>>,
    /// When it completed, failed or was cancelled.
    pub finished_at: Option<DateTime<Utc>>,
}

impl Run {
    /// What it executes: the file as it was when the run was queued, in the run's direction.
    ///
    /// # Errors
    /// [`DefinitionError`] when this version of Evenkeel does not accept the file.
    pub fn declared(&self) -> Result<Definition, DefinitionError> {
        let definition = Definition::parse(&self.migration, &self.definition)?;
        definition
            .towards(self.direction)
            .ok_or_else(|| DefinitionError::NoWayBack(self.migration.clone()))
    }

    /// The names of the columns by which it walks, where these can be found.
    pub async fn key_names(&self, conn: &mut PgConnection) -> KeyNames {
        match self.declared() {
            Ok(definition) => KeyNames::find(conn, &definition).await,
            Err(_) => KeyNames::default(),
        }
    }
}

/// Why a run could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// No such run.
    #[error("there is no run {0}; `evenkeel migrate status` shows the runs")]
    NoRun(i64),
    /// The migration was never started.
    #[error("`{0}` has never been started; `evenkeel migrate start {0}` does that")]
    NeverRun(String),
    /// It is queued, running or paused already.
    #[error(
        "`{migration}` is {state} already (run {id}); pause, resume or cancel that run instead"
    )]
    AlreadyActive {
        /// The migration.
        migration: String,
        /// Its active run.
        id: i64,
        /// The state of that run.
        state: &'static str,
    },
    /// There is no ended run of the same definition whose work could be taken over.
    #[error(
        "`{0}` has no cancelled or failed run of exactly this definition to go on from; start it \
         without --from-last"
    )]
    NothingToFollow(String),
    /// There is nothing to repair.
    #[error("nothing of run {0} is set aside")]
    NothingSetAside(i64),
    /// The state does not allow it.
    #[error(
        "run {id} is {from}, so it cannot be {}; `evenkeel migrate status` shows the runs",
        asked(to)
    )]
    Illegal {
        /// The run.
        id: i64,
        /// Its state.
        from: &'static str,
        /// The state that was asked for.
        to: &'static str,
    },
    /// The database refused.
    #[error("{}", pool::describe(.0))]
    Database(#[from] sqlx::Error),
}

/// What an operator asks for who wants a run to be in the state `to`.
fn asked(to: &str) -> &str {
    match to {
        "queued" => "resumed",
        to => to,
    }
}

/// A right to write to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The run.
    pub run: i64,
    /// The fencing token.
    pub token: i64,
}

/// The run `id`.
///
/// # Errors
/// [`LedgerError::NoRun`].
pub async fn find(conn: &mut PgConnection, id: i64) -> Result<Run, LedgerError> {
    sqlx::query_as("SELECT * FROM evenkeel.runs WHERE id = $1")
        .bind(id)
        .fetch_optional(conn)
        .await?
        .ok_or(LedgerError::NoRun(id))
}

/// The newest run of `migration`.
///
/// # Errors
/// [`LedgerError::NeverRun`].
pub async fn latest(conn: &mut PgConnection, migration: &str) -> Result<Run, LedgerError> {
    let sql = "SELECT * FROM evenkeel.runs WHERE migration = $1 ORDER BY id DESC LIMIT 1";
    let run = sqlx::query_as(sql).bind(migration).fetch_optional(conn);
    none_if_absent(run.await)?.ok_or_else(|| LedgerError::NeverRun(migration.to_owned()))
}

/// The newest runs, newest first.
///
/// # Errors
/// What the database says.
pub async fn recent(conn: &mut PgConnection, limit: i64) -> Result<Vec<Run>, sqlx::Error> {
    let runs = sqlx::query_as("SELECT * FROM evenkeel.runs ORDER BY id DESC LIMIT $1");
    none_if_absent(runs.bind(limit).fetch_all(conn).await)
}

/// Appends to the log of a run.
///
/// # Errors
/// What the database says.
pub async fn record(
    conn: &mut PgConnection,
    run: i64,
    actor: &str,
    action: &str,
    detail: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO evenkeel.events (run_id, actor, action, detail) VALUES ($1, $2, $3, $4)",
    )
    .bind(run)
    .bind(actor)
    .bind(action)
    .bind(detail)
    .execute(conn)
    .await?;
    Ok(())
}

/// Appends to the log what concerns no run, but the processes that drive them.
///
/// # Errors
/// What the database says.
pub async fn record_of_fleet(
    conn: &mut PgConnection,
    actor: &str,
    action: &str,
    detail: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO evenkeel.events (actor, action, detail) VALUES ($1, $2, $3)")
        .bind(actor)
        .bind(action)
        .bind(detail)
        .execute(conn)
        .await?;
    Ok(())
}

/// `length` as PostgreSQL's type.
fn interval(length: Duration) -> PgInterval {
    PgInterval {
        months: 0,
        days: 0,
        microseconds: i64::try_from(length.as_micros()).unwrap_or(i64::MAX),
    }
}
