//! Every run ends in a state with a reason, after a bounded number of tries.

use std::time::Duration;

use evenkeel::migration::ledger::{Run, State};
use evenkeel::migration::runner::End;

use super::fixture::{Fixture, PATIENCE, migration, of_t};

/// A table `t` with text keys, among them the SQL expressions `odd`.
async fn with_keys(encoding: &str, odd: &[&str]) -> Fixture {
    let mut fixture = Fixture::encoded(encoding).await;
    fixture
        .run(
            "CREATE TABLE t (id text PRIMARY KEY);
             INSERT INTO t SELECT 'k' || lpad(i::text, 4, '0') FROM generate_series(1, 120) AS i",
        )
        .await;
    for key in odd {
        fixture.run(&format!("INSERT INTO t VALUES ({key})")).await;
    }
    fixture.count_changes("t").await;
    fixture.engine.batch_first = 1;
    fixture.engine.batch_max = 1;
    fixture
}

/// Makes whatever happens to row `id` a matter of a trigger with this body.
async fn with_trigger(fixture: &mut Fixture, id: i64, body: &str) {
    fixture
        .run(&format!(
            "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$
                 BEGIN IF NEW.id = {id} THEN {body}; END IF; RETURN NEW; END $$;
             CREATE TRIGGER meddle BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION meddle()"
        ))
        .await;
}

/// Drives a slow run, does `change` to its table when it is under way, and returns the run's end.
async fn disturbed(fixture: &mut Fixture, change: &str) -> Run {
    fixture.engine.batch_max = 2;
    let slowly = "UPDATE t SET done = true, n = n + 1 FROM pg_sleep(0.01) WHERE :range";
    let run = fixture
        .enqueue(&migration("-- table: t\n-- pending: NOT done", slowly))
        .await;
    let runner = fixture.runner();
    let taken = runner.take().await.unwrap().unwrap();
    let drive = tokio::time::timeout(PATIENCE, runner.drive(taken));
    let (end, ()) = tokio::join!(drive, async {
        fixture
            .wait_until("SELECT count(*) FROM evenkeel.runs WHERE batches > 3")
            .await;
        fixture.run(change).await;
    });
    let run = fixture.find(&run).await;
    assert_eq!(
        (end.unwrap(), run.state),
        (End::Failed, State::Failed),
        "{change}"
    );
    run
}

#[tokio::test]
async fn a_key_that_is_no_utf_8_ends_the_run_with_its_place_and_what_to_do() {
    for (odd, place) in [
        (r"E'k0100\xe9clair'", "after id k0100"),
        (r"E'\xe9clair'", "at the end of the table"),
        (r"E'A\xff'", "in the first batch"),
    ] {
        let mut fixture = with_keys("SQL_ASCII", &[odd]).await;
        let reason = fixture.refusal(&of_t()).await;
        for said in [
            place,
            "invalid byte sequence",
            "UTF-8",
            "-- key:",
            "resume m",
        ] {
            assert!(reason.contains(said), "{said}: {reason}");
        }
        assert_eq!(fixture.quarantined().await, 0);
        assert_eq!(
            fixture.count("SELECT max(changes)::bigint FROM t").await,
            i64::from(place.contains("id k"))
        );
    }
}

#[tokio::test]
async fn text_of_any_encoding_that_can_be_told_is_walked_to_the_end() {
    for (encoding, odd) in [
        ("LATIN1", vec!["'éclair'", "'ÿ'"]),
        ("EUC_JP", vec!["'日本'", "'k0007ソ'"]),
        ("SQL_ASCII", vec!["'日本'", "'éclair'"]),
        ("UTF8", vec!["'日本'", "'éclair'", "'👍'"]),
    ] {
        let mut fixture = with_keys(encoding, &odd).await;
        let (end, run) = fixture.migrate(&of_t()).await;
        assert_eq!(end, End::Completed, "{encoding}: {run:?}");
        fixture.assert_exactly_once("t", &run).await;
    }
}

#[tokio::test]
async fn a_published_table_without_replica_identity_ends_the_run_at_once_with_the_servers_hint() {
    let mut fixture = Fixture::new().await;
    fixture
        .run(
            "CREATE TABLE t (id bigint NOT NULL UNIQUE); INSERT INTO t SELECT generate_series(1, 200);
             CREATE PUBLICATION everything FOR TABLE t",
        )
        .await;
    fixture.count_changes("t").await;
    let keyed = of_t().replace("-- pending", "-- key: id\n-- pending");
    let reason = fixture.refusal(&keyed).await;
    assert!(reason.contains("replica identity"), "{reason}");
    assert!(
        reason.contains("set REPLICA IDENTITY using ALTER TABLE"),
        "{reason}"
    );
    assert_eq!(fixture.quarantined().await, 0);
}

