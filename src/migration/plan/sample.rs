//! Batches that are tried at places all over the table and rolled back.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde::Serialize;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use super::estimate;
use super::predict::Sizing;
use crate::config::Engine;
use crate::migration::batch::{APPLICATION, Measured, begin, next_size, settle};
use crate::migration::definition::Definition;
use crate::migration::fault::Fault;
use crate::migration::keyset::{KeyValue, Keyset, Range, reading};
use crate::migration::pending::{self, Made, Still};
use crate::migration::retry::Failure;
use crate::migration::snapshot::Snapshot;

/// Samples at least, where the table is long enough and time permits.
const AT_LEAST: usize = 20;
/// Samples at most.
const AT_MOST: usize = 100;
/// One row in so many is passed by all samples together at most: what they change and roll back stays
/// in the table until vacuum.
const SHARE: i64 = 10;
/// The second sample at a place is smaller by this factor.
const SMALLER: u32 = 3;
/// The time for all of them.
const BUDGET: Duration = Duration::from_secs(5);
/// A table of so many rows is read as a whole to find places; of a longer one some pages are.
const SMALL: i64 = 20_000;
/// Rows that the pages are to hold from which places are drawn, at least.
const DRAWN: f64 = 5_000.0;
/// Pages from which places are drawn, at least: rows of one page are neighbours, and so many pages give
/// every place one of its own.
const DRAWN_PAGES: f64 = 500.0;
/// A sequential scan of more rows than this in every batch deserves a word.
const SCANNED: f64 = 1_000.0;

/// A batch that was rolled back.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sample {
    /// Rows that it passed.
    pub rows: i64,
    /// Rows of these that were pending before.
    pub pending: i64,
    /// Rows that it changed.
    pub changed: i64,
    /// Rows that it changed, or was to change, and that are pending all the same.
    #[serde(skip)]
    pub stays_pending: Option<Still>,
    /// How long it took, in milliseconds.
    pub ms: f64,
    /// Bytes of WAL that its statement wrote.
    pub wal_bytes: i64,
    /// Samples of one number began at the same key.
    #[serde(skip)]
    pub place: usize,
}

/// What came of the samples.
#[derive(Debug, Default)]
pub(super) struct Tried {
    pub samples: Vec<Sample>,
    /// The errors of those that failed.
    pub failures: Vec<String>,
    /// Why a run would fail, too: an error that neither time nor other rows help, or one of the rows
    /// wherever it was tried.
    pub hopeless: Option<String>,
    /// Tables that every batch reads as a whole.
    pub scans: BTreeSet<String>,
    /// Whether one failed for something else than its rows.
    fails_beside_rows: bool,
}

impl Tried {
    /// Notes why a sample failed.
    ///
    /// # Errors
    /// `err`, where no sample can succeed: the connection is gone, or the SQL is wrong.
    fn fail(&mut self, err: sqlx::Error) -> Result<(), sqlx::Error> {
        let failure = Failure::Database(err);
        if failure.sqlstate().is_none() || failure.is_of_sql() {
            return match failure {
                Failure::Database(err) => Err(err),
                _ => Ok(()),
            };
        }
        let fault = failure.fault();
        self.fails_beside_rows |= fault != Fault::Row;
        if matches!(fault, Fault::Permanent | Fault::Unreadable) {
            self.hopeless.get_or_insert_with(|| failure.to_string());
        }
        self.failures.push(failure.to_string());
        Ok(())
    }
}

