//! How many rows there are and how many of them are pending, each with where the number comes from and
//! what it leaves open.

use serde::Serialize;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

use super::{Sample, planned};
use crate::config::Engine;
use crate::migration::definition::Definition;
use crate::migration::keyset::Keyset;

/// The rows of a table of no more than so many are counted.
const COUNTED: i64 = 20_000;
/// Pages of a longer table that are read.
const PAGES: f64 = 400.0;
/// Standard deviations within which nineteen of twenty estimates are right.
const Z: f64 = 1.96;

/// Where a number comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Every row was looked at.
    Counted,
    /// By places of the table that were drawn at random and looked at.
    Sampled,
    /// The statistics that ANALYZE leaves; nothing of the table was looked at.
    Planner,
}

/// A number of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Estimate {
    /// The best guess.
    pub likely: i64,
    /// In nineteen of twenty cases there are no fewer.
    pub low: i64,
    /// In nineteen of twenty cases there are no more.
    pub high: i64,
    /// Where it comes from.
    pub from: Source,
}

impl Estimate {
    /// `likely`, give or take `spread`.
    fn around(likely: f64, spread: f64, from: Source) -> Self {
        Self {
            likely: likely.round() as i64,
            low: (likely - spread).max(0.0).floor() as i64,
            high: (likely + spread).ceil() as i64,
            from,
        }
    }

    /// The part of as many rows that `share` is.
    pub(super) fn part(self, share: Share) -> Self {
        let of = |rows: i64, share: f64| (rows as f64 * share).round() as i64;
        Self {
            likely: of(self.likely, share.likely),
            low: of(self.low, share.low),
            high: of(self.high, share.high),
            from: share.from,
        }
    }
}

/// A share of the rows, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Share {
    pub likely: f64,
    low: f64,
    high: f64,
    from: Source,
}

impl Share {
    /// Nothing could be looked at: all rows, or none.
    pub(super) const UNKNOWN: Self = Self {
        likely: 1.0,
        low: 0.0,
        high: 1.0,
        from: Source::Planner,
    };

    /// The share of the rows that `hits` counts in a sample; `None` without samples.
    ///
    /// Places are drawn evenly from the rows, so each counts alike, however many rows were passed from
    /// there: a batch that finds nothing to do is fast and the next one larger.
    pub(super) fn of(samples: &[Sample], hits: impl Fn(&Sample) -> i64) -> Option<Self> {
        let mut sums = Sums::default();
        for place in samples.chunk_by(|a, b| a.place == b.place) {
            // The smaller sample lies within the larger.
            let largest = place.iter().max_by_key(|sample| sample.rows)?;
            let share = hits(largest) as f64 / largest.rows.max(1) as f64;
            sums.add(1.0, share.clamp(0.0, 1.0));
        }
        let rows = samples.iter().map(|sample| sample.rows).sum::<i64>();
        (sums.places > 0.0).then(|| sums.share(0.0, rows as f64))
    }
}

/// Sums over places: how much each weighs and how much of that is pending, and their squares and product.
#[derive(Default, sqlx::FromRow)]
struct Sums {
    places: f64,
    all: f64,
    pending: f64,
    all_squared: f64,
    pending_squared: f64,
    product: f64,
}

impl Sums {
    fn add(&mut self, all: f64, pending: f64) {
        self.places += 1.0;
        self.all += all;
        self.pending += pending;
        self.all_squared += all * all;
        self.pending_squared += pending * pending;
        self.product += all * pending;
    }

