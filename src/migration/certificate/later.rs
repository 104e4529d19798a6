//! Proofs that were made after the certificate.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use utoipa::ToSchema;

use crate::migration::physical::Physical;

/// What was found when somebody asked again.
#[derive(Clone, Debug, Serialize, sqlx::FromRow, ToSchema)]
pub struct Later {
    /// When.
    pub made_at: DateTime<Utc>,
    /// Who asked.
    pub actor: String,
    /// Rows that the walk by key met.
    pub rows: i64,
    /// Those of them that were pending.
    pub pending: i64,
    /// What the read by physical position said.
    #[sqlx(json, rename = "document")]
    pub physical: Physical,
}

/// Keeps what `actor` has found of the rows of run `run`: by key `rows`, of which `pending` were, and
/// by physical position `physical`.
///
/// # Errors
/// What the database says, for example that this role may only read.
pub async fn store_later(
    conn: &mut PgConnection,
    run: i64,
    actor: &str,
    (rows, pending): (i64, i64),
    physical: &Physical,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO evenkeel.proofs (run_id, actor, rows, pending, document)
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(run)
    .bind(actor)
    .bind(rows)
    .bind(pending)
    .bind(Json(physical))
    .execute(conn)
    .await?;
    Ok(())
}

/// The newest proof of run `run` that was made after its certificate; `None` when nobody has asked
/// since.
///
/// # Errors
/// What the database says.
pub async fn newest_later(conn: &mut PgConnection, run: i64) -> Result<Option<Later>, sqlx::Error> {
    sqlx::query_as(
        "SELECT made_at, actor, rows, pending, document FROM evenkeel.proofs
          WHERE run_id = $1 ORDER BY id DESC LIMIT 1",
    )
    .bind(run)
    .fetch_optional(conn)
    .await
}