/// Tries batches at places that are drawn evenly from the table's rows, each sized as the engine would
/// after the one before.
pub(super) async fn take(
    conn: &mut PgConnection,
    definition: &Definition,
    keyset: &Keyset,
    settings: &Engine,
    rows: i64,
) -> Result<Tried, sqlx::Error> {
    let mut tried = Tried::default();
    let mut tx = reading(conn).await?;
    let last = keyset.last(&mut tx).await?;
    tx.commit().await?;
    let Some(end) = last else {
        return Ok(tried);
    };
    let trial = Trial {
        definition,
        keyset,
        settings,
        end,
    };
    let began = Instant::now();
    let mut budget = (rows / SHARE).max(1);
    let sizing = sizing(definition, settings);
    let most = sizing
        .max
        .min(u32::try_from(budget * 3 / 2).unwrap_or(u32::MAX) / AT_LEAST as u32)
        .max(1);
    let mut size = sizing.first.min(most);
    let drawn = places(conn, keyset, &definition.table, rows).await?;
    // Twice at each place, smaller first at every second one: what differs then is the size alone,
    // and tells what a batch costs from what its rows do.
    let tries = drawn.iter().enumerate();
    let tries = tries.flat_map(|(number, place)| {
        let small_first = number % 2 == 1;
        [(number, place, small_first), (number, place, !small_first)]
    });
    for (number, place, is_small) in tries {
        let enough = tried.samples.len() >= AT_LEAST;
        let out_of_time = began.elapsed() > if enough { BUDGET } else { BUDGET * 2 };
        let refused = tried.failures.len() >= AT_LEAST;
        if tried.samples.len() >= AT_MOST || out_of_time || refused || budget <= 0 {
            break;
        }
        let part = if is_small { size / SMALLER } else { size };
        let part = part.clamp(1, u32::try_from(budget).unwrap_or(u32::MAX));
        let started = Instant::now();
        match trial.run(conn, place, part, &mut tried.scans).await {
            Ok(Some(mut sample)) => {
                sample.place = number;
                if !is_small {
                    size = trial.next_size(part, &sample).min(most);
                }
                budget -= sample.rows;
                tried.samples.push(sample);
            }
            Ok(None) => {}
            Err(err) => {
                tried.fail(err)?;
                size = (size / 2).max(1);
            }
        }
        // The shop gets at least as much of the time.
        tokio::time::sleep(started.elapsed().min(Duration::from_millis(100))).await;
    }
    if tried.samples.is_empty() && !tried.fails_beside_rows {
        tried.hopeless = tried.hopeless.or_else(|| tried.failures.first().cloned());
    }
    Ok(tried)
}

/// How the engine sizes the batches of a run of `definition`.
pub(super) fn sizing(definition: &Definition, settings: &Engine) -> Sizing {
    let max = settings
        .batch_max
        .min(definition.batch_max.unwrap_or(u32::MAX));
    Sizing {
        first: definition
            .batch_first
            .unwrap_or(settings.batch_first)
            .min(max),
        min: settings.batch_min,
        max,
        target_ms: settings.batch_target.as_secs_f64() * 1e3,
    }
}

/// Keys of rows drawn at random, every row with about the same chance.
async fn places(
    conn: &mut PgConnection,
    keyset: &Keyset,
    table: &str,
    rows: i64,
) -> Result<Vec<KeyValue>, sqlx::Error> {
    let percent = if rows <= SMALL {
        100.0
    } else {
        let pages = estimate::pages(conn, table).await?.max(1) as f64;
        ((DRAWN / rows as f64).max(DRAWN_PAGES / pages) * 100.0).clamp(1e-4, 100.0)
    };
    let mut tx = reading(conn).await?;
    let mut drawn = keyset.draw(&mut tx, percent, AT_MOST).await?;
    if drawn.len() < AT_LEAST && percent < 100.0 {
        // The estimate was wrong, or the rows lie in few pages.
        let percent = (percent * 50.0).min(100.0);
        drawn = keyset.draw(&mut tx, percent, AT_MOST).await?;
    }
    tx.commit().await?;
    Ok(drawn)
}

/// What the samples have in common.
struct Trial<'a> {
    definition: &'a Definition,
    keyset: &'a Keyset,
    settings: &'a Engine,
    /// The last key of the table.
    end: KeyValue,
}

