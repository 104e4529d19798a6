//! The journal of incidents: a directory on this machine with a file of JSON lines per incident.
//!
//! Several processes may write to it at once: the service and the command line. Each line is written
//! in one piece at the end of the file; a line that was torn by a kill or a full disk is ended by
//! whoever writes next and counts for nothing.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use sqlx::postgres::PgConnectOptions;
use tracing::warn;
use uuid::Uuid;

use super::event::Event;
use crate::config::{Settings, directories};

/// How long the file of an incident is kept that is over and in the database.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// Of an incident's events.
const EVENTS: &str = "jsonl";
/// Of the note that says how much of them is in the database.
const STORED: &str = "stored";

/// A directory of journals. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Journal(Arc<Files>);

#[derive(Debug)]
struct Files {
    directory: PathBuf,
    /// How much of each incident's file has been read; held while one is read or written.
    read: Mutex<HashMap<Uuid, u64>>,
}

/// Where the journal of a process with these settings is: `watch.journal`, or `incidents` in the data
/// directory of the embedded server, or for another server a directory of its own in the user's
/// state directory.
pub fn directory(settings: &Settings) -> PathBuf {
    if let Some(directory) = &settings.watch.journal {
        return directory.clone();
    }
    let database = &settings.database;
    match &database.url {
        None => {
            let data = database.data_dir.clone().unwrap_or_else(directories::data);
            data.join("incidents")
        }
        Some(url) => directories::state().join(place(url)),
    }
}

/// A name for the database that `url` names, so that two shops on a machine keep apart.
fn place(url: &str) -> String {
    let Ok(options) = url.parse::<PgConnectOptions>() else {
        return "unknown".to_owned();
    };
    let host = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => options.get_host().to_owned(),
    };
    let database = options.get_database().unwrap_or(options.get_username());
    let name = format!("{host}-{}-{database}", options.get_port());
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let name: String = name
        .trim_start_matches('/')
        .chars()
        .map(|c| if plain(c) { c } else { '_' })
        .collect();
    // A path's longest component has 255 bytes; the end tells more than the beginning.
    name.chars().skip(name.len().saturating_sub(200)).collect()
}

impl Journal {
    /// Opens the journal in `directory` and reads all of it.
    pub(super) async fn open(directory: PathBuf) -> io::Result<(Self, Vec<Event>)> {
        let journal = Self(Arc::new(Files {
            directory,
            read: Mutex::default(),
        }));
        let events = journal
            .blocking(|files| {
                fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(&files.directory)?;
                files.tidy(SystemTime::now())?;
                files.news()
            })
            .await?;
        Ok((journal, events))
    }

    /// Writes an event to the disk.
    pub(super) async fn append(&self, event: &Event) -> io::Result<()> {
        let incident = event.incident;
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        self.blocking(move |files| files.append(incident, &line))
            .await
    }

    /// The events that were written since the last call, by this process or others.
    pub(super) async fn news(&self) -> io::Result<Vec<Event>> {
        self.blocking(Files::news).await
    }

