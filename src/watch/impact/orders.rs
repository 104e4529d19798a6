//! How many orders are placed otherwise, and what one is worth, without ever scanning the orders.
//!
//! They have no index by time, which would cost every order and every migration of theirs. But their
//! numbers come from one sequence: reading it takes no lock of theirs and a microsecond, so a mark a
//! minute in `evenkeel.order_marks` says how many were placed between any two minutes.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::Connection;
use sqlx::postgres::PgConnection;

use crate::watch::record::BEGIN;

/// Between two marks, unless an incident begins.
const EVERY: TimeDelta = TimeDelta::seconds(60);
/// The same while one is open.
const OPEN: TimeDelta = TimeDelta::seconds(5);
/// Longer than the weeks that are looked back at.
const KEPT: TimeDelta = TimeDelta::weeks(6);
/// Blocks at the table's end that are looked at for the value of an order: 1 MB.
const BLOCKS: i64 = 128;

/// Orders during an incident.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trade {
    /// How many would have been placed, by the same hour of the week in the weeks before, or else by
    /// the hour before.
    pub expected: f64,
    /// How many were.
    pub placed: f64,
    /// What one was worth on average before, in minor units of the currency that most of them have.
    pub mean_minor: Option<f64>,
}

/// Notes how many orders there have been, unless that was done lately. `open`: an incident is.
///
/// # Errors
/// What the database says.
pub async fn mark(
    conn: &mut PgConnection,
    now: DateTime<Utc>,
    open: bool,
) -> Result<(), sqlx::Error> {
    let every = if open { OPEN } else { EVERY };
    let mut tx = conn.begin_with(BEGIN).await?;
    let marked = sqlx::query(
        "INSERT INTO evenkeel.order_marks (at, orders)
         SELECT $1, CASE WHEN is_called THEN last_value ELSE 0 END FROM orders_id_seq
          WHERE NOT EXISTS (SELECT FROM evenkeel.order_marks WHERE at > $2)
             ON CONFLICT (at) DO NOTHING",
    )
    .bind(now)
    .bind(now - every)
    .execute(&mut *tx)
    .await?;
    if marked.rows_affected() == 1 {
        // A few each time, so that none of these is long.
        sqlx::query(
            "DELETE FROM evenkeel.order_marks WHERE at IN (
                 SELECT at FROM evenkeel.order_marks WHERE at < $1 ORDER BY at LIMIT 100)",
        )
        .bind(now - KEPT)
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await
}

/// How orders went between `from` and `to`; `None` when there are no marks to tell by. Reads some
/// thousand marks by their key and 1 MB of orders: harmless at peak.
///
/// # Errors
/// What the database says, also when somebody holds a lock on the orders.
pub async fn trade(
    conn: &mut PgConnection,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Option<Trade>, sqlx::Error> {
    let mut tx = conn.begin_with(BEGIN).await?;
    let Some(per_s) = usual_rate(&mut tx, from).await? else {
        return Ok(None);
    };
    let Some(placed) = placed(&mut tx, from, to, per_s).await? else {
        return Ok(None);
    };
    let mean_minor = mean_value(&mut tx, from).await?;
    tx.commit().await?;
    Ok(Some(Trade {
        expected: per_s * (to - from).as_seconds_f64(),
        placed,
        mean_minor,
    }))
}

/// Orders per second: the mean of the same hour in up to four weeks before, or else the hour before.
async fn usual_rate(
    conn: &mut PgConnection,
    from: DateTime<Utc>,
) -> Result<Option<f64>, sqlx::Error> {
    let (weeks, hour): (Option<f64>, Option<f64>) = sqlx::query_as(
        "WITH spans AS (
             SELECT week, date_trunc('hour', $1, 'UTC') - week * interval '7 days' AS since,
                    date_trunc('hour', $1, 'UTC') - week * interval '7 days' + interval '1 hour' AS until
               FROM generate_series(1, 4) AS week
              UNION ALL SELECT 0, $1 - interval '1 hour', $1
         ), rates AS (
             SELECT week, max(at) - min(at) AS length,
                    (max(orders) - min(orders)) / nullif(extract(epoch FROM max(at) - min(at))::float8, 0) AS per_s
               FROM spans JOIN evenkeel.order_marks ON at BETWEEN since AND until
              GROUP BY week
         )
         SELECT avg(per_s) FILTER (WHERE week > 0 AND length >= interval '30 minutes'),
                avg(per_s) FILTER (WHERE week = 0)
           FROM rates",
    )
    .bind(from)
    .fetch_one(conn)
    .await?;
    Ok(weeks.or(hour))
}

/// Orders between the two times. The nearest marks may be outside of them; what was placed there is
/// taken off by the usual rate.
async fn placed(
    conn: &mut PgConnection,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    per_s: f64,
) -> Result<Option<f64>, sqlx::Error> {
    let nearest = sqlx::query_as(
        "SELECT before.at, before.orders, after.at, after.orders
           FROM (SELECT at, orders FROM evenkeel.order_marks WHERE at <= $1 ORDER BY at DESC LIMIT 1) AS before,
                (SELECT at, orders FROM evenkeel.order_marks WHERE at >= $2
                  UNION ALL
                 SELECT clock_timestamp(), CASE WHEN is_called THEN last_value ELSE 0 END FROM orders_id_seq
                  ORDER BY at LIMIT 1) AS after",
    );
    let found: Option<(DateTime<Utc>, i64, DateTime<Utc>, i64)> =
        nearest.bind(from).bind(to).fetch_optional(conn).await?;
    Ok(found.map(|(earlier, first, later, last)| {
        let outside = (from - earlier) + (later - to).max(TimeDelta::zero());
        let placed = (last - first) as f64 - per_s * outside.as_seconds_f64();
        placed.max(0.0)
    }))
}

/// What an order before `from` was worth on average, by those at the end of the table.
async fn mean_value(
    conn: &mut PgConnection,
    from: DateTime<Utc>,
) -> Result<Option<f64>, sqlx::Error> {
    let means: Option<f64> = sqlx::query_scalar(
        "SELECT avg(total_minor)::float8 FROM orders
          WHERE ctid >= (SELECT format('(%s,0)', greatest(0, pg_relation_size('orders')
                                / current_setting('block_size')::bigint - $2))::tid)
            AND placed_at < $1 AND total_minor IS NOT NULL
          GROUP BY currency ORDER BY count(*) DESC LIMIT 1",
    )
    .bind(from)
    .bind(BLOCKS)
    .fetch_optional(conn)
    .await?;
    Ok(means)
}
