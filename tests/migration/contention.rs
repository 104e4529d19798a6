//! Other people's locks, and shoppers who suffer.

use std::time::{Duration, Instant};

use evenkeel::migration::runner::End;
use pool::Class;
use pressure::{Latencies, Outcome};
use sqlx::{AssertSqlSafe, Connection, Executor};
use tokio_util::sync::CancellationToken;

use super::fixture::{Fixture, PATIENCE, of_t};

/// Ranges that were ever set aside.
const SET_ASIDE: &str = "SELECT count(*) FROM evenkeel.quarantine";

/// Migrates `fixture` while somebody else holds what `lock` takes for `time`.
async fn migrate_beside(fixture: &mut Fixture, lock: &str, time: Duration) {
    let run = fixture.enqueue(&of_t()).await;
    let mut other = fixture.connect().await;
    let mut locked = other.begin().await.unwrap();
    locked
        .execute(AssertSqlSafe(lock.to_owned()))
        .await
        .unwrap();
    let (end, ()) = tokio::join!(fixture.drive(), async {
        tokio::time::sleep(time).await;
        locked.rollback().await.unwrap();
    });
    assert_eq!(end, End::Completed);
    assert_eq!(fixture.count(SET_ASIDE).await, 0);
    fixture.assert_exactly_once("t", &run).await;
}

