//! What a completed run certifies, and whether that is still so.

use std::time::Duration;

use evenkeel::migration::certificate::{self, Certificate};
use evenkeel::migration::definition::Definition;
use evenkeel::migration::keyset::Keyset;
use evenkeel::migration::ledger::{self, State};
use evenkeel::migration::runner::End;
use evenkeel::migration::sweep::{Verification, verify};
use sqlx::{Connection, Executor};

use super::fixture::{Fixture, migration, of_t};

/// What `fixture`'s newest certificate says of the rows that are now in `at`'s database.
async fn verify_at(fixture: &mut Fixture, at: &Fixture) -> (Verification, Certificate) {
    let proof = certificate::latest(&mut fixture.sql, "m").await.unwrap();
    let proof = proof.unwrap();
    let definition = proof.declared().unwrap();
    let keyset = Keyset::resolve(&mut fixture.sql, &definition)
        .await
        .unwrap();
    let found = verify(&at.pool, &at.engine, &definition, &keyset, Some(&proof)).await;
    (found.unwrap(), proof)
}

async fn verify_here(fixture: &mut Fixture) -> (Verification, Certificate) {
    let here = Fixture::beside(fixture).await;
    verify_at(fixture, &here).await
}

#[tokio::test]
async fn what_is_in_the_way_for_a_moment_ends_no_verification() {
    let mut fixture = Fixture::with_rows(3000).await;
    fixture.engine.statement_timeout = Duration::from_millis(100);
    let definition = Definition::parse("m", &of_t()).unwrap();
    let keyset = Keyset::resolve(&mut fixture.sql, &definition).await;
    let keyset = keyset.unwrap();
    let mut other = fixture.connect().await;
    let mut locked = other.begin().await.unwrap();
    let lock = "LOCK TABLE t IN ACCESS EXCLUSIVE MODE";
    locked.execute(lock).await.unwrap();
    let (found, ()) = tokio::join!(
        verify(&fixture.pool, &fixture.engine, &definition, &keyset, None),
        async {
            // Longer than a statement may take.
            tokio::time::sleep(Duration::from_millis(350)).await;
            locked.rollback().await.unwrap();
        }
    );
    assert_eq!(found.unwrap().rows, 3000);
}

#[tokio::test]
async fn a_condition_that_takes_long_is_verified_with_fewer_rows_at_a_time() {
    let mut fixture = Fixture::with_rows(1000).await;
    fixture.engine.statement_timeout = Duration::from_millis(200);
    fixture
        .run("CREATE FUNCTION slowly(int) RETURNS boolean LANGUAGE sql AS 'SELECT true FROM pg_sleep(0.001)'")
        .await;
    let text = of_t().replace("-- pending: NOT done", "-- pending: NOT done AND slowly(n)");
    assert_ne!(text, of_t());
    let definition = Definition::parse("m", &text).unwrap();
    let keyset = Keyset::resolve(&mut fixture.sql, &definition).await;
    let keyset = keyset.unwrap();
    let found = verify(&fixture.pool, &fixture.engine, &definition, &keyset, None);
    let found = found.await.unwrap();
    assert_eq!((found.rows, found.pending), (1000, 1000));
}