#[tokio::test]
async fn a_statement_that_ends_its_session_every_time_fails_the_run_with_its_place() {
    let mut fixture = Fixture::with_rows(60).await;
    fixture.engine.lease = Duration::from_millis(4001);
    with_trigger(
        &mut fixture,
        31,
        "PERFORM pg_terminate_backend(pg_backend_pid())",
    )
    .await;
    let run = fixture.enqueue(&of_t()).await;
    let runner = fixture.runner();
    let taken = runner.take().await.unwrap().unwrap();
    let drive = tokio::time::timeout(PATIENCE, runner.drive(taken));
    let (end, ()) = tokio::join!(drive, async {
        // Meanwhile it is driven, and says why it does not come on.
        fixture
            .wait_until(
                "SELECT count(*) FROM evenkeel.runs WHERE lease_until > clock_timestamp()
                    AND pace->'causes'->0->>'source' = 'retrying'",
            )
            .await;
    });
    let run = fixture.find(&run).await;
    assert_eq!((end.unwrap(), run.state), (End::Failed, State::Failed));
    let reason = run.error.unwrap();
    for said in [
        "tried 8 times",
        "in the batch after id ",
        "terminating connection",
        "resume m",
    ] {
        assert!(reason.contains(said), "{said}: {reason}");
    }
}

#[tokio::test]
async fn what_the_server_lacks_is_waited_for_and_said() {
    let mut fixture = Fixture::with_rows(60).await;
    fixture.run("CREATE TABLE full_disk ()").await;
    with_trigger(
        &mut fixture,
        31,
        "IF to_regclass('full_disk') IS NOT NULL THEN
             RAISE 'could not extend file' USING ERRCODE = '53100'; END IF",
    )
    .await;
    let run = fixture.enqueue(&of_t()).await;
    let runner = fixture.runner();
    let taken = runner.take().await.unwrap().unwrap();
    let drive = tokio::time::timeout(PATIENCE, runner.drive(taken));
    let (end, ()) = tokio::join!(drive, async {
        fixture
            .wait_until(
                "SELECT count(*) FROM evenkeel.runs
                  WHERE pace->'causes'->0->>'reason' LIKE '%could not extend file%'",
            )
            .await;
        fixture.run("DROP TABLE full_disk").await;
    });
    assert_eq!(end.unwrap(), End::Completed);
    fixture.assert_exactly_once("t", &run).await;
}

#[tokio::test]
async fn a_row_that_a_trigger_refuses_is_set_aside_and_ends_the_run_with_its_error() {
    for code in ["P0001", "SHOP1", "22021", "2F005", "XX000"] {
        let mut fixture = Fixture::with_rows(60).await;
        let raise = format!("RAISE 'not this one' USING ERRCODE = '{code}'");
        with_trigger(&mut fixture, 31, &raise).await;
        let reason = fixture.refusal(&of_t()).await;
        assert!(reason.contains("not this one"), "{code}: {reason}");
        assert_eq!(fixture.quarantined().await, 1, "{code}");
        let changed = "SELECT count(*) FROM t WHERE changes = 1";
        assert_eq!(fixture.count(changed).await, 59, "{code}");
    }
}

#[tokio::test]
async fn a_statement_that_always_takes_too_long_ends_the_run() {
    let mut fixture = Fixture::with_rows(20).await;
    fixture.engine.statement_timeout = Duration::from_millis(100);
    (fixture.engine.tries, fixture.engine.quarantine_max) = (2, 2);
    let text = of_t().replace("WHERE", "FROM pg_sleep(5) WHERE");
    let reason = fixture.refusal(&text).await;
    assert!(reason.contains("statement timeout"), "{reason}");
    assert_eq!(fixture.count("SELECT sum(changes) FROM t").await, 0);
}

#[tokio::test]
async fn a_table_that_changes_under_the_run_ends_it_with_what_is_missing() {
    for (change, said) in [
        ("DROP TABLE t", "\"t\" does not exist"),
        ("ALTER TABLE t RENAME TO u", "\"t\" does not exist"),
        ("ALTER TABLE t DROP COLUMN n CASCADE", "\"n\""),
        ("ALTER TABLE t DROP COLUMN done CASCADE", "done"),
        ("ALTER TABLE t RENAME COLUMN id TO number", "id"),
        (
            "ALTER SCHEMA public RENAME TO private",
            "\"t\" does not exist",
        ),
    ] {
        let mut fixture = Fixture::with_rows(400).await;
        let reason = disturbed(&mut fixture, change).await.error.unwrap();
        assert!(reason.contains(said), "{change}: {reason}");
        assert!(reason.contains("after id "), "{change}: {reason}");
    }
}

