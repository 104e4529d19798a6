//! The schema statements of a change: which are done, and what the next one waits for.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::FromRow;
use sqlx::postgres::PgConnection;
use utoipa::ToSchema;

use super::Lease;

/// A step of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum Step {
    /// Schema statements that the backfill needs.
    Expand,
    /// The walks over the table; the sweep verifies that nothing is pending.
    Backfill,
    /// Schema statements that need the backfill done.
    Contract,
}

impl Step {
    /// The name in lower case, as the ledger stores it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Expand => "expand",
            Self::Backfill => "backfill",
            Self::Contract => "contract",
        }
    }
}

/// A schema statement of a run.
#[derive(Clone, Debug, FromRow, Serialize, ToSchema)]
pub struct Statement {
    /// Its place in the file, from 1.
    pub number: i32,
    /// The step that it belongs to.
    pub step: Step,
    /// The SQL.
    pub statement: String,
    /// How often it was tried.
    pub tries: i32,
    /// Why it is not done yet.
    pub waits_for: Option<String>,
    /// When it was first tried.
    pub began_at: DateTime<Utc>,
    /// When it was done.
    pub done_at: Option<DateTime<Utc>>,
}

/// What the ledger knew of a statement before this try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromRow)]
pub struct Begun {
    /// It was tried before, so that its effect may be there.
    pub before: bool,
    /// It is done.
    pub done: bool,
}

/// The statements of `run` that were tried, in order.
///
/// # Errors
/// What the database says.
pub async fn statements(conn: &mut PgConnection, run: i64) -> Result<Vec<Statement>, sqlx::Error> {
    sqlx::query_as("SELECT * FROM evenkeel.steps WHERE run_id = $1 ORDER BY number")
        .bind(run)
        .fetch_all(conn)
        .await
}

/// Begins a step. `false` when the lease is lost or an operator has decided otherwise.
///
/// # Errors
/// What the database says.
pub async fn enter(conn: &mut PgConnection, lease: Lease, step: Step) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE evenkeel.runs SET step = $3
          WHERE id = $1 AND lease_token = $2 AND state = 'running'",
    )
    .bind(lease.run)
    .bind(lease.token)
    .bind(step)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Notes that a statement is about to be tried. `None` when the lease is lost or an operator has
/// decided otherwise.
///
/// What an earlier run of the same migration did counts as done when the run was not completed, or when
/// its rows were taken back since: the schema is as that run has left it.
///
/// # Errors
/// What the database says.
pub async fn begin_statement(
    conn: &mut PgConnection,
    lease: Lease,
    number: i32,
    step: Step,
    statement: &str,
) -> Result<Option<Begun>, sqlx::Error> {
    sqlx::query_as(
        "WITH run AS (
             UPDATE evenkeel.runs SET step = $4
              WHERE id = $1 AND lease_token = $2 AND state = 'running'
          RETURNING id, migration),
         earlier AS (
             SELECT s.done_at FROM run
               JOIN evenkeel.runs r USING (migration)
               JOIN evenkeel.steps s ON s.run_id = r.id AND s.step = $4 AND s.statement = $5
              WHERE r.id > coalesce((SELECT max(c.id) FROM evenkeel.runs c
                                      WHERE c.migration = run.migration AND c.state = 'completed'
                                        AND c.direction = 'up'
                                        AND NOT EXISTS (SELECT FROM evenkeel.runs d
                                                         WHERE d.migration = c.migration AND d.id > c.id
                                                           AND d.state = 'completed'
                                                           AND d.direction = 'down')), 0)),
         try AS (
             INSERT INTO evenkeel.steps AS s (run_id, number, step, statement, tries)
             SELECT id, $3, $4, $5, 1 FROM run
             ON CONFLICT (run_id, number) DO UPDATE SET tries = s.tries + 1 WHERE s.done_at IS NULL)
         SELECT EXISTS (SELECT FROM earlier) AS before,
                EXISTS (SELECT FROM earlier WHERE done_at IS NOT NULL) AS done
           FROM run",
    )
    .bind(lease.run)
    .bind(lease.token)
    .bind(number)
    .bind(step)
    .bind(statement)
    .fetch_optional(conn)
    .await
}

/// Notes that a statement is done; where it can be, in the statement's own transaction. `false` when
/// the lease is lost or an operator has decided otherwise, whereupon the caller must roll back.
///
/// # Errors
/// What the database says.
pub async fn finish_statement(
    conn: &mut PgConnection,
    lease: Lease,
    number: i32,
    actor: &str,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "WITH run AS (
             SELECT id FROM evenkeel.runs
              WHERE id = $1 AND lease_token = $2 AND state = 'running' FOR NO KEY UPDATE),
         done AS (
             UPDATE evenkeel.steps s SET done_at = clock_timestamp(), waits_for = NULL
               FROM run WHERE s.run_id = run.id AND s.number = $3
          RETURNING s.run_id, s.step, s.statement)
         INSERT INTO evenkeel.events (run_id, actor, action, detail)
         SELECT run_id, $4, step || ' statement done', statement FROM done",
    )
    .bind(lease.run)
    .bind(lease.token)
    .bind(number)
    .bind(actor)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Notes why a statement is not done yet.
///
/// # Errors
/// What the database says.
pub async fn wait(
    conn: &mut PgConnection,
    lease: Lease,
    number: i32,
    why: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE evenkeel.steps s SET waits_for = $4 FROM evenkeel.runs r
          WHERE s.run_id = $1 AND s.number = $3 AND s.done_at IS NULL
            AND r.id = s.run_id AND r.lease_token = $2",
    )
    .bind(lease.run)
    .bind(lease.token)
    .bind(number)
    .bind(why)
    .execute(conn)
    .await?;
    Ok(())
}