#[tokio::test]
async fn a_certificate_tells_what_was_done_retried_and_set_aside() {
    let mut fixture = Fixture::with_rows(3000).await;
    fixture.engine.lock_timeout = Duration::from_millis(20);
    fixture
        .run("ALTER TABLE t ADD stock int NOT NULL DEFAULT 1")
        .await;
    fixture.run("UPDATE t SET stock = -1 WHERE id = 1237").await;
    fixture
        .run("ALTER TABLE t ADD CONSTRAINT stock_kept CHECK (stock >= 0 OR NOT done)")
        .await;
    // A row that is held for a while is retried; the bad one is set aside.
    let run = fixture.enqueue(&of_t()).await;
    let mut other = fixture.connect().await;
    let mut locked = other.begin().await.unwrap();
    locked
        .execute("SELECT FROM t WHERE id = 87 FOR UPDATE")
        .await
        .unwrap();
    let (end, ()) = tokio::join!(fixture.drive(), async {
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted
                      AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())";
        while sqlx::query_scalar::<_, i64>(waits)
            .fetch_one(&mut *locked)
            .await
            .unwrap()
            == 0
        {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        // Longer than a lock is waited for.
        tokio::time::sleep(Duration::from_millis(100)).await;
        locked.rollback().await.unwrap();
    });
    assert_eq!(end, End::Failed);
    let none = certificate::of_run(&mut fixture.sql, run.id).await.unwrap();
    assert!(none.is_none(), "a failed run certifies nothing");

    fixture.run("UPDATE t SET stock = 0 WHERE id = 1237").await;
    ledger::retry(&mut fixture.sql, run.id, "tester")
        .await
        .unwrap();
    assert_eq!(fixture.drive().await, End::Completed);
    let proof = certificate::of_run(&mut fixture.sql, run.id).await.unwrap();
    let proof = proof.unwrap();
    assert_eq!(proof.started_by, "tester");
    assert_eq!(proof.columns, ["done", "n"]);
    assert_eq!((proof.sweep.rows, proof.sweep.pending), (3000, 0));
    assert_eq!(proof.ledger.rows_changed, 3000);
    assert_eq!(proof.holders.len(), 2);
    assert!(proof.time_spent["working"].as_f64().unwrap() > 0.0);
    assert!(proof.time_spent["retrying"].as_f64().unwrap() > 0.0);

    // The ranges cover the table without gap or overlap.
    assert!(
        (10..=100).contains(&proof.ranges.len()),
        "{}",
        proof.ranges.len()
    );
    let rows: i64 = proof.ranges.iter().map(|range| range.rows).sum();
    let changed: i64 = proof.ranges.iter().map(|range| range.rows_changed).sum();
    assert_eq!((rows, changed), (3000, 3000));
    let mut before = None;
    for range in &proof.ranges {
        assert_eq!(range.lower, before);
        before = Some(range.upper.clone());
    }
    assert_eq!(before.unwrap(), ["3000"]);
    let sum: i128 = proof
        .ranges
        .iter()
        .map(|r| r.checksum.as_ref().unwrap().parse::<i128>().unwrap())
        .sum();
    assert_eq!(proof.checksum.as_deref(), Some(sum.to_string().as_str()));

    // What was retried, and what was set aside.
    assert!(proof.tries.failed > 0);
    let locked_out = proof.tries.batches.iter();
    let codes: Vec<_> = locked_out.map(|b| b.sqlstate.clone().unwrap()).collect();
    assert!(codes.iter().any(|code| code == "55P03"), "{codes:?}");
    let [aside] = proof.set_aside.as_slice() else {
        panic!("{:?}", proof.set_aside);
    };
    assert_eq!(aside.upper, ["1237"]);
    assert_eq!(aside.sqlstate.as_deref(), Some("23514"));
    assert!(aside.resolved_at.is_some());
}

#[tokio::test]
async fn a_changed_row_is_told_by_its_range_and_a_pending_one_is_a_failure() {
    let mut fixture = Fixture::with_rows(1000).await;
    let (end, _) = fixture.migrate(&of_t()).await;
    assert_eq!(end, End::Completed);
    let (found, proof) = verify_here(&mut fixture).await;
    assert_eq!((found.rows, found.pending, found.arrived), (1000, 0, 0));
    assert_eq!(found.compared, proof.ranges.len());
    assert!(found.changed_since.is_empty(), "{found:?}");

    // A column that the certificate does not cover is nobody's business.
    fixture.run("UPDATE t SET changes = 9 WHERE id = 777").await;
    let (found, _) = verify_here(&mut fixture).await;
    assert!(found.changed_since.is_empty(), "{found:?}");

    // One that it covers is told, by range; so is a row that went, and one that came.
    fixture.run("UPDATE t SET n = 7 WHERE id = 500").await;
    fixture.run("DELETE FROM t WHERE id = 3").await;
    fixture
        .run("INSERT INTO t (id, done) VALUES (5000, true)")
        .await;
    let (found, _) = verify_here(&mut fixture).await;
    let [gone, changed] = found.changed_since.as_slice() else {
        panic!("{:?}", found.changed_since);
    };
    assert_eq!(gone.rows_now, gone.rows_then - 1);
    let bound = |key: &Option<Vec<String>>| key.as_ref().unwrap()[0].parse::<i64>().unwrap();
    let within = bound(&changed.lower)..=bound(&Some(changed.upper.clone()));
    assert!(within.contains(&500) && *within.end() < 600, "{within:?}");
    assert_eq!((found.pending, found.arrived), (0, 1));
    assert!(found.is_complete());

    fixture
        .run("UPDATE t SET done = false WHERE id = 900")
        .await;
    let (found, _) = verify_here(&mut fixture).await;
    assert!(!found.is_complete());
    let first: i64 = found.first_range.unwrap()[0].parse().unwrap();
    assert!(first >= 900, "{first}");
}

