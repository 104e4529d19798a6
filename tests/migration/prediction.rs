//! What a plan says before the start, and what a run says of its end.

use std::time::Duration;

use evenkeel::migration::definition::Definition;
use evenkeel::migration::ledger::Phase;
use evenkeel::migration::plan::{Plan, Quantiles, Source, plan};
use evenkeel::migration::progress::Progress;
use evenkeel::migration::runner::End;

use super::fixture::{Fixture, migration, of_t};

async fn plan_of(fixture: &mut Fixture, text: &str) -> Plan {
    let definition = Definition::parse("m", text).unwrap();
    let engine = fixture.engine.clone();
    plan(&mut fixture.sql, &definition, &engine).await.unwrap()
}

/// Runs the migration and compares its batches' time with what was `predicted`. What else the machine
/// does between the plan and the run is not the plan's to know, so both are made again when they
/// differ by more than `factor`, twice.
async fn assert_predicts(
    fixture: &mut Fixture,
    text: &str,
    predicted: Quantiles,
    undo: &str,
    factor: f64,
) {
    let mut predicted = predicted;
    let mut all = Vec::new();
    for _ in 0..3 {
        assert_eq!(fixture.migrate(text).await.0, End::Completed);
        let worked = "SELECT sum(took_ms)::bigint FROM evenkeel.batches
             WHERE phase = 'main' AND run_id = (SELECT max(id) FROM evenkeel.runs)";
        let worked = fixture.count(worked).await as f64 / 1e3;
        all.push((predicted.p50_s, worked));
        if (1.0 / factor..factor).contains(&(predicted.p50_s / worked)) {
            return;
        }
        fixture.run(undo).await;
        predicted = plan_of(fixture, text).await.full_speed.unwrap();
    }
    panic!("predicted and took: {all:?}");
}

#[tokio::test]
async fn a_plan_is_right_about_a_table_whose_beginning_is_unlike_its_end() {
    let mut fixture = Fixture::new().await;
    fixture.engine.batch_max = 1000;
    // The first half of the keys is done; each row of the second half costs something.
    fixture
        .run(
            "CREATE TABLE t (shop text, id uuid DEFAULT gen_random_uuid(), done boolean, n numeric,
                             PRIMARY KEY (shop, id));
             INSERT INTO t (shop, done, n)
             SELECT CASE WHEN i <= 10000 THEN 'a' ELSE 'z' END, i <= 10000, 0
               FROM generate_series(1, 20000) AS i;
             ANALYZE t",
        )
        .await;
    let text = migration(
        "-- table: t\n-- pending: NOT done",
        "UPDATE t SET done = true, n = (SELECT sum(i) FROM generate_series(1, 1500) AS i WHERE i > t.n)
          WHERE :range",
    );
    let before = "SELECT count(*) FROM t WHERE done";
    let plan = plan_of(&mut fixture, &text).await;
    assert_eq!(fixture.count(before).await, 10_000, "it changed something");
    assert!(plan.samples.len() >= 20, "{}", plan.samples.len());
    let (first, most) = (
        plan.samples[0].rows,
        plan.samples.iter().map(|s| s.rows).max(),
    );
    assert!(
        most.unwrap() > first * 2,
        "the samples grow: {:?}",
        plan.samples
    );
    assert_eq!((plan.rows.likely, plan.pending.likely), (20_000, 10_000));
    assert_eq!(
        (plan.rows.from, plan.pending.from),
        (Source::Counted, Source::Counted)
    );
    let half: i64 = plan.samples.iter().map(|s| s.pending).sum();
    let changed: i64 = plan.samples.iter().map(|s| s.changed).sum();
    assert_eq!(half, changed, "what was pending was changed");
    let idle = plan.samples.iter().filter(|s| s.changed == 0).count();
    assert!(
        idle > 0 && idle < plan.samples.len(),
        "not spread over the keys"
    );
    let full = plan.full_speed.unwrap();
    assert!(full.p50_s <= full.p90_s, "{full:?}");
    let wal = plan.wal.unwrap();
    assert!(wal.per_row > 20.0 && wal.per_row < 20_000.0, "{wal:?}");
    let bloat = plan.bloat.unwrap();
    // 10,000, by some twenty samples of unequal size, each of which finds nothing or all.
    assert!((2_000.0..18_000.0).contains(&bloat.dead_rows), "{bloat:?}");
    assert!(plan.at_recent_duty.is_none() && plan.by_hour.is_empty());

    // Half the rows cost nearly nothing, so a sample of the beginning would be off by far more.
    let undo = "UPDATE t SET done = shop = 'a', n = 0";
    assert_predicts(&mut fixture, &text, full, undo, 2.5).await;
    // Now there is a history, of this very hour.
    let plan = plan_of(&mut fixture, &text).await;
    let recent = plan.at_recent_duty.unwrap();
    assert!(recent.duty > 0.3 && recent.duty <= 1.0, "{recent:?}");
}

