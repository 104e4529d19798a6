//! Ranges that are set aside, tried once more after a fix.

use sqlx::postgres::PgConnection;

use super::{Lease, SetAside, Tries};
use crate::migration::keyset::Range;

/// The next range of `run` that is set aside and was not tried since an operator let the run go on.
///
/// # Errors
/// What the database says.
pub async fn next_to_repair(
    conn: &mut PgConnection,
    run: i64,
) -> Result<Option<SetAside>, sqlx::Error> {
    sqlx::query_as(
        "SELECT q.* FROM evenkeel.quarantine AS q JOIN evenkeel.runs AS r ON r.id = q.run_id
          WHERE q.run_id = $1 AND q.resolved_at IS NULL
            AND (r.resumed_at IS NULL OR q.tried_at < r.resumed_at)
          ORDER BY q.id LIMIT 1",
    )
    .bind(run)
    .fetch_optional(conn)
    .await
}

/// Writes down, within the transaction that changed its rows, that `range` is no longer set aside.
/// `false` when the lease is lost or somebody else has done it.
///
/// # Errors
/// What the database says.
pub async fn repaired(
    conn: &mut PgConnection,
    lease: Lease,
    entry: i64,
    range: &Range,
    changed: i64,
    tries: &Tries,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "WITH entry AS (
             UPDATE evenkeel.quarantine SET resolved_at = clock_timestamp(), tried_at = clock_timestamp()
              WHERE id = $3 AND run_id = $1 AND resolved_at IS NULL RETURNING run_id),
         run AS (
             UPDATE evenkeel.runs
                SET batches = batches + 1, rows_changed = rows_changed + $4, retries = retries + $5
              WHERE id = (SELECT run_id FROM entry) AND lease_token = $2
          RETURNING id, batches, lease_token)
         INSERT INTO evenkeel.batches
                (run_id, number, phase, lower_key, upper_key, rows_seen, rows_changed, lease_token,
                 retries, retried_for)
         SELECT id, batches, 'repair', $6, $7, $8, $4, lease_token, $5, $9 FROM run",
    )
    .bind(lease.run)
    .bind(lease.token)
    .bind(entry)
    .bind(changed)
    .bind(tries.failed)
    .bind(&range.lower)
    .bind(&range.upper)
    .bind(range.seen)
    .bind(&tries.sqlstate)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Writes down that a range that is set aside failed once more.
///
/// # Errors
/// What the database says.
pub async fn failed_again(
    conn: &mut PgConnection,
    lease: Lease,
    entry: i64,
    sqlstate: Option<&str>,
    error: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE evenkeel.quarantine AS q
            SET tried_at = clock_timestamp(), sqlstate = $4, error = $5
           FROM evenkeel.runs AS r
          WHERE q.id = $3 AND q.run_id = $1 AND r.id = $1 AND r.lease_token = $2",
    )
    .bind(lease.run)
    .bind(lease.token)
    .bind(entry)
    .bind(sqlstate)
    .bind(error)
    .execute(conn)
    .await?;
    Ok(())
}

/// The ranges have been tried; the walk goes on.
///
/// # Errors
/// What the database says.
pub async fn end_repair(conn: &mut PgConnection, lease: Lease) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE evenkeel.runs SET repairing = false WHERE id = $1 AND lease_token = $2")
        .bind(lease.run)
        .bind(lease.token)
        .execute(conn)
        .await?;
    Ok(())
}
