//! Where the command line finds incidents: the record in the database, or the journal of this machine.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use embedded_postgres::EmbeddedError;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::cli::database::{Database, DatabaseError};
use crate::config::Settings;
use crate::db::contents::Whose;
use crate::watch::event::{Event, Impact};
use crate::watch::impact;
use crate::watch::incident::{Incident, Summary};
use crate::watch::journal;
use crate::watch::log::{Log, LogError};
use crate::watch::postmortem::PostmortemError;
use crate::watch::record::{self, FindError};
use crate::watch::response::Refusal;

/// How long the database may take to answer before the journal is read instead.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why nothing was found or done.
#[derive(Debug, thiserror::Error)]
pub enum IncidentError {
    /// No database, for a reason that the journal does not help with.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Neither a database nor a journal.
    #[error("the database does not answer ({database}), and {journal}")]
    Neither {
        /// Why the database does not.
        database: String,
        /// Why the journal does not.
        journal: LogError,
    },
    /// No such incident.
    #[error(transparent)]
    Find(#[from] FindError),
    /// It cannot be done.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The journal was not written.
    #[error("the journal in {directory} cannot be written: {source}; nothing was entered")]
    Journal {
        /// Where it is.
        directory: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The postmortem was not written.
    #[error(transparent)]
    Postmortem(#[from] PostmortemError),
    /// The database refused.
    #[error("the database refused: {}", pool::describe(.0))]
    Sql(#[from] sqlx::Error),
    /// No JSON can be made of it.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// Where incidents are found.
pub(super) enum Source {
    /// In the database.
    Record(Box<(PgConnection, Database)>),
    /// On this machine.
    Journal(Log, PathBuf),
}

impl Source {
    /// The record, or the journal when the database does not answer, which is then said.
    pub(super) async fn open(settings: &Settings) -> Result<Self, IncidentError> {
        let problem = match connect(settings).await {
            Ok(found) => return Ok(Self::Record(Box::new(found))),
            // A journal that somebody has named, or that is left of a data directory, is read all the same.
            Err(DatabaseError::NoCluster(dir)) if !journal::directory(settings).is_dir() => {
                return Err(DatabaseError::NoCluster(dir).into());
            }
            Err(err) => absence(err)?,
        };
        let directory = journal::directory(settings);
        let log = Log::open(directory.clone()).await;
        let log = log.map_err(|journal| IncidentError::Neither {
            database: problem.clone(),
            journal,
        })?;
        eprintln!(
            "the database does not answer ({problem}): this is what the journal in {} knows. What you \
             enter is written there, and comes to the database when a shop process reaches it again",
            directory.display()
        );
        Ok(Self::Journal(log, directory))
    }

    pub(super) async fn list(&mut self, limit: u32) -> Result<Vec<Summary>, IncidentError> {
        match self {
            Self::Record(found) => Ok(record::list(&mut found.0, limit.into()).await?),
            Self::Journal(log, _) => {
                let mut summaries = log.summaries();
                summaries.truncate(limit as usize);
                Ok(summaries)
            }
        }
    }

    /// The incident whose identity begins with `given`.
    pub(super) async fn find(&mut self, given: &str) -> Result<Incident, IncidentError> {
        match self {
            Self::Record(found) => {
                let id = record::identify(&mut found.0, given).await?;
                Ok(record::find(&mut found.0, id).await?)
            }
            Self::Journal(log, _) => {
                let known: Vec<Uuid> = log.summaries().iter().map(|known| known.id).collect();
                let id = record::identify_among(&known, given)?;
                let unknown = || FindError::Unknown(given.to_owned());
                Ok(log.incident(id).ok_or_else(unknown)?)
            }
        }
    }

    pub(super) async fn append(&mut self, event: Event) -> Result<(), IncidentError> {
        match self {
            Self::Record(found) => Ok(record::store(&mut found.0, &[event]).await?),
            Self::Journal(log, directory) => {
                log.write(event)
                    .await
                    .map_err(|source| IncidentError::Journal {
                        directory: directory.clone(),
                        source,
                    })
            }
        }
    }

    /// What `incident` has cost by its readings and, where the database can say, by its orders.
    pub(super) async fn impact(&mut self, incident: &Incident, now: DateTime<Utc>) -> Impact {
        let end = incident.recovered_at.unwrap_or(now);
        let trade = match self {
            Self::Record(found) => impact::orders::trade(&mut found.0, incident.opened_at, end)
                .await
                .unwrap_or_else(|err| {
                    let why = pool::describe(&err);
                    eprintln!("what orders were lost is estimated from failed requests: {why}");
                    None
                }),
            Self::Journal(..) => None,
        };
        impact::impact(&impact::felt(&incident.events, end), trade.as_ref())
    }

    /// Lets go of the database; a server that was started for this ends.
    pub(super) async fn close(self) -> Result<(), IncidentError> {
        if let Self::Record(found) = self {
            let (conn, database) = *found;
            // It is about to be gone anyway.
            let _ = conn.close().await;
            database.close().await?;
        }
        Ok(())
    }
}

async fn connect(settings: &Settings) -> Result<(PgConnection, Database), DatabaseError> {
    let database = Database::shared(settings).await?;
    let ping = async {
        PgConnection::connect_with(&database.options)
            .await?
            .close()
            .await
    };
    let answer = tokio::time::timeout(PATIENCE, ping).await;
    let answer = answer.unwrap_or_else(|_| {
        let silent = format!("no answer within {PATIENCE:?}");
        Err(sqlx::Error::Io(std::io::Error::other(silent)))
    });
    answer.map_err(|err| database.unreachable(err))?;
    let (conn, contents) = database.record().await?;
    if contents.whose != Whose::Shops {
        let database = contents.database;
        eprintln!("database {database} holds no shop, so nobody keeps a record of incidents there");
    }
    Ok((conn, database))
}

/// In a few words, that the database is down; or the error, if it is another one.
fn absence(err: DatabaseError) -> Result<String, DatabaseError> {
    match err {
        DatabaseError::Unreachable(err) => Ok(err.to_string()),
        DatabaseError::Asked(err) => Ok(pool::describe(&err)),
        // By a shop whose server was just tried in vain.
        DatabaseError::Embedded(EmbeddedError::InUse { .. }) => {
            Ok("the server of the shop that runs here is down".to_owned())
        }
        DatabaseError::Embedded(err) => Ok(err.to_string()),
        none @ DatabaseError::NoCluster(_) => Ok(none.to_string()),
        other => Err(other),
    }
}
