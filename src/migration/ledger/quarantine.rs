//! Ranges that could not be changed and are set aside.

use sqlx::postgres::PgConnection;

use super::Lease;
use crate::migration::keyset::Range;

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
