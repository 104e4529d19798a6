//! Nothing is done where nobody asked for it: to databases and data of somebody else, and to real shops.

mod backup;
mod fresh;
mod load;
mod reading;
mod schema;

use std::process::{Command as Blocking, Output, Stdio};

use embedded_postgres::client_program;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use tokio::process::{Child, Command};

use crate::migration::process::{evenkeel, url};
use crate::support::eventually;

/// How a command ended, and all that it said.
async fn said(mut command: Command) -> (Option<i32>, String) {
    let output: Output = command.stdout(Stdio::piped()).output().await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

/// The schema of a database, as pg_dump writes it; `None` where that is not installed.
fn dump(database: &PgConnectOptions) -> Option<String> {
    let Some(pg_dump) = client_program("pg_dump", None) else {
        let required = std::env::var_os("REQUIRE_PSQL").is_some_and(|wanted| wanted == "1");
        assert!(
            !required,
            "pg_dump is not installed, and REQUIRE_PSQL=1 wants it"
        );
        eprintln!("skipped: pg_dump is not installed");
        return None;
    };
    let dumped = Blocking::new(pg_dump)
        .args(["--schema-only", &url(database)])
        .output()
        .unwrap();
    let text = String::from_utf8(dumped.stdout).unwrap();
    let problem = String::from_utf8_lossy(&dumped.stderr);
    assert!(dumped.status.success(), "{problem}");
    // Each dump has another key against what a hostile server could write into it.
    let lines = text.lines();
    let lines = lines.filter(|line| !line.contains("restrict "));
    Some(lines.collect::<Vec<_>>().join("\n"))
}

async fn execute(database: &PgConnectOptions, sql: &str) {
    let mut conn = database.connect().await.unwrap();
    let done = conn.execute(AssertSqlSafe(sql.to_owned())).await;
    done.unwrap_or_else(|err| panic!("{err}: {sql}"));
}

async fn count(database: &PgConnectOptions, table: &str) -> i64 {
    let mut conn = database.connect().await.unwrap();
    let sql = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
    sqlx::query_scalar(sql).fetch_one(&mut conn).await.unwrap()
}

/// `evenkeel serve` with `arguments`, on free ports.
fn serve(arguments: &[&str]) -> Command {
    let ports = ["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"];
    evenkeel(&[&["serve"], &ports[..], arguments].concat())
}

/// A shop on an embedded server in `data`, once it can be reached, and its database.
async fn embedded_shop(data: &str, arguments: &[&str]) -> (Child, PgConnectOptions) {
    started(serve(&[&["--data-dir", data], arguments].concat()), data).await
}

/// What `command` starts on an embedded server in `data`, once it can be reached, and its database.
async fn started(mut command: Command, data: &str) -> (Child, PgConnectOptions) {
    let child = command.spawn().unwrap();
    let address = std::path::Path::new(data).join("url");
    let database = eventually("a shop with tables", async || {
        let url = std::fs::read_to_string(&address).ok()?;
        let options: PgConnectOptions = url.parse().ok()?;
        let mut conn = options.connect().await.ok()?;
        let ready = "SELECT count(*) > 0 FROM evenkeel.readings";
        let ready: bool = sqlx::query_scalar(ready).fetch_one(&mut conn).await.ok()?;
        ready.then_some(options)
    });
    (child, database.await)
}

/// Ends a shop in order, so that its server is gone as well.
async fn stop(mut shop: Child) {
    crate::migration::process::signal(&shop, nix::sys::signal::Signal::SIGINT);
    shop.wait().await.unwrap();
}

/// A directory that the server's account can enter when the tests run as root.
fn directory() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}
