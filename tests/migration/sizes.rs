//! How large batches become.

use std::time::Duration;

use evenkeel::migration::runner::End;

use super::fixture::{Fixture, of_t};

/// Rows of the largest batch where time is no limit and a batch may write `wal_mib`.
async fn largest(wal_mib: f64) -> i64 {
    let mut fixture = Fixture::with_rows(4_000).await;
    // Stored in the row, so that an update writes it again.
    fixture
        .run(
            "ALTER TABLE t ADD payload text; ALTER TABLE t ALTER payload SET STORAGE PLAIN;
             UPDATE t SET payload = repeat('x', 1500); CHECKPOINT",
        )
        .await;
    fixture.engine.batch_target = Duration::from_secs(60);
    fixture.engine.batch_first = 50;
    fixture.engine.batch_max = 10_000;
    fixture.engine.batch_wal_mib = wal_mib;
    let (end, run) = fixture.migrate(&of_t()).await;
    assert_eq!(end, End::Completed, "{run:?}");
    fixture.assert_exactly_once("t", &run).await;
    fixture
        .count("SELECT max(rows_seen)::bigint FROM evenkeel.batches WHERE phase = 'main'")
        .await
}

#[tokio::test]
async fn a_batch_writes_no_more_log_than_it_may() {
    // A row writes 1.5 KiB at least, with its page's image up to twice 8 more.
    let bounded = largest(0.25).await;
    assert!(bounded <= 175, "{bounded}");
    let free = largest(1_000.0).await;
    assert!(free >= 800, "{free}");
}

#[tokio::test]
async fn batches_that_are_no_shorter_for_being_smaller_do_not_shrink_to_nothing() {
    let mut fixture = Fixture::with_rows(2_000).await;
    // As a subquery takes that reads another table each time.
    fixture.run("CREATE TABLE slow AS SELECT 0.06 AS s").await;
    fixture.engine.batch_first = 100;
    fixture.engine.batch_max = 10_000;
    let slow = "FROM (SELECT pg_sleep(max(s)) FROM slow) AS slow WHERE";
    let (end, run) = fixture.migrate(&of_t().replace("WHERE", slow)).await;
    assert_eq!(end, End::Completed, "{run:?}");
    fixture.assert_exactly_once("t", &run).await;
    // Every batch takes longer than the target, so that none grows; they come back from half of the first.
    let least = "SELECT min(rows_seen)::bigint FROM evenkeel.batches WHERE phase = 'main' AND upper_key <> '{2000}'";
    assert!(fixture.count(least).await >= 25);
}
