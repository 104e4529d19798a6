//! What the database feels slows a migration down, and is named.

use std::time::{Duration, Instant};

use evenkeel::migration::runner::End;
use pressure::database::{Judge, Reading};
use pressure::settings::{Budget, Budgets, PaceSettings};
use pressure::surroundings::{Driven, Surroundings};
use pressure::{Signal, Verdict};
use sqlx::{Connection, Executor};
use tokio_util::sync::CancellationToken;

use super::fixture::{Fixture, PATIENCE, of_t};

fn driven(table: &str) -> Driven {
    Driven {
        migration: "m".to_owned(),
        table: table.to_owned(),
    }
}

/// Waits for a reading that `wanted` accepts.
async fn reading(surroundings: &Surroundings, wanted: impl Fn(&Reading) -> bool) -> Reading {
    let found = async {
        loop {
            let seen = surroundings.seen();
            if let Some(reading) = seen.database.filter(|reading| wanted(reading)) {
                return Reading::clone(&reading);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await;
    found.unwrap_or_else(|_| panic!("never: {:?}", surroundings.seen()))
}

fn judged(budgets: &Budgets, readings: &[&Reading]) -> Vec<Signal> {
    let mut judge = Judge::default();
    let mut signals = Vec::new();
    for reading in readings {
        let now = reading.at + Duration::from_millis(1);
        signals = judge.judge(&PaceSettings::default(), budgets, Some(reading), None, now);
    }
    signals
}

fn of<'a>(signals: &'a [Signal], source: &str) -> Option<&'a Signal> {
    signals.iter().find(|signal| signal.source == source)
}

#[tokio::test]
async fn wal_dead_rows_and_old_transactions_are_measured_and_named() {
    let mut fixture = Fixture::with_rows(20_000).await;
    fixture
        .run("ALTER TABLE t SET (autovacuum_enabled = off); ANALYZE t")
        .await;
    let stop = CancellationToken::new();
    let surroundings = fixture.watch("a", Budgets::default(), None, &stop);
    let _driving = surroundings.drive(driven("t"));
    let first = reading(&surroundings, |_| true).await;

    // What proves a run would slow itself down.
    let mut prover = fixture.connect().await;
    prover
        .execute(
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT;
             SET LOCAL application_name = 'evenkeel migration m run 1 second proof'",
        )
        .await
        .unwrap();
    let mut idler = fixture.connect().await;
    idler
        .execute("SET application_name = 'idler'")
        .await
        .unwrap();
    let mut old = idler.begin().await.unwrap();
    old.execute("SELECT txid_current()").await.unwrap();
    fixture.run("UPDATE t SET changes = 1").await;
    fixture.run("ANALYZE t").await;
    let second = reading(&surroundings, |reading| {
        let table = &reading.sample.tables[0];
        table.dead >= Some(20_000) && reading.sample.oldest.is_some()
    })
    .await;
    let written = second.sample.wal_bytes.unwrap() - first.sample.wal_bytes.unwrap();
    assert!(written > 20_000 * 50, "{written}");

    // Whatever the machine does, these budgets are exceeded.
    let tiny = |soft, hard| Budget {
        enabled: true,
        soft,
        hard,
    };
    let budgets = Budgets {
        wal: tiny(1e-6, 1e6),
        dead_rows: tiny(0.2, 0.4),
        xmin_age: tiny(1e-6, 1e6),
        ..Budgets::default()
    };
    let signals = judged(&budgets, &[&first, &second]);
    let wal = of(&signals, "wal").unwrap();
    assert_eq!(wal.verdict, Verdict::Slow, "{wal:?}");
    assert!(wal.reason.contains("MiB/s"), "{wal:?}");
    let dead = of(&signals, "dead rows of t").unwrap();
    assert_eq!(dead.verdict, Verdict::Cut, "{dead:?}");
    let oldest = of(&signals, "oldest transaction").unwrap();
    assert_eq!(oldest.verdict, Verdict::Slow, "{oldest:?}");
    assert!(
        oldest.reason.contains("vacuum waits for session") && oldest.reason.contains("(idler, "),
        "{oldest:?}"
    );
    old.rollback().await.unwrap();

    // Within the budgets nothing is said, so that an idle shop stays an idle shop.
    let none = judged(&Budgets::default(), &[&first, &second]);
    assert!(none.is_empty(), "{none:?}");
    stop.cancel();
}

#[tokio::test]
async fn whoever_waits_for_a_batch_has_it_cancelled_and_named() {
    let mut fixture = Fixture::with_rows(40).await;
    fixture.pace.adaptive = true;
    fixture
        .run(
            "CREATE TABLE brake (seconds float8); INSERT INTO brake VALUES (1.9);
             CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql
                 AS 'BEGIN PERFORM pg_sleep(max(seconds)) FROM brake; RETURN NULL; END';
             CREATE TRIGGER nap AFTER UPDATE ON t EXECUTE FUNCTION nap()",
        )
        .await;
    let stop = CancellationToken::new();
    fixture.surroundings = Some(fixture.watch("a", Budgets::default(), None, &stop));
    let run = fixture.enqueue(&of_t()).await;
    let runner = fixture.runner();
    let taken = runner.take().await.unwrap().unwrap();
    let mut shopper = fixture.connect().await;
    let drive = tokio::time::timeout(PATIENCE, runner.drive(taken));
    let (end, shortest) = tokio::join!(drive, async {
        let named = "SELECT count(*) FROM evenkeel.runs
            WHERE pace->'causes' @> '[{\"source\": \"lock waits\"}]'";
        let napping = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event = 'PgSleep'";
        let mut shortest = Duration::MAX;
        while fixture.count(named).await == 0 {
            fixture.wait_until(napping).await;
            let since = Instant::now();
            shopper
                .execute("SELECT FROM t WHERE id = 1 FOR UPDATE")
                .await
                .unwrap();
            shortest = shortest.min(since.elapsed());
        }
        fixture.run("UPDATE brake SET seconds = 0").await;
        shortest
    });
    assert_eq!(end.unwrap(), End::Completed);
    // The batch would have held the row for 1.9 s.
    assert!(shortest < Duration::from_millis(1500), "{shortest:?}");
    fixture.assert_exactly_once("t", &run).await;
    stop.cancel();
}

#[tokio::test]
async fn what_a_role_may_not_see_is_said_with_the_way_out() {
    let mut fixture = Fixture::with_rows(1).await;
    let role = format!("limited_{}", uuid::Uuid::new_v4().simple());
    fixture
        .run(&format!(
            "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA evenkeel TO {role};
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA evenkeel TO {role}"
        ))
        .await;
    let superuser = fixture.database.clone();
    fixture.database = superuser.clone().username(&role);
    let stop = CancellationToken::new();
    let surroundings = fixture.watch("a", Budgets::default(), None, &stop);
    let _driving = surroundings.drive(driven("t"));
    let read = reading(&surroundings, |reading| reading.sample.foreign_sessions > 0).await;
    let signals = judged(&Budgets::default(), &[&read, &read]);
    let oldest = of(&signals, "oldest transaction").unwrap();
    assert_eq!(oldest.verdict, Verdict::Unknown);
    for way_out in [
        format!("GRANT pg_monitor TO {role}"),
        "budgets.xmin_age.enabled".to_owned(),
    ] {
        assert!(oldest.reason.contains(&way_out), "{oldest:?}");
    }
    // The rest of the sample needs no such right.
    assert!(read.sample.wal_bytes.is_some() && read.sample.lock_waiters == Some(0));

    let mut without = Budgets::default();
    without.xmin_age.enabled = false;
    assert_eq!(
        of(&judged(&without, &[&read]), "oldest transaction").map(|s| s.verdict),
        None
    );
    fixture.run(&format!("GRANT pg_monitor TO {role}")).await;
    let read = reading(&surroundings, |reading| reading.sample.sees_all).await;
    assert_eq!(
        of(&judged(&Budgets::default(), &[&read]), "oldest transaction").map(|s| s.verdict),
        None
    );
    stop.cancel();
}