    /// The share that is pending, by `rows` at these places, which are the part `part` of all.
    ///
    /// Rows beside each other are often alike: how much they tell is seen by what the places differ in.
    /// The interval is Wilson's, which is not empty when all places say the same.
    fn share(&self, part: f64, rows: f64) -> Share {
        let mean = self.pending / self.all.max(1.0);
        let single = mean * (1.0 - mean);
        let squares =
            self.pending_squared - 2.0 * mean * self.product + mean * mean * self.all_squared;
        let variance = squares.max(0.0) * (1.0 - part) / (self.all * self.all).max(1.0);
        // As many rows drawn one by one would tell as much.
        let worth = match single > 0.0 {
            true => (single / variance.max(1e-12)).clamp(1.0, rows.max(1.0)),
            false => self.places.max(1.0),
        };
        let bend = Z * Z / worth;
        let centre = (mean + bend / 2.0) / (1.0 + bend);
        let half = Z * (single / worth + bend / worth / 4.0).sqrt() / (1.0 + bend);
        Share {
            likely: mean,
            low: (centre - half).clamp(0.0, mean),
            high: (centre + half).clamp(mean, 1.0),
            from: Source::Sampled,
        }
    }
}

/// The table's rows, and the share of them that is pending by all rows or by those of pages drawn at
/// random; `None` where the condition takes too long to ask so.
pub(super) async fn rows(
    conn: &mut PgConnection,
    definition: &Definition,
    keyset: &Keyset,
    settings: &Engine,
) -> Result<(Estimate, Option<Share>), sqlx::Error> {
    let known = keyset.estimate(conn).await?;
    // Of a table that was never analysed the planner knows the pages.
    let (guess, spread) = match known {
        1.. => (known, changed_since_analyze(conn, &definition.table).await?),
        _ => {
            let (guess, _) = planned(conn, definition).await?;
            (guess, guess)
        }
    };
    let mut found = None;
    if guess <= COUNTED {
        found = look(conn, definition, keyset, settings, 1.0).await?;
    }
    if found.is_none() {
        let pages = pages(conn, &definition.table).await?.max(1) as f64;
        let part = (PAGES / pages).clamp(1e-6, 1.0);
        found = look(conn, definition, keyset, settings, part).await?;
    }
    let by_statistics = Estimate::around(guess as f64, spread as f64, Source::Planner);
    let Some((seen, share)) = found else {
        return Ok((by_statistics, None));
    };
    let open = seen.high - seen.low;
    let rows = if seen.from == Source::Sampled && 2 * spread <= open {
        by_statistics
    } else if seen.likely.abs_diff(guess) <= open.unsigned_abs() {
        // Changes need not change the number: what the sample does not contradict is more exact.
        Estimate {
            likely: guess,
            low: seen.low.min(guess),
            high: seen.high.max(guess),
            ..seen
        }
    } else {
        seen
    };
    Ok((rows, Some(share)))
}

/// The rows, and the share of them that is pending, by the part `part` of the table's pages; `None` when
/// that takes longer than a batch may.
async fn look(
    conn: &mut PgConnection,
    definition: &Definition,
    keyset: &Keyset,
    settings: &Engine,
    part: f64,
) -> Result<Option<(Estimate, Share)>, sqlx::Error> {
    let q = definition.qualifier();
    let sql = format!(
        "SELECT pg_catalog.count(*)::float8 AS places, coalesce(pg_catalog.sum(n), 0)::float8 AS \"all\",
                coalesce(pg_catalog.sum(p), 0)::float8 AS pending, coalesce(pg_catalog.sum(n * n), 0)::float8 AS all_squared,
                coalesce(pg_catalog.sum(p * p), 0)::float8 AS pending_squared,
                coalesce(pg_catalog.sum(n * p), 0)::float8 AS product
           FROM (SELECT pg_catalog.count(*)::float8 AS n, (pg_catalog.count(*) FILTER (WHERE ({}) IS TRUE))::float8 AS p
                   FROM {} TABLESAMPLE SYSTEM ({}) WHERE ({})
                  GROUP BY {q}.tableoid, ({q}.ctid::text::point)[0]) AS pages",
        definition.pending,
        keyset.from(),
        part * 100.0,
        definition.scope.as_deref().unwrap_or("true"),
    );
    let begin = format!(
        "BEGIN READ ONLY; SET LOCAL statement_timeout = {}",
        settings.statement_timeout.as_millis()
    );
    let mut tx = conn.begin_with(AssertSqlSafe(begin)).await?;
    let sums: Result<Sums, _> = sqlx::query_as(AssertSqlSafe(sql)).fetch_one(&mut *tx).await;
    tx.rollback().await?;
    let sums = match sums {
        // Cancelled by the timeout.
        Err(sqlx::Error::Database(err)) if err.code().as_deref() == Some("57014") => {
            return Ok(None);
        }
        sums => sums?,
    };
    let share = sums.share(part, sums.all);
    if part >= 1.0 {
        let likely = share.likely;
        return Ok(Some((
            Estimate::around(sums.all, 0.0, Source::Counted),
            Share {
                low: likely,
                high: likely,
                likely,
                from: Source::Counted,
            },
        )));
    }
    // Every page is in the sample with the same chance, by itself.
    let spread = Z * (sums.all_squared * (1.0 - part)).sqrt() / part;
    let rows = Estimate::around(sums.all / part, spread, Source::Sampled);
    Ok(Some((rows, share)))
}