#[tokio::test]
async fn a_row_that_somebody_holds_is_waited_for() {
    let mut fixture = Fixture::with_rows(200).await;
    let lock = "SELECT FROM t WHERE id = 87 FOR UPDATE";
    migrate_beside(&mut fixture, lock, Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_row_that_is_held_for_longer_is_set_aside_and_swept_up() {
    let mut fixture = Fixture::with_rows(200).await;
    fixture.engine.lock_timeout = Duration::from_millis(20);
    fixture.engine.tries = 2;
    let run = fixture.enqueue(&of_t()).await;
    let mut other = fixture.connect().await;
    let mut locked = other.begin().await.unwrap();
    locked
        .execute("SELECT FROM t WHERE id = 87 FOR UPDATE")
        .await
        .unwrap();
    let runner = fixture.runner();
    let taken = runner.take().await.unwrap().unwrap();
    let (end, ()) = tokio::join!(runner.drive(taken), async {
        fixture.wait_until(SET_ASIDE).await;
        locked.rollback().await.unwrap();
    });
    assert_eq!(end, End::Completed);
    let once = "SELECT count(*) FROM t WHERE n = 1 AND changes = 1";
    assert_eq!(fixture.count(once).await, 200);
    assert_eq!(fixture.quarantined().await, 0);
    assert_eq!(fixture.find(&run).await.rows_changed, 200);
}

#[tokio::test]
async fn why_a_batch_is_tried_again_is_said_while_it_is() {
    for code in ["40001", "57014", "55P03"] {
        let mut fixture = Fixture::with_rows(50).await;
        fixture.engine.tries = 10_000;
        fixture
            .run(&format!(
                "CREATE TABLE busy (code text); INSERT INTO busy VALUES ('{code}');
                 CREATE FUNCTION busy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                     IF EXISTS (SELECT FROM busy) THEN
                         RAISE EXCEPTION 'not now' USING ERRCODE = (SELECT code FROM busy);
                     END IF;
                     RETURN NEW; END $$;
                 CREATE TRIGGER busy BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION busy()"
            ))
            .await;
        let run = fixture.enqueue(&of_t()).await;
        let said = format!(
            "SELECT count(*) FROM evenkeel.runs, jsonb_array_elements(pace->'causes') AS cause
              WHERE cause->>'source' = 'retrying' AND cause->>'reason' LIKE '%not now (SQLSTATE {code})%'"
        );
        let mut other = Fixture::beside(&fixture).await;
        let (end, ()) = tokio::join!(fixture.drive(), async {
            other.wait_until(&said).await;
            other.run("DELETE FROM busy").await;
        });
        assert_eq!(end, End::Completed);
        assert_eq!(fixture.count(&said).await, 0, "{code}: it is over");
        fixture.assert_exactly_once("t", &run).await;
    }
}

#[tokio::test]
async fn a_lock_on_the_whole_table_sets_nothing_aside() {
    let mut fixture = Fixture::with_rows(200).await;
    fixture.engine.tries = 1;
    fixture.engine.lock_timeout = Duration::from_millis(20);
    let lock = "LOCK TABLE t IN ACCESS EXCLUSIVE MODE";
    migrate_beside(&mut fixture, lock, Duration::from_millis(1500)).await;
}

/// An UPDATE of columns that no foreign key can refer to takes `FOR NO KEY UPDATE`, which the shop's
/// check of a foreign key does not wait for.
#[tokio::test]
async fn rows_that_refer_to_a_batch_are_inserted_while_it_runs() {
    let mut fixture = Fixture::with_rows(40).await;
    fixture
        .run("CREATE TABLE child (t bigint NOT NULL REFERENCES t)")
        .await;
    let text = of_t().replace("WHERE", "FROM pg_sleep(0.1) WHERE");
    let run = fixture.enqueue(&text).await;
    let (end, inserted) = tokio::join!(fixture.drive(), async {
        let mut shop = fixture.connect().await;
        // For the whole of the migration, and at once: nobody waits for a lock.
        shop.execute("SET lock_timeout = '20ms'").await.unwrap();
        let mut inserted = 0_i64;
        let left = "SELECT count(*) FROM t WHERE NOT done";
        while sqlx::query_scalar::<_, i64>(left)
            .fetch_one(&mut shop)
            .await
            .unwrap()
            > 0
        {
            let child = "INSERT INTO child SELECT id FROM t";
            inserted += shop.execute(child).await.unwrap().rows_affected() as i64;
        }
        inserted
    });
    assert_eq!(end, End::Completed);
    assert!(inserted >= 40, "{inserted}");
    fixture.assert_exactly_once("t", &run).await;
}

#[tokio::test]
async fn a_critical_signal_leaves_no_backend_of_the_migration_and_loses_no_row() {
    let mut fixture = Fixture::with_rows(40).await;
    fixture.pace.adaptive = true;
    fixture
        .run("CREATE TABLE brake (seconds float8); INSERT INTO brake VALUES (1.9)")
        .await;
    let slow = "FROM (SELECT pg_sleep(max(seconds)) FROM brake) AS brake WHERE";
    let run = fixture.enqueue(&of_t().replace("WHERE", slow)).await;
    let latencies = Latencies::new(Instant::now());
    let runner = fixture.runner_with(Some(latencies.clone()), CancellationToken::new());
    let taken = runner.take().await.unwrap().unwrap();
    let drive = tokio::time::timeout(PATIENCE, runner.drive(taken));
    let (end, took) = tokio::join!(drive, async {
        let sleeping = "SELECT count(*) FROM pg_stat_activity
            WHERE application_name LIKE 'evenkeel migration m run % batch 1'
              AND datname = current_database() AND wait_event = 'PgSleep'";
        fixture.wait_until(sleeping).await;
        let stuck_at = Instant::now();
        let stuck: Vec<_> = (0..3)
            .map(|_| latencies.arrive(Class::Checkout, stuck_at))
            .collect();
        let at_work = "SELECT count(*) FROM pg_stat_activity
            WHERE application_name LIKE 'evenkeel migration %' AND datname = current_database()";
        fixture
            .wait_until(&format!("SELECT (1 - ({at_work}))::bigint"))
            .await;
        let took = stuck_at.elapsed();
        fixture.run("UPDATE brake SET seconds = 0").await;
        // For as long as they wait, nothing begins.
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert_eq!(
            fixture.count("SELECT count(*) FROM t WHERE done").await,
            0,
            "the batch was not cancelled"
        );
        for request in stuck {
            request.finish(Outcome::Ok, Instant::now());
        }
        took
    });
    // Critical once they have waited for 250 ms; no backend within a second of that. The batch
    // would have slept for 1900 ms.
    assert!(took < Duration::from_millis(1250), "{took:?}");
    assert_eq!(end.unwrap(), End::Completed);
    let first = "SELECT rows_seen FROM evenkeel.batches ORDER BY number LIMIT 1";
    let half = i64::from(fixture.engine.batch_first) / 2;
    assert_eq!(fixture.count(first).await, half);
    fixture.assert_exactly_once("t", &run).await;
}
