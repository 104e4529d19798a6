//! Somebody locks the table of orders: whoever does not need it must not notice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::Value;
use sqlx::{Connection, Executor};

use crate::support::TestApp;
use crate::support::app::{Answer, fresh_key, order};

/// More than any of this takes; a bound for what would hang.
const PATIENCE: Duration = Duration::from_secs(120);

async fn readiness(shop: &TestApp, wanted: &str) -> Value {
    let reached = async {
        loop {
            let readiness = shop.get("/health/ready").await.expect(200).json();
            if readiness["status"] == wanted {
                return readiness;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let reached = tokio::time::timeout(PATIENCE, reached).await;
    reached.unwrap_or_else(|_| panic!("never {wanted}"))
}

/// Sends requests of one kind, four at a time, until `stop`.
async fn keep_sending(
    stop: &AtomicBool,
    request: impl AsyncFn() -> Answer,
) -> Vec<(Answer, Duration)> {
    let visitors = (0..4).map(|_| async {
        let mut answers = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let sent = Instant::now();
            let answer = request().await;
            answers.push((answer, sent.elapsed()));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        answers
    });
    join_all(visitors).await.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_order_table_stops_checkout_fast_and_nothing_else() {
    let shop = TestApp::start().await;
    shop.product("chair", 4900, 1000).await;
    let ann = shop.shopper("ann@example.org").await;
    readiness(&shop, "ready").await;
    let mut sql = shop.sql().await;
    let mut lock = sql.begin().await.unwrap();
    lock.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();

    let stop = AtomicBool::new(false);
    let wanted = order(&[("chair", 1)]);
    let browse = keep_sending(&stop, async || shop.get("/api/products/chair").await);
    let checkout = keep_sending(&stop, async || {
        shop.place(&ann, &fresh_key(), &wanted).await
    });
    let watch = async {
        let degraded = readiness(&shop, "degraded").await;
        assert_eq!(degraded["classes"]["checkout"]["status"], "unavailable");
        assert!(degraded["classes"]["checkout"]["reason"].is_string());
        assert_eq!(degraded["classes"]["browse"]["status"], "ready");
        let checkout = shop.get("/health/ready?class=checkout").await;
        assert_eq!(checkout.status, 503);
        shop.get("/health/ready?class=browse").await.expect(200);
        tokio::time::sleep(Duration::from_secs(3)).await;
        stop.store(true, Ordering::Relaxed);
    };
    let (browse, checkout, ()) = tokio::join!(browse, checkout, watch);

    let ok = browse
        .iter()
        .filter(|(answer, _)| answer.status == 200)
        .count();
    assert!(ok * 100 >= browse.len() * 99, "{ok} of {}", browse.len());
    assert!(!checkout.is_empty());
    let limits = shop.app.settings.pool.checkout;
    let fast = limits.acquire + limits.hold.unwrap() + Duration::from_secs(1);
    for (answer, took) in checkout {
        let answer = answer.expect(503);
        assert_eq!(answer.header("retry-after"), "1");
        assert!(took < fast, "{took:?}");
    }

    lock.rollback().await.unwrap();
    let key = fresh_key();
    let recovered = shop.place_with_patience(&ann, &key, &wanted);
    tokio::time::timeout(PATIENCE, recovered)
        .await
        .expect("checkout recovers by itself")
        .expect(201);
    readiness(&shop, "ready").await;
}

#[tokio::test]
async fn an_order_that_went_silent_is_confirmed_by_its_key() {
    let shop = TestApp::builder()
        .settings(|s| s.pool.checkout.hold = Some(Duration::from_millis(300)))
        .start()
        .await;
    shop.product("chair", 4900, 10).await;
    let ann = shop.shopper("ann@example.org").await;
    let wanted = order(&[("chair", 1)]);
    let mut sql = shop.sql().await;
    let mut lock = sql.begin().await.unwrap();
    lock.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();

    let silent = shop.place(&ann, "key", &wanted).await.expect(503);
    let detail = silent.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("same Idempotency-Key"), "{detail}");
    lock.rollback().await.unwrap();

    shop.place_with_patience(&ann, "key", &wanted)
        .await
        .expect(201);
    assert_eq!(shop.stock("chair").await, 9);
}

#[tokio::test]
async fn an_order_for_which_no_connection_could_be_had_is_known_not_to_be_placed() {
    let shop = TestApp::start().await;
    shop.product("chair", 4900, 10).await;
    let ann = shop.shopper("ann@example.org").await;
    let nowhere = shop.database().socket("/nonexistent");
    let cut_off = TestApp::builder()
        .database(shop.database())
        .reached_through(nowhere)
        .start()
        .await;
    let answer = cut_off
        .place(&ann, &fresh_key(), &order(&[("chair", 1)]))
        .await;
    let detail = answer.expect(503).json()["detail"].to_string();
    assert!(detail.contains("Nothing was sent"), "{detail}");
    assert!(!detail.contains("may have been placed"), "{detail}");
    assert_eq!(shop.stock("chair").await, 10);
}
