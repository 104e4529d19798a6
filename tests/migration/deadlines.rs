//! A run that should be done by some time.

use std::process::Stdio;
use std::time::Duration;

use evenkeel::migration::progress::Progress;
use evenkeel::migration::throttle;
use pressure::settings::Budgets;
use tokio_util::sync::CancellationToken;

use super::fixture::{Fixture, of_t};

#[tokio::test]
async fn a_run_that_will_be_late_says_so_and_hurries_only_when_somebody_pays() {
    let mut fixture = Fixture::with_rows(20_000).await;
    fixture.run("ANALYZE t").await;
    fixture.engine.batch_first = 10;
    fixture.engine.batch_max = 10;
    fixture.pace.adaptive = true;
    let stop = CancellationToken::new();
    fixture.surroundings = Some(fixture.watch("a", Budgets::default(), None, &stop));
    let slow = throttle::Request {
        migration: Some("m"),
        duty: 0.1,
        extra_ms: 0.0,
        time: Duration::from_secs(600),
        reason: "so that it takes a while",
    };
    throttle::add(&mut fixture.sql, &slow, "ana").await.unwrap();
    let run = fixture.enqueue(&of_t()).await;
    let soon = chrono::Utc::now() + chrono::Duration::seconds(1);
    evenkeel::migration::ledger::set_deadline(&mut fixture.sql, run.id, soon, "ana")
        .await
        .unwrap();
    let runner = fixture.runner_with(None, stop.clone());
    let engine = tokio::spawn(async move { runner.run().await });
    fixture
        .wait_until("SELECT count(*) FROM evenkeel.runs WHERE batches >= 8")
        .await;
    let run = fixture.find(&run).await;
    let progress = Progress::of(&mut fixture.sql, run).await.unwrap();
    let late = progress.late.expect("it cannot be done within a second");
    // Nobody shops here: what holds it back is the throttle, and no price would buy anything.
    assert_eq!(late.extra_ms, None, "{late:?}");
    let done = super::process::evenkeel_on(&fixture.database, &["migrate", "status", "m"])
        .stdout(Stdio::piped())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        said.contains("its deadline") || said.contains("cannot be told"),
        "{said}"
    );

    let paid = throttle::Request {
        duty: 1.0,
        extra_ms: 2.0,
        reason: "the deadline",
        ..slow
    };
    throttle::add(&mut fixture.sql, &paid, "ben").await.unwrap();
    fixture
        .wait_until(
            "SELECT count(*) FROM evenkeel.runs
              WHERE pace->'causes' @> '[{\"source\": \"throttle 2\", \"verdict\": \"normal\"}]'",
        )
        .await;
    stop.cancel();
    engine.await.unwrap();
}
