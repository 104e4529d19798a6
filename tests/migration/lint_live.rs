//! The lint's table of statements, held against a server: it knows every statement, and each takes the
//! locks, scans and rewrites that the table says.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use evenkeel::migration::lint::effects::Effect;
use evenkeel::migration::lint::table::{self, Lock, On, Work};
use evenkeel::migration::lint::{self, Kind, rules};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row};

use super::lint_stage::{Deed, FILES, Oid, Relation, Said, Stage, mode};
use crate::support::server;

/// The mark of a statement that a transaction block refuses.
const ALONE: &str = "! ";

#[tokio::test]
async fn every_statement_that_psql_has_help_for_is_in_the_table() {
    let database = server::blank_database().await;
    let socket = database.get_socket().unwrap().display().to_string();
    let help = Command::new("psql")
        .args(["-X", "-h", &socket, "-U", database.get_username()])
        .args(["-d", database.get_database().unwrap(), "-c", "\\h *"])
        .output();
    let Ok(help) = help else {
        let required = std::env::var_os("REQUIRE_PSQL").is_some_and(|wanted| wanted == "1");
        assert!(
            !required,
            "psql is not installed, and REQUIRE_PSQL=1 wants it"
        );
        eprintln!("skipped: psql is not installed");
        return;
    };
    let text = String::from_utf8(help.stdout).unwrap();
    let error = String::from_utf8_lossy(&help.stderr);
    let commands = text
        .lines()
        .filter_map(|line| line.strip_prefix("Command:"));
    let all: BTreeSet<&str> = commands.map(str::trim).collect();
    assert!(all.len() > 150, "{text}{error}");
    let known: BTreeSet<&str> = table::all().map(|row| row.name).collect();
    let missing: Vec<_> = all.difference(&known).collect();
    assert_eq!(missing, [] as [&&str; 0]);
}

/// What is wrong with what the table says, in words.
fn differences(
    before: &BTreeMap<Oid, Relation>,
    done: &BTreeMap<Oid, Deed>,
    said: &BTreeMap<Oid, Said>,
    anything: bool,
) -> Vec<String> {
    const WEAK: Lock = Lock::RowExclusive;
    let mut wrong = Vec::new();
    for (oid, relation) in before {
        let said = said.get(oid);
        if said.is_none() && relation.kind == "i" || relation.kind == "I" && said.is_none() {
            continue;
        }
        let name = &relation.name;
        let done = done.get(oid);
        let lock = done.map(|done| done.lock).filter(|lock| *lock > WEAK);
        let claimed = said.map(|said| said.lock).filter(|lock| *lock > WEAK);
        let at_most = said.is_some_and(|said| said.at_most);
        let fits = lock == claimed || at_most && lock < claimed || said.is_none() && anything;
        if !fits {
            wrong.push(format!("{name}: {lock:?} and not {claimed:?}"));
        }
        let (Some(done), Some(said)) = (done, said) else {
            continue;
        };
        let stored = matches!(relation.kind.as_str(), "r" | "m");
        if claimed.is_none() || !stored {
            continue;
        }
        if done.scanned && said.work == Work::Nothing {
            wrong.push(format!("{name} is scanned"));
        }
        if said.work == Work::Scans && !done.scanned && !at_most {
            wrong.push(format!("{name} is not scanned"));
        }
        if done.rewritten && said.work < Work::MayRewrite {
            wrong.push(format!("{name} is rewritten"));
        }
        if said.work == Work::Rewrites && !done.rewritten && !at_most {
            wrong.push(format!("{name} is not rewritten"));
        }
    }
    wrong
}

/// Rules that say that somebody waits for a lock for long.
const LONG: [&str; 14] = [
    rules::REWRITING_TABLE,
    rules::SCAN_UNDER_LOCK,
    rules::ADDING_FILLED_FIELD,
    rules::ADDING_CHECKED_FIELD,
    rules::REFRESH_LOCKS,
    rules::ATTACHING_PARTITION,
    "require-concurrent-index-creation",
    "require-concurrent-reindex",
    "constraint-missing-not-valid",
    "adding-foreign-key-constraint",
    "disallowed-unique-constraint",
    "adding-serial-primary-key-field",
    "adding-field-with-default",
    "adding-not-nullable-field",
];

