//! What a run would do, found out without doing it.

use std::time::{Duration, Instant};

use serde::Serialize;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor, Row};

use super::definition::Definition;
use super::keyset::{Keyset, KeysetError, TEXT_FORMS};

/// Rows of the batch that is tried and rolled back.
const SAMPLE_ROWS: u32 = 500;
/// A statement that takes longer in the sample is reported instead of waited for.
const SAMPLE_TIMEOUT: Duration = Duration::from_secs(5);

/// A prediction.
#[derive(Debug, Serialize)]
pub struct Plan {
    /// The key columns with their types.
    pub key: String,
    /// The unique index that serves the walk.
    pub index: String,
    /// Rows of the table, by the planner's estimate.
    pub rows: i64,
    /// Rows still pending, by the planner's estimate.
    pub pending: i64,
    /// Rows that the tried batch covered.
    pub sample_rows: i64,
    /// Rows that it changed, before it was rolled back.
    pub sample_changed: u64,
    /// How long it took, in milliseconds.
    pub sample_ms: f64,
    /// How long the main phase takes at full duty at that speed, in seconds.
    pub full_speed_s: f64,
    /// What should be looked at before the start.
    pub warnings: Vec<String>,
}

/// Tries one batch at the beginning of the table in a transaction that is rolled back.
///
/// # Errors
/// [`KeysetError`] when the table cannot be walked or the statement fails.
pub async fn plan(conn: &mut PgConnection, definition: &Definition) -> Result<Plan, KeysetError> {
    let keyset = Keyset::resolve(conn, definition).await?;
    let estimate = keyset.estimate(conn).await?;
    let mut warnings = Vec::new();
    if estimate < 0 {
        warnings.push(format!(
            "{} was never analysed; ANALYZE it, or estimates and ETA are blind",
            definition.table
        ));
    }
    let triggers: Vec<String> = sqlx::query_scalar(
        "SELECT tgname::text FROM pg_trigger
          WHERE tgrelid = to_regclass($1) AND NOT tgisinternal AND tgenabled <> 'D' ORDER BY 1",
    )
    .bind(&definition.table)
    .fetch_all(&mut *conn)
    .await?;
    if !triggers.is_empty() {
        warnings.push(format!(
            "triggers run for every row: {}",
            triggers.join(", ")
        ));
    }
    let pending = pending(conn, definition).await?;
    let mut plan = Plan {
        key: keyset.describe(),
        index: keyset.index.clone(),
        rows: estimate.max(0),
        pending,
        sample_rows: 0,
        sample_changed: 0,
        sample_ms: 0.0,
        full_speed_s: 0.0,
        warnings,
    };
    let mut tx = conn.begin().await?;
    tx.execute(AssertSqlSafe(format!(
        "SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = 200; \
         SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL enable_seqscan = off; SET LOCAL jit = off; {TEXT_FORMS}",
        SAMPLE_TIMEOUT.as_millis()
    )))
    .await?;
    let Some(end) = keyset.last(&mut tx).await? else {
        tx.rollback().await?;
        return Ok(plan);
    };
    let began = Instant::now();
    if let Some(range) = keyset.next(&mut tx, None, &end, SAMPLE_ROWS, None).await? {
        let sql = keyset.statement(definition, true);
        let done = sqlx::query(AssertSqlSafe(sql))
            .bind(&range.lower)
            .bind(&range.upper)
            .execute(&mut *tx)
            .await?;
        let took = began.elapsed();
        plan.sample_rows = range.seen;
        plan.sample_changed = done.rows_affected();
        plan.sample_ms = took.as_secs_f64() * 1e3;
        plan.full_speed_s = took.as_secs_f64() / range.seen.max(1) as f64 * plan.rows as f64;
    }
    tx.rollback().await?;
    Ok(plan)
}

/// What the planner believes about the pending predicate.
async fn pending(conn: &mut PgConnection, definition: &Definition) -> Result<i64, sqlx::Error> {
    let alias = definition
        .alias
        .as_ref()
        .map_or(String::new(), |alias| format!(" AS {alias}"));
    let sql = format!(
        "EXPLAIN (FORMAT JSON) SELECT FROM {}{alias} WHERE ({}) AND ({})",
        definition.table,
        definition.scope.as_deref().unwrap_or("true"),
        definition.pending
    );
    let row = conn.fetch_one(AssertSqlSafe(sql)).await?;
    let plan: serde_json::Value = row.try_get(0)?;
    Ok(plan[0]["Plan"]["Plan Rows"].as_f64().unwrap_or(0.0) as i64)
}
