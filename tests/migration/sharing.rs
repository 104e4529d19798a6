//! Several migrations, one budget.

use evenkeel::migration::ledger::{self, Run};
use tokio_util::sync::CancellationToken;

use super::fixture::{Fixture, migration, of_t};

const ROWS: i64 = 3_000;

/// Tables `t` and `u`, each with a migration that waits.
async fn two_migrations() -> (Fixture, Run, Run) {
    let mut fixture = Fixture::with_rows(ROWS).await;
    fixture.run("CREATE TABLE u (id bigint PRIMARY KEY)").await;
    let keys = format!("INSERT INTO u SELECT generate_series(1, {ROWS})");
    fixture.run(&keys).await;
    fixture.count_changes("u").await;
    fixture.engine.batch_max = 50;
    fixture.engine.batch_first = 50;
    let of_u = "UPDATE u SET done = true, n = n + 1 WHERE :range";
    let of_u = migration("-- table: u\n-- pending: NOT done", of_u);
    let t = fixture.enqueue(&of_t()).await;
    let u = ledger::enqueue(&mut fixture.sql, "other", &of_u, "tester").await;
    (fixture, t, u.unwrap())
}

#[tokio::test]
async fn migrations_share_the_budget_and_each_row_is_changed_once() {
    let (mut fixture, t, u) = two_migrations().await;
    let stop = CancellationToken::new();
    let runner = fixture.runner_with(None, stop.clone());
    let engine = tokio::spawn(async move { runner.run().await });
    let both =
        "SELECT (count(*) = 2)::integer::bigint FROM evenkeel.runs WHERE state = 'completed'";
    fixture.wait_until(both).await;
    stop.cancel();
    engine.await.unwrap();
    for table in ["t", "u"] {
        let once = format!("SELECT count(*) FROM {table} WHERE done AND n = 1 AND changes = 1");
        assert_eq!(fixture.count(&once).await, ROWS, "{table}");
    }
    assert_eq!(fixture.gaps().await, 0);
    // While both were under way, the one had nearly as much of it as the other.
    let shared = "WITH walks AS (
            SELECT run_id, min(committed_at) AS began, max(committed_at) AS ended
              FROM evenkeel.batches WHERE phase = 'main' GROUP BY run_id)
         SELECT sum(rows_seen)::bigint FROM evenkeel.batches
          WHERE phase = 'main' AND committed_at > (SELECT max(began) FROM walks)
            AND committed_at <= (SELECT min(ended) FROM walks)
          GROUP BY run_id ORDER BY 1";
    let shared: Vec<i64> = sqlx::query_scalar(shared)
        .fetch_all(&mut fixture.sql)
        .await
        .unwrap();
    let is_fair = matches!(shared[..], [less, more] if less * 10 >= more * 6);
    assert!(is_fair, "{shared:?}: {t:?}, {u:?}");
}

#[tokio::test]
async fn the_last_connection_is_left_to_the_leases_by_proofs_and_long_statements() {
    let mut fixture = Fixture::with_rows(50).await;
    fixture
        .run("CREATE TABLE u AS TABLE t; ALTER TABLE u ADD PRIMARY KEY (id)")
        .await;
    fixture.with_connections(2);
    let update = "UPDATE t SET done = true, n = n + 1 WHERE :range";
    let build = format!(
        "-- step: expand\nCREATE INDEX CONCURRENTLY t_n ON t (n);\n\n-- step: backfill\n{update};"
    );
    let t = migration("-- table: t\n-- pending: NOT done", &build);
    let t = fixture.enqueue(&t).await;
    // The build waits for everybody who writes to the table.
    let mut writer = Fixture::beside(&fixture).await;
    writer
        .run("BEGIN; INSERT INTO t (id, done) VALUES (1000, true)")
        .await;
    let of_u = update.replace("UPDATE t", "UPDATE u");
    let of_u = migration("-- table: u\n-- pending: NOT done", &of_u);
    let u = ledger::enqueue(&mut fixture.sql, "other", &of_u, "tester").await;
    let u = u.unwrap();
    let stop = CancellationToken::new();
    let runner = fixture.runner_with(None, stop.clone());
    let engine = tokio::spawn(async move { runner.run().await });
    let proving = format!(
        "SELECT count(*) FROM evenkeel.runs WHERE id = {} AND proof IS NOT NULL",
        u.id
    );
    let building = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";
    fixture.wait_until(building).await;
    fixture.wait_until(&proving).await;
    for run in [&t, &u] {
        let renewed = fixture.find(run).await.lease_until.unwrap() + chrono::Duration::seconds(3);
        let renewed = format!(
            "SELECT count(*) FROM evenkeel.runs WHERE id = {} AND lease_until > '{renewed}'",
            run.id
        );
        fixture.wait_until(&renewed).await;
    }
    let held = "SELECT count(*) FROM evenkeel.runs WHERE state = 'running' AND lease_token = 1";
    assert_eq!(fixture.count(held).await, 2);
    writer.run("ROLLBACK").await;
    let both =
        "SELECT (count(*) = 2)::integer::bigint FROM evenkeel.runs WHERE state = 'completed'";
    fixture.wait_until(both).await;
    stop.cancel();
    engine.await.unwrap();
}

#[tokio::test]
async fn a_migration_that_stands_still_keeps_no_other_waiting() {
    let (mut fixture, t, u) = two_migrations().await;
    fixture.pace.adaptive = true;
    let stop = CancellationToken::new();
    let hour = std::time::Duration::from_secs(3600);
    let request = evenkeel::migration::throttle::Request {
        migration: Some("m"),
        duty: 0.0,
        extra_ms: 0.0,
        time: hour,
        reason: "not today",
    };
    evenkeel::migration::throttle::add(&mut fixture.sql, &request, "ana")
        .await
        .unwrap();
    let budgets = pressure::settings::Budgets::default();
    fixture.surroundings = Some(fixture.watch("a", budgets, None, &stop));
    let runner = fixture.runner_with(None, stop.clone());
    let engine = tokio::spawn(async move { runner.run().await });
    let done = format!(
        "SELECT count(*) FROM evenkeel.runs WHERE id = {} AND state = 'completed'",
        u.id
    );
    fixture.wait_until(&done).await;
    let still = format!(
        "SELECT count(*) FROM evenkeel.batches WHERE run_id = {}",
        t.id
    );
    assert_eq!(fixture.count(&still).await, 0);
    stop.cancel();
    engine.await.unwrap();
}

#[tokio::test]
async fn runs_of_one_budget_belong_to_one_process() {
    let (fixture, ..) = two_migrations().await;
    let (one, other) = (fixture.runner(), fixture.runner());
    let (first, second) = tokio::join!(one.take(), other.take());
    let (first, second) = (first.unwrap(), second.unwrap());
    assert!(first.is_some() != second.is_some(), "{first:?}, {second:?}");
    let (holder, bystander) = if first.is_some() {
        (one, other)
    } else {
        (other, one)
    };
    assert!(bystander.take().await.unwrap().is_none());
    assert!(holder.take().await.unwrap().is_some());
}
