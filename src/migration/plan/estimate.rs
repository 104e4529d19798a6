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
/// Pages that are read to estimate the rows of a table whose statistics are old or missing.
const PAGES: f64 = 400.0;
/// Statistics are old once more than this share of the rows has changed since.
const OLD: f64 = 0.2;
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
    fn exact(rows: i64) -> Self {
        Self {
            likely: rows,
            low: rows,
            high: rows,
            from: Source::Counted,
        }
    }

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
    /// The share of the rows that `hits` counts in a sample; `None` without samples.
    ///
    /// Places are drawn evenly from the rows, so each counts alike, however many rows were passed from
    /// there: a batch that finds nothing to do is fast and the next one larger. Rows beside each other
    /// are often alike, so a place tells as much as one row does, unless the places agree among each
    /// other better than single rows would. The interval is Wilson's, which is not empty when all
    /// places say the same.
    pub(super) fn of(samples: &[Sample], hits: impl Fn(&Sample) -> i64) -> Option<Self> {
        let mut places = Vec::new();
        for place in samples.chunk_by(|a, b| a.place == b.place) {
            // The smaller sample lies within the larger.
            let largest = place.iter().max_by_key(|sample| sample.rows)?;
            places.push((hits(largest) as f64 / largest.rows.max(1) as f64).clamp(0.0, 1.0));
        }
        let n = places.len() as f64;
        if places.is_empty() {
            return None;
        }
        let mean = places.iter().sum::<f64>() / n;
        let off = places.iter().map(|share| (share - mean).powi(2));
        let variance = off.sum::<f64>() / (n - 1.0).max(1.0) / n;
        let rows = samples.iter().map(|sample| sample.rows).sum::<i64>() as f64;
        let single = mean * (1.0 - mean);
        let worth = if places.len() > 1 && single > 0.0 {
            (single / variance.max(1e-12)).clamp(n, rows.max(n))
        } else {
            n
        };
        Some(Self::wilson(mean, worth))
    }

    /// The share of pages drawn at random, of which `part` is the part of all pages.
    fn of_pages(pages: &Pages, part: f64) -> Option<Self> {
        if pages.rows <= 0.0 {
            return None;
        }
        let mean = pages.pending / pages.rows;
        if part >= 1.0 {
            return Some(Self {
                likely: mean,
                low: mean,
                high: mean,
                from: Source::Counted,
            });
        }
        // Rows of a page are often alike: what pages differ in says how much they tell.
        let off = pages.pending_squares - 2.0 * mean * pages.products + mean * mean * pages.squares;
        let variance = off.max(0.0) * (1.0 - part) / (pages.rows * pages.rows);
        let single = mean * (1.0 - mean);
        let worth = if single > 0.0 {
            (single / variance.max(1e-12)).clamp(1.0, pages.rows)
        } else {
            pages.pages
        };
        Some(Self::wilson(mean, worth))
    }

    /// Wilson's interval around `mean`, when that was found in as many rows as `worth`.
    fn wilson(mean: f64, worth: f64) -> Self {
        let single = mean * (1.0 - mean);
        let bend = Z * Z / worth;
        let centre = (mean + bend / 2.0) / (1.0 + bend);
        let half = Z * (single / worth + bend / worth / 4.0).sqrt() / (1.0 + bend);
        Self {
            likely: mean,
            low: (centre - half).clamp(0.0, mean),
            high: (centre + half).clamp(mean, 1.0),
            from: Source::Sampled,
        }
    }

    /// What the planner believes of `condition`; where it knows nothing it guesses, so it may be
    /// anything.
    pub(super) async fn planned(
        conn: &mut PgConnection,
        definition: &Definition,
    ) -> Result<Self, sqlx::Error> {
        let (all, _) = planned(conn, definition, None).await?;
        let (pending, _) = planned(conn, definition, Some(&definition.pending)).await?;
        Ok(Self {
            likely: (pending as f64 / all.max(1) as f64).min(1.0),
            low: 0.0,
            high: 1.0,
            from: Source::Planner,
        })
    }
}

/// The table's rows, and how many of them are pending by all rows or by those of pages drawn at random;
/// `None` where the condition takes too long to ask so.
pub(super) async fn rows(
    conn: &mut PgConnection,
    definition: &Definition,
    keyset: &Keyset,
    settings: &Engine,
) -> Result<(Estimate, Option<Estimate>), sqlx::Error> {
    let known = keyset.estimate(conn).await?;
    let guess = if known > 0 {
        known
    } else {
        planned(conn, definition, None).await?.0
    };
    let mut tx = Bounded::begin(conn, settings).await?;
    if guess <= COUNTED
        && let Some((rows, pending)) = tx.count(definition, keyset).await?
    {
        return Ok((Estimate::exact(rows), Some(Estimate::exact(pending))));
    }
    let changed = tx.changed_since_analyze(&definition.table).await?;
    let is_old = known <= 0 || changed as f64 > known as f64 * OLD;
    let sampled = tx.sample(definition, keyset).await?;
    let (sampled, share) = sampled.map_or((None, None), |(rows, share)| (Some(rows), share));
    // Nobody knows how many rows a table has that was never analysed.
    let spread = if known > 0 { changed } else { guess };
    let by_statistics = Estimate::around(guess as f64, spread as f64, Source::Planner);
    let rows = match sampled.filter(|_| is_old) {
        // Changes need not change the number; statistics that the sample bears out are more exact.
        Some(sampled) if known > 0 && (sampled.low..=sampled.high).contains(&known) => Estimate {
            low: by_statistics.low.max(sampled.low),
            high: by_statistics.high.min(sampled.high),
            ..by_statistics
        },
        Some(sampled) => sampled,
        None => by_statistics,
    };
    Ok((rows, share.map(|share| rows.part(share))))
}

