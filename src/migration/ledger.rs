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

use super::keyset::{KeyValue, Range};

/// Where a run is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum State {
    /// Waits for a process to take it.
    Queued,
    /// A process holds its lease, or has died holding it.
    Running,
    /// An operator stopped it; its cursor is kept.
    Paused,
    /// Every row is done; the final sweep found nothing pending.
    Completed,
    /// It cannot go on by itself; `error` says why.
    Failed,
    /// An operator gave it up; what was changed stays changed.
    Cancelled,
}

use State::{Cancelled, Completed, Failed, Paused, Queued, Running};

/// Who changes a run's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The process that has its lease, or takes it.
    Holder,
    /// A person.
    Operator,
}

use By::{Holder, Operator};

/// Every legal change of state, with its reason. Nothing else happens to a run.
pub const TRANSITIONS: [(State, State, By, &str); 11] = [
    (Queued, Running, Holder, "a process took the lease"),
    (Queued, Paused, Operator, "paused before it began"),
    (Queued, Cancelled, Operator, "given up before it began"),
    (
        Running,
        Queued,
        Holder,
        "its process shut down in order and gave the lease back",
    ),
    (Running, Paused, Operator, "paused"),
    (
        Running,
        Completed,
        Holder,
        "the sweep found nothing pending",
    ),
    (Running, Failed, Holder, "it cannot go on by itself"),
    (Running, Cancelled, Operator, "given up"),
    (Paused, Queued, Operator, "resumed"),
    (Paused, Cancelled, Operator, "given up"),
    (Failed, Queued, Operator, "resumed after a fix"),
];

impl State {
    /// The states from which `by` can bring a run here.
    pub fn origins(self, by: By) -> Vec<State> {
        let legal = TRANSITIONS
            .iter()
            .filter(|(_, to, who, _)| *to == self && *who == by);
        legal.map(|(from, ..)| *from).collect()
    }

    /// The name in lower case, as the ledger stores it.
    pub fn name(self) -> &'static str {
        match self {
            Queued => "queued",
            Running => "running",
            Paused => "paused",
            Completed => "completed",
            Failed => "failed",
            Cancelled => "cancelled",
        }
    }
}

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
    /// Who holds the lease.
    pub lease_holder: Option<String>,
    /// The fencing token; grows with every lease.
    pub lease_token: i64,
    /// When the lease ends unless it is renewed, by the database's clock.
    pub lease_until: Option<DateTime<Utc>>,
    /// What the holder last said of its pace.
    #[schema(value_type = Option<Object>)]
    pub pace: Option<serde_json::Value>,
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
    /// The state does not allow it.
    #[error("run {id} is {from} and cannot become {to}")]
    Illegal {
        /// The run.
        id: i64,
        /// Its state.
        from: &'static str,
        /// The state that was asked for.
        to: &'static str,
    },
    /// The database refused.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// A right to write to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The run.
    pub run: i64,
    /// The fencing token.
    pub token: i64,
}

/// Queues a run of `migration` on behalf of `actor`.
///
/// # Errors
/// [`LedgerError::AlreadyActive`] when one is under way.
pub async fn enqueue(
    conn: &mut PgConnection,
    migration: &str,
    definition: &str,
    actor: &str,
) -> Result<Run, LedgerError> {
    let run: Option<Run> = sqlx::query_as(
        "INSERT INTO evenkeel.runs (migration, definition, started_by) VALUES ($1, $2, $3)
         ON CONFLICT (migration) WHERE state IN ('queued', 'running', 'paused') DO NOTHING
         RETURNING *",
    )
    .bind(migration)
    .bind(definition)
    .bind(actor)
    .fetch_optional(&mut *conn)
    .await?;
    let Some(run) = run else {
        refuse_another(conn, migration, 0).await?;
        // It ended between the two statements.
        return Err(LedgerError::Database(sqlx::Error::RowNotFound));
    };
    record(conn, run.id, actor, "queued", "").await?;
    Ok(run)
}

