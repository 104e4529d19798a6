//! What the holder of a lease writes: every statement carries the fencing token.

use std::time::Duration;

use sqlx::postgres::PgConnection;

use super::{Lease, Phase, Run, State, interval, record};
use crate::migration::keyset::{KeyValue, Range};

/// Takes the lease of the oldest run that waits or whose holder has died; `None` when there is
/// none, or while another process has one under way: all that are share the budget of one process.
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
                             WHERE state = 'running' AND lease_until >= clock_timestamp()
                               AND lease_holder <> $1)
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
