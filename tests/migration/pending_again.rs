//! Rows that become pending again by themselves, or that the statement cannot change: it is applied to
//! none of them a second time.

use std::time::Duration;

use evenkeel::migration::definition::Definition;
use evenkeel::migration::ledger::{self, State};
use evenkeel::migration::plan::{Plan, plan};
use evenkeel::migration::runner::End;
use sqlx::AssertSqlSafe;

use super::fixture::{Fixture, migration};

const DISCOUNT: &str = "UPDATE p SET price = price - 1000, priced_at = now() WHERE :range";

/// Products that were never discounted.
async fn products() -> Fixture {
    let mut fixture = Fixture::new().await;
    fixture
        .run(
            "CREATE TABLE p (id bigint PRIMARY KEY, price int NOT NULL DEFAULT 10000,
                             priced_at timestamptz NOT NULL DEFAULT '2020-01-01');
             CREATE TABLE effects (id bigint);
             INSERT INTO p SELECT generate_series(1, 2000)",
        )
        .await;
    fixture
}

fn of_p(pending: &str, statement: &str) -> String {
    migration(&format!("-- table: p\n-- pending: {pending}"), statement)
}

async fn planned(fixture: &mut Fixture, text: &str) -> Plan {
    let definition = Definition::parse("m", text).unwrap();
    let engine = fixture.engine.clone();
    plan(&mut fixture.sql, &definition, &engine).await.unwrap()
}

/// How often the most discounted product was discounted, and how many were at all.
async fn discounts(fixture: &mut Fixture) -> (i64, i64) {
    let sql =
        "SELECT max(10000 - price)::bigint / 1000, count(*) FILTER (WHERE price < 10000) FROM p";
    let row = sqlx::query_as(AssertSqlSafe(sql));
    row.fetch_one(&mut fixture.sql).await.unwrap()
}

#[tokio::test]
async fn a_condition_that_time_makes_true_again_is_applied_once() {
    for pending in [
        "priced_at < now()",
        "p.priced_at <= (SELECT transaction_timestamp()) - interval '1 microsecond'",
        "priced_at < current_timestamp AND price > 0",
        "a_moment_ago(priced_at)",
    ] {
        let mut fixture = products().await;
        fixture
            .run(
                "CREATE FUNCTION a_moment_ago(timestamptz) RETURNS boolean LANGUAGE sql STABLE
                     AS 'SELECT $1 < now()'",
            )
            .await;
        let reason = fixture.refusal(&of_p(pending, DISCOUNT)).await;
        assert!(reason.contains("true again by itself"), "{reason}");
        assert!(reason.contains("for example id "), "{reason}");
        assert_eq!(discounts(&mut fixture).await, (1, 2000), "{pending}");
        // Nor when it is resumed.
        let run = fixture.find_last().await;
        fixture.command(&run, State::Queued).await;
        assert_eq!(fixture.drive().await, End::Failed);
        let run = fixture.find(&run).await;
        assert!(run.error.unwrap().contains("true again by itself"));
        assert_eq!(discounts(&mut fixture).await, (1, 2000), "{pending}");
    }
}

#[tokio::test]
async fn a_range_that_is_tried_again_is_changed_once() {
    let mut fixture = products().await;
    fixture.engine.lock_timeout = Duration::from_millis(20);
    fixture.engine.tries = 2;
    fixture
        .run(
            "DELETE FROM p WHERE id > 500; ALTER TABLE p ADD CHECK (id <> 400 OR price = 10000);
             CREATE TABLE due AS SELECT timestamptz '2021-01-01' AS at;
             CREATE FUNCTION is_due(timestamptz) RETURNS boolean LANGUAGE sql STABLE
                 AS 'SELECT $1 < at FROM public.due'",
        )
        .await;
    // The one is set aside because it is locked and changed by the sweep; the other ends the run.
    let mut shopper = Fixture::beside(&fixture).await;
    shopper
        .run("BEGIN; SELECT FROM p WHERE id = 87 FOR UPDATE")
        .await;
    let run = fixture.enqueue(&of_p("is_due(priced_at)", DISCOUNT)).await;
    let (end, ()) = tokio::join!(fixture.drive(), async {
        let mut other = Fixture::beside(&shopper).await;
        other
            .wait_until("SELECT count(*) FROM evenkeel.quarantine")
            .await;
        shopper.run("COMMIT").await;
    });
    assert_eq!(end, End::Failed);
    assert_eq!(fixture.quarantined().await, 2);
    assert_eq!(discounts(&mut fixture).await, (1, 499));

    fixture.run("UPDATE due SET at = 'infinity'").await;
    ledger::retry(&mut fixture.sql, run.id, "tester")
        .await
        .unwrap();
    assert_eq!(fixture.drive().await, End::Failed);
    let reason = fixture.find(&run).await.error.unwrap();
    assert!(reason.contains("true again by itself"), "{reason}");
    assert_eq!(discounts(&mut fixture).await, (1, 499));
}

