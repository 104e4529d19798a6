//! What the lint says of whole scripts: what reaches far, what outlives a statement, what cannot be seen.

use evenkeel::migration::definition::Definition;
use evenkeel::migration::lint::{self, Kind, rules};

use super::fixture::migration;

/// The kinds of files that run schema statements.
pub const KINDS: [Kind; 4] = [Kind::Raw, Kind::Schema, Kind::Expand, Kind::Contract];

pub fn rules_of(kind: Kind, sql: &str) -> Vec<&'static str> {
    let findings = lint::script("file.sql", sql, kind);
    findings.into_iter().map(|finding| finding.rule).collect()
}

/// The rules that a script breaks when Evenkeel runs it at its start.
#[track_caller]
pub fn assert_schema(sql: &str, expected: &[&str]) {
    let findings = lint::script("file.sql", sql, Kind::Schema);
    let found: Vec<_> = findings.iter().map(|finding| finding.rule).collect();
    assert_eq!(found, expected, "{sql}: {findings:#?}");
}

/// That `rule` is found in `sql`, however it is run.
#[track_caller]
pub fn assert_always(sql: &str, rule: &str) {
    for kind in KINDS {
        let found = rules_of(kind, sql);
        assert!(found.contains(&rule), "{kind:?}: {sql}: {found:?}");
    }
}

#[test]
fn what_reaches_further_than_its_words_is_named() {
    for (sql, rule) in [
        (
            "ALTER DOMAIN postcode ADD CONSTRAINT f CHECK (VALUE ~ '^[0-9]{5}$')",
            rules::SCAN_UNDER_LOCK,
        ),
        ("ALTER DOMAIN postcode SET NOT NULL", rules::SCAN_UNDER_LOCK),
        (
            "ALTER TABLE orders ADD COLUMN z int, VALIDATE CONSTRAINT d",
            rules::SCAN_UNDER_LOCK,
        ),
        (
            "ALTER DOMAIN postcode VALIDATE CONSTRAINT f",
            rules::SCAN_UNDER_LOCK,
        ),
        (
            "CREATE DOMAIN sc AS text CHECK (length(VALUE) < 9); ALTER TABLE orders ADD COLUMN code sc",
            rules::ADDING_CHECKED_FIELD,
        ),
        (
            "CREATE DOMAIN sc AS text NOT NULL; ALTER TABLE orders ADD COLUMN code sc",
            rules::ADDING_CHECKED_FIELD,
        ),
        (
            "CREATE DOMAIN sc AS text; ALTER DOMAIN sc ADD CHECK (VALUE <> ''); ALTER TABLE orders ADD COLUMN c sc",
            rules::ADDING_CHECKED_FIELD,
        ),
        (
            "ALTER TABLE orders ADD COLUMN code sc",
            rules::ADDING_UNKNOWN_TYPE,
        ),
        (
            "CREATE DOMAIN sc AS text; ALTER TABLE orders ADD COLUMN code sc; ALTER DOMAIN sc SET NOT NULL",
            rules::SCAN_UNDER_LOCK,
        ),
        (
            "CREATE TABLE o12 PARTITION OF by_month FOR VALUES FROM ('2026-12-01') TO ('2027-01-01')",
            rules::CREATING_PARTITION,
        ),
        (
            "CREATE TABLE o PARTITION OF by_month DEFAULT",
            rules::CREATING_PARTITION,
        ),
        ("DROP TYPE order_state CASCADE", rules::REACHES_UNNAMED),
        ("DROP SCHEMA old CASCADE", rules::REACHES_UNNAMED),
        ("DROP EXTENSION citext CASCADE", rules::REACHES_UNNAMED),
        ("DROP FUNCTION f(int) CASCADE", rules::REACHES_UNNAMED),
        (
            "DROP OPERATOR === (int, int) CASCADE",
            rules::REACHES_UNNAMED,
        ),
        (
            "ALTER TABLE t DROP CONSTRAINT c CASCADE",
            rules::REACHES_UNNAMED,
        ),
        (
            "ALTER TYPE pair ADD ATTRIBUTE c int CASCADE",
            rules::REACHES_UNNAMED,
        ),
        (
            "ALTER TYPE pair ADD ATTRIBUTE c postcode CASCADE",
            rules::REWRITING_TABLE,
        ),
        (
            "CREATE DOMAIN sc AS text NOT NULL; ALTER TYPE pair ADD ATTRIBUTE c sc CASCADE",
            rules::REWRITING_TABLE,
        ),
        (
            "ALTER TYPE pair ALTER ATTRIBUTE a TYPE bigint CASCADE",
            rules::REWRITING_TABLE,
        ),
        (
            "ALTER TYPE pair DROP ATTRIBUTE a CASCADE",
            rules::REACHES_UNNAMED,
        ),
        (
            "ALTER TYPE pair RENAME ATTRIBUTE a TO b CASCADE",
            rules::REACHES_UNNAMED,
        ),
        ("REASSIGN OWNED BY a TO b", rules::REACHES_UNNAMED),
        ("DROP OWNED BY a", rules::REACHES_UNNAMED),
        (
            "ALTER TABLE ALL IN TABLESPACE a SET TABLESPACE b",
            rules::REACHES_UNNAMED,
        ),
        ("ALTER TABLE t SET TABLESPACE b", rules::REWRITING_TABLE),
        (
            "ALTER TABLE t SET ACCESS METHOD heap",
            rules::REWRITING_TABLE,
        ),
        (
            "ALTER TABLE t ALTER COLUMN a SET EXPRESSION AS (b + 1)",
            rules::REWRITING_TABLE,
        ),
        (
            "ALTER TABLE t ADD CONSTRAINT c EXCLUDE (a WITH =)",
            rules::SCAN_UNDER_LOCK,
        ),
        (
            "ALTER TABLE t SPLIT PARTITION p INTO (PARTITION a FOR VALUES IN (1), PARTITION b FOR VALUES IN (2))",
            rules::UNKNOWN,
        ),
        ("ALTER TABLE t FROBNICATE a", rules::SYNTAX),
        ("FROBNICATE t", rules::SYNTAX),
        (
            "ALTER TABLE t ALTER COLUMN a TYPE text, ADD COLUMN b int",
            "changing-column-type",
        ),
        ("COPY t FROM STDIN", rules::UNBATCHED_WRITE),
        ("SELECT * FROM t FOR UPDATE", rules::UNBATCHED_WRITE),
        ("TABLE t FOR NO KEY UPDATE", rules::UNBATCHED_WRITE),
        ("(SELECT * FROM t FOR SHARE)", rules::UNBATCHED_WRITE),
        ("(SELECT * FROM t) FOR UPDATE", rules::UNBATCHED_WRITE),
        ("INSERT INTO t TABLE u", rules::UNBATCHED_WRITE),
        ("EXPLAIN ANALYZE DELETE FROM t", rules::UNBATCHED_WRITE),
        (
            "EXPLAIN (COSTS off, ANALYZE) UPDATE t SET a = 1",
            rules::UNBATCHED_WRITE,
        ),
    ] {
        assert_always(sql, rule);
    }
}

