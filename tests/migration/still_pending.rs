//! A statement that leaves the rows pending that it has changed is stopped before anything is kept.

use evenkeel::migration::definition::Definition;
use evenkeel::migration::ledger::State;
use evenkeel::migration::lint::{self, rules};
use evenkeel::migration::runner::End;

use super::fixture::{Fixture, migration, of_t};

/// Products with a vendor and a price.
async fn products() -> Fixture {
    let mut fixture = Fixture::new().await;
    fixture
        .run(
            "CREATE TABLE p (id bigint PRIMARY KEY, vendor text, price int, at xid);
             INSERT INTO p SELECT i, 'acme', 10000 FROM generate_series(1, 2020) i",
        )
        .await;
    fixture
}

fn of_p(pending: &str, statement: &str) -> String {
    migration(&format!("-- table: p\n-- pending: {pending}"), statement)
}

const UNTOUCHED: &str = "SELECT count(*) FROM p WHERE vendor = 'acme' AND price = 10000";

#[tokio::test]
async fn a_condition_that_the_statement_leaves_true_changes_no_row() {
    let mut fixture = products().await;
    for (pending, statement, share) in [
        (
            "vendor IS NOT NULL",
            "UPDATE p SET vendor = upper(vendor) WHERE :range",
            "10 of 10",
        ),
        (
            "price > 0",
            "UPDATE p SET price = price - 2000 WHERE :range",
            "10 of 10",
        ),
        (
            "true",
            "UPDATE p SET price = price - 2000 WHERE :range AND id % 2 = 0",
            "5 of 5",
        ),
        // It stays true of some of them only.
        (
            "price > 5000",
            "UPDATE p SET price = price - id::int * 1000 WHERE :range",
            "4 of 10",
        ),
        (
            "price > 0",
            "WITH chosen AS (SELECT id FROM p WHERE :range) \
             UPDATE p SET price = price - 1 FROM chosen WHERE p.id = chosen.id",
            "10 of 10",
        ),
        (
            "price > 0",
            "INSERT INTO p SELECT id, vendor, price - 1 FROM p WHERE :range \
             ON CONFLICT (id) DO UPDATE SET price = excluded.price",
            "10 of 10",
        ),
    ] {
        let reason = fixture.refusal(&of_p(pending, statement)).await;
        assert!(reason.contains(&format!("`{pending}`")), "{reason}");
        assert!(reason.contains(share), "{share}: {reason}");
        assert!(reason.contains("for example id "), "{reason}");
        assert!(reason.contains("with every sweep"), "{reason}");
        assert_eq!(fixture.count(UNTOUCHED).await, 2020, "{statement}");
        let batches = "SELECT count(*) FROM evenkeel.batches";
        assert_eq!(fixture.count(batches).await, 0, "{statement}");
        assert_eq!(fixture.quarantined().await, 0, "{statement}");
    }
}

#[tokio::test]
async fn a_statement_that_changes_another_table_has_to_end_what_is_pending_as_well() {
    let mut fixture = products().await;
    fixture
        .run("CREATE TABLE copies (id bigint, n int DEFAULT 1)")
        .await;
    let copy = "INSERT INTO copies SELECT id FROM p WHERE :range";
    let reason = fixture.refusal(&of_p("price > 0", copy)).await;
    assert!(reason.contains("10 of 10"), "{reason}");
    assert_eq!(fixture.count("SELECT count(*) FROM copies").await, 0);
    let pending = "NOT EXISTS (SELECT FROM copies c WHERE c.id = p.id)";
    let (end, run) = fixture.migrate(&of_p(pending, copy)).await;
    assert_eq!((end, run.rows_changed), (End::Completed, 2020), "{run:?}");
    assert_eq!(fixture.count("SELECT count(*) FROM copies").await, 2020);
    // Some are not copied at all, which is no reason to copy the others again.
    fixture.run("TRUNCATE copies").await;
    let some = "INSERT INTO copies SELECT id FROM p WHERE :range AND id <> 2000";
    let reason = fixture.refusal(&of_p(pending, some)).await;
    assert!(reason.contains("leaves 1 of 1 pending rows"), "{reason}");
    assert_eq!(fixture.count("SELECT count(*) FROM copies").await, 2019);
}

#[tokio::test]
async fn rows_of_which_it_stays_true_further_on_are_changed_once_at_most() {
    let mut fixture = products().await;
    fixture
        .run("UPDATE p SET vendor = 'ACME' WHERE id > 1500")
        .await;
    // Upper-case already, so still pending after the same statement; they are met late.
    let text = of_p(
        "price = 10000 OR id > 1500",
        "UPDATE p SET price = price - 2000 WHERE :range",
    );
    let reason = fixture.refusal(&text).await;
    assert!(reason.contains("with every sweep"), "{reason}");
    assert_eq!(
        fixture
            .count("SELECT count(*) FROM p WHERE price = 8000")
            .await,
        2020
    );
}

