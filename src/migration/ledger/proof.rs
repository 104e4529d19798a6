//! What the second proof of a run says.

use sqlx::postgres::PgConnection;
use sqlx::types::Json;

use super::{Lease, Run};
use crate::migration::physical::Physical;

impl Run {
    /// What the last second proof said; `None` before the first, and of what this version cannot read.
    pub fn second_proof(&self) -> Option<Physical> {
        let proof = self.proof.clone()?;
        serde_json::from_value(proof).ok()
    }
}

/// Writes down what a second proof says. `false` when the lease is lost.
///
/// # Errors
/// What the database says.
pub async fn note_proof(
    conn: &mut PgConnection,
    lease: Lease,
    proof: &Physical,
) -> Result<bool, sqlx::Error> {
    let noted =
        sqlx::query("UPDATE evenkeel.runs SET proof = $3 WHERE id = $1 AND lease_token = $2")
            .bind(lease.run)
            .bind(lease.token)
            .bind(Json(proof))
            .execute(conn)
            .await?;
    Ok(noted.rows_affected() == 1)
}
