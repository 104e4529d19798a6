//! Files of any shape are read right or refused with their line, and an error of the database names
//! the author's.

use std::path::Path;

use evenkeel::migration::control;
use evenkeel::migration::definition::{self, Definition};
use evenkeel::migration::ledger::State;
use evenkeel::migration::lint::{self, Kind, rules};
use evenkeel::migration::plan::plan;
use evenkeel::migration::runner::End;
use proptest::prelude::*;

use super::fixture::{Fixture, UPDATE, migration, of_t};

const HEADER: &str = "-- table: t\n-- pending: NOT done";

/// A table `t` with a text `body`, and rows of which nothing is done.
async fn with_bodies() -> Fixture {
    let mut fixture = Fixture::with_rows(20).await;
    fixture
        .run("ALTER TABLE t ADD body text NOT NULL DEFAULT '', ADD data jsonb NOT NULL DEFAULT '{\"a\": 1}'")
        .await;
    fixture
}

/// Runs `SET body = value` to its end; what every row holds then.
async fn written(fixture: &mut Fixture, value: &str) -> String {
    let statement = format!("UPDATE t SET done = true, body = {value} WHERE :range;");
    let (end, run) = fixture.migrate(&migration(HEADER, &statement)).await;
    assert_eq!(
        (end, run.state),
        (End::Completed, State::Completed),
        "{value}: {run:?}"
    );
    fixture.run("UPDATE t SET done = false").await;
    let body = "SELECT min(body) FROM t HAVING count(DISTINCT body) = 1";
    sqlx::query_scalar(body)
        .fetch_one(&mut fixture.sql)
        .await
        .unwrap()
}

#[tokio::test]
async fn what_stands_in_a_literal_is_text_and_nothing_else() {
    let mut fixture = with_bodies().await;
    for (value, body) in [
        ("'first line;\nsecond line'", "first line;\nsecond line"),
        ("'it''s; :range'", "it's; :range"),
        ("E'it\\'s;\\n-- down'", "it's;\n-- down"),
        ("E'a'\n  'b\\';'", "ab';"),
        ("U&'\\0441;'", "с;"),
        (
            "$$;\n-- down\n-- step: contract\n$1 :x$$",
            ";\n-- down\n-- step: contract\n$1 :x",
        ),
        ("$tag$ $$ ; $tag$", " $$ ; "),
        ("'\n-- step: expand\n'", "\n-- step: expand\n"),
        ("'C:\\' /* ; /* nested */ :range */", "C:\\"),
        ("'–“”\u{a0}' -- ; :range\n", "–“”\u{a0}"),
        (
            "CASE WHEN data ? 'a' AND data ?| ARRAY['a'] THEN 'has' END",
            "has",
        ),
        ("(ARRAY['a', 'b'])[1:2]::text", "{a,b}"),
    ] {
        assert_eq!(written(&mut fixture, value).await, body, "{value}");
    }
}

#[tokio::test]
async fn a_backslash_is_one_whatever_the_database_says_of_strings() {
    let mut fixture = with_bodies().await;
    fixture
        .run(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET standard_conforming_strings = off', \
             current_database()); END $$",
        )
        .await;
    let mut fixture = Fixture::beside(&fixture).await;
    fixture.run("SET standard_conforming_strings = on").await;
    assert_eq!(written(&mut fixture, "'C:\\'").await, "C:\\");
}

#[tokio::test]
async fn a_file_of_any_editor_is_read_as_it_was_meant() {
    let text = of_t()
        .replace("WHERE", "WHERE\t")
        .replace("-- table", "  --  table");
    for (name, bytes) in [
        ("byte_order_mark", format!("\u{feff}{text}")),
        ("crlf", text.replace('\n', "\r\n")),
        (
            "crlf_and_mark",
            format!("\u{feff}{}", text.replace('\n', "\r\n")),
        ),
        ("lone_cr", text.replace('\n', "\r")),
        ("trailing_spaces", text.replace('\n', "  \t\n")),
        ("no_final_newline", text.trim_end().to_owned()),
        ("empty_lines_first", format!("\n \r\n{text}")),
        (
            "comment_first",
            format!("/* a licence; /* nested */ */\n{text}"),
        ),
        (
            "comment_before_the_statement",
            text.replace("UPDATE", "-- one\n/* two;\n */ UPDATE"),
        ),
        (
            "comment_behind_the_statement",
            format!("{text}; -- done ;\n/* :range */\n;\n"),
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(format!("{name}.sql")), bytes).unwrap();
        let definition = definition::load(dir.path(), name).unwrap_or_else(|err| panic!("{err}"));
        let all = definition::load_all(dir.path()).unwrap();
        assert_eq!(all, std::slice::from_ref(&definition));
        let judged = lint::judge(&dir.path().join(format!("{name}.sql")));
        assert!(
            judged.error.is_none() && judged.findings.is_empty(),
            "{name}: {judged:?}"
        );
        let mut fixture = Fixture::with_rows(30).await;
        let (end, run) = fixture.migrate(&definition.text).await;
        assert_eq!(end, End::Completed, "{name}: {run:?}");
        fixture.assert_exactly_once("t", &run).await;
    }
}

