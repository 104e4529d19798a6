//! The append-only log of incidents.
//!
//! An event is first written to a journal on this machine, a file of JSON lines for each incident,
//! because the database may be what is down; from there it goes to PostgreSQL, where all processes
//! and the command line find it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::fs;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tracing::error;
use uuid::Uuid;

use super::event::Event;
use super::incident::Incident;
use crate::db::embedded::default_data_dir;

/// Why the log of earlier incidents cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The journal's directory.
    #[error(
        "the journal of incidents in {directory}: {source}; make it a directory that this user may write to, or set watch.journal"
    )]
    Journal {
        /// Where it is.
        directory: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Where the journal is if nothing else is said: beside the embedded server's data.
pub fn default_journal() -> PathBuf {
    default_data_dir().with_file_name("evenkeel-incidents")
}

/// The log, as this process knows it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Log {
    directory: Arc<PathBuf>,
    events: Arc<Mutex<HashMap<Uuid, Vec<Event>>>>,
    /// One writer at a time, so that lines stay whole.
    writing: Arc<tokio::sync::Mutex<()>>,
    /// Counts what was appended.
    appended: watch::Sender<u64>,
}

impl Log {
    /// Opens the journal in `directory`, with what an earlier process has left there.
    ///
    /// # Errors
    /// [`LogError::Journal`].
    pub async fn open(directory: PathBuf) -> Result<Self, LogError> {
        let journal = |source| LogError::Journal {
            directory: directory.clone(),
            source,
        };
        fs::create_dir_all(&directory).await.map_err(journal)?;
        let mut events: HashMap<Uuid, Vec<Event>> = HashMap::new();
        let mut files = fs::read_dir(&directory).await.map_err(journal)?;
        while let Some(file) = files.next_entry().await.map_err(journal)? {
            if file.path().extension().is_none_or(|e| e != "jsonl") {
                continue;
            }
            let text = fs::read_to_string(file.path()).await.map_err(journal)?;
            // The last line may be torn: its writer was killed.
            let whole = text
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok());
            for event in whole.collect::<Vec<Event>>() {
                events.entry(event.incident).or_default().push(event);
            }
        }
        Ok(Self {
            directory: Arc::new(directory),
            events: Arc::new(Mutex::new(events)),
            writing: Arc::default(),
            appended: watch::Sender::new(0),
        })
    }

    /// Appends an event. It counts from now on, even if the journal cannot be written: a full disk
    /// must not keep anybody from being told.
    pub async fn append(&self, event: Event) {
        let written = self.write(&event).await;
        if let Err(err) = written {
            error!(%err, incident = %event.incident, "an incident's journal cannot be written");
        }
        self.take(event);
    }

    /// Takes an event that was written elsewhere, unless it is known.
    pub fn take(&self, event: Event) {
        let mut events = self.events.lock();
        let of_incident = events.entry(event.incident).or_default();
        if of_incident.iter().all(|known| known.id != event.id) {
            of_incident.push(event);
            drop(events);
            self.appended.send_modify(|count| *count += 1);
        }
    }

    /// Completes a wait when something has been appended.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.appended.subscribe()
    }

    /// The incident with this identity.
    pub fn incident(&self, id: Uuid) -> Option<Incident> {
        let events = self.events.lock().get(&id).cloned();
        Incident::fold(events?)
    }

    /// All incidents that are known here, oldest first.
    pub fn incidents(&self) -> Vec<Incident> {
        let all: Vec<_> = self.events.lock().values().cloned().collect();
        let mut incidents: Vec<_> = all.into_iter().filter_map(Incident::fold).collect();
        incidents.sort_by_key(|incident| (incident.opened_at, incident.id));
        incidents
    }

    async fn write(&self, event: &Event) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        let path = self.directory.join(format!("{}.jsonl", event.incident));
        let _alone = self.writing.lock().await;
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .await?;
        file.write_all(&line).await?;
        file.sync_data().await
    }
}