#[test]
fn what_outlives_its_statement_is_named_however_it_is_run() {
    for sql in [
        "SET search_path = ''",
        "SET SESSION work_mem = '1GB'",
        "SET TIME ZONE 'UTC'",
        "SELECT pg_catalog.set_config('search_path', '', false)",
        "SELECT set_config('x.y', 'z', 1 = 0)",
        "SET ROLE clerk",
        "SET SESSION AUTHORIZATION clerk",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "RESET ALL",
        "RESET ROLE",
        "DISCARD ALL",
        "PREPARE p AS SELECT 1",
        "DEALLOCATE ALL",
        "LISTEN news",
        "UNLISTEN *",
        "LOAD 'auto_explain'",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_lock_shared(1)",
        "CREATE TEMP TABLE t (id int)",
        "CREATE TABLE pg_temp.t (id int)",
        "CREATE TEMP VIEW v AS SELECT 1",
        "CREATE TEMP SEQUENCE s",
        "SELECT 1 AS a INTO TEMP t",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "PREPARE TRANSACTION 'x'",
        "ALTER ROLE clerk SET work_mem = '1GB'",
        "ALTER DATABASE shop SET work_mem = '1GB'",
        "ALTER DATABASE shop RESET work_mem",
        "ALTER SYSTEM SET work_mem = '1GB'",
        "SET statement_timeout = '1ms'",
    ] {
        let kinds = KINDS
            .into_iter()
            .filter(|kind| *kind != Kind::Raw || !sql.contains("statement_timeout"));
        for kind in kinds {
            assert_eq!(rules_of(kind, sql), [rules::OUTLIVES], "{kind:?}: {sql}");
        }
    }
    for sql in [
        "SET LOCAL work_mem = '1GB'",
        "SET LOCAL lock_timeout = '100ms'",
        "SELECT set_config('work_mem', '1GB', true)",
        "SET LOCAL ROLE clerk",
        "SET TRANSACTION READ ONLY",
        "SELECT pg_advisory_xact_lock(1)",
        "CREATE TEMP TABLE t (id int) ON COMMIT DROP",
        "DECLARE c CURSOR FOR SELECT 1",
    ] {
        assert_schema(sql, &[]);
        let begun = format!("BEGIN; {sql}; COMMIT");
        assert_eq!(rules_of(Kind::Raw, &begun), [] as [&str; 0], "{sql}");
    }
    for sql in ["NOTIFY news", "SHOW ALL"] {
        for kind in KINDS {
            assert_eq!(rules_of(kind, sql), [] as [&str; 0], "{kind:?}: {sql}");
        }
    }
}

