//! Real processes are killed with SIGKILL, again and again, while they migrate.

use std::process::Stdio;
use std::time::Duration;

use evenkeel::migration::ledger::State;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::postgres::PgConnectOptions;
use tokio::process::Child;

use super::fixture::{Fixture, migration};
use super::kinds::{KINDS, Kind};
use super::process::evenkeel_on;

fn serve(database: &PgConnectOptions) -> Child {
    let arguments = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--ops-listen",
        "127.0.0.1:0",
    ];
    let mut command = evenkeel_on(database, &arguments);
    command.stderr(Stdio::null()).spawn().unwrap()
}

/// Rows are 1000 per kill, so that the run lasts until after the last.
async fn survives_kills(kills: i64, text: &str) {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut fixture = Fixture::with_rows(kills * 1000).await;
    let run = fixture.enqueue(text).await;
    for kill in 0..kills {
        let mut service = serve(&fixture.database);
        // Most die while they work, some with the lease alone, some before they have it.
        let since = match kill % 5 {
            0..3 => "batches",
            3 => "runs",
            _ => "",
        };
        if !since.is_empty() {
            let token = fixture.find(&run).await.lease_token;
            fixture
                .wait_until(&format!(
                    "SELECT count(*) FROM evenkeel.{since} WHERE lease_token > {token}"
                ))
                .await;
        }
        tokio::time::sleep(Duration::from_micros(random.random_range(0..300_000))).await;
        service.kill().await.unwrap();
        let state = fixture.find(&run).await.state;
        assert_ne!(state, State::Completed, "too early, after {kill} kills");
    }
    let mut service = serve(&fixture.database);
    fixture
        .wait_until("SELECT count(*) FROM evenkeel.runs WHERE state IN ('completed', 'failed')")
        .await;
    service.kill().await.unwrap();
    fixture.assert_exactly_once("t", &run).await;
    let lives = "SELECT count(DISTINCT lease_token) FROM evenkeel.batches";
    assert!(fixture.count(lives).await > kills / 2);
}

#[tokio::test]
async fn every_row_is_changed_once_though_the_service_is_killed() {
    let statement = "UPDATE t SET done = true, n = 1 FROM pg_sleep(0.004) WHERE :range";
    survives_kills(
        7,
        &migration("-- table: t\n-- pending: NOT done", statement),
    )
    .await;
}

#[tokio::test]
async fn a_statement_that_must_not_run_twice_does_not_though_the_service_is_killed_20_times() {
    let statement = "UPDATE t SET done = true, n = n + 1 FROM pg_sleep(0.004) WHERE :range";
    survives_kills(20, &migration("-- table: t\n-- pending: n = 0", statement)).await;
}

/// Kills three processes that migrate a table of this kind, each at a random moment.
async fn survives_kills_by_key(kind: &Kind, seed: u64) {
    const KILLS: usize = 3;
    let mut random = StdRng::seed_from_u64(seed);
    let mut fixture = Fixture::new().await;
    kind.create(&mut fixture).await;
    kind.fill(&mut fixture, 1600).await;
    let definitions = tempfile::tempdir().unwrap();
    let text = kind
        .definition()
        .replace("WHERE", "FROM pg_sleep(0.004) WHERE");
    std::fs::write(definitions.path().join("m.sql"), text).unwrap();
    let directory = definitions.path().to_str().unwrap();
    let arguments = ["migrate", "--dir", directory, "run", "m", "--standalone"];
    for kill in 0..=KILLS {
        let size = ["20", "7", "33", "20"][if kind.resized { kill } else { 0 }];
        let mut process = evenkeel_on(&fixture.database, &arguments)
            .env("EVENKEEL_MIGRATION__BATCH_FIRST", size)
            .env("EVENKEEL_MIGRATION__BATCH_MAX", size)
            .spawn()
            .unwrap();
        if kill == KILLS {
            assert!(process.wait().await.unwrap().success(), "{}", kind.name);
            break;
        }
        let at_work = format!("SELECT count(*) FROM evenkeel.runs WHERE lease_token > {kill}");
        fixture.wait_until(&at_work).await;
        tokio::time::sleep(Duration::from_micros(random.random_range(0..120_000))).await;
        process.kill().await.unwrap();
        let left = fixture.count("SELECT count(*) FROM t WHERE NOT done").await;
        assert!(left > 0, "{}: too early, after {kill} kills", kind.name);
        kind.grow(&mut fixture).await;
    }
    kind.assert_exactly_once(&mut fixture).await;
}

#[tokio::test]
async fn every_row_is_changed_once_by_any_key_though_the_process_is_killed() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    for kind in &KINDS {
        survives_kills_by_key(kind, seed).await;
    }
}

#[tokio::test]
async fn a_standalone_run_needs_no_shop() {
    let mut fixture = Fixture::with_rows(300).await;
    let definitions = tempfile::tempdir().unwrap();
    let file = definitions.path().join("tick.sql");
    std::fs::write(file, super::fixture::of_t()).unwrap();
    let arguments = ["migrate", "run", "tick", "--standalone"];
    let done = evenkeel_on(&fixture.database, &arguments)
        .env("EVENKEEL_MIGRATION__DEFINITIONS", definitions.path())
        .output()
        .await
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    let run = evenkeel::migration::ledger::latest(&mut fixture.sql, "tick")
        .await
        .unwrap();
    fixture.assert_exactly_once("t", &run).await;
}
