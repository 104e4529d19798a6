//! What the lint says of snippets, and that it is in the way of what it refuses.

use std::path::Path;

use evenkeel::db::schema::{self, SchemaFile};
use evenkeel::migration::control::{self, ControlError};
use evenkeel::migration::definition::{self, Definition};
use evenkeel::migration::lint::{self, Finding, Kind, Unsafe, rules};

use proptest::prelude::*;

use super::fixture::{Fixture, migration};

fn rules_of(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.rule).collect()
}

#[track_caller]
fn assert_rules(kind: Kind, sql: &str, expected: &[&str]) {
    let findings = lint::script("file.sql", sql, kind);
    assert_eq!(rules_of(&findings), expected, "{sql}: {findings:#?}");
    for finding in findings {
        assert!(
            !finding.why.is_empty() && !finding.instead.is_empty(),
            "{finding:?}"
        );
    }
}

#[test]
fn what_locks_rewrites_or_scans_a_live_table_is_named() {
    let table: &[(&str, &[&str])] = &[
        (
            "CREATE INDEX i ON t (a)",
            &["require-concurrent-index-creation"],
        ),
        (
            "CREATE INDEX CONCURRENTLY i ON t (a)",
            &[rules::CONCURRENT_IN_TRANSACTION],
        ),
        (
            "DROP INDEX CONCURRENTLY i",
            &[rules::CONCURRENT_IN_TRANSACTION],
        ),
        ("DROP INDEX i", &["require-concurrent-index-deletion"]),
        ("REINDEX TABLE t", &["require-concurrent-reindex"]),
        (
            "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0)",
            &["constraint-missing-not-valid"],
        ),
        (
            "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID",
            &[],
        ),
        (
            "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID;
             ALTER TABLE t VALIDATE CONSTRAINT c",
            &["constraint-missing-not-valid"],
        ),
        (
            "ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES u (id)",
            &["adding-foreign-key-constraint"],
        ),
        (
            "ALTER TABLE t ADD CONSTRAINT q UNIQUE (a)",
            &["disallowed-unique-constraint"],
        ),
        ("ALTER TABLE t ADD COLUMN a int", &[]),
        ("ALTER TABLE t ADD COLUMN a int DEFAULT 7", &[]),
        (
            "ALTER TABLE t ADD COLUMN a uuid DEFAULT gen_random_uuid()",
            &["adding-field-with-default"],
        ),
        (
            "ALTER TABLE t ADD COLUMN a int NOT NULL",
            &["adding-required-field"],
        ),
        (
            "ALTER TABLE t ADD COLUMN a bigserial",
            &[rules::ADDING_FILLED_FIELD],
        ),
        (
            "ALTER TABLE t ADD COLUMN a int CHECK (a > 0)",
            &[rules::ADDING_CHECKED_FIELD],
        ),
        (
            "ALTER TABLE t ALTER COLUMN a SET NOT NULL",
            &["adding-not-nullable-field"],
        ),
        (
            "ALTER TABLE t ALTER COLUMN a TYPE bigint",
            &["changing-column-type"],
        ),
        ("ALTER TABLE t ALTER COLUMN a SET DEFAULT 7", &[]),
        ("ALTER TABLE t RENAME COLUMN a TO b", &["renaming-column"]),
        ("ALTER TABLE t RENAME TO u", &["renaming-table"]),
        ("ALTER TABLE t DROP COLUMN a", &["ban-drop-column"]),
        ("DROP TABLE t", &["ban-drop-table"]),
        ("ALTER TABLE t SET UNLOGGED", &[rules::REWRITING_TABLE]),
        (
            "ALTER TABLE t ATTACH PARTITION p FOR VALUES IN (1)",
            &[rules::ATTACHING_PARTITION],
        ),
        ("LOCK TABLE t", &[rules::LOCK_TABLE]),
        ("TRUNCATE t", &[rules::TRUNCATE]),
        ("VACUUM FULL t", &[rules::REWRITING_TABLE]),
        ("VACUUM (FULL, ANALYZE) t", &[rules::REWRITING_TABLE]),
        ("VACUUM t", &[]),
        ("CLUSTER t", &[rules::REWRITING_TABLE]),
        ("COMMIT", &[rules::TRANSACTION_CONTROL]),
        ("REFRESH MATERIALIZED VIEW v", &[rules::REFRESH_LOCKS]),
        ("DO $$ BEGIN UPDATE t SET a = 1; END $$", &[rules::OPAQUE]),
        ("UPDATE t SET a = 1", &[rules::UNBATCHED_WRITE]),
        (
            "UPDATE t SET a = 1 WHERE a IS NULL",
            &[rules::UNBATCHED_WRITE],
        ),
        ("DELETE FROM t", &[rules::UNBATCHED_WRITE]),
        (
            "WITH gone AS (DELETE FROM t RETURNING *) SELECT count(*) FROM gone",
            &[rules::UNBATCHED_WRITE],
        ),
        ("INSERT INTO t SELECT * FROM u", &[rules::UNBATCHED_WRITE]),
        ("INSERT INTO t (a) VALUES (1), (2)", &[]),
        (
            "CREATE TABLE v AS SELECT * FROM t",
            &[rules::UNBATCHED_WRITE],
        ),
        ("SELEKT 1", &[rules::SYNTAX]),
    ];
    for (sql, expected) in table {
        assert_rules(Kind::Schema, sql, expected);
    }
}

