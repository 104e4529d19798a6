//! Which table a name means to the lint, and for how long one that the script created is nobody's.

use evenkeel::migration::lint::{self, Kind, rules};

fn rules_of(kind: Kind, sql: &str) -> Vec<&'static str> {
    let findings = lint::script("file.sql", sql, kind);
    findings.into_iter().map(|finding| finding.rule).collect()
}

/// The rules that a script breaks when Evenkeel runs it at its start.
#[track_caller]
fn assert_schema(sql: &str, expected: &[&str]) {
    assert_eq!(rules_of(Kind::Schema, sql), expected, "{sql}");
}

#[test]
fn a_table_of_the_same_name_in_another_schema_hides_nothing() {
    let type_change = "changing-column-type";
    for (sql, expected) in [
        (
            "CREATE TABLE archive.orders (id bigint);
             ALTER TABLE public.orders ALTER COLUMN id TYPE bigint;
             UPDATE public.orders SET status = 'a'",
            &[type_change, rules::UNBATCHED_WRITE, rules::WRITE_UNDER_LOCK][..],
        ),
        (
            "CREATE TABLE archive.orders (id int); DELETE FROM orders",
            &[rules::UNBATCHED_WRITE],
        ),
        (
            "CREATE TABLE orders (id int); DELETE FROM public.orders",
            &[rules::UNBATCHED_WRITE],
        ),
        (
            "CREATE TABLE \"Orders\" (id int); DELETE FROM orders",
            &[rules::UNBATCHED_WRITE],
        ),
        ("CREATE TABLE Orders (id int); DELETE FROM orders", &[]),
        (
            "CREATE TABLE U&\"\\006frders\" (id int); DELETE FROM orders",
            &[],
        ),
        (
            "SET LOCAL search_path = archive; CREATE TABLE orders (id int); DELETE FROM archive.orders",
            &[],
        ),
        (
            "SET LOCAL search_path = archive; CREATE TABLE archive.orders (id int); DELETE FROM orders",
            &[],
        ),
        (
            "SET LOCAL search_path = public, archive; CREATE TABLE archive.orders (id int); DELETE FROM orders",
            &[rules::UNBATCHED_WRITE],
        ),
        (
            "CREATE TABLE orders (id int); SET LOCAL search_path = archive; DELETE FROM orders",
            &[rules::UNBATCHED_WRITE],
        ),
        (
            "SELECT set_config('search_path', 'archive', true); CREATE TABLE orders (id int);
             DELETE FROM archive.orders; DELETE FROM public.orders",
            &[rules::UNBATCHED_WRITE],
        ),
        (
            "CREATE TABLE orders (id int); CREATE SCHEMA first; DELETE FROM orders",
            &[rules::UNBATCHED_WRITE],
        ),
        (
            "CREATE TEMP TABLE orders (id int) ON COMMIT DROP; DELETE FROM orders; DELETE FROM pg_temp.orders",
            &[],
        ),
        (
            "CREATE TEMP TABLE orders (id int) ON COMMIT DROP; DELETE FROM public.orders",
            &[rules::UNBATCHED_WRITE],
        ),
        (
            "CREATE SCHEMA s CREATE TABLE t (id int); DELETE FROM s.t",
            &[],
        ),
    ] {
        assert_schema(sql, expected);
    }
}

#[test]
fn a_table_is_new_only_as_long_as_that_is_certain() {
    for (sql, expected) in [
        (
            "CREATE TABLE t (id int); DROP TABLE t; DELETE FROM t",
            &[rules::UNBATCHED_WRITE][..],
        ),
        (
            "CREATE TABLE t (id int); ALTER TABLE t RENAME TO u; DELETE FROM u",
            &[],
        ),
        (
            "CREATE TABLE t (id int); ALTER TABLE t RENAME TO u; DELETE FROM t",
            &[rules::UNBATCHED_WRITE],
        ),
        (
            "CREATE TABLE a.t (id int); ALTER TABLE a.t SET SCHEMA b; DELETE FROM b.t",
            &[],
        ),
        (
            "CREATE TABLE t (id int); ALTER TABLE u INHERIT t; DELETE FROM t",
            &[rules::UNBATCHED_WRITE, rules::WRITE_UNDER_LOCK],
        ),
        (
            "CREATE TABLE t () INHERITS (u); DELETE FROM t",
            &[rules::UNBATCHED_WRITE],
        ),
        (
            "CREATE TABLE t (id int); CREATE VIEW v AS SELECT * FROM u; DELETE FROM v",
            &[rules::UNBATCHED_WRITE],
        ),
        (
            "CREATE VIEW v AS SELECT * FROM u; ALTER VIEW v OWNER TO o",
            &[],
        ),
        (
            "CREATE TABLE t (id int); CREATE RULE r AS ON DELETE TO t DO ALSO DELETE FROM u; DELETE FROM t",
            &[rules::UNBATCHED_WRITE],
        ),
        (
            "CREATE TABLE t (id int); CREATE INDEX i ON t (id); DROP INDEX i",
            &[],
        ),
        (
            "CREATE TABLE p (id int) PARTITION BY LIST (id); CREATE TABLE q PARTITION OF p FOR VALUES IN (1)",
            &[],
        ),
        (
            "CREATE TABLE p (id int REFERENCES live (id)); CREATE INDEX i ON p (id)",
            &[],
        ),
        ("CREATE TABLE p AS SELECT 1 AS a; UPDATE p SET a = 2", &[]),
    ] {
        assert_schema(sql, expected);
    }
    // What ends with the transaction does not reach the next statement of a change.
    for first in [
        "CREATE TABLE archive.orders (id int); SET LOCAL search_path = archive",
        "CREATE TEMP TABLE orders (id int) ON COMMIT DROP",
    ] {
        let sql = format!("{first}; DELETE FROM orders");
        assert_schema(&sql, &[]);
        for kind in [Kind::Expand, Kind::Raw] {
            let found = rules_of(kind, &sql);
            let expected = [rules::NEEDS_TRANSACTION, rules::UNBATCHED_WRITE];
            assert_eq!(found, expected, "{sql}");
        }
        let begun = format!("BEGIN; {sql}; COMMIT");
        assert_eq!(rules_of(Kind::Raw, &begun), [] as [&str; 0], "{begun}");
    }
    let rolled_back = "BEGIN; CREATE TABLE t (id int); ROLLBACK; DELETE FROM t";
    assert_eq!(rules_of(Kind::Raw, rolled_back), [rules::UNBATCHED_WRITE]);
}
