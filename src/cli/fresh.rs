//! `--fresh`: nobody's data is deleted without a word.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use sqlx::Executor;
use sqlx::postgres::PgConnection;

use super::database::{Database, DatabaseError};
use crate::config::Settings;

/// Why the data was not deleted.
#[derive(Debug, thiserror::Error)]
pub enum FreshError {
    /// There is nobody to ask.
    #[error(
        "--fresh would delete all data in {}: {lost}. Say --yes as well if that is meant; nothing was deleted",
        dir.display()
    )]
    NobodyToAsk {
        /// The data directory.
        dir: PathBuf,
        /// What would be lost.
        lost: String,
    },
    /// The answer was not yes.
    #[error("nothing was deleted")]
    Refused,
    /// The terminal could not be used.
    #[error("cannot ask: {0}; nothing was deleted")]
    Terminal(#[from] std::io::Error),
    /// There is no such data, or somebody uses it.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Asks at the terminal whether the embedded server's data may be deleted, and says what is in it. Where
/// there is no data, nothing is asked.
///
/// # Errors
/// [`FreshError`] unless somebody has said yes.
pub(super) async fn consent(settings: &Settings) -> Result<(), FreshError> {
    if settings.database.url.is_some() {
        return Err(DatabaseError::FreshElsewhere.into());
    }
    let dir = super::database::data_dir(&settings.database);
    if !embedded_postgres::has_cluster(&dir) {
        return Ok(());
    }
    let lost = lost(settings).await;
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(FreshError::NobodyToAsk { dir, lost });
    }
    eprint!(
        "--fresh deletes all data in {}: {lost}.\nType yes to delete it: ",
        dir.display()
    );
    std::io::stderr().flush()?;
    let mut answer = String::new();
    // There is nothing else to do meanwhile, and Ctrl-C ends the process.
    std::io::stdin().read_line(&mut answer)?;
    match answer.trim().eq_ignore_ascii_case("yes") {
        true => Ok(()),
        false => Err(FreshError::Refused),
    }
}

/// What is in the data, as far as it can be told: a server that does not start is a reason for --fresh.
async fn lost(settings: &Settings) -> String {
    let database = match Database::shared(settings).await {
        Ok(database) => database,
        Err(err) => return format!("what it holds cannot be counted ({err})"),
    };
    let counted = match database.open().await {
        Ok(mut conn) => count(&mut conn).await,
        Err(err) => Err(err.to_string()),
    };
    // What it says about its end has no bearing on what is in it.
    let _ = database.close().await;
    counted.unwrap_or_else(|err| format!("what it holds cannot be counted ({err})"))
}

async fn count(conn: &mut PgConnection) -> Result<String, String> {
    let mut counts = Vec::new();
    for table in ["products", "orders", "accounts"] {
        let sql = format!("SELECT count(*) FROM {table}");
        let row = conn.fetch_one(sqlx::AssertSqlSafe(sql)).await;
        let number = row.and_then(|row| sqlx::Row::try_get::<i64, _>(&row, 0));
        let number = number.map_err(|err| pool::describe(&err))?;
        counts.push(format!("{number} {table}"));
    }
    Ok(counts.join(", "))
}
