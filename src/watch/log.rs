//! The append-only log of incidents, as one process knows it.
//!
//! An event is first written to the journal on this machine, because the database may be what is
//! down; from there a [`Replicator`](super::replicator::Replicator) takes it to PostgreSQL, where all
//! processes and the command line find it, and brings theirs.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::error;
use uuid::Uuid;

use super::event::{Event, What};
use super::incident::{Incident, Stage, Summary};
use super::journal::Journal;

/// Why the log of earlier incidents cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The journal's directory.
    #[error(
        "the journal of incidents in {directory}: {source}; make it a directory that this user may \
         write to, or set watch.journal"
    )]
    Journal {
        /// Where it is.
        directory: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The log, as this process knows it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Log {
    journal: Journal,
    memory: Arc<Mutex<Memory>>,
    /// How many events are known.
    appended: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Memory {
    /// In the order in which they became known here.
    events: Vec<Event>,
    known: HashSet<Uuid>,
    of_incident: HashMap<Uuid, Vec<usize>>,
    open: HashSet<Uuid>,
}

impl Memory {
    fn take(&mut self, event: Event) {
        if !self.known.insert(event.id) {
            return;
        }
        let (incident, moves) = (event.incident, event.what.moves());
        let place = self.events.len();
        self.of_incident.entry(incident).or_default().push(place);
        self.events.push(event);
        if moves {
            let stage = self.fold(incident, What::moves).map(|folded| folded.stage);
            if stage.is_none_or(|stage| stage == Stage::Resolved) {
                self.open.remove(&incident);
            } else {
                self.open.insert(incident);
            }
        }
    }

    /// The incident that those of its events make that are `wanted`.
    fn fold(&self, incident: Uuid, wanted: impl Fn(&What) -> bool) -> Option<Incident> {
        let places = self.of_incident.get(&incident)?.iter();
        let events = places.filter_map(|place| self.events.get(*place));
        Incident::fold(
            events
                .filter(|event| wanted(&event.what))
                .cloned()
                .collect(),
        )
    }
}

impl Log {
    /// Opens the journal in `directory`, with what an earlier process has left there. Files of
    /// incidents that were over and stored in the database a week ago are removed.
    ///
    /// # Errors
    /// [`LogError::Journal`].
    pub async fn open(directory: PathBuf) -> Result<Self, LogError> {
        let (journal, events) = Journal::open(directory.clone())
            .await
            .map_err(|source| LogError::Journal { directory, source })?;
        let log = Self {
            journal,
            memory: Arc::default(),
            appended: watch::Sender::new(0),
        };
        log.take_all(events);
        Ok(log)
    }

    /// Appends an event. It counts from now on, even if the journal cannot be written: a full disk
    /// must not keep anybody from being told.
    pub async fn append(&self, event: Event) {
        if let Err(err) = self.journal.append(&event).await {
            error!(%err, incident = %event.incident, "an incident's journal cannot be written");
        }
        self.take(event);
    }

    /// Appends an event only if it can be kept: for what a person will be told that it was.
    ///
    /// # Errors
    /// When the journal cannot be written; the event does not count then.
    pub async fn write(&self, event: Event) -> std::io::Result<()> {
        self.journal.append(&event).await?;
        self.take(event);
        Ok(())
    }

    /// Takes an event that was written elsewhere, unless it is known.
    pub fn take(&self, event: Event) {
        self.take_all([event]);
    }

    /// Takes events that were written elsewhere, except those that are known.
    pub fn take_all(&self, events: impl IntoIterator<Item = Event>) {
        let count = {
            let mut memory = self.memory.lock();
            events.into_iter().for_each(|event| memory.take(event));
            memory.events.len()
        };
        self.appended.send_if_modified(|known| {
            let grown = count > *known;
            *known = count.max(*known);
            grown
        });
    }

    /// Completes a wait when something has been appended. The value is how many events are known.
    pub fn subscribe(&self) -> watch::Receiver<usize> {
        self.appended.subscribe()
    }

    /// The incident with this identity.
    pub fn incident(&self, id: Uuid) -> Option<Incident> {
        self.memory.lock().fold(id, |_| true)
    }

    /// All incidents that are known here, oldest first.
    pub fn incidents(&self) -> Vec<Incident> {
        self.fold_all(|_| true)
    }

    /// All incidents that are known here as lists show them, newest first.
    pub fn summaries(&self) -> Vec<Summary> {
        let incidents = self.fold_all(What::moves);
        incidents.iter().rev().map(Incident::summary).collect()
    }

    /// The incidents that are not over as lists show them, oldest first.
    pub fn unresolved(&self) -> Vec<Summary> {
        let memory = self.memory.lock();
        let open = memory.open.iter();
        let folded = open.filter_map(|id| memory.fold(*id, What::moves));
        let mut open: Vec<_> = folded.map(|incident| incident.summary()).collect();
        open.sort_by_key(|incident| (incident.opened_at, incident.id));
        open
    }

    /// Whether some incident is not over.
    pub fn has_open(&self) -> bool {
        !self.memory.lock().open.is_empty()
    }

    /// Takes what other processes of this machine have written to the journal since it was read.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn reread(&self) -> std::io::Result<()> {
        self.take_all(self.journal.news().await?);
        Ok(())
    }

    /// The events that became known here after the first `count`.
    pub(super) fn after(&self, count: usize) -> Vec<Event> {
        let memory = self.memory.lock();
        memory.events.get(count..).unwrap_or_default().to_vec()
    }

    /// The incidents that events are known of.
    pub(super) fn ids(&self) -> Vec<Uuid> {
        self.memory.lock().of_incident.keys().copied().collect()
    }

    pub(super) fn knows(&self, event: Uuid) -> bool {
        self.memory.lock().known.contains(&event)
    }

    /// Says that all that is known of `incident` is in the database; if it is over, its journal is
    /// not needed for ever.
    pub(super) async fn stored(&self, incident: Uuid) -> std::io::Result<()> {
        if self.memory.lock().open.contains(&incident) {
            return Ok(());
        }
        self.journal.mark_stored(incident).await
    }

    fn fold_all(&self, wanted: impl Fn(&What) -> bool) -> Vec<Incident> {
        let mut incidents: Vec<_> = {
            let memory = self.memory.lock();
            let ids = memory.of_incident.keys();
            ids.filter_map(|id| memory.fold(*id, &wanted)).collect()
        };
        incidents.sort_by_key(|incident| (incident.opened_at, incident.id));
        incidents
    }
}
