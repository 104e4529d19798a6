//! The proof that a run leaves behind: a document that says what was done, by whom, and what the last
//! sweep read, in ranges with checksums by which anybody can ask again later.
//!
//! A run is completed exactly when it has its certificate: both are written in one transaction. The
//! numbers come from the ledger alone. Every batch of the last sweep has summed its range in the
//! transaction that found nothing pending in it, so the table is not read once more for the proof.

mod issue;
mod later;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use utoipa::ToSchema;

use super::definition::{Definition, DefinitionError};
use super::keyset::KeyValue;
use super::physical::Physical;
use super::undo::Direction;
use crate::db::schema::none_if_absent;

pub use issue::{IssueError, issue};
pub use later::{Later, newest_later, store_later};

/// What a completed run certifies.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Certificate {
    /// Number of the run.
    pub run: i64,
    /// Name of the migration.
    pub migration: String,
    /// Whether the change was made or taken back.
    pub direction: Direction,
    /// The whole file as it was when the run was queued.
    pub definition: String,
    /// Its SHA-256, in hexadecimal digits.
    pub definition_sha256: String,
    /// The table that was walked.
    pub table: String,
    /// The key columns with their types.
    pub key: String,
    /// The condition that is true of no row.
    pub pending: String,
    /// The columns beside the key that the checksums cover.
    pub columns: Vec<String>,
    /// Who queued the run.
    pub started_by: String,
    /// When it was queued.
    pub queued_at: DateTime<Utc>,
    /// When a process first took it.
    pub started_at: Option<DateTime<Utc>>,
    /// When the certificate was made.
    pub made_at: DateTime<Utc>,
    /// The run and the ended ones whose work it took over, newest first.
    pub runs: Vec<i64>,
    /// The first proof, by key: what the last sweep read.
    pub sweep: Swept,
    /// The second proof, by physical position. Unknown in a certificate that is older than it.
    #[serde(default)]
    pub physical: Physical,
    /// What the ledger adds up to.
    pub ledger: Sum,
    /// The sum of the ranges' checksums, in decimal digits; absent when one of them is.
    pub checksum: Option<String>,
    /// The table in ranges of neighbouring keys, as the last sweep read it.
    pub ranges: Vec<CertifiedRange>,
    /// Tries that came to nothing.
    pub tries: TriesSum,
    /// Ranges that were set aside, and how they were resolved.
    pub set_aside: Vec<Resolved>,
    /// Who held the lease.
    pub holders: Vec<Holder>,
    /// Seconds by what they were spent on.
    #[schema(value_type = Object)]
    pub time_spent: serde_json::Value,
}

/// The result of the last sweep.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Swept {
    /// Rows looked at.
    pub rows: i64,
    /// Rows still pending: none, or there would be no certificate.
    pub pending: i64,
    /// Sweeps that were needed, this one included.
    pub passes: i32,
}

/// The sum over the ledger's batches.
#[derive(Clone, Debug, Serialize, Deserialize, sqlx::FromRow, ToSchema)]
pub struct Sum {
    /// Batches committed, the sweeps' included.
    pub batches: i64,
    /// Rows changed by them.
    pub rows_changed: i64,
}

/// A range of neighbouring keys.
#[derive(Clone, Debug, Serialize, Deserialize, sqlx::FromRow, ToSchema)]
pub struct CertifiedRange {
    /// Exclusive; absent from the beginning of the table.
    pub lower: Option<KeyValue>,
    /// Inclusive.
    pub upper: KeyValue,
    /// Rows that the last sweep found.
    pub rows: i64,
    /// The sum of their hashes, in decimal digits.
    pub checksum: Option<String>,
    /// Rows changed by the batches that ended in this range, in every phase and in the runs that this one goes on
    /// from. A batch counts as a whole, with rows of the range before and with rows that are gone since, so that
    /// this can be more than `rows`; over all ranges it adds up to what the ledger has.
    #[sqlx(default)]
    pub rows_changed: i64,
    /// Batches that worked and ended in this range.
    #[sqlx(default)]
    pub batches: i64,
}

/// Tries that came to nothing.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TriesSum {
    /// Tries that failed and were made again.
    pub failed: i64,
    /// Batches that a critical signal cancelled in flight.
    pub cancelled: i64,
    /// The batches that needed more than one try, the most troubled hundred.
    pub batches: Vec<Retried>,
}

/// A batch that was preceded by failed tries.
#[derive(Clone, Debug, Serialize, Deserialize, sqlx::FromRow, ToSchema)]
pub struct Retried {
    /// Exclusive; absent from the beginning of the table.
    pub lower: Option<KeyValue>,
    /// Inclusive.
    pub upper: KeyValue,
    /// Tries that failed before it.
    pub failed: i32,
    /// The SQLSTATE of the last of them.
    pub sqlstate: Option<String>,
}

/// A range that was set aside for a time.
#[derive(Clone, Debug, Serialize, Deserialize, sqlx::FromRow, ToSchema)]
pub struct Resolved {
    /// Exclusive; absent from the beginning of the table.
    pub lower: Option<KeyValue>,
    /// Inclusive.
    pub upper: KeyValue,
    /// The SQLSTATE of the last error.
    pub sqlstate: Option<String>,
    /// The last error.
    pub error: String,
    /// When it was set aside.
    pub at: DateTime<Utc>,
    /// When it was done, or a sweep found nothing pending in it.
    pub resolved_at: Option<DateTime<Utc>>,
}

/// A process that held the lease.
#[derive(Clone, Debug, Serialize, Deserialize, sqlx::FromRow, ToSchema)]
pub struct Holder {
    /// Its name.
    pub holder: String,
    /// Its fencing token.
    pub token: String,
    /// When it took the lease.
    pub at: DateTime<Utc>,
}

impl Certificate {
    /// What the run executed.
    ///
    /// # Errors
    /// [`DefinitionError`] when this version of Evenkeel does not accept the file.
    pub fn declared(&self) -> Result<Definition, DefinitionError> {
        let definition = Definition::parse(&self.migration, &self.definition)?;
        definition
            .towards(self.direction)
            .ok_or_else(|| DefinitionError::NoWayBack(self.migration.clone()))
    }
}

/// The certificate of run `run`; `None` while it has none.
///
/// # Errors
/// What the database says.
pub async fn of_run(conn: &mut PgConnection, run: i64) -> Result<Option<Certificate>, sqlx::Error> {
    let found: Option<Json<Certificate>> =
        sqlx::query_scalar("SELECT document FROM evenkeel.certificates WHERE run_id = $1")
            .bind(run)
            .fetch_optional(conn)
            .await?;
    Ok(found.map(|Json(certificate)| certificate))
}

/// The newest certificate of `migration`; `None` when no run of it was ever completed.
///
/// # Errors
/// What the database says.
pub async fn latest(
    conn: &mut PgConnection,
    migration: &str,
) -> Result<Option<Certificate>, sqlx::Error> {
    let found = sqlx::query_scalar(
        "SELECT document FROM evenkeel.certificates
          WHERE migration = $1 ORDER BY run_id DESC LIMIT 1",
    );
    let found: Option<Json<Certificate>> =
        none_if_absent(found.bind(migration).fetch_optional(conn).await)?;
    Ok(found.map(|Json(certificate)| certificate))
}
