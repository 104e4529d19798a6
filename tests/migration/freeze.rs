//! The leaseholder's process is stopped with SIGSTOP past its lease, and continued later.

use std::time::Duration;

use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::process::Child;

use super::fixture::{Fixture, of_t};
use super::process::{evenkeel_on, signal};

/// A process that migrates, or goes on with the migration.
fn migrate(fixture: &Fixture, definitions: &str) -> Child {
    let arguments = ["migrate", "--dir", definitions, "run", "m", "--standalone"];
    let mut command = evenkeel_on(&fixture.database, &arguments);
    // However slow the machine, the batches do not dwindle to a row each.
    command.env("EVENKEEL_MIGRATION__BATCH_MIN", "10");
    command.spawn().unwrap()
}

/// Waits for three batches under a token beyond `token`, and returns the newest.
async fn newer_token(fixture: &mut Fixture, token: i64) -> i64 {
    let at_work = format!(
        "SELECT count(*) / 3 FROM evenkeel.batches WHERE lease_token > {token} AND phase = 'main'"
    );
    fixture.wait_until(&at_work).await;
    let newest = "SELECT max(lease_token) FROM evenkeel.runs";
    fixture.count(newest).await
}

/// It holds no row for longer than a statement may take, though a transaction of its was open.
#[tokio::test]
async fn a_holder_that_was_frozen_past_its_lease_writes_nothing_when_it_wakes() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut fixture = Fixture::with_rows(2000).await;
    let definitions = tempfile::tempdir().unwrap();
    let text = of_t().replace("WHERE", "FROM pg_sleep(0.02) WHERE");
    std::fs::write(definitions.path().join("m.sql"), text).unwrap();
    let directory = definitions.path().to_str().unwrap();

    let mut holder = migrate(&fixture, directory);
    let mut token = newer_token(&mut fixture, 0).await;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_micros(random.random_range(0..60_000))).await;
        signal(&holder, Signal::SIGSTOP);
        let next = migrate(&fixture, directory);
        token = newer_token(&mut fixture, token).await;
        let left = fixture.count("SELECT count(*) FROM t WHERE NOT done").await;
        assert!(left > 0, "too early");
        signal(&holder, Signal::SIGCONT);
        // It finds that the lease is another's, and ends.
        let woken = holder.wait_with_output().await.unwrap();
        assert!(!woken.status.success(), "{woken:?}");
        holder = next;
    }
    let done = holder.wait_with_output().await.unwrap();
    assert!(done.status.success(), "{done:?}");

    let run = evenkeel::migration::ledger::latest(&mut fixture.sql, "m").await;
    fixture.assert_exactly_once("t", &run.unwrap()).await;
    let stale = "SELECT count(*) FROM (
            SELECT lease_token, max(lease_token) OVER (ORDER BY number) AS newest FROM evenkeel.batches) AS b
         WHERE lease_token < newest";
    assert_eq!(fixture.count(stale).await, 0);
    let tokens = "SELECT count(DISTINCT lease_token) FROM evenkeel.batches";
    assert_eq!(fixture.count(tokens).await, 4);
}
