//! Commands that read change no schema, and say something useful, whatever database they meet.

use evenkeel::db::schema;
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;

use super::{directory, dump, execute, said};
use crate::migration::fixture::migration;
use crate::migration::process::{evenkeel, evenkeel_on};
use crate::support::server;

/// Every command that reads a database. `DEFS` stands for a directory of definitions.
const COMMANDS: [&[&str]; 17] = [
    &["migrate", "list"],
    &["migrate", "list", "--dir", "DEFS"],
    &["migrate", "plan", "fill", "--dir", "DEFS"],
    &["migrate", "lint", "DEFS"],
    &["migrate", "status"],
    &["migrate", "status", "fill", "--dir", "DEFS"],
    &["migrate", "verify", "fill", "--dir", "DEFS"],
    &["migrate", "certificate", "fill", "--dir", "DEFS"],
    &["migrate", "quarantine", "fill", "--dir", "DEFS"],
    &["migrate", "throttle", "--list"],
    &["incident", "list"],
    &["incident", "show", "0199"],
    &["incident", "report", "0199"],
    &["alert", "list"],
    &["alert", "check"],
    &["alert", "test", "--from-database"],
    &["config"],
];

/// Commands that change what is there, and make nothing to say that it is not there.
const CHANGES: [&[&str]; 8] = [
    &["migrate", "pause", "fill", "--dir", "DEFS"],
    &["migrate", "resume", "fill", "--dir", "DEFS"],
    &["migrate", "cancel", "fill", "--dir", "DEFS"],
    &["migrate", "undo", "fill", "--dir", "DEFS"],
    &["migrate", "throttle", "--remove", "1"],
    &["incident", "ack", "0199"],
    &["incident", "resolve", "0199"],
    &["catalog", "remove-sample"],
];

const TABLE: &str = "CREATE TABLE t (a bigint PRIMARY KEY, n int);
    INSERT INTO t SELECT generate_series(1, 40)";

fn definitions() -> tempfile::TempDir {
    let dir = directory();
    let text = migration(
        "-- table: t\n-- pending: n IS NULL",
        "UPDATE t SET n = 1 WHERE :range",
    );
    std::fs::write(dir.path().join("fill.sql"), text).unwrap();
    dir
}

/// Runs all commands on `database`, reached as `role`; the schema stays as it is.
async fn leave_alone(what: &str, database: &PgConnectOptions, role: Option<&str>) {
    let Some(before) = dump(database) else { return };
    let definitions = definitions();
    let reached = match role {
        Some(role) => database.clone().username(role),
        None => database.clone(),
    };
    for command in COMMANDS.iter().chain(&CHANGES) {
        let arguments: Vec<&str> = command
            .iter()
            .map(|word| match *word {
                "DEFS" => definitions.path().to_str().unwrap(),
                word => word,
            })
            .collect();
        let mut command = evenkeel_on(&reached, &arguments);
        command.current_dir(definitions.path());
        let (code, said) = said(command).await;
        assert!(matches!(code, Some(0 | 1)), "{what}: {arguments:?}: {said}");
        assert!(!said.is_empty(), "{what}: {arguments:?}");
        assert!(!said.contains("SQLSTATE"), "{what}: {arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{what}: {arguments:?}: {said}");
        let after = dump(database).unwrap();
        assert!(
            before == after,
            "{what}: {arguments:?} changed the schema: {said}"
        );
    }
}

#[tokio::test]
async fn a_database_of_somebody_else_stays_as_it_is() {
    let database = server::blank_database().await;
    execute(&database, TABLE).await;
    leave_alone("somebody else's", &database, None).await;
}

#[tokio::test]
async fn an_empty_database_stays_empty() {
    let database = server::blank_database().await;
    leave_alone("empty", &database, None).await;
}