/// Refuses when a run of `migration` other than `id` is queued, running or paused.
async fn refuse_another(
    conn: &mut PgConnection,
    migration: &str,
    id: i64,
) -> Result<(), LedgerError> {
    let active: Option<(i64, State)> = sqlx::query_as(
        "SELECT id, state FROM evenkeel.runs
          WHERE migration = $1 AND id <> $2 AND state IN ('queued', 'running', 'paused')",
    )
    .bind(migration)
    .bind(id)
    .fetch_optional(conn)
    .await?;
    match active {
        None => Ok(()),
        Some((id, state)) => Err(LedgerError::AlreadyActive {
            migration: migration.to_owned(),
            id,
            state: state.name(),
        }),
    }
}

/// Takes the lease of the oldest run that waits or whose holder has died; `None` when there is
/// none, or while another run is under way: one migration at a time uses the database.
///
/// Needs a transaction of its own, whose advisory lock keeps two processes from taking two runs.
///
/// # Errors
/// What the database says.
pub async fn acquire(
    conn: &mut PgConnection,
    holder: &str,
    lease: Duration,
) -> Result<Option<Run>, sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtext('evenkeel lease'))")
        .execute(&mut *conn)
        .await?;
    let run: Option<Run> = sqlx::query_as(
        "UPDATE evenkeel.runs
            SET state = 'running', lease_holder = $1, lease_token = lease_token + 1,
                lease_until = clock_timestamp() + $2, started_at = coalesce(started_at, now())
          WHERE id = (SELECT id FROM evenkeel.runs
                       WHERE state = 'queued' OR (state = 'running' AND lease_until < clock_timestamp())
                       ORDER BY id LIMIT 1)
            -- Once more for the row itself: somebody may have paused it while we waited for it.
            AND (state = 'queued' OR (state = 'running' AND lease_until < clock_timestamp()))
            AND NOT EXISTS (SELECT FROM evenkeel.runs
                             WHERE state = 'running' AND lease_until >= clock_timestamp())
         RETURNING *",
    )
    .bind(holder)
    .bind(interval(lease))
    .fetch_optional(&mut *conn)
    .await?;
    if let Some(run) = &run {
        let detail = format!("token {}", run.lease_token);
        record(conn, run.id, holder, "lease taken", &detail).await?;
    }
    Ok(run)
}

/// Extends the lease and stores what the holder says of its pace. Returns the run's state, or
/// `None` when the lease is lost.
///
/// # Errors
/// What the database says.
pub async fn renew(
    conn: &mut PgConnection,
    lease: Lease,
    length: Duration,
    pace: &serde_json::Value,
) -> Result<Option<State>, sqlx::Error> {
    sqlx::query_scalar(
        "UPDATE evenkeel.runs SET lease_until = clock_timestamp() + $3, pace = $4
          WHERE id = $1 AND lease_token = $2 RETURNING state",
    )
    .bind(lease.run)
    .bind(lease.token)
    .bind(interval(length))
    .bind(pace)
    .fetch_optional(conn)
    .await
}

/// What a batch did, for [`commit`].
#[derive(Debug)]
pub struct Done<'a> {
    /// The keys that it covered.
    pub range: &'a Range,
    /// Rows that the statement changed.
    pub changed: i64,
    /// Rows of the next batch.
    pub next_rows: u32,
}