#[test]
fn the_outage_is_refused_for_both_its_reasons() {
    let outage =
        "ALTER TABLE orders ADD COLUMN day date;\n\nUPDATE orders\n   SET day = placed_at::date;";
    let findings = lint::script("outage.sql", outage, Kind::Schema);
    assert_eq!(
        rules_of(&findings),
        [rules::UNBATCHED_WRITE, rules::WRITE_UNDER_LOCK]
    );
    let text = findings[1].to_string();
    assert!(
        text.starts_with(
            "outage.sql:3: write-under-lock: the lock that line 1 takes on `orders` is kept until"
        ),
        "{text}"
    );
}

#[test]
fn a_table_of_the_same_file_is_not_live() {
    for sql in [
        "CREATE TABLE t (a int); CREATE INDEX i ON t (a); ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0)",
        "CREATE TABLE s.t (a int); INSERT INTO s.t SELECT generate_series(1, 9); UPDATE s.t SET a = 1",
        "CREATE TABLE \"T\" (a int); ALTER TABLE \"T\" ALTER COLUMN a TYPE bigint",
    ] {
        for kind in [Kind::Schema, Kind::Expand] {
            assert_rules(kind, sql, &[]);
        }
    }
    // It may have been there, full of rows.
    assert_rules(
        Kind::Schema,
        "CREATE TABLE IF NOT EXISTS t (a int); DELETE FROM t",
        &[rules::UNBATCHED_WRITE],
    );
    assert_rules(
        Kind::Schema,
        "UPDATE t SET a = 1; CREATE TABLE t (a int)",
        &[rules::UNBATCHED_WRITE],
    );
}

#[test]
fn who_runs_a_file_decides_what_is_safe() {
    let alter = "ALTER TABLE t ADD COLUMN a int;";
    assert_rules(Kind::Raw, alter, &["require-lock-timeout"]);
    assert_rules(
        Kind::Raw,
        &format!("SET lock_timeout = '1s';\n{alter}"),
        &[],
    );
    assert_rules(Kind::Schema, alter, &[]);
    let steps = "ALTER TABLE t ADD CONSTRAINT c CHECK (a IS NOT NULL) NOT VALID;
                 ALTER TABLE t VALIDATE CONSTRAINT c;
                 ALTER TABLE t ALTER COLUMN a SET NOT NULL;
                 CREATE INDEX CONCURRENTLY i ON t (a);";
    assert_rules(Kind::Contract, steps, &[]);
    assert_rules(
        Kind::Expand,
        "CREATE INDEX CONCURRENTLY ON t (a)",
        &[rules::UNNAMED_INDEX],
    );
    assert_rules(
        Kind::Expand,
        "ALTER TABLE t DROP COLUMN a",
        &["ban-drop-column"],
    );
    assert_rules(Kind::Contract, "ALTER TABLE t DROP COLUMN a", &[]);
}