fn refusal(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("m.sql"), bytes).unwrap();
    let refused = definition::load(dir.path(), "m").expect_err("must be refused");
    assert!(refused.line().is_some(), "{refused}");
    refused.to_string()
}

#[test]
fn what_cannot_be_read_right_is_refused_with_its_file_and_line() {
    let text = of_t();
    let with = |from: &str, to: &str| {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        changed.into_bytes()
    };
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let change =
        |sql: &str| format!("-- title: T\n-- owner: o\n\n-- step: expand\n{sql}\n").into_bytes();
    for (bytes, line, said) in [
        ([&[0xFF, 0xFE], utf16.as_slice()].concat(), 1, "UTF-16"),
        (utf16.clone(), 1, "UTF-16"),
        (
            [with("n + 1", "n + 1, a = 'caf"), vec![0xE9]].concat(),
            7,
            "0xE9",
        ),
        (with("n + 1", "n +\0 1"), 6, "NUL"),
        (Vec::new(), 1, "empty"),
        (b" \r\n\t".to_vec(), 1, "empty"),
        (with("done = true", "done =\u{a0}true"), 6, "U+00A0"),
        (with("done = true", "done = ‘t’"), 6, "write '"),
        (with("UPDATE t", "UPDATE\r“t”"), 7, "write \""),
        (with("n + 1", "n – 1"), 6, "write -"),
        (with("-- table", "—- table"), 3, "write -"),
        (with("NOT done", "done = “f”"), 4, "write \""),
        (with("n + 1", "n + $1"), 6, "`$1` is a parameter"),
        (
            with("NOT done", "NOT done AND n < $1"),
            4,
            "`$1` is a parameter",
        ),
        (
            with("n + 1", "n + :step"),
            6,
            "`:step` is a variable of psql",
        ),
        (
            with("n + 1", "n + 1\n, a = 'x"),
            7,
            "string that begins here has no end",
        ),
        (
            with("n + 1", "n + 1 /* /* */"),
            6,
            "comment that begins here has no end",
        ),
        (with("n + 1", "n + 1, a = $x$ b"), 6, "dollar-quoted string"),
        (with("NOT done", "NOT done -- really"), 4, "comment within"),
        (
            with("NOT done", "NOT done)"),
            4,
            "closes what nothing has opened",
        ),
        (
            with("NOT done", "done = 'f"),
            4,
            "string that begins here has no end",
        ),
        (with("WHERE :range", "WHERE ':range'"), 6, "has no `:range`"),
        (
            with("WHERE :range", "WHERE :range\n  OR :range"),
            7,
            "2 times",
        ),
        (with("WHERE :range", "WHERE :RANGE"), 6, "small letters"),
        (
            with("WHERE :range", "WHERE :range;\nUPDATE t SET n = 1"),
            7,
            "more than one statement",
        ),
        (
            with("WHERE :range", "WHERE :range; UPDATE t SET n = 1"),
            6,
            "more than one statement",
        ),
        (
            with("WHERE :range", "WHERE :range;;\n\n'x'"),
            8,
            "more than one statement",
        ),
        (
            with("UPDATE t", "\\restrict abc\nUPDATE t"),
            6,
            "`\\restrict` is a command of psql",
        ),
        (
            with("WHERE :range", "WHERE :range \\gexec"),
            6,
            "`\\gexec` is a command of psql",
        ),
        (
            with("UPDATE t", "/* a */ ALTER TABLE t"),
            6,
            "begins with `ALTER`",
        ),
        (
            with("-- owner: tests", "-- owner tests"),
            2,
            "is not `-- key: value`",
        ),
        (
            with("-- owner: tests", "-- ovner: tests"),
            2,
            "is not known",
        ),
        (
            with("-- table: t", "-- table: t\n-- key: a,,b"),
            4,
            "empty column",
        ),
        (
            with("-- table: t", "-- table: t\n-- key: a\n-- key: b"),
            5,
            "twice",
        ),
        (
            with("-- table: t", "-- table: t\n-- batch_max: 0"),
            4,
            "above zero",
        ),
        (
            with("WHERE :range", "WHERE :range\n-- down\nUPDATE t SET n = 1"),
            8,
            "has no `:range`",
        ),
        (
            with("WHERE :range", "WHERE :range\n-- down\n-- up: x"),
            8,
            "`-- pending: …`",
        ),
        (
            with(
                "WHERE :range",
                "WHERE :range\n--down\nUPDATE t SET n = 0 WHERE :range\n-- down",
            ),
            9,
            "twice",
        ),
        (
            change("\\connect shop"),
            5,
            "`\\connect` is a command of psql",
        ),
        (change("\\i other.sql"), 5, "`\\i` is a command of psql"),
        (
            change("COPY t FROM stdin;\nit's\t1\n\\."),
            6,
            "COPY … FROM stdin",
        ),
        (
            change("ALTER TABLE t ADD a int DEFAULT :x;"),
            5,
            "`:x` is a variable of psql",
        ),
        (
            change("ALTER TABLE t ADD a int;\nALTER TABEL t ADD b int;"),
            6,
            "",
        ),
        (
            change("ALTER TABLE t ADD a int;\n\nALTER TABLE t ADD a int"),
            7,
            "appears twice",
        ),
        (change("BEGIN;"), 5, "transaction of its own"),
        (change("-- down\nSELECT 1;"), 5, "belongs to the backfill"),
        (change("SELECT 1;\n-- step: shrink"), 6, "is not known"),
        (change("SELECT 1;\n-- step: expand"), 6, "comes too late"),
    ] {
        let message = refusal(&bytes);
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let named = message.starts_with(&format!("m.sql:{line}: "))
            || message.contains("m.sql: ") && message.contains(&format!("line {line}: "));
        assert!(named, "line {line} of {shown:?}: {message}");
        assert!(message.contains(said), "{shown:?}: {message}");
    }
}

