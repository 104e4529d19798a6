//! Completeness, asked again at any time: whether any row is still pending, and which of the ranges
//! that a certificate covers have changed since.

use pool::{Author, Pool, PoolError};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Postgres, Transaction};

use super::certificate::{Certificate, CertifiedRange};
use super::checksum::{Checksum, Summed};
use super::definition::Definition;
use super::fault::{self, Fault};
use super::keyset::{KeyValue, Keyset, TEXT_FORMS};
use super::retry::Patience;
use crate::config::Engine;

/// Rows that one statement of [`verify`] looks at, at first.
const ROWS: u32 = 10_000;
/// How often a statement is tried again.
const TRIES: u32 = 20;

/// What a search for pending rows found.
#[derive(Clone, Debug, Default, serde::Serialize, utoipa::ToSchema)]
pub struct Verification {
    /// Rows looked at.
    pub rows: i64,
    /// Rows for which the predicate is true.
    pub pending: i64,
    /// The end of the first range that has pending rows.
    pub first_range: Option<KeyValue>,
    /// The run whose certificate was compared, where there is one.
    pub certificate: Option<i64>,
    /// Ranges of the certificate that could be compared.
    pub compared: usize,
    /// Ranges of the certificate whose rows are no longer those that it certifies. The shop goes on
    /// writing, so this is news and not a failure.
    pub changed_since: Vec<Changed>,
    /// Rows beyond the last range of the certificate.
    pub arrived: i64,
}

/// A certified range whose rows are no longer the same.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
pub struct Changed {
    /// Exclusive; absent from the beginning of the table.
    pub lower: Option<KeyValue>,
    /// Inclusive.
    pub upper: KeyValue,
    /// Rows when it was certified.
    pub rows_then: i64,
    /// Rows now.
    pub rows_now: i64,
}

impl Verification {
    /// Whether nothing is pending.
    pub fn is_complete(&self) -> bool {
        self.pending == 0
    }

    fn add(&mut self, range: &Summed, upper: &KeyValue) {
        self.rows += range.rows;
        self.pending += range.pending;
        if range.pending > 0 && self.first_range.is_none() {
            self.first_range = Some(upper.clone());
        }
    }

    fn compare(&mut self, certified: &CertifiedRange, now: &Summed) {
        let Some(then) = &certified.checksum else {
            return;
        };
        self.compared += 1;
        if *then != now.checksum.to_string() || certified.rows != now.rows {
            self.changed_since.push(Changed {
                lower: certified.lower.clone(),
                upper: certified.upper.clone(),
                rows_then: certified.rows,
                rows_now: now.rows,
            });
        }
    }
}

/// Walks the whole table in short read-only transactions, counts the rows still pending, and compares
/// the ranges of `certificate` with what they hold now. `pool` may be a replica's: nothing is written.
/// What somebody's lock, a busy server or a replica's recovery was in the way of is tried again, and
/// with fewer rows where it took longer than a statement may.
///
/// # Errors
/// What the database or the pool says, to the last try.
pub async fn verify(
    pool: &Pool,
    settings: &Engine,
    definition: &Definition,
    keyset: &Keyset,
    certificate: Option<&Certificate>,
) -> Result<Verification, VerifyError> {
    let author = pool.author();
    let mut walk = Walk {
        author: &author,
        settings,
        definition,
        keyset,
        checksum: Checksum::new(definition, keyset),
        rows: ROWS,
    };
    let mut found = Verification {
        certificate: certificate.map(|certificate| certificate.run),
        ..Verification::default()
    };
    let mut cursor = None;
    for range in certificate.iter().flat_map(|c| &c.ranges) {
        let now = walk.over(cursor.clone(), &range.upper, &mut found).await?;
        found.compare(range, &now);
        cursor = Some(range.upper.clone());
    }
    if let Some(end) = walk.end().await? {
        let rest = walk.over(cursor.clone(), &end, &mut found).await?;
        if cursor.is_some() {
            found.arrived = rest.rows;
        }
    }
    Ok(found)
}