#[test]
fn an_exception_needs_a_known_rule_and_a_reason_and_a_statement_to_accept() {
    let delete = |comment: &str| format!("{comment}\nDELETE FROM t;");
    let table: &[(&str, &[&str])] = &[
        (
            "-- lint: allow unbatched-write because it has ten rows",
            &[],
        ),
        (
            "-- A note.\n-- lint: allow unbatched-write because it has ten rows\n-- Another.",
            &[],
        ),
        (
            "-- lint: allow unbatched-write",
            &[rules::UNREASONED_EXCEPTION, rules::UNBATCHED_WRITE],
        ),
        (
            "-- lint: allow unbatched-write because",
            &[rules::UNREASONED_EXCEPTION, rules::UNBATCHED_WRITE],
        ),
        (
            "-- lint: please",
            &[rules::UNREASONED_EXCEPTION, rules::UNBATCHED_WRITE],
        ),
        (
            "-- lint: allow batching because why not",
            &[rules::UNKNOWN_EXCEPTION, rules::UNBATCHED_WRITE],
        ),
        (
            "-- lint: allow lock-table because it is idle",
            &[rules::UNUSED_EXCEPTION, rules::UNBATCHED_WRITE],
        ),
        (
            "-- lint: allow unbatched-write because it has ten rows\n",
            &[rules::UNUSED_EXCEPTION, rules::UNBATCHED_WRITE],
        ),
        // Squawk's comments need no reason, so they do nothing.
        ("-- squawk-ignore-file", &[rules::UNBATCHED_WRITE]),
    ];
    for (comment, expected) in table {
        assert_rules(Kind::Schema, &delete(comment), expected);
    }
    let silenced = "-- squawk-ignore\nDROP TABLE t;";
    assert_rules(Kind::Schema, silenced, &["ban-drop-table"]);
    // An exception is about one statement.
    let two =
        "-- lint: allow unbatched-write because it has ten rows\nDELETE FROM t;\nDELETE FROM u;";
    let findings = lint::script("file.sql", two, Kind::Schema);
    assert_eq!(findings.iter().map(|f| f.line).collect::<Vec<_>>(), [3]);
    // A string is no comment.
    assert_rules(
        Kind::Schema,
        "INSERT INTO t (a) VALUES ('\n-- lint: please\n')",
        &[],
    );
}

#[test]
fn a_background_statement_changes_its_range_of_its_own_table() {
    let table: &[(&str, &[&str])] = &[
        ("UPDATE t SET a = 1 WHERE :range", &[]),
        ("UPDATE only public.t SET a = 1 WHERE :range", &[]),
        (
            "UPDATE t SET a = u.a FROM u WHERE u.id = t.id AND :range",
            &[],
        ),
        (
            "WITH todo AS (SELECT id FROM t WHERE :range FOR UPDATE) UPDATE t SET a = 1 FROM todo WHERE todo.id = t.id",
            &[],
        ),
        ("INSERT INTO u SELECT * FROM t WHERE :range", &[]),
        (
            "UPDATE t SET a = 1, b = :range",
            &[rules::RANGE_LIMITS_NOTHING, rules::UNBATCHED_WRITE],
        ),
        (
            "UPDATE u SET a = 1 FROM t WHERE t.id = u.id AND :range",
            &[rules::LOCKS_OTHER_TABLE],
        ),
        (
            "WITH gone AS (DELETE FROM u) UPDATE t SET a = 1 WHERE :range",
            &[rules::LOCKS_OTHER_TABLE, rules::UNBATCHED_WRITE],
        ),
        (
            "UPDATE t SET a = (SELECT a FROM u WHERE u.id = t.id FOR SHARE) WHERE :range",
            &[rules::LOCKS_OTHER_TABLE],
        ),
        (
            "-- lint: allow locks-other-table because u has three rows\nUPDATE u SET a = 1 FROM t WHERE :range",
            &[],
        ),
    ];
    for (statement, expected) in table {
        let text = migration("-- table: public.t\n-- pending: a IS NULL", statement);
        let definition = Definition::parse("m", &text).unwrap();
        let findings = lint::definition(&definition);
        assert_eq!(rules_of(&findings), *expected, "{statement}: {findings:#?}");
        assert!(
            findings.iter().all(|finding| finding.line == 6),
            "{findings:#?}"
        );
    }
}