#[test]
fn a_time_limit_that_is_lifted_is_named() {
    for sql in [
        "SET LOCAL lock_timeout = 0",
        "SET LOCAL lock_timeout TO DEFAULT",
        "SET LOCAL lock_timeout = '10min'",
        "SET LOCAL statement_timeout = '0s'",
        "SET lock_timeout = 0",
        "RESET statement_timeout",
        "SELECT set_config('lock_timeout', '0', true)",
    ] {
        for kind in KINDS {
            assert_eq!(
                rules_of(kind, sql),
                [rules::LIFTS_TIME_LIMIT],
                "{kind:?}: {sql}"
            );
        }
    }
    let alter = "SET LOCAL lock_timeout = 0; ALTER TABLE orders ADD COLUMN note text";
    assert_schema(alter, &[rules::LIFTS_TIME_LIMIT]);
    assert_eq!(
        rules_of(Kind::Raw, alter),
        [rules::LIFTS_TIME_LIMIT, "require-lock-timeout"]
    );
    let until_commit =
        "BEGIN; SET LOCAL lock_timeout = '1s'; COMMIT; ALTER TABLE orders ADD COLUMN a int";
    assert_eq!(rules_of(Kind::Raw, until_commit), ["require-lock-timeout"]);
}

#[test]
fn what_the_lint_cannot_see_is_named() {
    for sql in [
        "DO $$ BEGIN END $$",
        "CALL f()",
        "EXECUTE p",
        "SELECT f()",
        "SELECT public.lower('x')",
        "SELECT a FROM g(1) AS a",
        "SELECT pg_sleep(1)",
        "SELECT pg_terminate_backend(1)",
        "SELECT lo_create(1)",
        "SELECT dblink_exec('', '')",
        "SELECT query_to_xml('', true, true, '')",
        "VALUES (f())",
        "INSERT INTO t VALUES (f())",
        "WITH x AS (SELECT f()) SELECT * FROM x",
        "EXPLAIN ANALYZE SELECT f()",
        "EXPLAIN ANALYZE EXECUTE p",
        "CREATE EXTENSION citext",
        "ALTER EXTENSION citext UPDATE",
        "IMPORT FOREIGN SCHEMA s FROM SERVER x INTO y",
        "COPY t TO PROGRAM 'true'",
        "CREATE TABLE t AS EXECUTE p",
    ] {
        for kind in KINDS {
            assert_eq!(rules_of(kind, sql), [rules::OPAQUE], "{kind:?}: {sql}");
        }
    }
    for sql in [
        "SELECT now(), coalesce(1, 2), extract(year FROM now()), pg_catalog.lower('X'), nextval('s')",
        "SELECT setval('s', max(id)) FROM t",
        "SELECT * FROM generate_series(1, 3)",
        "EXPLAIN SELECT f()",
        "EXPLAIN (ANALYZE false) SELECT f()",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT g()'",
        "CREATE VIEW v AS SELECT f()",
        "CREATE MATERIALIZED VIEW v AS SELECT f(a) FROM t WITH NO DATA",
        "INSERT INTO t VALUES ((SELECT max(id) FROM u))",
        "SELECT * FROM t WHERE id = 1 FOR UPDATE",
        "(SELECT * FROM t WHERE id = 1) FOR UPDATE",
        ";;",
    ] {
        for kind in KINDS {
            assert_eq!(rules_of(kind, sql), [] as [&str; 0], "{kind:?}: {sql}");
        }
    }
}