#[tokio::test]
async fn rows_that_go_beyond_the_end_of_the_walk_are_changed_once() {
    let mut fixture = products().await;
    let text = of_p(
        "price > 0",
        "UPDATE p SET id = id + 10000, price = price - 1000 WHERE :range",
    );
    let reason = fixture.refusal(&text).await;
    assert!(reason.contains("true again by itself"), "{reason}");
    assert_eq!(discounts(&mut fixture).await.0, 1);
}

#[tokio::test]
async fn rows_that_move_ahead_of_the_walk_are_changed_once() {
    let mut fixture = products().await;
    fixture
        .run("UPDATE p SET id = id + 100000 WHERE id > 1990")
        .await;
    let text = of_p(
        "price > 0",
        "UPDATE p SET id = id + 5000, price = price - 1000 WHERE :range",
    );
    let reason = fixture.refusal(&text).await;
    assert!(reason.contains("true again by itself"), "{reason}");
    assert_eq!(discounts(&mut fixture).await.0, 1);
}

#[tokio::test]
async fn a_schema_in_front_of_the_name_changes_nothing() {
    let mut fixture = products().await;
    let text = of_p(
        "priced_at < '2021-01-01'",
        "UPDATE public.p AS x SET price = x.price - 1000, priced_at = now()
           FROM (SELECT id FROM p WHERE :range) r WHERE x.id = r.id OR x.id % 10 = 3",
    );
    let reason = fixture.refusal(&text).await;
    assert!(reason.contains("not limited to its range"), "{reason}");
    assert_eq!(discounts(&mut fixture).await, (0, 0));
}

#[tokio::test]
async fn rows_that_a_join_reaches_are_outside_though_few() {
    let mut fixture = products().await;
    // Half of the range, and as many rows elsewhere.
    let text = of_p(
        "priced_at < '2021-01-01'",
        "UPDATE p SET price = p.price - 1000, priced_at = now()
           FROM (SELECT id FROM p WHERE :range AND id % 2 = 0) r
          WHERE p.id IN (r.id, 2001 - r.id)",
    );
    let reason = fixture.refusal(&text).await;
    assert!(reason.contains("not limited to its range"), "{reason}");
    assert_eq!(discounts(&mut fixture).await, (0, 0));
}

#[tokio::test]
async fn what_happens_at_commit_is_seen_before_it() {
    for timing in ["DEFERRABLE INITIALLY DEFERRED", "DEFERRABLE"] {
        let mut fixture = products().await;
        fixture
            .run(&format!(
                "CREATE FUNCTION back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                     UPDATE p SET priced_at = '2020-01-01' WHERE id = NEW.id AND priced_at > '2020-01-01';
                     RETURN NULL; END $$;
                 CREATE CONSTRAINT TRIGGER back AFTER UPDATE ON p {timing}
                     FOR EACH ROW EXECUTE FUNCTION back()"
            ))
            .await;
        let text = of_p("priced_at < '2021-01-01'", DISCOUNT);
        let plan = planned(&mut fixture, &text).await;
        assert!(plan.stays_pending.is_some(), "{timing}: {plan:?}");
        let reason = fixture.refusal(&text).await;
        assert!(reason.contains("10 of 10"), "{reason}");
        assert_eq!(discounts(&mut fixture).await, (0, 0), "{timing}");
    }
}

