//! Incidents for whoever asks within a shop's process: from its own log, which needs no database, and
//! what that does not know from the record.

use chrono::Utc;
use pool::{Class, Pool, PoolError};
use uuid::Uuid;

use super::event::Event;
use super::impact;
use super::incident::{Incident, Summary};
use super::log::Log;
use super::record::{self, FindError};
use super::response::{self, Refusal};

/// Incidents of a list.
const MOST: usize = 200;

/// Why nothing was found or done.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// No such incident.
    #[error(transparent)]
    Find(#[from] FindError),
    /// It cannot be done.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No connection.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The database refused.
    #[error("{}", pool::summarize(.0))]
    Database(#[from] sqlx::Error),
}

/// Incidents as a process knows them. Cheap to make.
#[derive(Clone, Copy)]
pub struct Register<'a> {
    /// Its log, if it keeps one.
    pub log: Option<&'a Log>,
    /// The database, for what the log does not know.
    pub pool: &'a Pool,
}

impl Register<'_> {
    /// The newest incidents, newest first.
    ///
    /// # Errors
    /// [`RegisterError`], only without a log.
    pub async fn list(self) -> Result<Vec<Summary>, RegisterError> {
        if let Some(log) = self.log {
            let mut summaries = log.summaries();
            summaries.truncate(MOST);
            return Ok(summaries);
        }
        self.pool
            .run(Class::Background, async |conn| {
                Ok(record::list(conn, MOST as i64).await?)
            })
            .await
    }

    /// The incident `id` with all its events.
    ///
    /// # Errors
    /// [`RegisterError`].
    pub async fn find(self, id: Uuid) -> Result<Incident, RegisterError> {
        if let Some(incident) = self.log.and_then(|log| log.incident(id)) {
            return Ok(incident);
        }
        self.pool
            .run(Class::Background, async |conn| {
                Ok(record::find(conn, id).await?)
            })
            .await
    }

    /// `by` takes care; the incident after that.
    ///
    /// # Errors
    /// [`RegisterError`].
    pub async fn acknowledge(self, id: Uuid, by: &str) -> Result<Incident, RegisterError> {
        let incident = self.find(id).await?;
        let event = response::acknowledge(&incident, by, "http")?;
        self.append(incident, event).await
    }

    /// `by` says something; the incident after that.
    ///
    /// # Errors
    /// [`RegisterError`].
    pub async fn note(self, id: Uuid, by: &str, text: &str) -> Result<Incident, RegisterError> {
        let incident = self.find(id).await?;
        let event = response::note(&incident, by, text)?;
        self.append(incident, event).await
    }

    /// `by` allows what the watch asked for last; the incident after that.
    ///
    /// # Errors
    /// [`RegisterError`].
    pub async fn allow(self, id: Uuid, by: &str) -> Result<Incident, RegisterError> {
        let incident = self.find(id).await?;
        let event = response::allow(&incident, by)?;
        self.append(incident, event).await
    }

    /// `by` says that it is over; the incident after that. Its cost is summed up from the readings,
    /// and the orders that were lost from the database, if that answers.
    ///
    /// # Errors
    /// [`RegisterError`].
    pub async fn resolve(self, id: Uuid, by: &str) -> Result<Incident, RegisterError> {
        let incident = self.find(id).await?;
        let end = incident.recovered_at.unwrap_or_else(Utc::now);
        let trade = self
            .pool
            .run(Class::Background, async |conn| {
                Ok::<_, RegisterError>(impact::orders::trade(conn, incident.opened_at, end).await?)
            })
            .await;
        let felt = impact::felt(&incident.events, end);
        let impact = impact::impact(&felt, trade.ok().flatten().as_ref());
        let event = response::resolve(&incident, by, impact)?;
        self.append(incident, event).await
    }

    async fn append(self, incident: Incident, event: Event) -> Result<Incident, RegisterError> {
        match self.log {
            Some(log) => log.append(event.clone()).await,
            None => {
                self.pool
                    .run(Class::Background, async |conn| {
                        Ok::<_, RegisterError>(
                            record::store(conn, std::slice::from_ref(&event)).await?,
                        )
                    })
                    .await?;
            }
        }
        let mut events = incident.events.clone();
        events.push(event);
        // It has a beginning, so that the fold succeeds.
        Ok(Incident::fold(events).unwrap_or(incident))
    }
}
