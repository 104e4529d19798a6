//! `evenkeel psql`: PostgreSQL's own client on the shop's database.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus};

use embedded_postgres::client_program;
use percent_encoding::percent_decode_str;
use tokio::signal::unix::{SignalKind, signal};
use url::Url;

use super::database::{Database, DatabaseError};
use crate::config::Settings;

/// Open psql on the shop's database.
///
/// An embedded server that runs already is used as it is; otherwise it is started for as long as psql lasts.
/// Everything after `--` is psql's: `evenkeel psql -- -c 'SELECT count(*) FROM orders'`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Make an embedded server with an empty database where there is none, as for restoring a backup.
    #[arg(long)]
    create: bool,
    /// Arguments for psql.
    #[arg(last = true, value_name = "ARGUMENTS")]
    arguments: Vec<std::ffi::OsString>,
}

/// Why psql does not run.
#[derive(Debug, thiserror::Error)]
pub enum PsqlError {
    /// No database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// It is not installed.
    #[error(
        "psql is found neither in PATH nor in /usr/lib/postgresql: install it (Debian, Ubuntu: `apt install \
         postgresql-client`; Fedora: `dnf install postgresql`; macOS: `brew install libpq`), or set PG_BIN_DIR \
         to the directory that holds it"
    )]
    NotFound,
    /// It was found and cannot be run.
    #[error("{} cannot be run: {source}", program.display())]
    NotRun {
        /// What was found.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Runs psql and returns its exit status. Where no server has to be stopped afterwards, psql takes the place
/// of this process.
///
/// # Errors
/// [`PsqlError`] says what to do.
pub async fn run(args: Args, settings: &Settings) -> Result<ExitCode, PsqlError> {
    let program = client_program("psql", settings.database.bin_dir.as_deref());
    let program = program.ok_or(PsqlError::NotFound)?;
    let database = Database::shared_or_new(settings, args.create).await?;
    let mut psql = Command::new(&program);
    let (address, password) = split_password(database.url());
    if let Some(password) = password {
        psql.env("PGPASSWORD", password);
    }
    psql.args(["-d", &address]).args(args.arguments);
    let not_run = |source| PsqlError::NotRun { program, source };
    if !database.is_embedded() {
        return Err(not_run(psql.exec()));
    }
    // Ctrl-C at the terminal is psql's, which cancels a statement by it.
    let interrupts = signal(SignalKind::interrupt());
    let ended = tokio::process::Command::from(psql).status().await;
    drop(interrupts);
    database.close().await?;
    Ok(status(ended.map_err(not_run)?))
}

fn status(ended: ExitStatus) -> ExitCode {
    let code = ended.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// The address without its password, which any user could read among a process's arguments, and the
/// password.
fn split_password(address: &str) -> (String, Option<String>) {
    let Ok(mut url) = Url::parse(address) else {
        return (address.to_owned(), None);
    };
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let mut password = url.password().map(decoded);
    if password.is_some() && url.set_password(None).is_err() {
        return (address.to_owned(), None);
    }
    let query = url.query().unwrap_or_default().to_owned();
    let (given, rest): (Vec<_>, Vec<_>) = query
        .split('&')
        .partition(|pair| pair.starts_with("password="));
    if let Some((_, given)) = given.first().and_then(|pair| pair.split_once('=')) {
        password = Some(decoded(given));
        url.set_query((!rest.is_empty()).then(|| rest.join("&")).as_deref());
    }
    (url.to_string(), password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_no_argument() {
        for (address, expected, password) in [
            (
                "postgres://clerk@db.example/shop",
                "postgres://clerk@db.example/shop",
                None,
            ),
            (
                "postgres://clerk:s3%20cret@db.example:5433/shop?sslmode=require",
                "postgres://clerk@db.example:5433/shop?sslmode=require",
                Some("s3 cret"),
            ),
            (
                "postgres://clerk@db.example/shop?sslmode=require&password=s3cret",
                "postgres://clerk@db.example/shop?sslmode=require",
                Some("s3cret"),
            ),
            (
                "postgres://postgres@%2Fvar%2Flib%2Fsocket:5432/evenkeel",
                "postgres://postgres@%2Fvar%2Flib%2Fsocket:5432/evenkeel",
                None,
            ),
        ] {
            let found = split_password(address);
            assert_eq!(found.0, expected);
            assert_eq!(found.1.as_deref(), password);
        }
    }
}
