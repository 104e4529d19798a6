//! What cannot work fails with a reason that says what to do.

use super::fixture::{Fixture, UPDATE, migration, of_t};

fn keyed(key: &str) -> String {
    let header = format!("-- table: t\n-- key: {key}\n-- pending: NOT done");
    migration(&header, UPDATE)
}

#[tokio::test]
async fn a_table_that_is_not_there_is_named() {
    let mut fixture = Fixture::new().await;
    let reason = fixture.refusal(&of_t()).await;
    assert!(reason.contains("there is no table `t`"), "{reason}");
    let malformed = of_t().replace("table: t", "table: a.b.c.d.e");
    let reason = fixture.refusal(&malformed).await;
    assert!(reason.contains("a.b.c.d.e"), "{reason}");
}

#[tokio::test]
async fn an_upsert_without_an_index_is_told_what_it_takes() {
    let mut fixture = Fixture::with_rows(10).await;
    fixture.run("CREATE TABLE seen (id bigint)").await;
    let reason = fixture
        .refusal(&migration(
            "-- table: t\n-- pending: NOT EXISTS (SELECT FROM seen WHERE seen.id = t.id)",
            "INSERT INTO seen SELECT id FROM t WHERE :range ON CONFLICT (id) DO NOTHING",
        ))
        .await;
    for part in ["42P10", "hint: it takes a unique index on exactly"] {
        assert!(reason.contains(part), "{part}: {reason}");
    }
}

