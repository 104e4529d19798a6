//! The numbers of a plan, and rows that a statement leaves pending.

use evenkeel::migration::definition::Definition;
use evenkeel::migration::plan::{Estimate, Plan, Source, plan};

use super::fixture::{Fixture, migration};

async fn plan_of(fixture: &mut Fixture, text: &str) -> Plan {
    let definition = Definition::parse("m", text).unwrap();
    let engine = fixture.engine.clone();
    plan(&mut fixture.sql, &definition, &engine).await.unwrap()
}

fn filling(column: &str) -> String {
    let header = format!("-- table: t\n-- pending: {column} IS NULL");
    let statement = format!("UPDATE t SET {column} = 1 WHERE :range");
    migration(&header, &statement)
}

#[tokio::test]
async fn pending_rows_are_those_that_the_samples_find_when_the_statistics_are_older_than_the_column()
 {
    let mut fixture = Fixture::new().await;
    fixture
        .run(
            "CREATE TABLE t (id bigint PRIMARY KEY) WITH (autovacuum_enabled = off);
             INSERT INTO t SELECT generate_series(1, 120000)",
        )
        .await;
    fixture.run("ANALYZE t").await;
    fixture
        .run(
            "ALTER TABLE t ADD COLUMN fresh int, ADD COLUMN half int;
             UPDATE t SET half = 1 WHERE id <= 60000",
        )
        .await;
    let plan = plan_of(&mut fixture, &filling("fresh")).await;
    let pending = plan.pending;
    assert_eq!(pending.from, Source::Sampled, "{pending:?}");
    assert!(
        pending.likely > 119_000 && pending.low > 80_000,
        "{pending:?}"
    );
    assert!(plan.stays_pending.is_none(), "{:?}", plan.stays_pending);
    // Every page is done or not: the spread says so.
    let plan = plan_of(&mut fixture, &filling("half")).await;
    let pending = plan.pending;
    assert!(
        pending.low <= 60_000 && pending.high >= 60_000 && pending.low > 30_000,
        "{pending:?}"
    );
    // The planner guesses at a function, half a per cent of the rows.
    let text = migration(
        "-- table: t\n-- pending: abs(coalesce(fresh, 0)) = 0",
        "UPDATE t SET fresh = 1 WHERE :range",
    );
    let pending = plan_of(&mut fixture, &text).await.pending;
    assert!(pending.likely > 119_000, "{pending:?}");
}

#[tokio::test]
async fn the_rows_of_a_table_that_grew_since_it_was_analysed_are_estimated_from_its_pages() {
    let mut fixture = Fixture::new().await;
    fixture
        .run(
            "CREATE TABLE t (id bigint PRIMARY KEY, done int) WITH (autovacuum_enabled = off);
             INSERT INTO t SELECT generate_series(1, 30000)",
        )
        .await;
    fixture.run("ANALYZE t").await;
    fixture
        .run(
            "INSERT INTO t SELECT generate_series(30001, 300000);
             DELETE FROM t WHERE id % 2 = 0 AND id > 30000",
        )
        .await;
    fixture
        .wait_until("SELECT count(*) FROM pg_stat_user_tables WHERE relname = 't' AND n_mod_since_analyze > 300000")
        .await;
    // Which pages are drawn is chance: one estimate in twenty may be beyond its bounds, hardly two of three.
    let mut estimates = Vec::new();
    for _ in 0..3 {
        let rows = plan_of(&mut fixture, &filling("done")).await.rows;
        assert_eq!(rows.from, Source::Sampled, "{rows:?}");
        assert!(
            rows.low < rows.likely && rows.likely < rows.high,
            "{rows:?}"
        );
        estimates.push(rows);
    }
    estimates.sort_by_key(|rows| rows.likely);
    assert!(
        (150_000..180_000).contains(&estimates[1].likely),
        "{estimates:?}"
    );
    let holds = |rows: &&Estimate| rows.low <= 165_000 && 165_000 <= rows.high;
    assert!(estimates.iter().filter(holds).count() >= 2, "{estimates:?}");
    fixture.run("ANALYZE t").await;
    let rows = plan_of(&mut fixture, &filling("done")).await.rows;
    assert_eq!(rows.from, Source::Planner, "{rows:?}");
    assert!((160_000..170_000).contains(&rows.likely), "{rows:?}");
}

#[tokio::test]
async fn a_plan_sees_rows_that_stay_pending() {
    let mut fixture = Fixture::new().await;
    fixture
        .run(
            "CREATE TABLE t (id bigint PRIMARY KEY, name text, n int NOT NULL DEFAULT 0);
             INSERT INTO t SELECT i, 'name ' || i FROM generate_series(1, 200) AS i;
             CREATE TABLE totals (id bigint, n int); CREATE TABLE seen (id bigint);
             ANALYZE t;
             CREATE FUNCTION take_back() RETURNS trigger LANGUAGE plpgsql
                 AS 'BEGIN NEW.n := OLD.n; RETURN NEW; END';
             CREATE FUNCTION veto() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        )
        .await;
    let update = |set: &str, pending: &str| {
        let header = format!("-- table: t\n-- pending: {pending}");
        migration(&header, &format!("UPDATE t SET {set} WHERE :range"))
    };
    let insert = |into: &str| {
        migration(
            "-- table: t\n-- pending: NOT EXISTS (SELECT FROM totals WHERE totals.id = t.id)",
            &format!("INSERT INTO {into} (id) SELECT t.id FROM t WHERE :range"),
        )
    };
    let delete = migration(
        "-- table: t\n-- pending: n = 0",
        "DELETE FROM t WHERE :range",
    );
    for (text, stays) in [
        (update("name = upper(name)", "name IS NOT NULL"), true),
        (update("n = n - 2000", "n <= 0"), true),
        (insert("seen"), true),
        (update("n = 1", "n = 0"), false),
        (
            update("n = CASE WHEN id % 2 = 0 THEN 1 ELSE 2 END", "n = 0"),
            false,
        ),
        // One row in two.
        (update("n = id % 2", "n = 0"), true),
        (insert("totals"), false),
        (delete, false),
        // Nothing is pending.
        (update("name = upper(name)", "name IS NULL"), false),
    ] {
        let plan = plan_of(&mut fixture, &text).await;
        assert_eq!(plan.stays_pending.is_some(), stays, "{text}\n{plan:?}");
        if let Some(said) = plan.stays_pending {
            assert!(said.rows > 0 && said.rows <= said.of, "{said:?}");
        }
    }
    for function in ["take_back", "veto"] {
        fixture
            .run(&format!(
                "CREATE OR REPLACE TRIGGER meddle BEFORE UPDATE ON t FOR EACH ROW
                     EXECUTE FUNCTION {function}()"
            ))
            .await;
        let plan = plan_of(&mut fixture, &update("n = 1", "n = 0")).await;
        assert!(plan.stays_pending.is_some(), "{function}: {plan:?}");
    }
}

#[tokio::test]
async fn a_table_of_one_row_is_tried_as_well() {
    let mut fixture = Fixture::new().await;
    fixture
        .run("CREATE TABLE t (id bigint PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1)")
        .await;
    let text = migration(
        "-- table: t\n-- pending: n > 0",
        "UPDATE t SET n = n + 1 WHERE :range",
    );
    let plan = plan_of(&mut fixture, &text).await;
    assert!(plan.stays_pending.is_some(), "{plan:?}");
}
