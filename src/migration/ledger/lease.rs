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

/// Extends the lease, stores what the holder says of its pace and adds `spent`, seconds by what they
/// were spent on. Returns the run's state, or `None` when the lease is lost.
///
/// # Errors
/// What the database says.
pub async fn renew(
    conn: &mut PgConnection,
    lease: Lease,
    length: Duration,
    pace: &serde_json::Value,
    spent: &serde_json::Value,
) -> Result<Option<State>, sqlx::Error> {
    sqlx::query_scalar(
        "UPDATE evenkeel.runs
            SET lease_until = clock_timestamp() + $3, pace = $4,
                time_spent = (
                    SELECT coalesce(jsonb_object_agg(source, seconds), '{}')
                      FROM (SELECT key AS source, sum(value::numeric) AS seconds
                              FROM (SELECT * FROM jsonb_each_text(time_spent)
                                    UNION ALL
                                    SELECT * FROM jsonb_each_text($5)) AS parts
                             GROUP BY key) AS sums)
          WHERE id = $1 AND lease_token = $2 RETURNING state",
    )
    .bind(lease.run)
    .bind(lease.token)
    .bind(interval(length))
    .bind(pace)
    .bind(spent)
    .fetch_optional(conn)
    .await
}

/// Tries that came to nothing since the last batch was committed.
#[derive(Clone, Debug, Default)]
pub struct Tries {
    /// Tries that failed.
    pub failed: i32,
    /// The SQLSTATE of the last of them.
    pub sqlstate: Option<String>,
    /// Tries that a critical signal cancelled in flight.
    pub cancelled: i64,
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
    /// What came to nothing before it.
    pub tries: &'a Tries,
    /// How long it has worked.
    pub took: Duration,
    /// Of a sweep's range in which nothing is pending.
    pub checksum: Option<&'a str>,
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
                    -- Of a table that was never analysed no share is known.
                    share_done = greatest(share_done, CASE WHEN phase = 'main' AND rows_estimate > 0 THEN
                        least(0.999, (rows_seen + $5)::float8
                                     / greatest(rows_estimate, rows_seen + $5, 1)) ELSE 0 END),
                    retries = retries + $10, cancelled_batches = cancelled_batches + $12,
                    lease_until = clock_timestamp() + $9
              WHERE id = $1 AND lease_token = $2 AND cursor IS NOT DISTINCT FROM $3
          RETURNING id, batches, phase, state, lease_token),
         batch AS (
             INSERT INTO evenkeel.batches
                    (run_id, number, phase, lower_key, upper_key, rows_seen, rows_changed, lease_token,
                     retries, retried_for, checksum, took_ms)
             SELECT id, batches, phase, $3, $4, $5, $6, lease_token, $10, $11, $13::numeric, $14 FROM run)
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
    .bind(done.tries.failed)
    .bind(&done.tries.sqlstate)
    .bind(done.tries.cancelled)
    .bind(done.checksum)
    .bind(done.took.as_secs_f32() * 1e3)
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
            SET phase = $3, cursor = NULL, end_key = $4, sweep_found = 0, sweep_aside = 0,
                sweep_from = CASE $3 WHEN 'sweep' THEN batches + 1 END,
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

/// Writes down that the table is empty: a sweep that began now would find nothing.
///
/// # Errors
/// What the database says.
pub async fn find_empty(conn: &mut PgConnection, lease: Lease) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE evenkeel.runs SET sweep_from = batches + 1, sweep_pass = sweep_pass + 1
          WHERE id = $1 AND lease_token = $2",
    )
    .bind(lease.run)
    .bind(lease.token)
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
