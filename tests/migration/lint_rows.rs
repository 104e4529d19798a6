//! What the lint says of rows that triggers and rules act on, of live tables that are read as a whole, and of what
//! is alone in its transaction.

use evenkeel::migration::lint::{Kind, rules};

use super::lint_cases::{KINDS, assert_always, assert_schema, rules_of};

#[test]
fn what_ends_with_its_own_transaction_is_named_where_it_has_no_other() {
    let alter = "ALTER TABLE orders ADD COLUMN a int";
    for sql in [
        "SET LOCAL lock_timeout = '1s'",
        "SELECT set_config('lock_timeout', '1s', true)",
        "SET LOCAL ROLE clerk",
        "SET LOCAL SESSION AUTHORIZATION clerk",
        "SET LOCAL search_path = archive",
        "SET TRANSACTION READ ONLY",
        "SET CONSTRAINTS ALL DEFERRED",
        "LOCK TABLE orders IN ACCESS SHARE MODE",
        "SAVEPOINT a",
        "RELEASE SAVEPOINT a",
        "DECLARE c CURSOR FOR SELECT 1",
        "CREATE TEMP TABLE t (id int) ON COMMIT DROP",
        "SELECT pg_try_advisory_xact_lock(1)",
    ] {
        let both = format!("{sql};\n{alter}");
        for kind in [Kind::Expand, Kind::Contract, Kind::Raw] {
            let found = rules_of(kind, &both);
            assert!(
                found.contains(&rules::NEEDS_TRANSACTION),
                "{kind:?}: {sql}: {found:?}"
            );
        }
        for begun in [
            format!("BEGIN; {both}; COMMIT"),
            format!("BEGIN; COMMIT AND CHAIN; {both}; COMMIT"),
        ] {
            let found = rules_of(Kind::Raw, &begun);
            assert!(!found.contains(&rules::NEEDS_TRANSACTION), "{begun}");
        }
        let found = rules_of(Kind::Raw, &format!("BEGIN; COMMIT; {both}"));
        assert!(found.contains(&rules::NEEDS_TRANSACTION), "{sql}");
        assert!(
            !rules_of(Kind::Schema, &both).contains(&rules::NEEDS_TRANSACTION),
            "{sql}"
        );
    }
}

#[test]
fn what_a_trigger_or_rule_acts_on_is_named_on_live_tables_and_when_it_does() {
    let trigger = "CREATE TRIGGER a BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()";
    let rule = "CREATE RULE r AS ON INSERT TO t DO ALSO DELETE FROM orders";
    for acts in [trigger, rule] {
        assert_always(acts, rules::LIVE_TRIGGER_OR_RULE);
        for (then, expected) in [
            ("INSERT INTO t VALUES (1)", &[rules::OPAQUE][..]),
            (
                "INSERT INTO t SELECT generate_series(1, 3)",
                &[rules::OPAQUE],
            ),
            (
                "WITH x AS (SELECT 1) INSERT INTO t TABLE x",
                &[rules::UNBATCHED_WRITE],
            ),
            ("COPY t FROM STDIN", &[rules::UNBATCHED_WRITE]),
            ("UPDATE t SET id = 2; DELETE FROM t; TRUNCATE t", &[]),
            (
                "CREATE INDEX i ON t (id); ALTER TABLE t ADD b int DEFAULT random()",
                &[],
            ),
            (
                "DROP TRIGGER a ON t; DROP RULE r ON t; CREATE INDEX i ON t (id)",
                &[],
            ),
            ("COPY t TO '/dev/null'", &[]),
        ] {
            assert_schema(
                &format!("CREATE TABLE t (id int); {acts}; {then}"),
                expected,
            );
        }
    }
    for (event, then) in [
        ("UPDATE OF id", "UPDATE t SET id = 2"),
        ("DELETE OR TRUNCATE", "DELETE FROM t"),
        (
            "UPDATE",
            "MERGE INTO t USING (VALUES (1)) v (a) ON a = id WHEN MATCHED THEN UPDATE SET id = 2",
        ),
    ] {
        let trigger = trigger.replace("INSERT", event);
        let sql = format!("CREATE TABLE t (id int); {trigger}; INSERT INTO t VALUES (1); {then}");
        assert_schema(&sql, &[rules::UNBATCHED_WRITE]);
    }
    let upsert = "INSERT INTO t VALUES (1) ON CONFLICT (id) DO UPDATE SET id = 2";
    let trigger = trigger.replace("INSERT", "UPDATE");
    let sql = format!("CREATE TABLE t (id int UNIQUE); {trigger}; {upsert}");
    assert_schema(&sql, &[rules::OPAQUE]);
}