#[test]
fn a_colon_is_not_always_a_variable_nor_a_comment_always_a_marker() {
    for statement in [
        "UPDATE t SET a = b[1:n]::int[], c = d::range WHERE :range",
        "UPDATE t SET range = f(a := 1, b => 2) WHERE :range",
        "UPDATE t SET a = JSON_OBJECT('k':v) WHERE :range",
        "WITH x AS (SELECT 1) -- down here\nUPDATE t SET a = 1 /*\n-- down\n*/ WHERE :range",
        "INSERT INTO u SELECT * FROM t WHERE :range -- step: none, this is behind SQL",
        "DELETE FROM t WHERE :range AND \"odd;\n-- down\n:range\" > 1;",
    ] {
        let definition = Definition::parse("m", &migration(HEADER, statement));
        let definition = definition.unwrap_or_else(|err| panic!("{err}"));
        assert!(definition.down.is_none(), "{statement}");
        assert_eq!(
            definition.over("(true)").matches("(true)").count(),
            1,
            "{statement}"
        );
    }
    let key = "-- key: \"a,b\", c , \"d \"\" e\"\n-- table: \"S h\".\"T\"";
    let definition =
        Definition::parse("m", &migration(&HEADER.replace("-- table: t", key), UPDATE));
    let definition = definition.unwrap();
    assert_eq!(definition.key, ["\"a,b\"", "c", "\"d \"\" e\""]);
    assert_eq!(definition.table, "\"S h\".\"T\"");
}