#[tokio::test]
async fn a_right_that_is_taken_away_under_the_run_ends_it() {
    let mut fixture = Fixture::with_rows(400).await;
    let role = format!("engine_{}", uuid::Uuid::new_v4().simple());
    fixture.as_role(&role).await;
    let reason = disturbed(&mut fixture, &format!("REVOKE UPDATE ON t FROM {role}")).await;
    let reason = reason.error.unwrap();
    assert!(reason.contains("permission denied for table t"), "{reason}");
}

#[tokio::test]
async fn a_pending_condition_that_cannot_be_asked_ends_the_run_in_its_sweep() {
    let mut fixture = Fixture::with_rows(60).await;
    let text = of_t().replace("NOT done", "NOT done OR 1 / (id - 31) > 5");
    fixture.engine.batch_max = 1;
    fixture.engine.batch_first = 1;
    let reason = fixture.refusal(&text).await;
    assert!(reason.contains("division by zero"), "{reason}");
    assert!(reason.contains("after id 30"), "{reason}");
}

#[tokio::test]
async fn an_address_for_authors_that_lets_nobody_in_ends_the_run() {
    let mut fixture = Fixture::with_rows(10).await;
    let nowhere = fixture.database.clone().database("no_such_database");
    fixture.send_authors_to(nowhere);
    let reason = fixture.refusal(&of_t()).await;
    assert!(reason.contains("no_such_database"), "{reason}");
}

#[tokio::test]
async fn a_pool_that_is_closed_ends_the_work_on_a_run() {
    let mut fixture = Fixture::with_rows(10).await;
    fixture.enqueue(&of_t()).await;
    let runner = fixture.runner();
    let taken = runner.take().await.unwrap().unwrap();
    fixture.pool.close().await;
    let end = tokio::time::timeout(PATIENCE, runner.drive(taken)).await;
    assert_eq!(end.unwrap(), End::ShutDown);
}

#[tokio::test]
async fn a_ledger_that_takes_no_entries_ends_the_run() {
    let mut fixture = Fixture::with_rows(60).await;
    fixture
        .run(
            "CREATE FUNCTION deaf() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
             CREATE TRIGGER deaf BEFORE UPDATE ON evenkeel.runs FOR EACH ROW
                 WHEN (NEW.cursor IS DISTINCT FROM OLD.cursor AND NEW.cursor[1]::int > 20)
                 EXECUTE FUNCTION deaf()",
        )
        .await;
    let reason = fixture.refusal(&of_t()).await;
    assert!(reason.contains("the ledger did not take it"), "{reason}");
    let beyond = "SELECT count(*) FROM t WHERE id > 20 AND changes > 0";
    assert_eq!(fixture.count(beyond).await, 0);
    // Nor does it take that a range is set aside.
    with_trigger(&mut fixture, 21, "RAISE 'not this one'").await;
    let reason = fixture.refusal(&of_t()).await;
    assert!(reason.contains("the ledger did not take it"), "{reason}");
}

#[tokio::test]
async fn a_ledger_that_does_not_take_that_a_step_begins_ends_the_run() {
    let mut fixture = Fixture::new().await;
    fixture
        .run(
            "CREATE FUNCTION deaf() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
             CREATE TRIGGER deaf BEFORE UPDATE OF step ON evenkeel.runs FOR EACH ROW
                 WHEN (NEW.step IS NOT NULL) EXECUTE FUNCTION deaf()",
        )
        .await;
    let text = "-- title: T\n-- owner: tests\n\n-- step: expand\nCREATE TABLE u ();\n";
    let reason = fixture.refusal(text).await;
    assert!(reason.contains("the ledger did not take it"), "{reason}");
}

#[tokio::test]
async fn a_schema_step_after_which_the_ledger_cannot_be_written_ends_the_run() {
    let mut fixture = Fixture::new().await;
    let step = |sql| format!("-- title: T\n-- owner: tests\n\n-- step: expand\n{sql};\n");
    let reason = fixture.refusal(&step("SET TRANSACTION READ ONLY")).await;
    for said in ["tried 8 times in the expand step", "read-only transaction"] {
        assert!(reason.contains(said), "{reason}");
    }
    let kill = step("SELECT pg_terminate_backend(pg_backend_pid())");
    let reason = fixture.refusal(&kill).await;
    for said in ["tried 8 times in the expand step", "terminating connection"] {
        assert!(reason.contains(said), "{reason}");
    }
}
