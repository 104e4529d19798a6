//! The real binary as a process of its own.

use std::path::PathBuf;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::postgres::PgConnectOptions;
use tokio::process::{Child, Command};

use crate::support::server;

/// The address of `database`, as a person types it.
pub fn url(database: &PgConnectOptions) -> String {
    format!(
        "postgres://{}@localhost:{}/{}?host={}",
        database.get_username(),
        database.get_port(),
        database.get_database().unwrap(),
        database.get_socket().unwrap().display()
    )
}

/// A place for the journal of one process.
fn journal() -> PathBuf {
    server::directory("journals").join(uuid::Uuid::new_v4().to_string())
}

/// The binary with `arguments`, with small batches and a short lease.
pub fn evenkeel(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    command
        .args(arguments)
        .env_remove("DATABASE_URL")
        .env("EVENKEEL_DATABASE__SAMPLE_SHOP", "false")
        .env("EVENKEEL_WATCH__JOURNAL", journal())
        .env("EVENKEEL_MIGRATION__LEASE", "600ms")
        .env("EVENKEEL_MIGRATION__STATEMENT_TIMEOUT", "300ms")
        .env("EVENKEEL_MIGRATION__POLL", "20ms")
        .env("EVENKEEL_MIGRATION__BATCH_FIRST", "20")
        .env("EVENKEEL_MIGRATION__BATCH_MAX", "20")
        .env("EVENKEEL_PACE__ADAPTIVE", "false")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// As [`evenkeel`], on a shop's database.
pub fn evenkeel_on(database: &PgConnectOptions, arguments: &[&str]) -> Command {
    let mut command = evenkeel(arguments);
    command.env("DATABASE_URL", url(database));
    command
}

/// Sends `signal` to `child`.
pub fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id().unwrap()).unwrap();
    kill(Pid::from_raw(pid), signal).unwrap();
}