/// Moves the cursor over a batch, within the batch's own transaction. Returns the run's state, or
/// `None` when the lease is lost, or when the cursor is no longer where the batch began (a COMMIT
/// that was given up had arrived after all), whereupon the caller must roll back.
///
/// # Errors
/// What the database says.
pub async fn commit(
    conn: &mut PgConnection,
    lease: Lease,
    length: Duration,
    done: &Done<'_>,
) -> Result<Option<State>, sqlx::Error> {
    sqlx::query_scalar(
        "WITH run AS (
             UPDATE evenkeel.runs
                SET cursor = $4, batches = batches + 1, batch_rows = $7,
                    rows_seen = rows_seen + CASE phase WHEN 'main' THEN $5 ELSE 0 END,
                    rows_changed = rows_changed + $6,
                    sweep_found = sweep_found + CASE phase WHEN 'sweep' THEN $8 ELSE 0 END,
                    lease_until = clock_timestamp() + $9
              WHERE id = $1 AND lease_token = $2 AND cursor IS NOT DISTINCT FROM $3
          RETURNING id, batches, phase, state, lease_token),
         batch AS (
             INSERT INTO evenkeel.batches
                    (run_id, number, phase, lower_key, upper_key, rows_seen, rows_changed, lease_token)
             SELECT id, batches, phase, $3, $4, $5, $6, lease_token FROM run)
         SELECT state FROM run",
    )
    .bind(lease.run)
    .bind(lease.token)
    .bind(&done.range.lower)
    .bind(&done.range.upper)
    .bind(done.range.seen)
    .bind(done.changed)
    .bind(i32::try_from(done.next_rows).unwrap_or(i32::MAX))
    .bind(done.range.todo.unwrap_or(0))
    .bind(interval(length))
    .fetch_optional(conn)
    .await
}

/// Begins a walk: resets the cursor, remembers where the table ends. `false` when the lease is lost.
///
/// # Errors
/// What the database says.
pub async fn begin_phase(
    conn: &mut PgConnection,
    lease: Lease,
    phase: Phase,
    end: &KeyValue,
    estimate: Option<i64>,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE evenkeel.runs
            SET phase = $3, cursor = NULL, end_key = $4, sweep_found = 0,
                sweep_pass = sweep_pass + CASE $3 WHEN 'sweep' THEN 1 ELSE 0 END,
                rows_estimate = coalesce($5, rows_estimate)
          WHERE id = $1 AND lease_token = $2",
    )
    .bind(lease.run)
    .bind(lease.token)
    .bind(phase)
    .bind(end)
    .bind(estimate)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Sets a range aside and moves the cursor past it. `false` when the lease is lost or the cursor is
/// no longer where the range begins.
///
/// # Errors
/// What the database says.
pub async fn quarantine(
    conn: &mut PgConnection,
    lease: Lease,
    range: &Range,
    sqlstate: Option<&str>,
    error: &str,
) -> Result<bool, sqlx::Error> {
    let run = sqlx::query(
        "WITH run AS (
             UPDATE evenkeel.runs
                SET cursor = $4,
                    rows_seen = rows_seen + CASE phase WHEN 'main' THEN $7 ELSE 0 END,
                    sweep_found = sweep_found + CASE phase WHEN 'sweep' THEN $8 ELSE 0 END
              WHERE id = $1 AND lease_token = $2 AND cursor IS NOT DISTINCT FROM $3
          RETURNING id),
         aside AS (
             INSERT INTO evenkeel.quarantine (run_id, lower_key, upper_key, sqlstate, error)
             SELECT id, $3, $4, $5, $6 FROM run
              WHERE NOT EXISTS (SELECT FROM evenkeel.quarantine q
                                 WHERE q.run_id = $1 AND q.upper_key = $4 AND q.resolved_at IS NULL))
         SELECT FROM run",
    )
    .bind(lease.run)
    .bind(lease.token)
    .bind(&range.lower)
    .bind(&range.upper)
    .bind(sqlstate)
    .bind(error)
    .bind(range.seen)
    .bind(range.todo.unwrap_or(0))
    .fetch_optional(conn)
    .await?;
    Ok(run.is_some())
}

/// Ranges of `run` that are set aside and not resolved.
///
/// # Errors
/// What the database says.
pub async fn quarantined(conn: &mut PgConnection, run: i64) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT count(*) FROM evenkeel.quarantine WHERE run_id = $1 AND resolved_at IS NULL",
    )
    .bind(run)
    .fetch_one(conn)
    .await
}