#[test]
fn a_lock_that_is_waited_for_without_a_limit_is_named_in_every_statement() {
    for sql in [
        "CREATE POLICY p ON t",
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "ALTER TABLE t INHERIT p",
        "ALTER TABLE t OF pair",
        "ALTER TABLE t ALTER COLUMN a SET STORAGE EXTERNAL",
        "CREATE TABLE n (id int REFERENCES t (id))",
        "CREATE OR REPLACE VIEW v AS SELECT 1",
        "DROP VIEW v",
    ] {
        assert_eq!(rules_of(Kind::Raw, sql), ["require-lock-timeout"], "{sql}");
        let limited = format!("SET lock_timeout = '1s'; {sql}");
        assert_eq!(rules_of(Kind::Raw, &limited), [] as [&str; 0], "{sql}");
        assert_schema(sql, &[]);
    }
    for sql in [
        "ALTER TABLE t SET (fillfactor = 70)",
        "ALTER TABLE t ALTER COLUMN a SET STATISTICS 100",
        "ALTER TABLE t VALIDATE CONSTRAINT c",
        "CREATE STATISTICS s ON a, b FROM t",
        "COMMENT ON TABLE t IS 'x'",
        "GRANT SELECT ON t TO r",
        "CREATE PUBLICATION p FOR TABLE t",
        "ALTER TYPE mood ADD VALUE 'x'",
        "ALTER INDEX i RENAME TO j",
        "ANALYZE t",
        "SECURITY LABEL ON TABLE t IS 'x'",
    ] {
        assert_eq!(rules_of(Kind::Raw, sql), [] as [&str; 0], "{sql}");
    }
}

#[test]
fn a_constraint_that_is_validated_beside_a_strong_lock_is_named() {
    let both = "ALTER TABLE t ADD COLUMN a int; ALTER TABLE u VALIDATE CONSTRAINT c";
    assert_schema(both, &[rules::WRITE_UNDER_LOCK]);
    assert_eq!(rules_of(Kind::Expand, both), [] as [&str; 0]);
    let raw = format!("SET lock_timeout = '1s'; {both}");
    assert_eq!(rules_of(Kind::Raw, &raw), [] as [&str; 0]);
    let raw = format!("SET lock_timeout = '1s'; BEGIN; {both}; COMMIT");
    assert_eq!(rules_of(Kind::Raw, &raw), [rules::WRITE_UNDER_LOCK]);
}

#[test]
fn not_null_is_proven_by_a_constraint_that_is_still_there() {
    let steps = |check: &str, between: &str| {
        format!(
            "ALTER TABLE t ADD CONSTRAINT c CHECK ({check}) NOT VALID; ALTER TABLE t VALIDATE CONSTRAINT c;
             {between} ALTER TABLE t ALTER COLUMN a SET NOT NULL;"
        )
    };
    let scans = ["adding-not-nullable-field"];
    for (check, between, expected) in [
        ("a IS NOT NULL", "", &[] as &[&str]),
        ("(a IS NOT NULL) AND b > 0", "", &[]),
        ("b IS NOT NULL", "", &scans),
        ("a IS NOT NULL OR b > 0", "", &scans),
        ("a IS NOT NULL", "ALTER TABLE t DROP CONSTRAINT c;", &scans),
    ] {
        let sql = steps(check, between);
        assert_eq!(rules_of(Kind::Contract, &sql), expected, "{sql}");
    }
}