    /// Notes that all that has been read of an incident's file is in the database.
    pub(super) async fn mark_stored(&self, incident: Uuid) -> io::Result<()> {
        self.blocking(move |files| {
            let read = files.read.lock().get(&incident).copied();
            let (Some(read), path) = (read, files.path(incident, STORED)) else {
                return Ok(());
            };
            // The note's age is that of the last news.
            if fs::read_to_string(&path).is_ok_and(|noted| noted == read.to_string()) {
                return Ok(());
            }
            fs::write(path, read.to_string())
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let files = self.0.clone();
        let done = tokio::task::spawn_blocking(move || work(&files)).await;
        done.map_err(io::Error::other)?
    }
}

impl Files {
    fn path(&self, incident: Uuid, extension: &str) -> PathBuf {
        self.directory.join(format!("{incident}.{extension}"))
    }

    /// The incidents that have a file.
    fn incidents(&self) -> io::Result<Vec<Uuid>> {
        let mut incidents = Vec::new();
        for file in fs::read_dir(&self.directory)? {
            let path = file?.path();
            let name = path.file_stem().and_then(|name| name.to_str());
            if path
                .extension()
                .is_some_and(|extension| extension == EVENTS)
                && let Some(incident) = name.and_then(|name| name.parse().ok())
            {
                incidents.push(incident);
            }
        }
        Ok(incidents)
    }

    fn append(&self, incident: Uuid, line: &[u8]) -> io::Result<()> {
        let _alone = self.read.lock();
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .mode(0o600)
            .open(self.path(incident, EVENTS))?;
        let mut whole = Vec::with_capacity(line.len() + 1);
        if is_torn(&mut file)? {
            whole.push(b'\n');
        }
        whole.extend_from_slice(line);
        file.write_all(&whole)?;
        file.sync_data()
    }

    fn news(&self) -> io::Result<Vec<Event>> {
        let mut read = self.read.lock();
        let mut events = Vec::new();
        for incident in self.incidents()? {
            let from = read.entry(incident).or_default();
            let path = self.path(incident, EVENTS);
            if fs::metadata(&path)?.len() <= *from {
                continue;
            }
            let bytes = read_from(&path, *from)?;
            // What follows the last line's end is being written, or torn.
            let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else {
                continue;
            };
            for line in bytes[..end].split(|byte| *byte == b'\n') {
                events.extend(parse(line, &path));
            }
            *from += end as u64 + 1;
        }
        Ok(events)
    }

    /// Removes what has been in the database for long enough, unless something was added since.
    fn tidy(&self, now: SystemTime) -> io::Result<()> {
        for incident in self.incidents()? {
            let (events, stored) = (self.path(incident, EVENTS), self.path(incident, STORED));
            let Ok(mark) = fs::metadata(&stored) else {
                continue;
            };
            let length: Option<u64> = fs::read_to_string(&stored)?.trim().parse().ok();
            let age = now.duration_since(mark.modified()?).unwrap_or_default();
            if age >= KEPT && length == Some(fs::metadata(&events)?.len()) {
                fs::remove_file(&events)?;
                fs::remove_file(&stored)?;
            }
        }
        Ok(())
    }
}

/// Whether the last line has no end.
fn is_torn(file: &mut fs::File) -> io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

fn read_from(path: &Path, from: u64) -> io::Result<Vec<u8>> {
    let mut file = fs::File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse(line: &[u8], path: &Path) -> Option<Event> {
    if line.iter().all(u8::is_ascii_whitespace) {
        return None;
    }
    match serde_json::from_slice(line) {
        Ok(event) => Some(event),
        Err(err) => {
            warn!(%err, path = %path.display(), "a line of the journal is no event: torn, or of a newer version");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_database_has_a_journal_of_its_own_that_tells_no_secret() {
        let mut settings = Settings::default();
        let mut of = |url: &str| {
            settings.database.url = Some(url.to_owned());
            directory(&settings)
        };
        let one = of("postgres://ana:secret@db.example.org/shop");
        assert_eq!(one.file_name().unwrap(), "db.example.org-5432-shop");
        assert_ne!(one, of("postgres://ana:secret@db.example.org:5433/shop"));
        assert_ne!(one, of("postgres://ana:secret@db.example.org/other"));
        let odd = of("postgres://ana@localhost/%2e%2e%2fx?host=/run/postgresql");
        assert_eq!(odd.parent(), one.parent());
        assert!(!odd.ends_with(".."), "{odd:?}");
    }

    #[test]
    fn an_embedded_server_has_it_beside_its_data() {
        let mut settings = Settings::default();
        settings.database.data_dir = Some("/data".into());
        assert_eq!(directory(&settings), Path::new("/data/incidents"));
        settings.watch.journal = Some("/elsewhere".into());
        assert_eq!(directory(&settings), Path::new("/elsewhere"));
    }
}