#[test]
fn what_reads_a_live_table_in_one_statement_is_named_wherever_it_writes_to() {
    for (sql, expected) in [
        ("INSERT INTO n SELECT id FROM orders", true),
        ("INSERT INTO n SELECT id FROM orders WHERE id > 5", true),
        ("INSERT INTO n TABLE orders", true),
        (
            "INSERT INTO n SELECT 1, (SELECT count(*) FROM orders) FROM m",
            true,
        ),
        (
            "WITH x AS (SELECT id FROM orders) INSERT INTO n SELECT id FROM x",
            true,
        ),
        (
            "CREATE VIEW v AS TABLE orders; INSERT INTO n SELECT id FROM v",
            true,
        ),
        ("UPDATE n SET id = 1 FROM orders", true),
        ("DELETE FROM n USING orders", true),
        (
            "MERGE INTO n USING orders o ON o.id = n.id WHEN MATCHED THEN DELETE",
            true,
        ),
        ("CREATE TABLE o AS SELECT id FROM orders", true),
        ("CREATE TABLE o AS TABLE orders", true),
        ("SELECT id INTO o FROM n JOIN orders USING (id)", true),
        ("CREATE MATERIALIZED VIEW o AS SELECT id FROM orders", true),
        (
            "CREATE MATERIALIZED VIEW o AS TABLE orders WITH NO DATA; REFRESH MATERIALIZED VIEW o",
            true,
        ),
        ("INSERT INTO n SELECT id FROM m WHERE m.id > 5", false),
        ("INSERT INTO n TABLE m", false),
        ("INSERT INTO n SELECT generate_series(1, 3)", false),
        ("INSERT INTO n SELECT * FROM (VALUES (1)) AS v (id)", false),
        ("INSERT INTO n SELECT oid FROM pg_class", false),
        ("INSERT INTO n VALUES ((SELECT max(id) FROM orders))", false),
        (
            "WITH x AS (SELECT id FROM m) INSERT INTO n SELECT id FROM x",
            false,
        ),
        (
            "CREATE VIEW v AS TABLE m; INSERT INTO n SELECT id FROM v; UPDATE v SET id = 1",
            false,
        ),
        ("UPDATE n SET id = 1 FROM m", false),
        ("CREATE TABLE o AS SELECT id FROM m", false),
        (
            "CREATE TABLE o AS SELECT * FROM generate_series(1, 3)",
            false,
        ),
        ("CREATE TABLE o AS TABLE orders WITH NO DATA", false),
        ("SELECT count(*) FROM orders", false),
    ] {
        let sql = format!("CREATE TABLE n (id int, a int); CREATE TABLE m (id int); {sql}");
        let expected: &[&str] = if expected {
            &[rules::UNBATCHED_WRITE]
        } else {
            &[]
        };
        for kind in KINDS {
            assert_eq!(rules_of(kind, &sql), expected, "{kind:?}: {sql}");
        }
    }
    let refresh = "REFRESH MATERIALIZED VIEW CONCURRENTLY v";
    assert_schema(refresh, &[rules::UNBATCHED_WRITE]);
    assert_eq!(rules_of(Kind::Expand, refresh), [] as [&str; 0]);
    // Under a lock that is kept, it is worse.
    assert_schema(
        "ALTER TABLE orders ADD COLUMN b int; CREATE TABLE o AS TABLE orders",
        &[rules::UNBATCHED_WRITE, rules::WRITE_UNDER_LOCK],
    );
}