#[test]
fn a_primary_key_of_an_index_reads_the_table_unless_its_columns_are_known_to_be_filled() {
    let key = "ALTER TABLE t ADD CONSTRAINT c PRIMARY KEY USING INDEX i";
    for sql in [key.to_owned(), key.replace("CONSTRAINT c ", "")] {
        assert_eq!(
            rules_of(Kind::Contract, &sql),
            ["adding-not-nullable-field"],
            "{sql}"
        );
    }
    let filled = |column: &str| {
        format!(
            "ALTER TABLE t ADD CONSTRAINT {column} CHECK ({column} IS NOT NULL) NOT VALID;
             ALTER TABLE t VALIDATE CONSTRAINT {column};"
        )
    };
    let index = |columns: &str| format!("CREATE UNIQUE INDEX CONCURRENTLY i ON t ({columns});");
    for (before, scans) in [
        (filled("a") + &index("a"), false),
        (index("a") + &filled("a"), false),
        (index("b, a") + &filled("a") + &filled("b"), false),
        (index("a) INCLUDE (b") + &filled("a"), false),
        (
            index("a") + &filled("a") + "ALTER INDEX i RENAME TO j; ALTER INDEX j RENAME TO i;",
            false,
        ),
        (filled("\"A\"") + &index("\"A\""), false),
        (filled("A") + &index("\"A\""), true),
        // NOT NULL outlasts the constraint that has proven it.
        (
            filled("a")
                + "ALTER TABLE t ALTER COLUMN a SET NOT NULL; ALTER TABLE t DROP CONSTRAINT a;"
                + &index("a"),
            false,
        ),
        // Both are of an earlier file.
        ("ALTER TABLE t VALIDATE CONSTRAINT n;".to_owned(), false),
        // Of another column, of some of several, or of an index that is not known.
        (filled("b") + &index("a"), true),
        (filled("a") + &index("a, b"), true),
        (filled("a"), true),
        (filled("a") + &index("a").replace("i ON t", "i ON u"), true),
        (
            filled("a") + &index("a").replace("CONCURRENTLY", "CONCURRENTLY IF NOT EXISTS"),
            true,
        ),
        (
            "ALTER TABLE t VALIDATE CONSTRAINT n;".to_owned() + &index("a"),
            true,
        ),
        // By now it is another column's name, or no longer so.
        (
            filled("a")
                + "ALTER TABLE t DROP COLUMN a; ALTER TABLE t ADD COLUMN a int;"
                + &index("a"),
            true,
        ),
        (
            filled("a") + "ALTER TABLE t DROP CONSTRAINT a;" + &index("a"),
            true,
        ),
        (
            filled("a")
                + &index("a")
                + "ALTER TABLE t ALTER COLUMN a SET NOT NULL, ALTER COLUMN a DROP NOT NULL;",
            true,
        ),
    ] {
        let sql = format!("{before} {key}");
        let found = rules_of(Kind::Contract, &sql);
        assert_eq!(
            found.contains(&"adding-not-nullable-field"),
            scans,
            "{sql}: {found:?}"
        );
    }
}

#[test]
fn what_is_renamed_or_moved_is_gone_for_processes_of_the_version_before() {
    for (sql, rule) in [
        ("ALTER TABLE t SET SCHEMA archive", "renaming-table"),
        ("ALTER VIEW v RENAME TO w", "renaming-table"),
        ("ALTER VIEW v SET SCHEMA archive", "renaming-table"),
        ("ALTER VIEW v RENAME COLUMN a TO b", "renaming-column"),
        ("ALTER MATERIALIZED VIEW v RENAME TO w", "renaming-table"),
    ] {
        assert_eq!(rules_of(Kind::Expand, sql), [rule], "{sql}");
    }
}

#[test]
fn a_limit_that_the_session_forgets_is_no_limit() {
    for forgets in [
        "RESET ALL",
        "DISCARD ALL",
        "RESET lock_timeout",
        "SET lock_timeout TO DEFAULT",
        "SET lock_timeout = 0",
        "SELECT set_config('lock_timeout', '0', false)",
    ] {
        let sql = format!("SET lock_timeout = '1s'; {forgets}; ALTER TABLE t ADD COLUMN a int");
        let found = rules_of(Kind::Raw, &sql);
        assert!(found.contains(&"require-lock-timeout"), "{sql}: {found:?}");
    }
    for keeps in ["DISCARD PLANS", "DISCARD TEMP", "RESET search_path"] {
        let sql = format!("SET lock_timeout = '1s'; {keeps}; ALTER TABLE t ADD COLUMN a int");
        let found = rules_of(Kind::Raw, &sql);
        assert!(!found.contains(&"require-lock-timeout"), "{sql}: {found:?}");
    }
}