#[tokio::test]
async fn a_trigger_that_keeps_rows_from_being_changed_has_its_other_effects_once_at_most() {
    for (which, most) in [("true", 0), ("NEW.id % 10 = 0", 200)] {
        for event in ["UPDATE", "DELETE"] {
            let mut fixture = products().await;
            let which = if event == "DELETE" {
                which.replace("NEW", "OLD")
            } else {
                which.to_owned()
            };
            let row = if event == "DELETE" { "OLD" } else { "NEW" };
            fixture
                .run(&format!(
                    "CREATE FUNCTION veto() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                         IF {which} THEN INSERT INTO effects VALUES ({row}.id); RETURN NULL; END IF;
                         RETURN {row}; END $$;
                     CREATE TRIGGER veto BEFORE {event} ON p
                         FOR EACH ROW EXECUTE FUNCTION veto()"
                ))
                .await;
            let statement = match event {
                "DELETE" => "DELETE FROM p WHERE :range",
                _ => DISCOUNT,
            };
            let text = of_p("priced_at < '2021-01-01'", statement);
            let plan = planned(&mut fixture, &text).await;
            let said = plan.stays_pending.expect("rows stay").why;
            assert!(said.contains("a trigger or a rule"), "{said}");
            let changed: i64 = plan.samples.iter().map(|s| s.changed).sum();
            let pending: i64 = plan.samples.iter().map(|s| s.pending).sum();
            assert!(
                changed < pending && (most > 0) == (changed > 0),
                "{changed}"
            );
            let reason = fixture.refusal(&text).await;
            assert!(reason.contains("a trigger or a rule"), "{reason}");
            let effects = "SELECT count(*) FROM effects";
            assert_eq!(fixture.count(effects).await, most, "{event} {which}");
            let once = "SELECT count(DISTINCT id) FROM effects";
            assert_eq!(fixture.count(once).await, most);
        }
    }
}

#[tokio::test]
async fn rows_that_the_statement_leaves_out_by_itself_are_named_by_the_first_sweep() {
    for statement in [
        "UPDATE p SET price = 9000, priced_at = now() WHERE :range AND id % 10 > 0",
        "UPDATE p SET price = 9000, priced_at = now()
          WHERE id IN (SELECT id FROM p WHERE :range ORDER BY id LIMIT 3)",
    ] {
        let mut fixture = products().await;
        let text = of_p("priced_at < '2021-01-01'", statement);
        let plan = planned(&mut fixture, &text).await;
        let said = plan.stays_pending.expect("rows stay").why;
        assert!(said.contains("its own condition"), "{said}");
        let reason = fixture.refusal(&text).await;
        assert!(reason.contains("its own condition"), "{reason}");
        let passes = "SELECT max(sweep_pass)::bigint FROM evenkeel.runs";
        assert_eq!(fixture.count(passes).await, 1, "{statement}");
    }
}

#[tokio::test]
async fn rows_that_others_make_pending_meanwhile_are_changed_again() {
    let mut fixture = products().await;
    // Each product has a copy of its maker's name, which changes once while the run is under way.
    fixture
        .run(
            "CREATE TABLE makers (id int PRIMARY KEY, name text NOT NULL);
             INSERT INTO makers VALUES (1, 'old');
             ALTER TABLE p ADD maker text, ADD changes int NOT NULL DEFAULT 0;
             CREATE FUNCTION rename() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 UPDATE makers SET name = 'new'; RETURN NULL; END $$;
             CREATE TRIGGER rename AFTER UPDATE ON p FOR EACH ROW
                 WHEN (NEW.id = 150 AND NEW.maker = 'old') EXECUTE FUNCTION rename()",
        )
        .await;
    let text = of_p(
        "maker IS DISTINCT FROM (SELECT name FROM makers)",
        "UPDATE p SET maker = (SELECT name FROM makers), changes = changes + 1 WHERE :range",
    );
    let (end, run) = fixture.migrate(&text).await;
    assert_eq!(
        (end, run.state),
        (End::Completed, State::Completed),
        "{run:?}"
    );
    let stale = "SELECT count(*) FROM p WHERE maker <> 'new' OR changes > 2";
    assert_eq!(fixture.count(stale).await, 0);
}

#[tokio::test]
async fn a_statement_that_skips_what_is_locked_meets_it_in_the_next_sweep() {
    let mut fixture = products().await;
    let text = of_p(
        "priced_at < '2021-01-01'",
        "UPDATE p SET price = price - 1000, priced_at = now()
          WHERE id IN (SELECT id FROM p WHERE :range FOR UPDATE SKIP LOCKED)",
    );
    fixture.run("DELETE FROM p WHERE id > 100").await;
    let mut shopper = Fixture::beside(&fixture).await;
    shopper
        .run("BEGIN; SELECT FROM p WHERE id % 7 = 0 FOR UPDATE")
        .await;
    let reason = fixture.refusal(&text).await;
    assert!(reason.contains("sweep 5"), "{reason}");
    shopper.run("COMMIT").await;
    let run = fixture.find_last().await;
    fixture.command(&run, State::Queued).await;
    assert_eq!(fixture.drive().await, End::Completed);
    assert_eq!(discounts(&mut fixture).await, (1, 100));
}