#[tokio::test]
async fn a_replica_is_verified_by_the_same_certificate_and_its_conflicts_are_waited_out() {
    let mut fixture = Fixture::with_rows(1000).await;
    // A predicate that fails as a replica does whose recovery needs the rows.
    let flaky = "CREATE TABLE recovery (conflicts boolean);
         INSERT INTO recovery VALUES (false);
         CREATE FUNCTION read_again() RETURNS boolean LANGUAGE plpgsql STABLE AS $$
         BEGIN
             IF (SELECT conflicts FROM recovery) THEN
                 RAISE EXCEPTION 'canceling statement due to conflict with recovery'
                     USING ERRCODE = '40001';
             END IF;
             RETURN true;
         END $$";
    fixture.run(flaky).await;
    let header = "-- table: t\n-- pending: NOT done AND read_again()";
    let text = migration(header, super::fixture::UPDATE);
    assert_eq!(fixture.migrate(&text).await.0, End::Completed);

    let mut replica = Fixture::with_rows(1000).await;
    replica.run(flaky).await;
    replica.run("UPDATE t SET done = true, n = 1").await;
    replica.run("UPDATE recovery SET conflicts = true").await;
    let mut replicas_sql = replica.connect().await;
    let ((found, proof), ()) = tokio::join!(verify_at(&mut fixture, &replica), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        replicas_sql
            .execute("UPDATE recovery SET conflicts = false")
            .await
            .unwrap();
    });
    assert_eq!((found.pending, found.compared), (0, proof.ranges.len()));
    assert!(found.changed_since.is_empty(), "{found:?}");
    replica.run("UPDATE t SET n = 2 WHERE id = 1000").await;
    let (found, proof) = verify_at(&mut fixture, &replica).await;
    let [behind] = found.changed_since.as_slice() else {
        panic!("{:?}", found.changed_since);
    };
    assert_eq!(behind.upper, proof.ranges.last().unwrap().upper);
    let ledger = "SELECT count(*) FROM evenkeel.runs";
    assert_eq!(replica.count(ledger).await, 0, "nothing is written there");
}

#[tokio::test]
async fn ranges_follow_the_keys_own_order_whatever_its_type() {
    let mut fixture = Fixture::new().await;
    fixture
        .run("CREATE TABLE t (shop text COLLATE \"C\", id bigint, PRIMARY KEY (shop, id))")
        .await;
    fixture.count_changes("t").await;
    fixture
        .run(
            "INSERT INTO t SELECT CASE i % 3 WHEN 0 THEN 'a' WHEN 1 THEN 'B' ELSE 'c' END, i
               FROM generate_series(-500, 499) AS i",
        )
        .await;
    let (end, run) = fixture.migrate(&of_t()).await;
    assert_eq!((end, run.state), (End::Completed, State::Completed));
    let proof = certificate::of_run(&mut fixture.sql, run.id).await.unwrap();
    let proof = proof.unwrap();
    assert!(proof.ranges.iter().all(|range| range.rows > 0));
    let changed: i64 = proof.ranges.iter().map(|range| range.rows_changed).sum();
    assert_eq!(changed, 1000);
    let off = proof
        .ranges
        .iter()
        .map(|r| (r.rows_changed - r.rows).abs())
        .max();
    assert!(off.unwrap() <= 100, "{off:?}: more than two batches' worth");
}

#[tokio::test]
async fn an_empty_table_is_certified_too() {
    let mut fixture = Fixture::with_rows(0).await;
    let (end, run) = fixture.migrate(&of_t()).await;
    assert_eq!(end, End::Completed);
    let proof = certificate::of_run(&mut fixture.sql, run.id).await.unwrap();
    let proof = proof.unwrap();
    assert_eq!((proof.sweep.rows, proof.ranges.len()), (0, 0));
    assert_eq!(proof.checksum.as_deref(), Some("0"));
}

#[tokio::test]
async fn columns_that_do_not_exist_are_refused_before_the_start() {
    let mut fixture = Fixture::with_rows(1).await;
    let text = of_t().replace("-- pending", "-- checksum: done, nothing\n-- pending");
    let definition = Definition::parse("m", &text).unwrap();
    let refused = evenkeel::migration::control::start(&mut fixture.sql, &definition, "tester");
    let refused = refused.await.unwrap_err().to_string();
    assert!(
        refused.contains("nothing") && refused.contains("-- checksum"),
        "{refused}"
    );
}