/// Sums over pages: their rows, those of them that are pending, and the squares and products of the two.
#[derive(sqlx::FromRow)]
struct Pages {
    pages: f64,
    rows: f64,
    pending: f64,
    squares: f64,
    products: f64,
    pending_squares: f64,
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

/// Questions that may take no longer than a batch.
struct Bounded<'a> {
    conn: &'a mut PgConnection,
    begin: String,
}

impl<'a> Bounded<'a> {
    async fn begin(conn: &'a mut PgConnection, settings: &Engine) -> Result<Self, sqlx::Error> {
        let begin = format!(
            "BEGIN READ ONLY; SET LOCAL statement_timeout = {}",
            settings.statement_timeout.as_millis()
        );
        Ok(Self { conn, begin })
    }

    /// The answer to `sql`; `None` when that takes too long.
    async fn ask<T>(&mut self, sql: String) -> Result<Option<T>, sqlx::Error>
    where
        T: for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin,
    {
        let begin = AssertSqlSafe(self.begin.clone());
        let mut tx = self.conn.begin_with(begin).await?;
        let answer = sqlx::query_as(AssertSqlSafe(sql)).fetch_one(&mut *tx).await;
        tx.rollback().await?;
        match answer {
            Ok(answer) => Ok(Some(answer)),
            // Cancelled by the timeout.
            Err(sqlx::Error::Database(err)) if err.code().as_deref() == Some("57014") => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// Rows, and those that are pending. Few rows may lie in many pages.
    async fn count(
        &mut self,
        definition: &Definition,
        keyset: &Keyset,
    ) -> Result<Option<(i64, i64)>, sqlx::Error> {
        self.ask(format!(
            "SELECT count(*), count(*) FILTER (WHERE ({}) IS TRUE) FROM {} WHERE ({})",
            definition.pending,
            keyset.from(),
            definition.scope.as_deref().unwrap_or("true"),
        ))
        .await
    }

    /// Rows of some pages, as an estimate of all, and the share of them that is pending; `None` when that
    /// takes too long.
    async fn sample(
        &mut self,
        definition: &Definition,
        keyset: &Keyset,
    ) -> Result<Option<(Estimate, Option<Share>)>, sqlx::Error> {
        let pages = pages(self.conn, &definition.table).await?;
        let part = (PAGES / pages.max(1) as f64).clamp(1e-6, 1.0);
        let q = definition.qualifier();
        let found: Option<Pages> = self
            .ask(format!(
                "SELECT count(*)::float8 AS pages, coalesce(sum(n), 0)::float8 AS rows,
                        coalesce(sum(p), 0)::float8 AS pending, coalesce(sum(n * n), 0)::float8 AS squares,
                        coalesce(sum(n * p), 0)::float8 AS products,
                        coalesce(sum(p * p), 0)::float8 AS pending_squares
                   FROM (SELECT count(*)::float8 AS n, (count(*) FILTER (WHERE ({}) IS TRUE))::float8 AS p
                           FROM {} TABLESAMPLE SYSTEM ({}) WHERE ({})
                          GROUP BY {q}.tableoid, ({q}.ctid::text::point)[0]) AS pages",
                definition.pending,
                keyset.from(),
                part * 100.0,
                definition.scope.as_deref().unwrap_or("true"),
            ))
            .await?;
        // Every page is in the sample with the same chance, by itself.
        Ok(found.map(|found| {
            let share = Share::of_pages(&found, part);
            if part >= 1.0 {
                return (Estimate::exact(found.rows as i64), share);
            }
            let spread = Z * (found.squares * (1.0 - part)).sqrt() / part;
            let rows = Estimate::around(found.rows / part, spread, Source::Sampled);
            (rows, share)
        }))
    }

    /// Rows that came, went or changed since the table was last analysed.
    async fn changed_since_analyze(&mut self, table: &str) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar(
            "SELECT coalesce(sum(pg_stat_get_mod_since_analyze(oid)), 0)::bigint FROM pg_class
              WHERE oid = to_regclass($1)
                 OR oid IN (SELECT relid FROM pg_partition_tree(to_regclass($1)))",
        )
        .bind(table)
        .fetch_one(&mut *self.conn)
        .await
    }
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