/// What is wrong with the findings, given what happened.
fn findings(
    sql: &str,
    effects: &[Effect],
    before: &BTreeMap<Oid, Relation>,
    done: &BTreeMap<Oid, Deed>,
) -> Vec<String> {
    let rules = |kind| -> Vec<&str> {
        // What is executed first stands in lines of its own.
        let sql = sql.replace(";; ", ";\n");
        let findings = lint::script("file.sql", &sql, kind).into_iter();
        let last = findings.filter(|finding| finding.line == sql.lines().count());
        last.map(|finding| finding.rule).collect()
    };
    let (raw, expand) = (rules(Kind::Raw), rules(Kind::Expand));
    let sql = sql.rsplit(";; ").next().unwrap_or(sql);
    let writes = [
        "INSERT ",
        "UPDATE ",
        "DELETE ",
        "MERGE ",
        "REFRESH ",
        "CREATE TABLE ",
        "CREATE MATERIALIZED ",
    ];
    let writes = writes.iter().any(|words| sql.starts_with(words)) || sql.contains(" INTO ");
    let waits = |oid: &Oid, lock: Lock| {
        // Nobody writes to a materialized view.
        let view = before.get(oid).is_some_and(|relation| relation.kind == "m");
        lock.is_strong() && (!view || lock == Lock::AccessExclusive)
    };
    let old = |oid: &&Oid| before.get(*oid).is_some_and(|r| r.kind != "c");
    let mut kept = done.iter().filter(|(oid, _)| old(oid));
    let strong = kept.any(|(oid, deed)| waits(oid, deed.lock));
    let stored = |oid: &&Oid| {
        before
            .get(*oid)
            .is_some_and(|r| matches!(r.kind.as_str(), "r" | "m"))
    };
    let tables = done.iter().filter(|(oid, _)| stored(oid));
    let long = tables
        .into_iter()
        .any(|(oid, d)| waits(oid, d.lock) && (d.scanned || d.rewritten));
    let unnamed = effects.iter().any(|effect| {
        let mut touched = effect.touched.iter();
        effect.cascades || touched.any(|t| matches!(t.touch.on, On::Dependents | On::Everything))
    });
    let may = effects.iter().flat_map(|effect| &effect.touched).any(|t| {
        matches!(t.touch.work, Work::Looks | Work::MayScan | Work::MayRewrite)
            && t.touch.lock.is_strong()
    });
    let mut wrong = Vec::new();
    let scanned = done.iter().any(|(oid, deed)| stored(&oid) && deed.scanned);
    if scanned && writes && rules(Kind::Schema).is_empty() {
        wrong.push("reads all of a table without a finding in a schema file".to_owned());
    }
    if raw.contains(&rules::SYNTAX) || raw.contains(&rules::UNKNOWN) {
        wrong.push("unknown to the lint, not to the server".to_owned());
    }
    if strong && raw.is_empty() {
        wrong.push("a strong lock without a finding".to_owned());
    }
    if long && expand.is_empty() {
        wrong.push("long under a strong lock without a finding".to_owned());
    }
    let claims = expand.iter().find(|rule| LONG.contains(rule));
    if let Some(rule) = claims.filter(|_| !long && !may) {
        wrong.push(format!("{rule} although nothing was scanned or rewritten"));
    }
    if !strong && raw.contains(&"require-lock-timeout") && !unnamed {
        wrong.push("require-lock-timeout without a strong lock".to_owned());
    }
    wrong
}

