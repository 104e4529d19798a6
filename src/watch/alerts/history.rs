//! Coarse history in PostgreSQL, so that what is usual survives a restart.
//!
//! Means over a minute are kept for two days and means over five minutes for as many weeks as a
//! baseline may want. Where several processes share a database, the first to save a point of time
//! wins: processes behind one balancer feel alike.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;

use super::reading::Reading;
use super::series::Series;
use super::span::Completed;

/// Resolutions that are kept, in seconds, and for how long.
const KEPT: [(i32, TimeDelta); 2] = [(60, TimeDelta::days(2)), (300, TimeDelta::weeks(27))];
/// The watch must not wait for long, nor be what others wait for.
const BEGIN: &str = "BEGIN; SET LOCAL statement_timeout = '5s'; SET LOCAL lock_timeout = '500ms'";

/// Points that are read at a time.
const PAGE: i64 = 1000;

/// Means by the names of their series.
type Values = Json<HashMap<String, Value>>;

/// Means over some time, to be saved.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Over how many seconds.
    pub seconds: i32,
    /// The means, with the end of their time.
    pub means: Reading,
}

impl Point {
    /// `None` for resolutions that are not kept in the database.
    pub(super) fn of(completed: Completed) -> Option<Self> {
        let seconds = i32::try_from(completed.seconds).ok()?;
        let kept = KEPT.iter().any(|(kept, _)| *kept == seconds);
        kept.then_some(Self {
            seconds,
            means: completed.means,
        })
    }
}

/// Saves `points`, in one short transaction. A point of time that is there already stays as it is.
///
/// # Errors
/// What the database says; nothing is saved then.
pub async fn save(conn: &mut PgConnection, points: &[Point]) -> Result<(), sqlx::Error> {
    let at: Vec<DateTime<Utc>> = points.iter().map(|point| point.means.at).collect();
    let seconds: Vec<i32> = points.iter().map(|point| point.seconds).collect();
    let values: Vec<Json<_>> = points
        .iter()
        .map(|point| Json(point.means.known()))
        .collect();
    let mut tx = conn.begin_with(BEGIN).await?;
    sqlx::query(
        "INSERT INTO evenkeel.watch_history (at, resolution, values)
         SELECT * FROM unnest($1::timestamptz[], $2::int[], $3::jsonb[])
         ON CONFLICT DO NOTHING",
    )
    .bind(at)
    .bind(seconds)
    .bind(values)
    .execute(&mut *tx)
    .await?;
    tx.commit().await
}

/// All readings since `since`, oldest first, each in the finest resolution that there is. Read in
/// pages, each in a short transaction of its own.
///
/// # Errors
/// What the database says.
pub async fn load(
    conn: &mut PgConnection,
    since: DateTime<Utc>,
) -> Result<Vec<Reading>, sqlx::Error> {
    let [(minutes, _), (coarser, _)] = KEPT;
    let mut readings = Vec::new();
    let fine = page(conn, minutes, since, None).await?;
    let fine_begins = fine.first().map(|reading| reading.at);
    for (resolution, until) in [(coarser, fine_begins), (minutes, None)] {
        let mut after = since;
        loop {
            let page = page(conn, resolution, after, until).await?;
            let Some(last) = page.last() else {
                break;
            };
            after = last.at;
            readings.extend(page);
        }
    }
    Ok(readings)
}

async fn page(
    conn: &mut PgConnection,
    resolution: i32,
    after: DateTime<Utc>,
    until: Option<DateTime<Utc>>,
) -> Result<Vec<Reading>, sqlx::Error> {
    let mut tx = conn.begin_with(BEGIN).await?;
    let rows: Vec<(DateTime<Utc>, Values)> = sqlx::query_as(
        "SELECT at, values FROM evenkeel.watch_history
          WHERE resolution = $1 AND at > $2 AND at < coalesce($3, 'infinity')
          ORDER BY at LIMIT $4",
    )
    .bind(resolution)
    .bind(after)
    .bind(until)
    .bind(PAGE)
    .fetch_all(&mut *tx)
    .await?;
    tx.commit().await?;
    let readings = rows.iter().map(|(at, Json(values))| reading(*at, values));
    Ok(readings.collect())
}

/// Deletes what is older than it is kept for, and returns how many points that were.
///
/// # Errors
/// What the database says.
pub async fn prune(conn: &mut PgConnection, now: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    let mut deleted = 0;
    for (seconds, kept) in KEPT {
        let mut tx = conn.begin_with(BEGIN).await?;
        let result =
            sqlx::query("DELETE FROM evenkeel.watch_history WHERE resolution = $1 AND at < $2")
                .bind(seconds)
                .bind(now - kept)
                .execute(&mut *tx)
                .await?;
        tx.commit().await?;
        deleted += result.rows_affected();
    }
    Ok(deleted)
}

/// Names that this version does not know are left out: a newer one may have written them.
fn reading(at: DateTime<Utc>, values: &HashMap<String, Value>) -> Reading {
    let known = values.iter().filter_map(|(name, value)| {
        let series = Series::named(name)?;
        Some((series, value.as_f64()?))
    });
    known.fold(Reading::new(at), |reading, (series, value)| {
        reading.with(series, value)
    })
}
