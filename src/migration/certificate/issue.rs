//! Makes a certificate from the ledger.

use pool::PoolError;
use sha2::{Digest, Sha256};
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Executor, Row};

use super::{Certificate, CertifiedRange, Sum, Swept, TriesSum};
use crate::migration::definition::DefinitionError;
use crate::migration::keyset::{Keyset, KeysetError};
use crate::migration::ledger::{self, LedgerError, Run};
use crate::migration::physical::{Answer, Physical};

/// Ranges of a certificate at most.
const RANGES: i64 = 100;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The run's file is no definition any more.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// The run's table can no longer be walked.
    #[error(transparent)]
    Keyset(#[from] KeysetError),
    /// The ledger has no such run.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// No connection.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The database refused.
    #[error("{}", pool::describe(.0))]
    Database(#[from] sqlx::Error),
}

impl IssueError {
    /// Whether another try would end as this one did.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Definition(_) => true,
            Self::Keyset(err) => !matches!(err, KeysetError::Database(_)),
            Self::Ledger(_) | Self::Pool(_) | Self::Database(_) => false,
        }
    }
}

/// Makes and stores the certificate of `run`, whose last sweep found nothing pending; none of a run
/// that changed the schema alone. Belongs into the transaction that completes the run.
///
/// # Errors
/// [`IssueError`].
pub async fn issue(conn: &mut PgConnection, run: i64) -> Result<Option<Certificate>, IssueError> {
    let run = ledger::find(conn, run).await?;
    let definition = run.declared()?;
    if !definition.has_backfill() {
        return Ok(None);
    }
    let keyset = Keyset::resolve(conn, &definition).await?;
    // Nothing of the author's is asked from here on.
    conn.execute("SET LOCAL search_path = pg_catalog, pg_temp")
        .await?;
    let runs = chain(conn, run.id).await?;
    let mut ranges = swept(conn, &run).await?;
    attribute(conn, &keyset, &runs, &mut ranges).await?;
    let certificate = Certificate {
        run: run.id,
        direction: run.direction,
        definition_sha256: format!("{:x}", Hex(&Sha256::digest(&run.definition))),
        table: definition.table.clone(),
        key: keyset.describe(),
        pending: definition.pending.clone(),
        columns: definition.certified(),
        started_by: run.started_by.clone(),
        queued_at: run.created_at,
        started_at: run.started_at,
        made_at: sqlx::query_scalar("SELECT now()")
            .fetch_one(&mut *conn)
            .await?,
        sweep: Swept {
            rows: ranges.iter().map(|range| range.rows).sum(),
            pending: 0,
            passes: run.sweep_pass,
        },
        physical: second_proof(&run),
        ledger: sum(conn, &runs).await?,
        checksum: total(conn, &ranges).await?,
        ranges,
        tries: tries(conn, &run, &runs).await?,
        set_aside: sqlx::query_as(
            "SELECT lower_key AS lower, upper_key AS upper, sqlstate, error, at, resolved_at
               FROM evenkeel.quarantine WHERE run_id = ANY($1) ORDER BY id",
        )
        .bind(&runs)
        .fetch_all(&mut *conn)
        .await?,
        holders: sqlx::query_as(
            "SELECT actor AS holder, detail AS token, at FROM evenkeel.events
              WHERE run_id = ANY($1) AND action = 'lease taken' ORDER BY id",
        )
        .bind(&runs)
        .fetch_all(&mut *conn)
        .await?,
        runs,
        time_spent: run.time_spent,
        migration: run.migration,
        definition: run.definition,
    };
    store(conn, &certificate).await?;
    Ok(Some(certificate))
}

/// What the second proof said. A process of a version that makes none completes a run whatever the last
/// one has found, and whether or not it ended.
fn second_proof(run: &Run) -> Physical {
    match run.second_proof() {
        Some(proof) if proof.answer != Answer::Pending && !proof.is_under_way() => proof,
        _ => Physical::unknown("the process that completed the run made no second proof"),
    }
}

/// Bytes as hexadecimal digits.
struct Hex<'a>(&'a [u8]);

impl std::fmt::LowerHex for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The run and those whose work it took over, newest first.
async fn chain(conn: &mut PgConnection, run: i64) -> Result<Vec<i64>, sqlx::Error> {
    sqlx::query_scalar(
        "WITH RECURSIVE chain AS (
             SELECT id, follows FROM evenkeel.runs WHERE id = $1
             UNION ALL
             SELECT r.id, r.follows FROM evenkeel.runs AS r JOIN chain ON r.id = chain.follows)
         SELECT id FROM chain ORDER BY id DESC",
    )
    .bind(run)
    .fetch_all(conn)
    .await
}