#[tokio::test]
async fn a_trigger_that_sets_a_row_back_stops_the_first_batch() {
    // In a subtransaction of its own, too: an exception handler has one.
    for body in [
        "BEGIN NEW.done := false; RETURN NEW; END",
        "BEGIN BEGIN NEW.done := false; EXCEPTION WHEN division_by_zero THEN NULL; END; RETURN NEW; END",
    ] {
        let mut fixture = Fixture::with_rows(100).await;
        fixture
            .run(&format!(
                "CREATE FUNCTION reset() RETURNS trigger LANGUAGE plpgsql AS '{body}';
                 CREATE TRIGGER z_reset BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION reset()"
            ))
            .await;
        let reason = fixture.refusal(&of_t()).await;
        assert!(reason.contains("10 of 10"), "{reason}");
        assert_eq!(fixture.count("SELECT sum(changes) FROM t").await, 0);
    }
    let mut fixture = Fixture::with_rows(100).await;
    fixture
        .run(
            "CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 BEGIN UPDATE t SET done = false WHERE id = NEW.id;
                 EXCEPTION WHEN division_by_zero THEN NULL; END; RETURN NULL; END $$;
             CREATE TRIGGER again AFTER UPDATE ON t FOR EACH ROW WHEN (NEW.done)
                 EXECUTE FUNCTION again()",
        )
        .await;
    let reason = fixture.refusal(&of_t()).await;
    assert!(reason.contains("10 of 10"), "{reason}");
    assert_eq!(fixture.count("SELECT sum(changes) FROM t").await, 0);
}

#[tokio::test]
async fn a_row_that_moves_to_another_partition_is_found_there() {
    for (statement, fails) in [
        ("UPDATE t SET place = 2, n = n + 1 WHERE :range", true),
        (
            "UPDATE t SET place = 2, done = true, n = n + 1 WHERE :range",
            false,
        ),
    ] {
        let mut fixture = Fixture::new().await;
        fixture
            .run(
                "CREATE TABLE t (place int, id bigint UNIQUE, done boolean NOT NULL DEFAULT false,
                                 n int NOT NULL DEFAULT 0, PRIMARY KEY (id, place))
                     PARTITION BY LIST (place);"
                    .replace("id bigint UNIQUE", "id bigint")
                    .as_str(),
            )
            .await;
        fixture
            .run(
                "CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1);
                 CREATE TABLE t2 PARTITION OF t FOR VALUES IN (2);
                 INSERT INTO t SELECT 1, generate_series(1, 50)",
            )
            .await;
        let (end, run) = fixture
            .migrate(&migration("-- table: t\n-- pending: NOT done", statement))
            .await;
        if fails {
            assert_eq!(end, End::Failed, "{run:?}");
            assert!(run.error.unwrap().contains("rows are pending all the same"));
            assert_eq!(
                fixture.count("SELECT count(*) FROM t1 WHERE n = 0").await,
                50
            );
        } else {
            assert_eq!(
                (end, run.state),
                (End::Completed, State::Completed),
                "{run:?}"
            );
            assert_eq!(
                fixture.count("SELECT count(*) FROM t2 WHERE n = 1").await,
                50
            );
        }
    }
}

#[tokio::test]
async fn a_row_that_goes_is_not_pending() {
    let mut fixture = products().await;
    let (end, run) = fixture
        .migrate(&of_p("price = 10000", "DELETE FROM p WHERE :range"))
        .await;
    assert_eq!((end, run.rows_changed), (End::Completed, 2020), "{run:?}");
    assert_eq!(fixture.count("SELECT count(*) FROM p").await, 0);
}

#[tokio::test]
async fn a_statement_that_reaches_beyond_its_range_is_refused_or_stopped_before_a_row_is_changed_twice()
 {
    let mut fixture = Fixture::with_rows(100).await;
    for condition in [":range OR t.id = 4", "(:range) IS NOT NULL"] {
        let statement = format!("UPDATE t SET done = true, n = n + 1 WHERE {condition}");
        let text = migration("-- table: t\n-- pending: NOT done", &statement);
        let definition = Definition::parse("m", &text).unwrap();
        let findings = lint::definition(&definition);
        assert_eq!(findings[0].rule, rules::RANGE_LIMITS_NOTHING, "{condition}");
        // As if it had been queued by a version that did not look.
        let (end, run) = fixture.migrate(&text).await;
        assert_eq!((end, run.state), (End::Failed, State::Failed), "{run:?}");
        let error = run.error.unwrap();
        assert!(error.contains("not limited to its range"), "{error}");
        let twice = "SELECT count(*) FROM t WHERE n > 1";
        assert_eq!(fixture.count(twice).await, 0, "{condition}");
        fixture.run("UPDATE t SET done = false, n = 0").await;
    }
    let statement = "UPDATE t SET done = true WHERE ((:range) AND (t.n = 0))";
    let text = migration("-- table: t\n-- pending: NOT done", statement);
    let definition = Definition::parse("m", &text).unwrap();
    assert_eq!(lint::definition(&definition), []);
}