#[tokio::test]
async fn an_error_of_the_database_names_the_line_of_the_file() {
    let mut fixture = Fixture::with_rows(20).await;
    let steps = |expand: &str, contract: &str| {
        format!(
            "-- title: T\n-- owner: o\n-- table: t\n-- pending: NOT done\n\n-- step: expand\n{expand}\n\
             -- step: backfill\n{UPDATE};\n-- step: contract\n{contract};\n"
        )
    };
    for (text, said) in [
        (
            of_t().replace("n = n + 1", "m = 1"),
            "line 6, column 27, at `m = 1 WHERE :range`",
        ),
        (
            of_t().replace("SET done", "SETT done"),
            "line 6, column 15, at `done = true",
        ),
        (
            of_t().replace("n + 1", "'ß'::text\r\n  || (1 + true)"),
            "line 7, column 9, at `+ true) WHERE :range`",
        ),
        (
            of_t()
                .replace("UPDATE", "-- 'ß'\n/* ; */\nUPDATE")
                .replace("t SET", "u SET"),
            "line 8, column 8, at `u SET",
        ),
        (
            of_t().replace("NOT done", "NOT finished"),
            "line 4, column 17, at `finished`",
        ),
        (
            of_t().replace("WHERE :range", "WHERE :range AND nothing"),
            "line 6, column 54, at `nothing`",
        ),
        (
            of_t().replace("UPDATE t SET", "UPDATE t AS o SET"),
            "line 3, column 11, at `t`",
        ),
        (
            of_t().replace("WHERE :range", "WHERE :range AND"),
            "at the end of line 6",
        ),
        (
            steps("ALTER TABLE t ADD CHECK (nothing > 0);", "SELECT 1"),
            "; in m.sql, line 7",
        ),
        (
            steps("SELECT 1;", "-- why\nSELECT 'ß', nope FROM t"),
            "line 12, column 13, at `nope FROM t;`",
        ),
    ] {
        let reason = fixture.refusal(&text).await;
        assert!(reason.contains("m.sql"), "{reason}");
        assert!(reason.contains(said), "{said}: {reason}");
        assert!(reason.contains("(SQLSTATE 42"), "{reason}");
        assert!(!reason.contains("at line"), "{reason}");
    }
}

#[tokio::test]
async fn the_way_back_has_lines_of_its_own() {
    let text = format!(
        "{}\n-- down\n-- pending: done AND gone\nUPDATE t SET done = false\nWHERE :range AND lost\n",
        of_t()
    );
    let mut fixture = Fixture::with_rows(20).await;
    for (text, said) in [
        (text.clone(), "line 9, column 22, at `gone`"),
        (
            text.replace(" AND gone", ""),
            "line 11, column 18, at `lost`",
        ),
    ] {
        use evenkeel::migration::ledger::{self, Beginning};
        let start = Beginning::Start(evenkeel::migration::undo::Direction::Down);
        let run = ledger::enqueue_as(&mut fixture.sql, "m", &text, "tester", start)
            .await
            .unwrap();
        assert_eq!(fixture.drive().await, End::Failed);
        let reason = fixture.find(&run).await.error.unwrap();
        assert!(reason.contains(said), "{reason}");
    }
}

#[tokio::test]
async fn a_row_that_breaks_a_rule_is_named_without_its_values_and_with_the_function_at_fault() {
    let mut fixture = Fixture::with_rows(3).await;
    fixture
        .run("ALTER TABLE t ADD secret text DEFAULT 'hush', ADD CONSTRAINT kept CHECK (id < 3 OR NOT done)")
        .await;
    let (_, run) = fixture.migrate(&of_t()).await;
    let error = "SELECT error FROM evenkeel.quarantine ORDER BY id DESC LIMIT 1";
    let told: String = sqlx::query_scalar(error)
        .fetch_one(&mut fixture.sql)
        .await
        .unwrap();
    assert!(
        told.contains("\"kept\"") && told.contains("SQLSTATE 23514"),
        "{told}"
    );
    assert!(
        !told.contains("hush") && !told.contains("at line"),
        "{told}"
    );
    assert!(!run.error.unwrap().contains("hush"));

    fixture
        .run(
            "ALTER TABLE t DROP CONSTRAINT kept;
             CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 RAISE EXCEPTION 'not this one' USING HINT = 'ask first.', DETAIL = E'two\nlines'; END $$;
             CREATE TRIGGER refuse BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION refuse()",
        )
        .await;
    fixture.migrate(&of_t()).await;
    let told: String = sqlx::query_scalar(error)
        .fetch_one(&mut fixture.sql)
        .await
        .unwrap();
    let wanted =
        "not this one (SQLSTATE P0001); two lines; hint: ask first; in PL/pgSQL function refuse()";
    assert!(told.starts_with(wanted), "{told}");
}

#[tokio::test]
async fn a_condition_that_the_database_refuses_is_told_with_its_line_before_anything_is_queued() {
    let mut fixture = Fixture::with_rows(20).await;
    for (header, said) in [
        (
            "-- table: t\n-- pending: NOT finished",
            "in m.sql, line 4, column 17",
        ),
        (
            "-- table: t\n-- where: nothing > 0\n-- pending: NOT done",
            "in m.sql, line 4, column 11",
        ),
    ] {
        let definition = Definition::parse("m", &migration(header, UPDATE)).unwrap();
        let engine = fixture.engine.clone();
        let started = control::start(&mut fixture.sql, &definition, "tester").await;
        let planned = plan(&mut fixture.sql, &definition, &engine).await;
        for told in [
            started.map(drop).unwrap_err().to_string(),
            planned.map(drop).unwrap_err().to_string(),
        ] {
            assert!(told.contains(said), "{told}");
        }
    }
    assert_eq!(fixture.count("SELECT count(*) FROM evenkeel.runs").await, 0);
}