/// Opens a short transaction that reads the table as a batch does.
async fn begin<'c>(
    conn: &'c mut PgConnection,
    settings: &Engine,
) -> Result<Transaction<'c, Postgres>, sqlx::Error> {
    let sql = format!(
        "BEGIN READ ONLY; SET LOCAL statement_timeout = {}; \
         SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL enable_seqscan = off; \
         SET LOCAL jit = off; {TEXT_FORMS}",
        settings.statement_timeout.as_millis()
    );
    conn.begin_with(AssertSqlSafe(sql)).await
}

struct Walk<'a> {
    author: &'a Author,
    settings: &'a Engine,
    definition: &'a Definition,
    keyset: &'a Keyset,
    checksum: Checksum,
    /// Rows of a statement.
    rows: u32,
}

impl Walk<'_> {
    /// The last key of the table.
    async fn end(&mut self) -> Result<Option<KeyValue>, VerifyError> {
        let mut patience = Patience::default();
        loop {
            match self.author.run(async |conn| self.last(conn).await).await {
                Ok(last) => return Ok(last),
                Err(err) => self.after(err, &mut patience).await?,
            }
        }
    }

    async fn last(&self, conn: &mut PgConnection) -> Result<Option<KeyValue>, VerifyError> {
        let mut tx = begin(conn, self.settings).await?;
        let last = self.keyset.last(&mut tx).await?;
        tx.commit().await?;
        Ok(last)
    }

    /// Sums the keys after `cursor` up to `end`, a statement's worth at a time.
    async fn over(
        &mut self,
        mut cursor: Option<KeyValue>,
        end: &KeyValue,
        found: &mut Verification,
    ) -> Result<Summed, VerifyError> {
        let mut sum = Summed::default();
        let mut patience = Patience::default();
        loop {
            let from = cursor.as_ref();
            let step = async |conn: &mut PgConnection| self.step(conn, from, end).await;
            match self.author.run(step).await {
                Ok(None) => return Ok(sum),
                Ok(Some((upper, part))) => {
                    found.add(&part, &upper);
                    sum.add(&part);
                    cursor = Some(upper);
                    patience.reset();
                }
                Err(err) => self.after(err, &mut patience).await?,
            }
        }
    }

    /// Waits where that can help against `err`, and looks at fewer rows from here on where they may have taken
    /// too long.
    async fn after(
        &mut self,
        err: VerifyError,
        patience: &mut Patience,
    ) -> Result<(), VerifyError> {
        let fault = err.fault();
        if !fault.passes() || patience.failures() >= TRIES {
            return Err(err);
        }
        if fault == Fault::Contention {
            self.rows = (self.rows / 2).max(1);
        }
        tokio::time::sleep(patience.pause()).await;
        Ok(())
    }

    async fn step(
        &self,
        conn: &mut PgConnection,
        cursor: Option<&KeyValue>,
        end: &KeyValue,
    ) -> Result<Option<(KeyValue, Summed)>, VerifyError> {
        let (keyset, definition) = (self.keyset, self.definition);
        let mut tx = begin(conn, self.settings).await?;
        let range = keyset.next(&mut tx, cursor, end, self.rows, None).await?;
        let Some(range) = range else {
            tx.rollback().await?;
            return Ok(None);
        };
        let summed = self
            .checksum
            .read(&mut tx, definition, keyset, cursor, &range.upper)
            .await?;
        tx.commit().await?;
        Ok(Some((range.upper, summed)))
    }
}

/// Why a verification could not be made.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// No connection.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The database refused.
    #[error("{}", pool::describe(.0))]
    Database(#[from] sqlx::Error),
}

impl VerifyError {
    fn fault(&self) -> Fault {
        match self {
            Self::Pool(err) => fault::of_pool(err),
            Self::Database(err) => fault::of_driver(err),
        }
    }
}