#[tokio::test]
async fn what_the_table_says_is_what_a_server_does() {
    let database = server::blank_database().await;
    let mut stage = Stage::new(&database).await;
    let mut wrong = Vec::new();
    let text = std::fs::read_to_string(format!("{FILES}/statements.sql")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with("--"));
    let (alone, within): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with(ALONE));
    assert!(within.len() + alone.len() >= 150);
    for line in within {
        let mut all = lint::effects_of(line);
        let effects = all.pop().unwrap();
        stage.sql.execute("BEGIN").await.unwrap();
        let (first, sql) = line.rsplit_once(";; ").unwrap_or(("", line));
        let old = stage.relations("pg_stat_xact_user_tables").await;
        stage.sql.execute(AssertSqlSafe(first)).await.unwrap();
        let mut before = stage.relations("pg_stat_xact_user_tables").await;
        // Whatever was created in this transaction is locked as strongly as can be.
        before.retain(|oid, _| old.contains_key(oid));
        let (said, anything) = stage.said(&effects, sql.contains(" ONLY ")).await;
        if let Err(err) = stage.sql.execute(AssertSqlSafe(sql)).await {
            wrong.push(format!("{sql}\n    {err}"));
            stage.sql.execute("ROLLBACK").await.unwrap();
            continue;
        }
        stage
            .sql
            .execute("RESET SESSION AUTHORIZATION; RESET ROLE")
            .await
            .unwrap();
        let locks = stage.locks().await;
        let after = stage.relations("pg_stat_xact_user_tables").await;
        for end in ["ROLLBACK", "DISCARD ALL"] {
            stage.sql.execute(end).await.unwrap();
        }
        let done = deeds(&before, &after, &locks);
        let differences = differences(&before, &done, &said, anything);
        let findings = findings(line, &effects, &before, &done);
        let all = differences.into_iter().chain(findings);
        wrong.extend(all.map(|what| format!("{sql}\n    {what}")));
    }
    for sql in alone {
        let sql = sql.trim_start_matches(ALONE);
        wrong.extend(
            stage
                .alone(sql, &database)
                .await
                .into_iter()
                .map(|what| format!("{sql}\n    {what}")),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn deeds(
    before: &BTreeMap<Oid, Relation>,
    after: &BTreeMap<Oid, Relation>,
    locks: &BTreeMap<Oid, Lock>,
) -> BTreeMap<Oid, Deed> {
    let each = locks.iter().filter_map(|(oid, lock)| {
        let was = before.get(oid)?;
        let is = after.get(oid);
        let deed = Deed {
            lock: *lock,
            scanned: is.is_some_and(|is| is.scans > was.scans),
            rewritten: is.is_some_and(|is| is.file != was.file),
        };
        Some((*oid, deed))
    });
    each.collect()
}

/// The weakest mode that `lock` waits for.
fn opponent(lock: Lock) -> &'static str {
    match lock {
        Lock::AccessShare => "ACCESS EXCLUSIVE",
        Lock::RowShare => "EXCLUSIVE",
        Lock::RowExclusive => "SHARE",
        Lock::ShareUpdateExclusive => "SHARE UPDATE EXCLUSIVE",
        Lock::Share | Lock::ShareRowExclusive => "ROW EXCLUSIVE",
        Lock::Exclusive => "ROW SHARE",
        Lock::AccessExclusive => "ACCESS SHARE",
    }
}

impl Stage {
    /// What is wrong with what the table says of a statement that a transaction block refuses: its lock
    /// is the one that it asks for while another session holds a lock that is in its way.
    async fn alone(&mut self, sql: &str, database: &PgConnectOptions) -> Vec<String> {
        let effects = lint::effects_of(sql).pop().unwrap();
        let statistics = "pg_stat_user_tables";
        let before = self.relations(statistics).await;
        let (said, _) = self.said(&effects, false).await;
        let table = said.iter().find(|(oid, _)| {
            before
                .get(oid)
                .is_some_and(|r| r.kind == "r" || r.kind == "p")
        });
        let mut wrong = Vec::new();
        let mut worker = database.connect().await.unwrap();
        let pid: i32 = worker
            .fetch_one("SELECT pg_backend_pid()")
            .await
            .unwrap()
            .get(0);
        if let Some((oid, said)) = table {
            let block = format!(
                "BEGIN; LOCK TABLE ONLY {} IN {} MODE",
                before[oid].name,
                opponent(said.lock)
            );
            self.other.execute(AssertSqlSafe(block)).await.unwrap();
        }
        let text = sql.to_owned();
        let work = tokio::spawn(async move {
            let done = worker.execute(AssertSqlSafe(text)).await;
            worker
                .execute("SELECT pg_stat_force_next_flush()")
                .await
                .unwrap();
            worker.close().await.unwrap();
            done.map(|_| ())
        });
        if let Some((oid, said)) = table {
            let asked = self.asked(pid, *oid, || work.is_finished()).await;
            if asked != said.lock {
                wrong.push(format!("asks for {asked}, not for {}", said.lock));
            }
            self.other.execute("ROLLBACK").await.unwrap();
        }
        if let Err(err) = work.await.unwrap() {
            wrong.push(err.to_string());
        }
        let after = self.relations(statistics).await;
        for (oid, said) in &said {
            let (Some(was), Some(is)) = (before.get(oid), after.get(oid)) else {
                continue;
            };
            if is.kind == "r" && (said.work == Work::Rewrites) != (is.file != was.file) {
                wrong.push(format!("{}: rewritten: {}", is.name, is.file != was.file));
            }
            if is.kind == "r" && said.work == Work::Scans && is.scans == was.scans {
                wrong.push(format!("{} is not scanned", is.name));
            }
        }
        wrong
    }
}

impl Stage {
    /// The mode in which the session `pid` waits for a relation, unless it has `ended`.
    async fn asked(&mut self, pid: i32, oid: Oid, ended: impl Fn() -> bool) -> Lock {
        let asks = format!(
            "SELECT mode FROM pg_locks WHERE pid = {pid} AND relation = {oid} AND NOT granted"
        );
        loop {
            assert!(!ended(), "it did not wait");
            let asks = AssertSqlSafe(asks.clone());
            if let Some(row) = self.sql.fetch_optional(asks).await.unwrap() {
                return mode(row.get(0));
            }
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn what_a_server_refuses_or_warns_of_outside_a_transaction_needs_one() {
    let database = server::blank_database().await;
    let mut sql = database.connect().await.unwrap();
    sql.execute("CREATE TABLE t (id int)").await.unwrap();
    for statement in [
        "SET LOCAL work_mem = '8MB'",
        "SET LOCAL ROLE postgres",
        "SET TRANSACTION READ ONLY",
        "SET CONSTRAINTS ALL DEFERRED",
        "LOCK TABLE t IN ACCESS SHARE MODE",
        "SAVEPOINT a",
        "RELEASE SAVEPOINT a",
        "ROLLBACK TO SAVEPOINT a",
        "DECLARE c CURSOR FOR SELECT 1",
        "SET work_mem = '8MB'",
        "RESET work_mem",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "SELECT set_config('work_mem', '8MB', false)",
        "SELECT pg_advisory_lock(1)",
        "INSERT INTO t VALUES (1)",
    ] {
        let found = lint::script("file.sql", statement, Kind::Expand);
        let needs = found.iter().any(|f| f.rule == rules::NEEDS_TRANSACTION);
        let said = Command::new("psql")
            .args([
                "-X",
                "-h",
                &database.get_socket().unwrap().display().to_string(),
            ])
            .args([
                "-U",
                database.get_username(),
                "-d",
                database.get_database().unwrap(),
            ])
            .args(["-v", "VERBOSITY=sqlstate", "-c", statement])
            .output();
        let Ok(said) = said else {
            eprintln!("skipped: psql is not installed");
            return;
        };
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        assert_eq!(said.contains("25P01"), needs, "{statement}: {said}");
    }
}

#[tokio::test]
async fn the_functions_that_are_taken_to_be_steady_are_not_volatile() {
    let mut sql = server::blank_database().await.connect().await.unwrap();
    let volatile = "SELECT DISTINCT proname::text FROM pg_proc WHERE provolatile = 'v' AND \
                    pronamespace = 'pg_catalog'::regnamespace";
    let rows = sql.fetch_all(volatile).await.unwrap();
    let volatile: BTreeSet<String> = rows.into_iter().map(|row| row.get(0)).collect();
    let wrong: Vec<_> = lint::steady_functions()
        .filter(|name| volatile.contains(*name))
        .collect();
    assert_eq!(wrong, [] as [&str; 0]);
}