#[tokio::test]
async fn a_row_that_several_others_are_joined_to_is_one_row() {
    let mut fixture = products().await;
    fixture
        .run(
            "CREATE TABLE tags (p bigint, tag text);
             INSERT INTO tags SELECT id, tag FROM p, unnest(ARRAY['a', 'b', 'c']) tag",
        )
        .await;
    let text = of_p(
        "priced_at < '2021-01-01'",
        "UPDATE p SET price = price - 1000, priced_at = now() FROM tags WHERE tags.p = p.id AND :range",
    );
    let plan = planned(&mut fixture, &text).await;
    assert!(plan.stays_pending.is_none(), "{:?}", plan.stays_pending);
    assert!(plan.samples.iter().all(|s| s.changed == s.rows), "{plan:?}");
    let (end, run) = fixture.migrate(&text).await;
    assert_eq!((end, run.rows_changed), (End::Completed, 2000), "{run:?}");
}

#[tokio::test]
async fn a_plan_says_what_makes_a_condition_no_proof() {
    let mut fixture = products().await;
    fixture
        .run(
            "CREATE FUNCTION dear(int) RETURNS boolean LANGUAGE sql STABLE
                 AS 'SELECT $1 > (SELECT avg(price) FROM p)'",
        )
        .await;
    for (pending, said) in [
        (
            "dear(price)",
            "function dear in the pending condition is not IMMUTABLE",
        ),
        ("price > 0 AND price <> NULL", "is true of no row"),
        ("false", "is true of no row"),
    ] {
        let plan = planned(&mut fixture, &of_p(pending, DISCOUNT)).await;
        let all = plan.obstacles.join("\n");
        assert!(all.contains(said), "{pending}: {all}");
    }
    let plan = planned(&mut fixture, &of_p("abs(price) = 0", DISCOUNT)).await;
    let all = plan.obstacles.join("\n");
    assert!(!all.contains("pending condition"), "{all}");
}

#[tokio::test]
async fn a_run_is_of_the_table_that_it_was_started_for() {
    let mut fixture = products().await;
    fixture
        .run(
            "CREATE SCHEMA shadow; CREATE TABLE shadow.p (LIKE p INCLUDING ALL);
             INSERT INTO shadow.p SELECT * FROM p; SET search_path = shadow, public",
        )
        .await;
    let text = of_p("priced_at < '2021-01-01'", DISCOUNT);
    let run = fixture.enqueue(&text).await;
    assert_eq!(fixture.drive().await, End::Failed);
    let reason = fixture.find(&run).await.error.unwrap();
    assert!(reason.contains("started for shadow.p"), "{reason}");
    assert!(reason.contains("`p` is public.p"), "{reason}");
    for table in ["p", "shadow.p"] {
        let changed = format!("SELECT count(*) FROM {table} WHERE price < 10000");
        assert_eq!(fixture.count(&changed).await, 0, "{table}");
    }
}

#[tokio::test]
async fn an_error_of_any_length_is_told_in_a_bounded_one() {
    let mut fixture = products().await;
    fixture
        .run(
            "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 RAISE EXCEPTION '%', repeat('no ', 1000000)
                       USING DETAIL = repeat('d', 1000000), HINT = repeat('h', 1000000); END $$;
             CREATE TRIGGER shout BEFORE UPDATE ON p FOR EACH ROW EXECUTE FUNCTION shout()",
        )
        .await;
    fixture.engine.quarantine_max = 3;
    let reason = fixture
        .refusal(&of_p("priced_at < '2021-01-01'", DISCOUNT))
        .await;
    assert!(
        reason.contains("no no no") && reason.contains("[…]"),
        "{reason}"
    );
    assert!(reason.len() < 10_000, "{}", reason.len());
    let longest = "SELECT max(length(error))::bigint FROM evenkeel.quarantine";
    assert!(fixture.count(longest).await < 10_000);
}
