//! Ranges that could not be changed and are set aside.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::FromRow;
use sqlx::postgres::PgConnection;
use utoipa::ToSchema;

use super::{Lease, Run, Tries};
use crate::migration::keyset::{KeyNames, Range};

/// A range that is set aside.
#[derive(Clone, Debug, FromRow, Serialize, ToSchema)]
pub struct SetAside {
    /// Number of the entry.
    pub id: i64,
    /// Exclusive; absent from the beginning of the table.
    pub lower_key: Option<Vec<String>>,
    /// Inclusive.
    pub upper_key: Vec<String>,
    /// The SQLSTATE of the error.
    pub sqlstate: Option<String>,
    /// The error.
    pub error: String,
    /// When it was set aside.
    pub at: DateTime<Utc>,
    /// When it was last tried.
    pub tried_at: DateTime<Utc>,
    /// The range as people read it: `after id 4 up to id 9`.
    #[sqlx(default)]
    pub range: String,
}

impl SetAside {
    /// The range and its error, for people.
    pub fn describe(&self, names: &KeyNames) -> String {
        let range = names.range(self.lower_key.as_ref(), &self.upper_key);
        format!("{range}: {}", self.error)
    }
}

/// As [`set_aside`], each with its range as people read it.
///
/// # Errors
/// What the database says.
pub async fn set_aside_named(
    conn: &mut PgConnection,
    run: &Run,
    limit: i64,
) -> Result<Vec<SetAside>, sqlx::Error> {
    let mut open = set_aside(&mut *conn, run.id, limit).await?;
    if open.is_empty() {
        return Ok(open);
    }
    let names = run.key_names(conn).await;
    for entry in &mut open {
        entry.range = names.range(entry.lower_key.as_ref(), &entry.upper_key);
    }
    Ok(open)
}

/// The ranges of `run` that are set aside and not resolved, the newest `limit`, newest first.
///
/// # Errors
/// What the database says.
pub async fn set_aside(
    conn: &mut PgConnection,
    run: i64,
    limit: i64,
) -> Result<Vec<SetAside>, sqlx::Error> {
    sqlx::query_as(
        "SELECT * FROM evenkeel.quarantine
          WHERE run_id = $1 AND resolved_at IS NULL ORDER BY id DESC LIMIT $2",
    )
    .bind(run)
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// Sets a range aside and moves the cursor past it. `false` when the lease is lost or the cursor is
/// no longer where the range begins. When it was `contended`, another sweep may find it free.
///
/// # Errors
/// What the database says.
pub async fn quarantine(
    conn: &mut PgConnection,
    lease: Lease,
    range: &Range,
    sqlstate: Option<&str>,
    error: &str,
    contended: bool,
    tries: &Tries,
) -> Result<bool, sqlx::Error> {
    let run = sqlx::query(
        "WITH run AS (
             UPDATE evenkeel.runs
                SET cursor = $4,
                    rows_seen = rows_seen + CASE phase WHEN 'main' THEN $7 ELSE 0 END,
                    sweep_found = sweep_found + CASE phase WHEN 'sweep' THEN $8 ELSE 0 END,
                    sweep_aside = sweep_aside
                                  + CASE WHEN phase = 'sweep' AND NOT $9 THEN $8 ELSE 0 END,
                    retries = retries + $10, cancelled_batches = cancelled_batches + $11
              WHERE id = $1 AND lease_token = $2 AND cursor IS NOT DISTINCT FROM $3
          RETURNING id),
         again AS (
             UPDATE evenkeel.quarantine SET tried_at = clock_timestamp(), sqlstate = $5, error = $6
              WHERE run_id = (SELECT id FROM run) AND upper_key = $4 AND resolved_at IS NULL),
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
    .bind(contended)
    .bind(tries.failed)
    .bind(tries.cancelled)
    .fetch_optional(conn)
    .await?;
    Ok(run.is_some())
}

/// Ranges of `run` that were set aside since an operator last let it go on, and are not resolved.
///
/// # Errors
/// What the database says.
pub async fn quarantined(conn: &mut PgConnection, run: i64) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT count(*) FROM evenkeel.quarantine AS q JOIN evenkeel.runs AS r ON r.id = q.run_id
          WHERE q.run_id = $1 AND q.resolved_at IS NULL
            AND (r.resumed_at IS NULL OR q.at >= r.resumed_at)",
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