/// Pages of the table and its partitions.
pub(super) async fn pages(conn: &mut PgConnection, table: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT coalesce(sum(pg_relation_size(oid)), 0)::bigint / current_setting('block_size')::int
           FROM pg_class
          WHERE oid = to_regclass($1) OR oid IN (SELECT relid FROM pg_partition_tree(to_regclass($1)))",
    )
    .bind(table)
    .fetch_one(conn)
    .await
}

/// Rows that came, went or changed since the table was last analysed.
async fn changed_since_analyze(conn: &mut PgConnection, table: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT coalesce(sum(pg_stat_get_mod_since_analyze(oid)), 0)::bigint FROM pg_class
          WHERE oid = to_regclass($1) OR oid IN (SELECT relid FROM pg_partition_tree(to_regclass($1)))",
    )
    .bind(table)
    .fetch_one(conn)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(pending: &[i64]) -> Vec<Sample> {
        let numbered = pending.iter().enumerate();
        numbered
            .map(|(place, &pending)| Sample {
                rows: 100,
                pending,
                place,
                ..Sample::default()
            })
            .collect()
    }

    fn share(pending: &[i64]) -> Share {
        Share::of(&samples(pending), |sample| sample.pending).expect("samples")
    }

    #[test]
    fn the_share_is_that_of_the_places_whatever_their_batches_sizes() {
        // Half of the places have nothing to do, and there the batches grow.
        let mut samples = samples(&[0, 100, 0, 100, 0, 100]);
        for sample in samples.iter_mut().filter(|sample| sample.pending == 0) {
            sample.rows = 10_000;
        }
        let share = Share::of(&samples, |sample| sample.pending).expect("samples");
        assert!((share.likely - 0.5).abs() < 1e-9, "{share:?}");
    }

    #[test]
    fn few_places_leave_much_open_and_places_that_all_agree_leave_something() {
        let all = share(&[100; 20]);
        assert!(
            (all.likely - 1.0).abs() < 1e-9 && all.low > 0.8 && all.low < 0.95,
            "{all:?}"
        );
        let none = share(&[0; 20]);
        assert!(
            none.likely < 1e-9 && none.high > 0.05 && none.high < 0.2,
            "{none:?}"
        );
        let clustered = share(&[0, 100, 0, 100, 0, 100, 0, 100]);
        assert!(clustered.low < 0.3 && clustered.high > 0.7, "{clustered:?}");
        let mixed = share(&[49, 51, 50, 48, 52, 50, 51, 49]);
        assert!(mixed.low > 0.45 && mixed.high < 0.55, "{mixed:?}");
        assert_eq!(Share::of(&[], |sample| sample.pending), None);
    }
}
