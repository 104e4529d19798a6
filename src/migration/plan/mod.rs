//! What a run would do, found out without doing it: samples over the whole key range in transactions
//! that are rolled back, what follows from them, and what could stall the run.

mod estimate;
mod history;
mod obstacles;
mod predict;
mod sample;
mod space;

use serde::Serialize;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor, Row};

use super::definition::Definition;
use super::keyset::{Keyset, KeysetError};
use super::pending::Still;
use crate::config::Engine;

use estimate::Share;

pub use estimate::{Estimate, Source};
pub use history::Hour;
pub use predict::Quantiles;
pub use sample::Sample;
pub use space::Bloat;

/// A prediction.
#[derive(Debug, Serialize)]
pub struct Plan {
    /// The key columns with their types.
    pub key: String,
    /// The unique index that serves the walk.
    pub index: String,
    /// Rows of the table: counted when they are few, by its statistics when these are recent, else
    /// by a sample of its pages.
    pub rows: Estimate,
    /// Rows still pending: counted when the table has few rows, else by pages drawn at random, or by
    /// the batches that were tried where that takes too long; none to all when neither could be had.
    /// The planner is not asked: its statistics may be older than the column.
    pub pending: Estimate,
    /// Rows of a sample that were changed and are pending all the same, so that a run could not end;
    /// `None` when the samples found none.
    pub stays_pending: Option<Still>,
    /// Why a run would fail as the samples did: an error that neither time nor other rows help, or one of
    /// the rows wherever it was tried; `None` when there is hope.
    pub hopeless: Option<String>,
    /// The batches that were tried and rolled back.
    pub samples: Vec<Sample>,
    /// Samples that failed, by their error.
    pub failures: Vec<String>,
    /// How long the main phase takes at full duty, in seconds; `None` without a sample.
    pub full_speed: Option<Quantiles>,
    /// The same at the duty of the recent runs; `None` without a history.
    pub at_recent_duty: Option<AtDuty>,
    /// The same by the hour (UTC) at which it is started, for the hours that runs have worked in.
    pub by_hour: Vec<Hour>,
    /// Bytes of WAL per row passed, and of the whole run; `None` without a sample.
    pub wal: Option<Wal>,
    /// Space that the old versions of rows take.
    pub bloat: Option<Bloat>,
    /// What could stall the run or make it slow.
    pub obstacles: Vec<String>,
}

/// A prediction at a duty.
#[derive(Debug, Serialize)]
pub struct AtDuty {
    /// The share of the time that the recent runs worked.
    pub duty: f64,
    /// How long the main phase takes, in seconds.
    #[serde(flatten)]
    pub takes: Quantiles,
}

/// Write-ahead log.
#[derive(Debug, Serialize)]
pub struct Wal {
    /// Bytes per row that the walk passes.
    pub per_row: f64,
    /// Bytes of the whole run.
    pub total: f64,
}

/// Tries batches all over the table, rolls each of them back, and predicts. Takes about five seconds
/// and rests between the samples as long as they take. The rows that the samples changed, a tenth of the
/// table at most, leave dead versions behind, as any UPDATE that is rolled back.
///
/// # Errors
/// [`KeysetError`] when the table cannot be walked, or every sample fails for the same reason as a
/// run would.
pub async fn plan(
    conn: &mut PgConnection,
    definition: &Definition,
    settings: &Engine,
) -> Result<Plan, KeysetError> {
    let keyset = Keyset::resolve(conn, definition).await?;
    keyset.read_statement(conn, definition).await?;
    let (all, looked_at) = estimate::rows(conn, definition, &keyset, settings).await?;
    let rows = all.likely;
    let tried = sample::take(conn, definition, &keyset, settings, rows).await?;
    let share = looked_at.or_else(|| Share::of(&tried.samples, |s| s.pending));
    let pending = all.part(share.unwrap_or(Share::UNKNOWN));
    let mut obstacles = obstacles::find(conn, definition, settings).await?;
    obstacles.extend(tried.scans.iter().cloned());
    if let Some(failure) = tried.failures.first() {
        obstacles.push(format!(
            "{} of {} samples failed, for example because: {failure}",
            tried.failures.len(),
            tried.failures.len() + tried.samples.len()
        ));
    }
    let full_speed = predict::duration(&tried.samples, rows, &sample::sizing(definition, settings));
    let history = history::read(conn).await?;
    let seen: i64 = tried.samples.iter().map(|s| s.rows).sum();
    let wal: i64 = tried.samples.iter().map(|s| s.wal_bytes).sum();
    let per_row = wal as f64 / seen.max(1) as f64;
    let changed = Share::of(&tried.samples, |s| s.changed).map_or(0.0, |share| share.likely);
    let changed = changed * rows as f64;
    Ok(Plan {
        key: keyset.describe(),
        index: keyset.index.clone(),
        rows: all,
        pending,
        stays_pending: tried.samples.iter().find_map(|s| s.stays_pending.clone()),
        hopeless: tried.hopeless,
        at_recent_duty: full_speed.zip(history.duty).map(|(full, duty)| AtDuty {
            duty,
            takes: full.slowed(1.0 / duty),
        }),
        by_hour: full_speed.map_or_else(Vec::new, |full| history.by_hour(full)),
        full_speed,
        wal: (seen > 0).then_some(Wal {
            per_row,
            total: per_row * rows as f64,
        }),
        bloat: space::bloat(conn, definition, rows, changed).await?,
        obstacles,
        samples: tried.samples,
        failures: tried.failures,
    })
}

/// How many rows the planner believes the table has, and their width in bytes. Unlike the
/// table's statistics this is not blind for a table that was never analysed: it knows its pages.
async fn planned(
    conn: &mut PgConnection,
    definition: &Definition,
) -> Result<(i64, i64), sqlx::Error> {
    let alias = definition
        .alias
        .as_ref()
        .map_or(String::new(), |alias| format!(" AS {alias}"));
    let sql = format!(
        "EXPLAIN (FORMAT JSON) SELECT * FROM {}{alias} WHERE ({})",
        definition.table,
        definition.scope.as_deref().unwrap_or("true")
    );
    let row = conn.fetch_one(AssertSqlSafe(sql.clone())).await;
    let row = row.map_err(|err| definition.place(&sql, err))?;
    let plan: serde_json::Value = row.try_get(0)?;
    let plan = &plan[0]["Plan"];
    let number = |key: &str| plan[key].as_f64().unwrap_or(0.0) as i64;
    Ok((number("Plan Rows"), number("Plan Width")))
}
