//! PostgreSQL crashes and comes back while orders are being placed.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use embedded_postgres::StopMode;
use futures_util::future::join_all;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

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

/// Kills the postmaster of the server whose data is in `pgdata`, and no other process.
fn kill_postmaster(pgdata: &Path) {
    let file = std::fs::read_to_string(pgdata.join("postmaster.pid")).unwrap();
    let pid = file.lines().next().unwrap().trim().parse().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_postmaster_comes_back_ten_times_and_no_acknowledged_order_is_lost() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut server = OwnServer::start("killed").await;
    let pgdata = server.cluster.pgdata().to_owned();
    let database = server.database.clone();
    let shop = TestApp::builder().database(database).start().await;
    shop.product("chair", 4900, STOCK).await;
    let ann = shop.shopper("ann@example.org").await;
    let wanted = order(&[("chair", 1)]);

    let stop = AtomicBool::new(false);
    let buyers = (0..8).map(|_| async {
        let mut acknowledged = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let answer = shop.place_with_patience(&ann, &fresh_key(), &wanted).await;
            acknowledged.push(answer.expect(201).json()["id"].as_i64().unwrap());
        }
        acknowledged
    });
    let revived = AtomicUsize::new(0);
    let kills = async {
        for kill in 1..=10 {
            let moment = Duration::from_millis(random.random_range(200..700));
            tokio::time::sleep(moment).await;
            kill_postmaster(&pgdata);
            let killed = Instant::now();
            shop.get("/health/live").await.expect(200);
            let key = fresh_key();
            let again = shop.place_with_patience(&ann, &key, &wanted);
            again.await.expect(201);
            println!("served again after {:.2} s", killed.elapsed().as_secs_f64());
            // A session that the killed postmaster has left may have placed that order.
            while revived.load(Ordering::Relaxed) < kill {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        stop.store(true, Ordering::Relaxed);
    };
    let told = |step: &str| {
        println!("{step}");
        if step.contains("serves again") {
            revived.fetch_add(1, Ordering::Relaxed);
        }
    };
    let (acknowledged, ()) = tokio::select! {
        done = async { tokio::join!(join_all(buyers), kills) } => done,
        err = server.cluster.keep(&told) => panic!("{err}"),
    };
    let placed: Vec<i64> = acknowledged.into_iter().flatten().collect();
    let acknowledged: BTreeSet<i64> = placed.iter().copied().collect();
    assert_eq!(acknowledged.len(), placed.len(), "an order for two keys");
    let stored: Vec<i64> = sqlx::query_scalar("SELECT id FROM orders")
        .fetch_all(&mut shop.sql().await)
        .await
        .unwrap();
    let stored: BTreeSet<i64> = stored.into_iter().collect();
    assert!(acknowledged.is_subset(&stored));
    // Those of the ten that looked whether orders are placed again.
    assert_eq!(stored.len(), acknowledged.len() + 10);
    let sold = i32::try_from(stored.len()).unwrap();
    assert_eq!(shop.stock("chair").await, STOCK - sold);
    server.stop().await;
}
