//! PostgreSQL crashes and comes back while orders are being placed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use evenkeel::db::embedded::StopMode;
use futures_util::future::join_all;

use crate::support::TestApp;
use crate::support::app::{fresh_key, order};
use crate::support::server::OwnServer;

/// Of the product, before anything is sold.
const STOCK: i32 = 1_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_order_is_missing_after_postgresql_crashed_under_load() {
    let mut server = OwnServer::start("restart").await;
    let database = server.database.clone();
    let shop = TestApp::builder().database(database).start().await;
    shop.product("chair", 4900, STOCK).await;
    let ann = shop.shopper("ann@example.org").await;
    let wanted = order(&[("chair", 1)]);

    let stop = AtomicBool::new(false);
    let buyers = (0..8).map(|_| async {
        let mut acknowledged = BTreeSet::new();
        while !stop.load(Ordering::Relaxed) {
            // Whatever happens, the same order is repeated until it is acknowledged.
            let answer = shop.place_with_patience(&ann, &fresh_key(), &wanted).await;
            acknowledged.insert(answer.expect(201).json()["id"].as_i64().unwrap());
        }
        acknowledged
    });
    let crashes = async {
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            server.cluster.restart(StopMode::Immediate).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
        stop.store(true, Ordering::Relaxed);
    };
    let (acknowledged, ()) = tokio::join!(join_all(buyers), crashes);
    let acknowledged: BTreeSet<i64> = acknowledged.into_iter().flatten().collect();

    assert!(acknowledged.len() > 50, "{}", acknowledged.len());
    let stored: Vec<i64> = sqlx::query_scalar("SELECT id FROM orders")
        .fetch_all(&mut shop.sql().await)
        .await
        .unwrap();
    assert_eq!(stored.into_iter().collect::<BTreeSet<_>>(), acknowledged);
    let sold = i32::try_from(acknowledged.len()).unwrap();
    assert_eq!(shop.stock("chair").await, STOCK - sold);
    shop.get("/health/ready").await.expect(200);
    server.stop().await;
}