#[tokio::test]
async fn tables_of_the_same_names_are_not_taken_for_ours() {
    let database = server::blank_database().await;
    let tables = format!(
        "{TABLE}; CREATE TABLE products (x int); CREATE TABLE orders (x int); CREATE TABLE accounts (x int)"
    );
    execute(&database, &tables).await;
    leave_alone("the same names", &database, None).await;
    let database = server::blank_database().await;
    let schema = format!("{TABLE}; CREATE SCHEMA evenkeel; CREATE TABLE evenkeel.runs (x int)");
    execute(&database, &schema).await;
    leave_alone("the ledger's name", &database, None).await;
    let (code, said) = said(evenkeel_on(&database, &["migrate", "list"])).await;
    assert_eq!(code, Some(1));
    assert!(
        said.contains("it holds evenkeel.runs, and no ledger"),
        "{said}"
    );
}

#[tokio::test]
async fn a_schema_that_is_partly_there_is_named_and_not_completed() {
    for version in [1, 2, 7] {
        let database = server::blank_database().await;
        execute(&database, TABLE).await;
        let mut conn = database.connect().await.unwrap();
        schema::apply(&mut conn, version).await.unwrap();
        leave_alone("of an earlier version", &database, None).await;
        let (code, said) = said(evenkeel_on(&database, &["migrate", "status"])).await;
        assert_eq!(code, Some(1));
        assert!(
            said.contains("earlier version and lack the steps"),
            "{said}"
        );
        assert!(said.contains("`evenkeel serve`"), "{said}");
    }
}

#[tokio::test]
async fn a_role_that_may_create_nothing_can_look() {
    let database = server::blank_database().await;
    let role = format!("reader_{}", uuid::Uuid::new_v4().simple());
    let rights = format!("CREATE ROLE {role} LOGIN; GRANT SELECT, UPDATE ON t TO {role}");
    execute(&database, &format!("{TABLE}; {rights}")).await;
    leave_alone("a role of little power", &database, Some(&role)).await;
    // One that may not even read is told what to grant.
    let poor = format!("poor_{}", uuid::Uuid::new_v4().simple());
    execute(&database, &format!("CREATE ROLE {poor} LOGIN")).await;
    leave_alone("a role of no power", &database, Some(&poor)).await;
}

#[tokio::test]
async fn a_server_that_is_read_only_can_be_looked_at() {
    let database = server::blank_database().await;
    let name = database.get_database().unwrap().to_owned();
    execute(&database, TABLE).await;
    let read_only = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    execute(&database, &read_only).await;
    leave_alone("read-only", &database, None).await;
    let dir = definitions();
    let start = [
        "migrate",
        "start",
        "fill",
        "--dir",
        dir.path().to_str().unwrap(),
    ];
    let (code, said) = said(evenkeel_on(&database, &start)).await;
    assert!(
        code == Some(1) && said.contains("the server is read-only"),
        "{said}"
    );
}

#[tokio::test]
async fn both_ways_of_naming_a_database_mean_the_same() {
    let database = server::blank_database().await;
    execute(&database, TABLE).await;
    let dir = definitions();
    let list = ["migrate", "list", "--dir", dir.path().to_str().unwrap()];
    let by_variable = said(evenkeel_on(&database, &list)).await;
    let url = crate::migration::process::url(&database);
    let by_flag = [&list[..], &["--database-url", &url]].concat();
    assert_eq!(said(evenkeel(&by_flag)).await, by_variable);
    assert!(by_variable.1.contains("never run"), "{by_variable:?}");
    // What is typed comes before the environment.
    let elsewhere = server::blank_database().await;
    assert_eq!(said(evenkeel_on(&elsewhere, &by_flag)).await, by_variable);
}

#[tokio::test]
async fn a_mistyped_data_directory_is_not_made() {
    let home = directory();
    let data = home.path().join("mistyped");
    for command in COMMANDS.iter().chain(&CHANGES) {
        if command.contains(&"DEFS") || ["config", "alert"].contains(&command[0]) {
            continue;
        }
        let flags = ["--data-dir", data.to_str().unwrap()];
        let mut command = evenkeel(&[command, &flags[..]].concat());
        command.env_remove("EVENKEEL_WATCH__JOURNAL");
        let (code, said) = said(command).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("there is no shop in"), "{said}");
        assert!(said.contains("evenkeel serve --data-dir"), "{said}");
        assert!(!data.exists(), "{said}");
    }
}