/// Marks every range of `run` as resolved: a sweep has found nothing pending.
///
/// # Errors
/// What the database says.
pub async fn resolve_quarantine(conn: &mut PgConnection, run: i64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE evenkeel.quarantine SET resolved_at = now() WHERE run_id = $1 AND resolved_at IS NULL",
    )
    .bind(run)
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends the holder's work on a run: completed, failed with a reason, or back to the queue.
/// `false` when the lease is lost or an operator has decided otherwise meanwhile.
///
/// # Errors
/// What the database says.
pub async fn finish(
    conn: &mut PgConnection,
    lease: Lease,
    to: State,
    error: Option<&str>,
    actor: &str,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE evenkeel.runs
            SET state = $3, error = $4, lease_until = NULL,
                finished_at = CASE WHEN $3 IN ('completed', 'failed') THEN now() END
          WHERE id = $1 AND lease_token = $2 AND state = 'running'",
    )
    .bind(lease.run)
    .bind(lease.token)
    .bind(to)
    .bind(error)
    .execute(&mut *conn)
    .await?;
    if done.rows_affected() == 1 {
        record(conn, lease.run, actor, to.name(), error.unwrap_or("")).await?;
    }
    Ok(done.rows_affected() == 1)
}

/// Changes a run's state on an operator's behalf.
///
/// # Errors
/// [`LedgerError::Illegal`] when [`TRANSITIONS`] has no such change by an operator;
/// [`LedgerError::AlreadyActive`] when another run of the same migration is under way.
pub async fn command(
    conn: &mut PgConnection,
    id: i64,
    to: State,
    actor: &str,
) -> Result<Run, LedgerError> {
    if to == Queued {
        let migration = find(conn, id).await?.migration;
        refuse_another(conn, &migration, id).await?;
    }
    let origins = to.origins(Operator).into_iter().map(State::name);
    let origins: Vec<&str> = origins.collect();
    let run: Option<Run> = sqlx::query_as(
        "UPDATE evenkeel.runs
            SET state = $2, error = NULL,
                finished_at = CASE WHEN $2 = 'cancelled' THEN now() END,
                -- After a failure the sweeps are counted anew, from the beginning of the table.
                sweep_pass = CASE state WHEN 'failed' THEN 0 ELSE sweep_pass END,
                sweep_found = CASE state WHEN 'failed' THEN 0 ELSE sweep_found END,
                cursor = CASE WHEN state = 'failed' AND phase = 'sweep' THEN NULL ELSE cursor END
          WHERE id = $1 AND state = ANY($3) RETURNING *",
    )
    .bind(id)
    .bind(to)
    .bind(&origins)
    .fetch_optional(&mut *conn)
    .await?;
    match run {
        Some(run) => {
            record(conn, id, actor, to.name(), "").await?;
            Ok(run)
        }
        None => Err(LedgerError::Illegal {
            id,
            from: find(conn, id).await?.state.name(),
            to: to.name(),
        }),
    }
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
    sqlx::query_as("SELECT * FROM evenkeel.runs WHERE migration = $1 ORDER BY id DESC LIMIT 1")
        .bind(migration)
        .fetch_optional(conn)
        .await?
        .ok_or_else(|| LedgerError::NeverRun(migration.to_owned()))
}

/// The newest runs, newest first.
///
/// # Errors
/// What the database says.
pub async fn recent(conn: &mut PgConnection, limit: i64) -> Result<Vec<Run>, sqlx::Error> {
    sqlx::query_as("SELECT * FROM evenkeel.runs ORDER BY id DESC LIMIT $1")
        .bind(limit)
        .fetch_all(conn)
        .await
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

fn interval(length: Duration) -> PgInterval {
    PgInterval {
        months: 0,
        days: 0,
        microseconds: i64::try_from(length.as_micros()).unwrap_or(i64::MAX),
    }
}
