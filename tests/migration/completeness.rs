//! No row is left behind, whatever the shop or the data do meanwhile.

use std::time::Duration;

use evenkeel::migration::ledger::State;
use evenkeel::migration::runner::End;

use super::fixture::{Fixture, of_t};

#[tokio::test]
async fn rows_that_arrive_during_the_walk_are_swept_up() {
    let mut fixture = Fixture::with_rows(300).await;
    fixture.run("UPDATE t SET id = -10 * id").await;
    // A slow walk, so that there is a time during it.
    let text = of_t().replace("WHERE", "FROM pg_sleep(0.02) WHERE");
    let run = fixture.enqueue(&text).await;
    let shop = async {
        let mut conn = fixture.connect().await;
        let passed = "SELECT count(*) FROM t WHERE done";
        while sqlx::query_scalar::<_, i64>(passed)
            .fetch_one(&mut conn)
            .await
            .unwrap()
            < 50
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Behind the cursor and beyond the end: two by old code, two by new code.
        let rows = "INSERT INTO t (id, done, n) VALUES
            (-2995, false, 0), (1, false, 0), (-2996, true, 7), (2, true, 7)";
        sqlx::query(rows).execute(&mut conn).await.unwrap();
    };
    let (end, ()) = tokio::join!(fixture.drive(), shop);
    assert_eq!(end, End::Completed);
    let once = "SELECT count(*) FROM t WHERE done AND n = 1 AND changes = 1";
    assert_eq!(fixture.count(once).await, 302);
    let untouched = "SELECT count(*) FROM t WHERE n = 7 AND changes = 0";
    assert_eq!(fixture.count(untouched).await, 2);
    let run = fixture.find(&run).await;
    assert_eq!((run.rows_changed, run.sweep_pass), (302, 2));
}

#[tokio::test]
async fn a_bad_row_is_set_aside_alone_and_the_run_completes_once_it_is_mended() {
    let mut fixture = Fixture::with_rows(500).await;
    fixture
        .run("ALTER TABLE t ADD stock int NOT NULL DEFAULT 1")
        .await;
    fixture.run("UPDATE t SET stock = -1 WHERE id = 237").await;
    fixture
        .run("ALTER TABLE t ADD CONSTRAINT stock_kept CHECK (stock >= 0 OR NOT done)")
        .await;
    let (end, run) = fixture.migrate(&of_t()).await;
    assert_eq!((end, run.state), (End::Failed, State::Failed));
    let reason = run.error.clone().unwrap();
    assert!(reason.contains("quarantine"), "{reason}");
    let aside: Vec<(Vec<String>, Vec<String>, String, String)> =
        sqlx::query_as("SELECT lower_key, upper_key, sqlstate, error FROM evenkeel.quarantine")
            .fetch_all(&mut fixture.sql)
            .await
            .unwrap();
    let [(lower, upper, sqlstate, error)] = aside.as_slice() else {
        panic!("{aside:?}");
    };
    assert_eq!((lower[0].as_str(), upper[0].as_str()), ("236", "237"));
    assert_eq!(sqlstate, "23514");
    assert!(error.contains("stock_kept"), "{error}");
    let others = "SELECT count(*) FROM t WHERE changes = 1 AND n = 1 AND id <> 237";
    assert_eq!(fixture.count(others).await, 499);

    fixture.run("UPDATE t SET stock = 0 WHERE id = 237").await;
    fixture.command(&run, State::Queued).await;
    assert_eq!(fixture.drive().await, End::Completed);
    assert_eq!(
        fixture
            .count("SELECT count(*) FROM t WHERE changes = 1")
            .await,
        500
    );
    assert_eq!(fixture.quarantined().await, 0);
}

#[tokio::test]
async fn a_table_that_is_emptied_during_the_run_completes() {
    let mut fixture = Fixture::with_rows(100).await;
    let text = of_t().replace("WHERE", "FROM pg_sleep(0.02) WHERE");
    fixture.enqueue(&text).await;
    let (end, ()) = tokio::join!(fixture.drive(), async {
        let mut conn = fixture.connect().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        sqlx::query("TRUNCATE t").execute(&mut conn).await.unwrap();
    });
    assert_eq!(end, End::Completed);
}