#[test]
fn a_dump_of_today_gives_no_findings() {
    let dump = "--\n-- PostgreSQL database dump\n--\n\n\\restrict 8mRkYd\n\n\
        SET statement_timeout = 0;\nSET lock_timeout = 0;\n\
        SELECT pg_catalog.set_config('search_path', '', false);\n\n\
        CREATE TABLE public.t (id bigint NOT NULL, body text DEFAULT '\\.'::text);\n\n\
        COPY public.t (id, body) FROM stdin;\n1\tit's\n2\t$$ ;\n\\.\n\n\
        ALTER TABLE ONLY public.t ADD CONSTRAINT t_pkey PRIMARY KEY (id);\n\n\\unrestrict 8mRkYd\n";
    let findings = lint::script("dump.sql", dump, Kind::Raw);
    assert_eq!(findings, []);
    // Line breaks of every kind are counted, and places stay what they were.
    for ends in ["\n", "\r\n", "\r"] {
        let text = format!("{dump}DROP TABLE live;\n").replace('\n', ends);
        let findings = lint::script("dump.sql", &text, Kind::Raw);
        let dropped = findings
            .iter()
            .find(|finding| finding.rule == "ban-drop-table");
        assert_eq!(
            dropped.map(|finding| finding.line),
            Some(21),
            "{findings:#?}"
        );
    }
}

#[test]
fn commands_and_variables_of_psql_are_named_once() {
    let text = "\\set n 1\n\\i other.sql\nSELECT :n;\n\\i third.sql\nSELECT 'DROP TABLE t' \\gexec\n\
                \\copy t FROM stdin\nit's\n\\.\nSELECT :'n';\n";
    let findings = lint::script("f.sql", text, Kind::Raw);
    let [finding] = findings.as_slice() else {
        panic!("{findings:#?}");
    };
    assert_eq!((finding.rule, finding.line), (rules::PSQL_COMMAND, 1));
    for name in [
        "\\set (line 1)",
        "\\i (line 2)",
        ":n (line 3)",
        "\\gexec (line 5)",
        "\\copy (line 6)",
        ":'n' (line 9)",
    ] {
        assert_eq!(
            finding.why.matches(name).count(),
            1,
            "{name}: {}",
            finding.why
        );
    }
}

fn any_text() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "-- title: T\n",
        "-- owner: o\n",
        "-- table: t\n",
        "-- pending: x\n",
        "-- down\n",
        "-- step: expand\n",
        "-- step: backfill\n",
        "UPDATE t SET a = 1 WHERE ",
        ":range",
        "'",
        "\"",
        "$$",
        "$a$",
        "/*",
        "*/",
        "--",
        ";",
        "\n",
        "\r",
        "\\",
        "\\.",
        "COPY t FROM stdin;",
        "E'",
        "\u{feff}",
        "é",
        "(",
        ")",
        "[",
        ":",
        "$1",
        "\0",
    ]);
    prop::collection::vec(pieces, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_makes_it_panic_and_tokens_leave_nothing_out(text in any_text()) {
        let tokens = evenkeel::migration::source::tokens(&text);
        prop_assert_eq!(tokens.iter().map(|token| token.text).collect::<String>(), text.clone());
        let (sql, _) = evenkeel::migration::source::psql::strip(&text);
        prop_assert_eq!(sql.len(), text.len());
        if let Ok(definition) = Definition::parse("m", &text) {
            let again = Definition::parse("m", &definition.text).unwrap();
            prop_assert_eq!(&again, &definition);
            prop_assert_eq!(definition.sections().backfill.len(), definition.text.len());
            lint::definition(&definition);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        drop(evenkeel::migration::source::encoding::decode(&bytes));
    }
}

#[test]
fn a_definition_that_was_broken_names_its_line_in_the_lint() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.sql");
    std::fs::write(&path, of_t().replace("owner", "ovner")).unwrap();
    let findings = lint::judge(Path::new(&path)).findings;
    assert_eq!(findings.len(), 1);
    assert_eq!(
        (findings[0].line, findings[0].rule),
        (2, rules::NOT_A_DEFINITION)
    );
}