#[tokio::test]
async fn a_plan_does_not_bloat_a_small_table_and_is_right_about_it_all_the_same() {
    let mut fixture = Fixture::new().await;
    fixture.engine.batch_max = 1000;
    fixture
        .run(
            "CREATE TABLE t (id bigint PRIMARY KEY, done boolean) WITH (autovacuum_enabled = off);
             INSERT INTO t SELECT generate_series(1, 6000), false; ANALYZE t",
        )
        .await;
    let text = migration(
        "-- table: t\n-- pending: NOT done",
        "UPDATE t SET done = (SELECT count(*) >= 0 FROM generate_series(1, 1000) WHERE t.id > 0) WHERE :range",
    );
    let size = "SELECT pg_relation_size('t')";
    let before = fixture.count(size).await;
    let plan = plan_of(&mut fixture, &text).await;
    let after = fixture.count(size).await;
    assert!(
        after * 100 <= before * 115,
        "grew from {before} to {after} bytes"
    );
    let passed: i64 = plan.samples.iter().map(|s| s.rows).sum();
    assert!(
        plan.samples.len() >= 15 && passed <= 600,
        "{passed} rows passed"
    );
    // Samples of a few rows cost several times as much per row as batches do.
    let full = plan.full_speed.unwrap();
    assert_predicts(&mut fixture, &text, full, "UPDATE t SET done = false", 3.0).await;
    // Hardly any rows.
    fixture.run("DELETE FROM t WHERE id > 7").await;
    let plan = plan_of(&mut fixture, &text).await;
    assert_eq!((plan.rows.likely, plan.pending.likely), (7, 0));
    assert_eq!(plan.samples.iter().map(|s| s.rows).sum::<i64>(), 1);
}

#[tokio::test]
async fn a_plan_does_not_take_bloat_for_pending_rows() {
    let mut fixture = Fixture::new().await;
    fixture
        .run(
            "CREATE TABLE t (id bigint PRIMARY KEY, done boolean) WITH (autovacuum_enabled = off);
             INSERT INTO t SELECT i, i % 2 = 0 FROM generate_series(1, 30000) AS i; ANALYZE t",
        )
        .await;
    // Old versions of every row, of which the statistics know nothing.
    for _ in 0..3 {
        fixture
            .run("BEGIN; UPDATE t SET done = done; ROLLBACK")
            .await;
    }
    let text = migration(
        "-- table: t\n-- pending: NOT done",
        "UPDATE t SET done = true WHERE :range",
    );
    let plan = plan_of(&mut fixture, &text).await;
    assert!((29_000..31_000).contains(&plan.rows.likely), "{plan:?}");
    let pending = plan.pending;
    assert!((13_000..17_000).contains(&pending.likely), "{pending:?}");
}

#[tokio::test]
async fn a_plan_names_what_could_stall_the_run() {
    let mut fixture = Fixture::with_rows(100).await;
    fixture.engine.statement_timeout = Duration::from_millis(50);
    let slot = format!("slot_{}", uuid::Uuid::new_v4().simple());
    fixture
        .run(&format!(
            "CREATE TABLE parent (n int PRIMARY KEY); INSERT INTO parent SELECT generate_series(0, 5);
             ALTER TABLE t ADD CONSTRAINT n_known FOREIGN KEY (n) REFERENCES parent,
                 SET (autovacuum_enabled = off);
             CREATE INDEX t_done_idx ON t (done);
             CREATE INDEX t_partial_idx ON t (id) WHERE n > 3;
             CREATE INDEX t_broken_idx ON t (changes);
             UPDATE pg_index SET indisvalid = false WHERE indexrelid = 't_broken_idx'::regclass;
             CREATE TABLE rates (of int); INSERT INTO rates SELECT generate_series(1, 3000);
             SELECT pg_create_physical_replication_slot('{slot}', true)"
        ))
        .await;
    let mut clerk = fixture.connect().await;
    sqlx::query("SET application_name = 'a forgotten console'")
        .execute(&mut clerk)
        .await
        .unwrap();
    sqlx::query("BEGIN").execute(&mut clerk).await.unwrap();
    tokio::time::sleep(fixture.engine.statement_timeout * 31).await;
    let text = migration(
        "-- table: t\n-- pending: NOT done",
        "UPDATE t SET done = true, n = (SELECT count(*) FROM rates WHERE of = t.id) WHERE :range",
    );
    let plan = plan_of(&mut fixture, &text).await;
    fixture
        .run(&format!("SELECT pg_drop_replication_slot('{slot}')"))
        .await;
    let obstacles = plan.obstacles.join("\n");
    for part in [
        "a forgotten console",
        "t_broken_idx is invalid",
        "trigger count_change",
        "foreign key n_known",
        "t was never analysed",
        slot.as_str(),
        "autovacuum is off for t",
        "2 indexes are on changed columns, so no change stays on its page (HOT): t_done_idx, t_partial_idx",
        "every batch reads all of rates",
    ] {
        assert!(obstacles.contains(part), "{part}:\n{obstacles}");
    }
    assert!(plan.bloat.unwrap().hot_share.abs() < 1e-9);
}

