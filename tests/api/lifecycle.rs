//! Time limits and the end of the service.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use pool::Class;
use reqwest::StatusCode;
use sqlx::{Connection, Executor};
use tokio::process::Command;

use crate::migration::process::signal;
use crate::support::TestApp;
use crate::support::app::{fresh_key, order};

/// A bound for what would hang.
const PATIENCE: Duration = Duration::from_secs(120);

async fn until_an_order_is_under_way(shop: &TestApp) {
    while shop.app.pool.gates()[Class::Checkout.index()].in_use == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_shutdown_lets_requests_under_way_end() {
    let shop = TestApp::start().await;
    shop.product("chair", 4900, 10).await;
    let ann = shop.shopper("ann@example.org").await;
    let mut sql = shop.sql().await;
    let mut lock = sql.begin().await.unwrap();
    lock.execute("SELECT FROM variants FOR UPDATE")
        .await
        .unwrap();
    let wanted = order(&[("chair", 1)]);
    let key = fresh_key();

    let placing = shop.place(&ann, &key, &wanted);
    let ending = async {
        until_an_order_is_under_way(&shop).await;
        shop.app.shutdown.begin();
        tokio::time::sleep(Duration::from_millis(100)).await;
        lock.rollback().await.unwrap();
    };
    let (placed, ()) = tokio::join!(placing, ending);

    placed.expect(201);
    let ended = tokio::time::timeout(PATIENCE, shop.app.shutdown.finish());
    ended.await.expect("every task ends");
    let url = format!("http://{}/health/live", shop.address);
    assert!(reqwest::get(url).await.unwrap_err().is_connect());
}

#[tokio::test]
async fn a_request_beyond_the_time_limit_is_answered_and_counted_as_failed() {
    let shop = TestApp::builder()
        .settings(|s| s.http.request_timeout = Duration::from_millis(1_000))
        .start()
        .await;
    shop.product("chair", 4900, 10).await;
    let ann = shop.shopper("ann@example.org").await;
    let mut sql = shop.sql().await;
    let mut lock = sql.begin().await.unwrap();
    lock.execute("SELECT FROM variants FOR UPDATE")
        .await
        .unwrap();

    let answer = shop
        .place(&ann, &fresh_key(), &order(&[("chair", 1)]))
        .await;

    assert_eq!(answer.expect(503).header("retry-after"), "1");
    assert_eq!(shop.app.latencies.totals(Class::Checkout).failed, 1);
}

#[tokio::test]
async fn a_request_that_finds_no_connection_is_told_when_to_come_back() {
    let shop = TestApp::builder()
        .settings(|s| {
            (s.pool.checkout.min, s.pool.checkout.max) = (1, 1);
            s.pool.checkout.acquire = Duration::from_millis(100);
        })
        .start()
        .await;
    shop.product("chair", 4900, 10).await;
    let ann = shop.shopper("ann@example.org").await;
    let mut sql = shop.sql().await;
    let mut lock = sql.begin().await.unwrap();
    lock.execute("SELECT FROM variants FOR UPDATE")
        .await
        .unwrap();
    let (wanted, first, second) = (order(&[("chair", 1)]), fresh_key(), fresh_key());

    let holding = shop.place(&ann, &first, &wanted);
    let crowded_out = async {
        until_an_order_is_under_way(&shop).await;
        let refused = shop.place(&ann, &second, &wanted).await.expect(503);
        assert_eq!(refused.header("retry-after"), "1");
        lock.rollback().await.unwrap();
    };
    let (holding, ()) = tokio::join!(holding, crowded_out);

    assert_eq!(holding.status, StatusCode::CREATED);
    assert_eq!(shop.stock("chair").await, 9, "the second was not placed");
}

/// A shell starts jobs in the background with Ctrl-C ignored, until they say otherwise.
#[tokio::test]
async fn a_signal_counts_before_the_database_is_there() {
    for sent in [Signal::SIGINT, Signal::SIGTERM] {
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let data = dir.path().join("data");
        let mut shop = Command::new("sh")
            .args(["-c", r#"trap "" INT; exec "$0" "$@""#])
            .arg(env!("CARGO_BIN_EXE_evenkeel"))
            .args(["serve", "--listen", "127.0.0.1:0", "--ops-listen"])
            .args(["127.0.0.1:0", "--data-dir", data.to_str().unwrap()])
            .env_remove("DATABASE_URL")
            .env("EVENKEEL_WATCH__JOURNAL", dir.path().join("journal"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let ended = async {
            // It makes the cluster now, which takes it a second.
            while !data.join("lock").exists() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            signal(&shop, sent);
            shop.wait().await.unwrap()
        };
        let ended = tokio::time::timeout(PATIENCE, ended).await;
        let ended = ended.unwrap_or_else(|_| panic!("it goes on after {sent}"));
        assert!(ended.success(), "{sent}: {ended}");
        assert!(!data.join("url").exists(), "{sent}: it was there already");
    }
}