#[test]
fn a_limit_that_is_rolled_back_was_never_set() {
    for (before, limited) in [
        ("BEGIN; SET lock_timeout = '1s'; ROLLBACK", false),
        ("BEGIN; SET lock_timeout = '1s'; ABORT", false),
        ("BEGIN; SET lock_timeout = '1s'; COMMIT", true),
        (
            "SET lock_timeout = '1s'; BEGIN; SET lock_timeout = 0; ROLLBACK",
            true,
        ),
        (
            "SET lock_timeout = '1s'; BEGIN; SET LOCAL lock_timeout = 0; COMMIT",
            true,
        ),
        (
            "BEGIN; SAVEPOINT a; SET lock_timeout = '1s'; ROLLBACK TO a",
            false,
        ),
        (
            "BEGIN; SET lock_timeout = '1s'; SAVEPOINT a; ROLLBACK TO SAVEPOINT A",
            true,
        ),
        (
            "BEGIN; SAVEPOINT a; SET LOCAL lock_timeout = '1s'; SAVEPOINT b; ROLLBACK TO b",
            true,
        ),
        ("SET lock_timeout = '1s'; ROLLBACK PREPARED 'x'", true),
    ] {
        let sql = format!("{before}; ALTER TABLE t ADD COLUMN a int");
        let found = rules_of(Kind::Raw, &sql);
        let says = found.contains(&"require-lock-timeout");
        assert_eq!(says, !limited, "{sql}: {found:?}");
    }
}

#[test]
fn what_the_lint_advises_has_no_finding() {
    for sql in [
        "CREATE INDEX CONCURRENTLY i ON t (a)",
        "DROP INDEX CONCURRENTLY i",
        "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID; ALTER TABLE t VALIDATE CONSTRAINT c",
        "ALTER TABLE t ADD CONSTRAINT c FOREIGN KEY (a) REFERENCES u (id) NOT VALID; ALTER TABLE t VALIDATE CONSTRAINT c",
        "CREATE UNIQUE INDEX CONCURRENTLY i ON t (a); ALTER TABLE t ADD CONSTRAINT c UNIQUE USING INDEX i",
        "ALTER TABLE t ADD CONSTRAINT n CHECK (a IS NOT NULL) NOT VALID; ALTER TABLE t VALIDATE CONSTRAINT n; ALTER TABLE t ALTER COLUMN a SET NOT NULL; CREATE UNIQUE INDEX CONCURRENTLY i ON t (a); ALTER TABLE t ADD CONSTRAINT c PRIMARY KEY USING INDEX i",
        "ALTER TABLE t ADD COLUMN a int; ALTER TABLE t ALTER COLUMN a SET DEFAULT 7",
        "ALTER TABLE t ADD COLUMN a timestamptz NOT NULL DEFAULT now()",
        "ALTER TABLE t ADD COLUMN a citext",
        "ALTER DOMAIN d ADD CONSTRAINT c CHECK (VALUE <> '') NOT VALID",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY v",
        "CREATE TABLE p (LIKE parent INCLUDING ALL)",
        "VACUUM t",
    ] {
        assert_eq!(rules_of(Kind::Contract, sql), [] as [&str; 0], "{sql}");
    }
}

#[test]
fn the_grammar_of_later_versions_is_known() {
    for sql in [
        "VACUUM (ONLY_DATABASE_STATS)",
        "ALTER DATABASE shop REFRESH COLLATION VERSION",
        "GRANT a TO b WITH INHERIT FALSE, SET TRUE",
        "ALTER OPERATOR === (int, int) SET (COMMUTATOR = ===)",
        "CREATE ROLE r WITH CREATEROLE",
        "EXPLAIN (SERIALIZE, MEMORY) SELECT 1",
        "SELECT * FROM JSON_TABLE('[1]', '$[*]' COLUMNS (a int PATH '$'))",
        "COPY t TO '/dev/null' WITH (FORMAT csv)",
        "CREATE PUBLICATION p FOR TABLES IN SCHEMA s",
        "ALTER SUBSCRIPTION s SET (failover = true)",
        "CREATE STATISTICS s ON (a + b) FROM t",
        "ALTER SERVER s OPTIONS (SET a 'b')",
    ] {
        assert_eq!(rules_of(Kind::Raw, sql), [] as [&str; 0], "{sql}");
    }
    for (sql, rule) in [
        (
            "ALTER TABLE t SET ACCESS METHOD DEFAULT",
            rules::REWRITING_TABLE,
        ),
        (
            "MERGE INTO t USING u ON t.id = u.id WHEN NOT MATCHED BY SOURCE THEN DELETE RETURNING t.id",
            rules::UNBATCHED_WRITE,
        ),
        (
            "COPY t FROM STDIN WITH (ON_ERROR ignore)",
            rules::UNBATCHED_WRITE,
        ),
    ] {
        assert_always(sql, rule);
    }
}

