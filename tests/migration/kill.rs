//! The real service is killed with SIGKILL, again and again, while it migrates.

use std::process::Stdio;
use std::time::Duration;

use evenkeel::migration::ledger::State;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::postgres::PgConnectOptions;
use tokio::process::{Child, Command};

use super::fixture::{Fixture, migration};

/// The binary with `arguments` on `database`.
pub fn evenkeel(database: &PgConnectOptions, arguments: &[&str]) -> Command {
    let url = format!(
        "postgres://{}@localhost:{}/{}?host={}",
        database.get_username(),
        database.get_port(),
        database.get_database().unwrap(),
        database.get_socket().unwrap().display()
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    command
        .args(arguments)
        .env("DATABASE_URL", url)
        .env("EVENKEEL_DATABASE__SAMPLE_SHOP", "false")
        .env("EVENKEEL_MIGRATION__LEASE", "600ms")
        .env("EVENKEEL_MIGRATION__STATEMENT_TIMEOUT", "300ms")
        .env("EVENKEEL_MIGRATION__POLL", "20ms")
        .env("EVENKEEL_MIGRATION__BATCH_FIRST", "20")
        .env("EVENKEEL_MIGRATION__BATCH_MAX", "20")
        .env("EVENKEEL_PACE__ADAPTIVE", "false")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

fn serve(database: &PgConnectOptions) -> Child {
    let arguments = ["serve", "--listen", "127.0.0.1:0"];
    let mut command = evenkeel(database, &arguments);
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
        // Most die while they work, some before they have begun.
        if kill % 5 != 4 {
            let token = fixture.find(&run).await.lease_token;
            fixture
                .wait_until(&format!(
                    "SELECT count(*) FROM evenkeel.runs WHERE lease_token > {token}"
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

#[tokio::test]
async fn a_standalone_run_needs_no_shop() {
    let mut fixture = Fixture::with_rows(300).await;
    let definitions = tempfile::tempdir().unwrap();
    let file = definitions.path().join("tick.sql");
    std::fs::write(file, super::fixture::of_t()).unwrap();
    let arguments = ["migrate", "run", "tick", "--standalone"];
    let done = evenkeel(&fixture.database, &arguments)
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