#[tokio::test]
async fn a_table_without_a_primary_key_needs_a_declared_one() {
    let mut fixture = Fixture::new().await;
    fixture.run("CREATE TABLE t (id bigint UNIQUE)").await;
    fixture.count_changes("t").await;
    let reason = fixture.refusal(&of_t()).await;
    assert!(reason.contains("no primary key"), "{reason}");
    assert!(reason.contains("`-- key: …`"), "{reason}");
    fixture
        .run("ALTER TABLE t ALTER id SET NOT NULL, ADD sku text NOT NULL UNIQUE")
        .await;
    let reason = fixture.refusal(&of_t()).await;
    assert!(
        reason.contains("there is `-- key: id`, `-- key: sku`"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_declared_key_needs_an_index_that_reaches_every_row_once() {
    let mut fixture = Fixture::with_rows(10).await;
    fixture
        .run(
            "ALTER TABLE t ADD plain bigint NOT NULL DEFAULT 0, ADD nullable bigint UNIQUE,
                 ADD part bigint NOT NULL DEFAULT 0, ADD expr bigint NOT NULL DEFAULT 0,
                 ADD late bigint NOT NULL DEFAULT 0,
                 ADD a bigint NOT NULL DEFAULT 0, ADD b bigint NOT NULL DEFAULT 0;
             UPDATE t SET part = id, expr = id, late = id, a = id, b = id;
             CREATE INDEX ON t (plain);
             CREATE UNIQUE INDEX ON t (part) WHERE part > 5;
             CREATE UNIQUE INDEX ON t ((expr + 1));
             ALTER TABLE t ADD UNIQUE (late) DEFERRABLE INITIALLY DEFERRED;
             CREATE UNIQUE INDEX ON t (a, b)",
        )
        .await;
    for (key, why) in [
        ("plain", "is not unique"),
        ("nullable", "allows NULL in nullable"),
        ("part", "declare `-- where: (part > 5)`"),
        ("expr", ""),
        ("late", "is deferrable"),
        ("a", ""),
        ("b, a", ""),
        ("nothing", ""),
    ] {
        let reason = fixture.refusal(&keyed(key)).await;
        assert!(
            reason.contains(&format!("no valid unique index on ({key})")),
            "{reason}"
        );
        assert!(reason.contains(why), "{reason}");
        assert!(reason.contains("CREATE UNIQUE INDEX"), "{reason}");
        assert!(reason.contains("`-- key: a, b`"), "{reason}");
    }
}

#[tokio::test]
async fn a_partial_index_needs_a_declaration_that_the_other_rows_do_not_count() {
    let mut fixture = Fixture::with_rows(10).await;
    fixture
        .run(
            "ALTER TABLE t ADD code bigint NOT NULL DEFAULT 0;
             UPDATE t SET code = id;
             CREATE UNIQUE INDEX part ON t (code) WHERE code > 5",
        )
        .await;
    for wider in ["code > 4", "code >= 5 OR done", "true"] {
        let text = keyed("code").replace("-- pending", &format!("-- where: {wider}\n-- pending"));
        let reason = fixture.refusal(&text).await;
        let wanted = format!("cannot tell whether they include all where {wider}");
        assert!(reason.contains(&wanted), "{reason}");
    }
}

#[tokio::test]
async fn what_is_no_table_of_its_own_is_refused() {
    let mut fixture = Fixture::with_rows(10).await;
    fixture
        .run(
            r#"CREATE VIEW v AS SELECT * FROM t;
               CREATE TABLE parent (id bigint PRIMARY KEY);
               CREATE TABLE child () INHERITS (parent);
               CREATE TABLE "Invoice" (id bigint PRIMARY KEY)"#,
        )
        .await;
    for (table, why) in [
        ("v", "`v` is no table"),
        ("parent", "tables that inherit from it"),
        ("receipt", "there is no table `receipt` in this database"),
        ("Invoice", r#"there is `public."Invoice"`"#),
    ] {
        let text = of_t().replace("-- table: t", &format!("-- table: {table}"));
        let reason = fixture.refusal(&text).await;
        assert!(reason.contains(why), "{reason}");
    }
}

#[tokio::test]
async fn sql_that_the_database_refuses_fails_the_run_and_sets_nothing_aside() {
    let mut fixture = Fixture::with_rows(1000).await;
    let cases = [
        (of_t().replace("n = n + 1", "m = 1"), "\"m\""),
        (of_t().replace("SET done", "SETT done"), "syntax error"),
        (of_t().replace("NOT done", "NOT finished"), "finished"),
        (of_t().replace("n + 1", "now()"), "\"n\" is of type"),
        (of_t().replace("UPDATE t", "UPDATE u"), "\"u\""),
    ];
    for (text, said) in cases {
        let reason = fixture.refusal(&text).await;
        assert!(reason.contains(said), "{reason}");
        assert_eq!(fixture.quarantined().await, 0, "{text}");
    }
    assert_eq!(fixture.count("SELECT sum(changes) FROM t").await, 0);
}

#[tokio::test]
async fn a_definition_that_cannot_be_read_fails_its_run() {
    let mut fixture = Fixture::new().await;
    let reason = fixture.refusal("UPDATE t SET x = 1 WHERE :range").await;
    assert!(reason.contains("the header lacks"), "{reason}");
}

#[tokio::test]
async fn a_run_whose_rows_stay_pending_fails_in_its_first_sweep() {
    let mut fixture = Fixture::with_rows(100).await;
    let partial = of_t().replace("WHERE :range", "WHERE :range AND id <> 50");
    let reason = fixture.refusal(&partial).await;
    assert!(reason.contains("leaves 1 of 1 pending rows"), "{reason}");
    assert!(reason.contains("`NOT done`"), "{reason}");
    let once = "SELECT count(*) FROM t WHERE changes = 1";
    assert_eq!(fixture.count(once).await, 99);
}

#[tokio::test]
async fn a_statement_that_fails_everywhere_does_not_set_every_row_aside() {
    let mut fixture = Fixture::with_rows(1000).await;
    fixture.engine.quarantine_max = 5;
    let broken = of_t().replace("n + 1", "n / 0");
    let reason = fixture.refusal(&broken).await;
    assert!(reason.contains("division by zero"), "{reason}");
    assert_eq!(fixture.quarantined().await, 6);
}