#[test]
fn a_background_statement_leaves_nothing_behind_and_keeps_to_its_schema() {
    for (statement, expected) in [
        (
            "UPDATE shop.t SET a = set_config('search_path', '', false) WHERE :range",
            &[rules::OUTLIVES][..],
        ),
        (
            "UPDATE shop.t SET a = pg_advisory_lock(1)::text WHERE :range",
            &[rules::OUTLIVES],
        ),
        (
            "UPDATE archive.t SET a = 1 WHERE :range",
            &[rules::LOCKS_OTHER_TABLE],
        ),
        ("UPDATE t SET a = clean(a) WHERE :range", &[]),
        (
            "WITH more AS (UPDATE t SET a = a + 1 WHERE a > 9 RETURNING 1)
             UPDATE t SET a = 1 WHERE :range",
            &[rules::RANGE_LIMITS_NOTHING],
        ),
        (
            "WITH x AS (SELECT 1 AS id), more AS (UPDATE t SET a = a + 1 FROM x WHERE a > 0 RETURNING 1)
             UPDATE t SET a = 1 WHERE :range",
            &[rules::RANGE_LIMITS_NOTHING],
        ),
        (
            "WITH more AS (INSERT INTO t SELECT * FROM t ON CONFLICT (id) DO UPDATE SET a = 2 RETURNING 1)
             UPDATE t SET a = 1 WHERE :range",
            &[rules::RANGE_LIMITS_NOTHING],
        ),
        (
            "WITH more AS (DELETE FROM shop.t WHERE a = 0)
             UPDATE t SET a = 1 WHERE :range",
            &[rules::RANGE_LIMITS_NOTHING],
        ),
        (
            "WITH more AS (INSERT INTO sums VALUES (1) ON CONFLICT (id) DO UPDATE SET n = 1)
             UPDATE t SET a = 1 WHERE :range",
            &[rules::LOCKS_OTHER_TABLE],
        ),
        (
            "WITH done AS (UPDATE t SET a = 1 WHERE :range RETURNING id)
             INSERT INTO seen SELECT id FROM done ON CONFLICT DO NOTHING",
            &[],
        ),
        (
            "INSERT INTO sums SELECT id, 1 FROM t WHERE :range ON CONFLICT (id) DO UPDATE SET n = 1",
            &[],
        ),
        (
            "WITH chosen AS (SELECT id FROM t WHERE :range),
                  up AS (INSERT INTO sums SELECT id, 1 FROM chosen ON CONFLICT (id) DO UPDATE SET n = 1
                         RETURNING id)
             UPDATE t SET a = 1 FROM up WHERE t.id = up.id",
            &[],
        ),
        (
            "WITH chosen AS (SELECT id FROM t WHERE :range),
                  done AS (UPDATE t SET a = 1 FROM chosen WHERE t.id = chosen.id RETURNING t.id)
             SELECT count(*) FROM done",
            &[],
        ),
    ] {
        let text = migration("-- table: shop.t\n-- pending: a IS NULL", statement);
        let definition = Definition::parse("m", &text).unwrap();
        let found: Vec<_> = lint::definition(&definition)
            .iter()
            .map(|f| f.rule)
            .collect();
        assert_eq!(found, expected, "{statement}");
    }
}

#[test]
fn statements_that_share_a_line_have_findings_of_their_own() {
    for sql in [
        "CLUSTER orders; CLUSTER accounts;",
        "CLUSTER orders;\nCLUSTER accounts;",
    ] {
        let findings = lint::script("f.sql", sql, Kind::Raw);
        let rewriting = findings
            .iter()
            .filter(|finding| finding.rule == rules::REWRITING_TABLE);
        assert_eq!(rewriting.count(), 2, "{sql}: {findings:#?}");
    }
}
