//! Completeness: whether any row is still pending, by the declared predicate and nothing else.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

use super::definition::Definition;
use super::keyset::{KeyValue, Keyset, TEXT_FORMS};
use crate::class::Class;
use crate::config::Engine;
use crate::db::{Pool, PoolError};

/// Rows that one statement of [`verify`] looks at.
const ROWS: u32 = 10_000;

/// What a search for pending rows found.
#[derive(Clone, Debug, Default, serde::Serialize, utoipa::ToSchema)]
pub struct Verification {
    /// Rows looked at.
    pub rows: i64,
    /// Rows for which the predicate is true.
    pub pending: i64,
    /// The end of the first range that has pending rows.
    pub first_range: Option<KeyValue>,
}

impl Verification {
    /// Whether nothing is pending.
    pub fn is_complete(&self) -> bool {
        self.pending == 0
    }
}

/// Walks the whole table in short read-only transactions and counts the rows still pending.
///
/// # Errors
/// What the database or the pool says.
pub async fn verify(
    pool: &Pool,
    settings: &Engine,
    definition: &Definition,
    keyset: &Keyset,
) -> Result<Verification, VerifyError> {
    let mut found = Verification::default();
    let read_only = format!(
        "BEGIN READ ONLY; SET LOCAL statement_timeout = {}; \
         SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL enable_seqscan = off; SET LOCAL jit = off; {TEXT_FORMS}",
        settings.statement_timeout.as_millis()
    );
    let last = async |conn: &mut PgConnection| {
        let mut tx = conn.begin_with(AssertSqlSafe(read_only.clone())).await?;
        let last = keyset.last(&mut tx).await?;
        tx.commit().await?;
        Ok::<_, VerifyError>(last)
    };
    let Some(end) = pool.run(Class::Background, last).await? else {
        return Ok(found);
    };
    let mut cursor: Option<KeyValue> = None;
    loop {
        let step = async |conn: &mut PgConnection| {
            let mut tx = conn.begin_with(AssertSqlSafe(read_only.clone())).await?;
            let pending = Some(definition.pending.as_str());
            let range = keyset
                .next(&mut tx, cursor.as_ref(), &end, ROWS, pending)
                .await?;
            tx.commit().await?;
            Ok::<_, VerifyError>(range)
        };
        let Some(range) = pool.run(Class::Background, step).await? else {
            return Ok(found);
        };
        let todo = range.todo.unwrap_or(0);
        found.rows += range.seen;
        found.pending += todo;
        if todo > 0 && found.first_range.is_none() {
            found.first_range = Some(range.upper.clone());
        }
        cursor = Some(range.upper);
    }
}

/// Why a verification could not be made.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// No connection.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The database refused.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}