/// The batches of the last sweep, joined to ranges of about as many rows each.
async fn swept(conn: &mut PgConnection, run: &Run) -> Result<Vec<CertifiedRange>, sqlx::Error> {
    sqlx::query_as(
        "WITH swept AS (
             SELECT number, lower_key, upper_key, rows_seen, checksum,
                    sum(rows_seen) OVER (ORDER BY number) - rows_seen AS before,
                    greatest(sum(rows_seen) OVER (), 1) AS total
               FROM evenkeel.batches
              WHERE run_id = $1 AND number >= $2 AND phase = 'sweep'),
         parts AS (
             SELECT *, floor(before * $3 / total) AS part,
                    row_number() OVER (PARTITION BY floor(before * $3 / total) ORDER BY number) AS first,
                    row_number() OVER (PARTITION BY floor(before * $3 / total) ORDER BY number DESC) AS last
               FROM swept)
         SELECT (SELECT p.lower_key FROM parts AS p WHERE p.part = parts.part AND p.first = 1) AS lower,
                (SELECT p.upper_key FROM parts AS p WHERE p.part = parts.part AND p.last = 1) AS upper,
                sum(rows_seen)::bigint AS rows,
                CASE WHEN bool_and(checksum IS NOT NULL) THEN sum(checksum)::text END AS checksum
           FROM parts GROUP BY part ORDER BY part",
    )
    .bind(run.id)
    .bind(run.sweep_from)
    .bind(RANGES)
    .fetch_all(conn)
    .await
}

/// Adds to every range what the batches that ended in it did. Keys are text in the ledger, so the
/// table's own order of keys has to sort them.
async fn attribute(
    conn: &mut PgConnection,
    keyset: &Keyset,
    runs: &[i64],
    ranges: &mut [CertifiedRange],
) -> Result<(), sqlx::Error> {
    let uppers: Vec<_> = ranges.iter().map(|range| &range.upper).collect();
    let sql = format!(
        "WITH points AS (
             {none}
             UNION ALL
             SELECT {batch_key}, rows_changed, 1::bigint, 0::bigint FROM evenkeel.batches
              WHERE run_id OPERATOR(pg_catalog.=) ANY($1)
                AND (phase OPERATOR(pg_catalog.<>) 'sweep' OR rows_changed OPERATOR(pg_catalog.>) 0)
             UNION ALL
             SELECT {range_key}, 0, 0, 1
               FROM pg_catalog.jsonb_array_elements($2) AS one,
                    LATERAL (SELECT pg_catalog.array_agg(k) AS upper
                               FROM pg_catalog.jsonb_array_elements_text(one) AS k) AS r),
         placed AS (
             SELECT *, pg_catalog.sum(bound) OVER (ORDER BY {order}, bound ROWS UNBOUNDED PRECEDING) AS bounds
               FROM points)
         SELECT bounds::bigint AS place, pg_catalog.sum(rows_changed)::bigint AS rows_changed,
                pg_catalog.sum(batches)::bigint AS batches
           FROM placed WHERE bound OPERATOR(pg_catalog.=) 0 GROUP BY bounds",
        none = keyset.no_keys(", 0::bigint AS rows_changed, 0::bigint AS batches, 0::bigint AS bound"),
        batch_key = keyset.cast("upper_key"),
        range_key = keyset.cast("r.upper"),
        order = keyset.order_of_keys(),
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(runs)
        .bind(Json(uppers))
        .fetch_all(conn)
        .await?;
    let last = ranges.len().saturating_sub(1);
    for row in rows {
        let place: i64 = row.try_get("place")?;
        // What is beyond the last range was deleted since.
        let place = usize::try_from(place).unwrap_or(last).min(last);
        if let Some(range) = ranges.get_mut(place) {
            range.rows_changed += row.try_get::<i64, _>("rows_changed")?;
            range.batches += row.try_get::<i64, _>("batches")?;
        }
    }
    Ok(())
}

async fn sum(conn: &mut PgConnection, runs: &[i64]) -> Result<Sum, sqlx::Error> {
    sqlx::query_as(
        "SELECT count(*) AS batches, coalesce(sum(rows_changed), 0)::bigint AS rows_changed
           FROM evenkeel.batches WHERE run_id = ANY($1)",
    )
    .bind(runs)
    .fetch_one(conn)
    .await
}

async fn total(
    conn: &mut PgConnection,
    ranges: &[CertifiedRange],
) -> Result<Option<String>, sqlx::Error> {
    let sums: Vec<_> = ranges.iter().map(|range| range.checksum.clone()).collect();
    sqlx::query_scalar(
        "SELECT CASE WHEN coalesce(bool_and(c IS NOT NULL), true)
                     THEN coalesce(sum(c::numeric), 0)::text END
           FROM unnest($1::text[]) AS c",
    )
    .bind(sums)
    .fetch_one(conn)
    .await
}

async fn tries(conn: &mut PgConnection, run: &Run, runs: &[i64]) -> Result<TriesSum, sqlx::Error> {
    Ok(TriesSum {
        failed: run.retries,
        cancelled: run.cancelled_batches,
        batches: sqlx::query_as(
            "SELECT lower_key AS lower, upper_key AS upper, retries AS failed, retried_for AS sqlstate
               FROM evenkeel.batches WHERE run_id = ANY($1) AND retries > 0
              ORDER BY retries DESC, number LIMIT 100",
        )
        .bind(runs)
        .fetch_all(conn)
        .await?,
    })
}

async fn store(conn: &mut PgConnection, certificate: &Certificate) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO evenkeel.certificates
                (run_id, migration, direction, definition_sha256, started_by, rows, rows_changed,
                 checksum, made_at, document)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8::numeric, $9, $10)",
    )
    .bind(certificate.run)
    .bind(&certificate.migration)
    .bind(certificate.direction)
    .bind(&certificate.definition_sha256)
    .bind(&certificate.started_by)
    .bind(certificate.sweep.rows)
    .bind(certificate.ledger.rows_changed)
    .bind(&certificate.checksum)
    .bind(certificate.made_at)
    .bind(Json(certificate))
    .execute(conn)
    .await?;
    Ok(())
}