#[test]
fn every_part_of_a_change_is_looked_at_where_it_stands() {
    let text = "-- title: T\n-- owner: o\n-- table: t\n-- pending: a IS NULL\n\n\
                -- step: expand\nALTER TABLE t ADD COLUMN a int NOT NULL;\n\
                -- step: backfill\nUPDATE t SET a = 1, b = :range;\n\
                -- step: contract\nALTER TABLE t ALTER COLUMN a SET NOT NULL;\n";
    let definition = Definition::parse("m", text).unwrap();
    let findings = lint::definition(&definition);
    let found: Vec<_> = findings.iter().map(|f| (f.line, f.rule)).collect();
    assert_eq!(
        found,
        [
            (7, "adding-required-field"),
            (9, rules::RANGE_LIMITS_NOTHING),
            (9, rules::UNBATCHED_WRITE),
            (11, "adding-not-nullable-field"),
        ]
    );
}

#[test]
fn every_shipped_file_passes() {
    let findings = lint::schema_files(&schema::shipped());
    assert!(findings.is_empty(), "{findings:#?}");
    for definition in definition::load_all(Path::new("/nowhere")).unwrap() {
        let findings = lint::definition(&definition);
        assert!(findings.is_empty(), "{findings:#?}");
    }
}

#[test]
fn an_unsafe_schema_file_is_refused_by_name() {
    let file = SchemaFile {
        path: "migrations/schema/0099_shop.sql".to_owned(),
        sql: "\nDROP TABLE orders;",
    };
    let refused = Unsafe::refuse(lint::schema_files(&[file])).unwrap_err();
    let text = refused.to_string();
    assert!(
        text.starts_with("migrations/schema/0099_shop.sql:2: ban-drop-table: "),
        "{text}"
    );
    assert!(text.contains("because REASON"), "{text}");
}

#[test]
fn the_command_ends_with_1_when_it_finds_something() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.sql");
    let lint = |sql: &str| {
        std::fs::write(&file, sql).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_evenkeel"));
        let command = command.args(["migrate", "lint", "--json"]).arg(&file);
        let done = command.output().unwrap();
        let found: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
        (done.status.code(), found)
    };
    let (code, judged) = lint("SELECT 1");
    assert_eq!(
        (code, &judged[0]["findings"]),
        (Some(0), &serde_json::json!([]))
    );
    assert_eq!(judged[0]["judged_as"], "script");
    let (code, judged) = lint("-- A note.\nLOCK TABLE t");
    assert_eq!(code, Some(1));
    let found = &judged[0]["findings"];
    assert_eq!(
        (&found[0]["rule"], &found[0]["line"]),
        (&"lock-table".into(), &2.into())
    );
    assert_eq!(found[0]["file"], file.display().to_string());
}

