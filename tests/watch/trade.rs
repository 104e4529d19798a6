//! How many orders an incident has cost, told by marks of their sequence.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use evenkeel::watch::impact::orders;
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnection;

use crate::support::empty_shop;

async fn mark(conn: &mut PgConnection, at: DateTime<Utc>, orders: i64) {
    sqlx::query("INSERT INTO evenkeel.order_marks (at, orders) VALUES ($1, $2)")
        .bind(at)
        .bind(orders)
        .execute(conn)
        .await
        .unwrap();
}

async fn order(
    conn: &mut PgConnection,
    currency: &str,
    total_minor: Option<i64>,
    at: DateTime<Utc>,
) {
    sqlx::query(
        "WITH somebody AS (
             INSERT INTO accounts (email, password_hash) VALUES (gen_random_uuid()::text, '-') RETURNING id)
         INSERT INTO orders (account_id, currency, total_minor, placed_at)
         SELECT id, $1, $2, $3 FROM somebody",
    )
    .bind(currency)
    .bind(total_minor)
    .bind(at)
    .execute(conn)
    .await
    .unwrap();
}

fn close(left: f64, right: f64) -> bool {
    (left - right).abs() < 0.01 * right.abs().max(1.0)
}

#[tokio::test]
async fn the_hour_before_says_what_was_to_be_expected() {
    let mut sql = empty_shop().await;
    let from = Utc::now() - TimeDelta::hours(2);
    let to = from + TimeDelta::seconds(600);
    assert_eq!(orders::trade(&mut sql, from, to).await.unwrap(), None);
    // Two orders a second, then a tenth of that.
    mark(&mut sql, from - TimeDelta::seconds(1800), 1000).await;
    mark(&mut sql, from - TimeDelta::seconds(30), 1000 + 2 * 1770).await;
    mark(
        &mut sql,
        to + TimeDelta::seconds(20),
        1000 + 2 * 1770 + 60 + 120 + 40,
    )
    .await;
    let trade = orders::trade(&mut sql, from, to).await.unwrap().unwrap();
    assert!(close(trade.expected, 1200.0), "{trade:?}");
    // What the nearest marks have beyond it is taken off.
    assert!(close(trade.placed, 120.0), "{trade:?}");
    assert_eq!(trade.mean_minor, None);
}

#[tokio::test]
async fn the_same_hour_of_the_weeks_before_says_it_better() {
    let mut sql = empty_shop().await;
    let from = Utc::now() - TimeDelta::minutes(10);
    let hour = from - TimeDelta::seconds(from.timestamp() % 3600);
    for (week, orders) in [(1, 3600), (2, 7200)] {
        let begin = hour - TimeDelta::weeks(week);
        mark(&mut sql, begin + TimeDelta::seconds(1), 0).await;
        mark(&mut sql, begin + TimeDelta::seconds(3599), orders).await;
    }
    mark(&mut sql, from - TimeDelta::minutes(30), 0).await;
    mark(&mut sql, from, 18_000).await;
    let trade = orders::trade(&mut sql, from, from + TimeDelta::seconds(100)).await;
    let trade = trade.unwrap().unwrap();
    // One and two orders a second there, ten in the hour before.
    assert!(close(trade.expected, 150.0), "{trade:?}");
}

#[tokio::test]
async fn the_value_is_that_of_the_orders_before_in_the_commonest_currency() {
    let mut sql = empty_shop().await;
    let from = Utc::now() - TimeDelta::minutes(10);
    mark(&mut sql, from - TimeDelta::minutes(30), 0).await;
    mark(&mut sql, from - TimeDelta::minutes(1), 100).await;
    let before = from - TimeDelta::minutes(5);
    order(&mut sql, "EUR", Some(1000), before).await;
    order(&mut sql, "EUR", Some(2000), before).await;
    order(&mut sql, "EUR", None, before).await;
    order(&mut sql, "USD", Some(90_000), before).await;
    order(&mut sql, "EUR", Some(70_000), from + TimeDelta::minutes(1)).await;
    let trade = orders::trade(&mut sql, from, from + TimeDelta::seconds(60)).await;
    assert_eq!(trade.unwrap().unwrap().mean_minor, Some(1500.0));
}

#[tokio::test]
async fn marks_are_made_about_once_a_minute_and_follow_the_orders() {
    let mut sql = empty_shop().await;
    let now = Utc::now();
    let count = async |sql: &mut PgConnection| -> Vec<i64> {
        sqlx::query_scalar("SELECT orders FROM evenkeel.order_marks ORDER BY at")
            .fetch_all(sql)
            .await
            .unwrap()
    };
    orders::mark(&mut sql, now, false).await.unwrap();
    order(&mut sql, "EUR", Some(1), now).await;
    order(&mut sql, "EUR", Some(1), now).await;
    orders::mark(&mut sql, now + TimeDelta::seconds(30), false)
        .await
        .unwrap();
    assert_eq!(count(&mut sql).await, [0]);
    // More often while an incident is open.
    orders::mark(&mut sql, now + TimeDelta::seconds(31), true)
        .await
        .unwrap();
    assert_eq!(count(&mut sql).await, [0, 2]);
    // What is older than is looked back at goes.
    orders::mark(&mut sql, now + TimeDelta::weeks(7), false)
        .await
        .unwrap();
    assert_eq!(count(&mut sql).await, [2]);
}

#[tokio::test]
async fn a_lock_on_the_orders_is_no_reason_to_wait_for_long_and_marks_go_on() {
    let database = crate::support::server::empty_database().await;
    let (mut sql, mut other) = (
        database.connect().await.unwrap(),
        database.connect().await.unwrap(),
    );
    let from = Utc::now() - TimeDelta::minutes(10);
    mark(&mut sql, from - TimeDelta::minutes(30), 0).await;
    mark(&mut sql, from, 100).await;
    let mut tx = sqlx::Connection::begin(&mut other).await.unwrap();
    sqlx::query("LOCK TABLE orders")
        .execute(&mut *tx)
        .await
        .unwrap();
    let asked = orders::trade(&mut sql, from, from + TimeDelta::seconds(60));
    let asked = tokio::time::timeout(Duration::from_secs(120), asked).await;
    asked.expect("it gives up by itself").unwrap_err();
    orders::mark(&mut sql, Utc::now(), true).await.unwrap();
}