impl Trial<'_> {
    /// Runs a batch of `size` rows that begins behind `place`, and rolls it back. `None` where there are no
    /// rows. Tables that it reads as a whole are put into `scans`.
    async fn run(
        &self,
        conn: &mut PgConnection,
        place: &KeyValue,
        size: u32,
        scans: &mut BTreeSet<String>,
    ) -> Result<Option<Sample>, sqlx::Error> {
        let Self {
            definition, keyset, ..
        } = *self;
        let began = Instant::now();
        let mut tx = begin(conn, self.settings).await?;
        let Some(range) = self.range(&mut tx, place, size).await? else {
            tx.rollback().await?;
            return Ok(None);
        };
        let there = Snapshot::take(&mut tx).await?;
        let statement = keyset.statement(definition, range.lower.is_none());
        let sql = format!("EXPLAIN (ANALYZE, WAL, TIMING OFF, FORMAT JSON) {statement}");
        let row = sqlx::query(AssertSqlSafe(sql.clone()))
            .bind(&range.lower)
            .bind(&range.upper)
            .fetch_one(&mut *tx)
            .await
            .map_err(|err| definition.place(&sql, err))?;
        let worked = began.elapsed();
        let plan: serde_json::Value = row.try_get(0)?;
        let mut found = Found::default();
        found.read(&plan[0]["Plan"], &definition.table);
        scans.extend(found.scans);
        settle(&mut tx, self.settings, APPLICATION).await?;
        let after = pending::count(&mut tx, definition, keyset, &range).await?;
        let ending = Instant::now();
        tx.rollback().await?;
        let took = worked + ending.elapsed();
        let (before, changed) = self.recount(conn, &range, found.changed).await?;
        let made = Made {
            changed,
            exact: false,
            seen: range.seen,
            todo: Some(before),
            before: &there,
        };
        let made = Made {
            changed: after.planned(definition, made),
            ..made
        };
        Ok(Some(Sample {
            rows: range.seen,
            pending: before,
            changed: made.changed,
            stays_pending: after.still(definition, keyset, made),
            ms: took.as_secs_f64() * 1e3,
            wal_bytes: found.wal_bytes,
            place: 0,
        }))
    }

    /// Up to `size` rows behind `place`; behind the last row comes the first.
    async fn range(
        &self,
        conn: &mut PgConnection,
        place: &KeyValue,
        size: u32,
    ) -> Result<Option<Range>, sqlx::Error> {
        let Self { keyset, end, .. } = self;
        let next = keyset.next(conn, Some(place), end, size, None).await?;
        if next.is_some() {
            return Ok(next);
        }
        keyset.next(conn, None, end, size, None).await
    }

    /// How many rows of `range` are pending now that all is as it was, so that the statement did not find
    /// the rows read already; and how many rows it changes, of which its plan said `planned`.
    async fn recount(
        &self,
        conn: &mut PgConnection,
        range: &Range,
        planned: i64,
    ) -> Result<(i64, i64), sqlx::Error> {
        let Self {
            definition, keyset, ..
        } = *self;
        let mut tx = begin(conn, self.settings).await?;
        let before = pending::count(&mut tx, definition, keyset, range).await?;
        let mut changed = planned;
        if planned > range.seen && pending::is_of_own(definition) {
            // The plan counts what was joined, and a row that several others were joined to is changed once.
            let statement = keyset.statement(definition, range.lower.is_none());
            let done = sqlx::query(AssertSqlSafe(statement.clone()))
                .bind(&range.lower)
                .bind(&range.upper)
                .execute(&mut *tx)
                .await
                .map_err(|err| definition.place(&statement, err))?;
            changed = i64::try_from(done.rows_affected()).unwrap_or(i64::MAX);
        }
        tx.rollback().await?;
        Ok((before.pending, changed))
    }

    /// Rows for the batch after `sample`, which was of `rows`.
    fn next_size(&self, rows: u32, sample: &Sample) -> u32 {
        let measured = Measured {
            rows,
            took: Duration::from_secs_f64(sample.ms / 1e3),
            wal_bytes: sample.wal_bytes,
        };
        next_size(measured, None, self.settings.batch_target, self.settings)
    }
}

/// What the nodes of an executed plan say.
#[derive(Default)]
struct Found {
    wal_bytes: i64,
    changed: i64,
    scans: Vec<String>,
}

impl Found {
    fn read(&mut self, node: &serde_json::Value, table: &str) {
        let number = |key: &str| node[key].as_f64().unwrap_or(0.0);
        // A node's figures include those of the nodes below it, but not those of a WITH query.
        self.wal_bytes = self.wal_bytes.max(number("WAL Bytes") as i64);
        let children = node["Plans"].as_array().map_or(&[][..], Vec::as_slice);
        if node["Node Type"] == "ModifyTable" {
            // It returns nothing itself; what it was given it changed.
            let given = |n: &serde_json::Value| n["Actual Rows"].as_f64().unwrap_or(0.0);
            self.changed += children.first().map_or(0.0, given) as i64;
        }
        if node["Node Type"] == "Seq Scan" {
            let name = node["Relation Name"].as_str().unwrap_or_default();
            let read = (number("Actual Rows") + number("Rows Removed by Filter"))
                * number("Actual Loops").max(1.0);
            if read > SCANNED {
                self.scans.push(format!(
                    "every batch reads all of {name} (no index serves the statement's condition); \
                     {table} itself is read by its key"
                ));
            }
        }
        for child in children {
            self.read(child, table);
        }
    }
}