#[tokio::test]
async fn a_plan_of_a_plain_table_finds_nothing_and_one_of_an_empty_table_is_no_error() {
    let mut fixture = Fixture::new().await;
    fixture
        .run(
            "CREATE TABLE t (id bigint PRIMARY KEY, done boolean) WITH (fillfactor = 50);
             INSERT INTO t SELECT generate_series(1, 1000), false; ANALYZE t",
        )
        .await;
    let text = migration(
        "-- table: t\n-- pending: NOT done",
        "UPDATE t SET done = true WHERE :range",
    );
    let plan = plan_of(&mut fixture, &text).await;
    // Slots and transactions are the whole server's, and other tests have theirs.
    let of_server =
        |o: &&String| o.starts_with("replication slot") || o.starts_with("a transaction");
    let of_t: Vec<_> = plan.obstacles.iter().filter(|o| !of_server(o)).collect();
    assert!(of_t.is_empty(), "{of_t:?}");
    assert!(plan.bloat.unwrap().hot_share > 0.9);
    fixture.run("TRUNCATE t").await;
    let plan = plan_of(&mut fixture, &text).await;
    assert!(plan.samples.is_empty() && plan.full_speed.is_none());
}

#[tokio::test]
async fn a_run_tells_its_end_as_two_quantiles_and_what_its_time_went_into() {
    let mut fixture = Fixture::with_rows(2000).await;
    fixture.run("ANALYZE t").await;
    fixture.pace.duty_max = 0.5;
    fixture.engine.batch_max = 20;
    let run = fixture.enqueue(&of_t()).await;
    let mut watcher = Fixture::beside(&fixture).await;
    let (end, etas) = tokio::join!(fixture.drive(), async {
        let mut etas = Vec::new();
        loop {
            let run = watcher.find(&run).await;
            if run.finished_at.is_some() {
                return etas;
            }
            let progress = Progress::of(&mut watcher.sql, run).await.unwrap();
            etas.extend(progress.eta);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert_eq!(end, End::Completed);
    assert!(etas.len() > 3, "{etas:?}");
    for eta in &etas {
        if let (Some(p50), Some(p90)) = (eta.p50_s, eta.p90_s) {
            assert!(p50 <= p90 * 1.000_001, "{eta:?}");
        }
    }
    let run = fixture.find(&run).await;
    let spent = |what: &str| run.time_spent[what].as_f64().unwrap_or(0.0);
    let (working, resting) = (spent("working"), spent("resting"));
    // Half of the time each, give or take what timers and the machine add.
    assert!(resting > working * 0.6, "{:?}", run.time_spent);
    let took = (run.finished_at.unwrap() - run.started_at.unwrap()).as_seconds_f64();
    assert!(working + resting <= took, "{:?} of {took}", run.time_spent);
    assert!(
        working + resting > took * 0.5,
        "{:?} of {took}",
        run.time_spent
    );
}

#[tokio::test]
async fn of_a_table_that_was_never_analysed_no_share_and_no_end_is_told() {
    let mut fixture = Fixture::with_rows(300).await;
    fixture
        .run("ALTER TABLE t SET (autovacuum_enabled = off)")
        .await;
    fixture.engine.batch_max = 10;
    let run = fixture.enqueue(&of_t()).await;
    let mut watcher = Fixture::beside(&fixture).await;
    let (end, seen) = tokio::join!(fixture.drive(), async {
        let mut seen = 0;
        loop {
            let run = watcher.find(&run).await;
            if run.finished_at.is_some() {
                return seen;
            }
            let main = run.phase == Phase::Main;
            let progress = Progress::of(&mut watcher.sql, run).await.unwrap();
            if main {
                assert_eq!((progress.done, progress.eta), (None, None));
                seen += 1;
            }
        }
    });
    assert_eq!(end, End::Completed);
    assert!(seen > 0);
    assert_eq!(fixture.find(&run).await.share_done, 0.0);
}