#[test]
fn every_rule_is_documented() {
    let page = include_str!("../../docs/migrations.md");
    let own = rules::OWN.iter().map(|(name, _)| *name);
    let squawk = rules::SQUAWK.iter().map(|(_, name, _)| *name);
    let missing: Vec<_> = own
        .chain(squawk)
        .filter(|name| !page.contains(&format!("| `{name}` |")))
        .collect();
    assert_eq!(missing, [] as [&str; 0]);
    for (rule, name, _) in rules::SQUAWK {
        assert_eq!(rule.to_string(), name);
    }
}

#[test]
fn a_pending_condition_that_proves_nothing_is_named() {
    let rules_of = |pending: &str, allow: &str| {
        let header = format!("-- table: t\n-- pending: {pending}");
        let statement = format!("{allow}UPDATE t SET a = 1 WHERE :range");
        let definition = Definition::parse("m", &migration(&header, &statement)).unwrap();
        let found = lint::definition(&definition).into_iter();
        found.map(|finding| finding.rule).collect::<Vec<_>>()
    };
    assert_eq!(rules_of("at < now()", ""), [rules::PENDING_CHANGES]);
    assert_eq!(rules_of("a = NULL", ""), [rules::NEVER_TRUE]);
    let allow = "-- lint: allow pending-changes-by-itself because rows only grow older\n";
    assert_eq!(rules_of("at < now()", allow), [""; 0]);
    let down = "UPDATE t SET a = 1 WHERE :range;\n-- down\n-- pending: a <> NULL\n\
                UPDATE t SET a = NULL WHERE :range";
    let text = migration("-- table: t\n-- pending: a IS NULL", down);
    let found = lint::definition(&Definition::parse("m", &text).unwrap());
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].rule, found[0].line), (rules::NEVER_TRUE, 9));
}

#[tokio::test]
async fn an_unsafe_migration_is_not_started() {
    let mut fixture = Fixture::with_rows(1).await;
    let text = migration(
        "-- table: t\n-- pending: NOT done",
        "UPDATE t SET done = (:range)",
    );
    let definition = Definition::parse("m", &text).unwrap();
    let refused = control::start(&mut fixture.sql, &definition, "tester").await;
    let Err(ControlError::Unsafe(findings)) = refused else {
        panic!("{refused:?}");
    };
    assert!(
        findings
            .to_string()
            .contains("m.sql:6: range-limits-nothing"),
        "{findings}"
    );
    assert_eq!(fixture.count("SELECT count(*) FROM evenkeel.runs").await, 0);
}

/// Pieces that files are made of, in any order and cut anywhere.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("-- step: expand\n".to_owned()),
        Just("-- step: backfill\n".to_owned()),
        Just("-- lint: allow unbatched-write because é\n".to_owned()),
        Just("-- squawk-ignore\n".to_owned()),
        Just("ALTER TABLE \"T\".t ADD COLUMN a int, VALIDATE CONSTRAINT c;\n".to_owned()),
        Just("CREATE INDEX CONCURRENTLY i ON t (a)".to_owned()),
        Just("WITH x AS (DELETE FROM t) UPDATE t SET a = 1 WHERE :range".to_owned()),
        Just("DO $$ BEGIN UPDATE ".to_owned()),
        "[a-zA-Z:;'\"$()/*,. \n-]{0,12}",
        any::<String>(),
    ];
    (
        prop::collection::vec(piece, 0..6),
        any::<prop::sample::Index>(),
    )
        .prop_map(|(pieces, cut)| {
            let text = pieces.concat();
            let kept = cut.index(text.chars().count() + 1);
            text.chars().take(kept).collect()
        })
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in text()) {
        for kind in [Kind::Raw, Kind::Schema, Kind::Expand, Kind::Contract] {
            let lines = text.lines().count() + 1;
            for finding in lint::script("f", &text, kind) {
                prop_assert!((1..=lines).contains(&finding.line), "{finding:?}");
            }
        }
        let header = "-- title: T\n-- owner: o\n-- table: t\n-- pending: p\n\n";
        if let Ok(definition) = Definition::parse("m", &format!("{header}{text}")) {
            lint::definition(&definition);
        }
    }
}
