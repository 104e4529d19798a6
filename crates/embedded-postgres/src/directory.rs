//! The data directory: who holds it, whether it is ours, and what a killed process left in it.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::account::{self, Account};
use crate::{EmbeddedError, PORT};

const LOCK: &str = "lock";
const MARKER: &str = "evenkeel-cluster";
const MARKER_TEXT: &str = "evenkeel made this directory and may delete the cluster in it.\n";
/// Prefix of what is not, or no longer, a cluster: an unfinished initdb, an unfinished deletion.
const DEBRIS: &str = "unfinished-";
/// A server whose process was killed gets 5 s to shut down before its supervisor insists.
const LEFTOVER_PATIENCE: Duration = Duration::from_secs(15);
/// The shortest limit of a unix socket's path among the supported systems (macOS; Linux: 107).
const SOCKET_PATH_MAX: usize = 103;

/// A data directory that this process holds alone, until it is dropped.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    path: PathBuf,
    _lock: File,
}

impl DataDirectory {
    /// Creates the directory if need be and locks it.
    pub(crate) async fn open(path: &Path, account: &Account) -> Result<Self, EmbeddedError> {
        let path = std::path::absolute(path).map_err(EmbeddedError::io("resolve", path))?;
        account::create_dir(&path)?;
        check_ours(&path)?;
        account.check_reaches(&path).await?;
        let lock = lock(&path).await?;
        let marker = path.join(MARKER);
        if !marker.exists() {
            fs::write(&marker, MARKER_TEXT).map_err(EmbeddedError::io("write", &marker))?;
        }
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn pgdata(&self) -> PathBuf {
        pgdata(&self.path)
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.path.join("postgres.log")
    }

    /// The major version of PostgreSQL that made the data; `None` if there is no data.
    pub(crate) fn major(&self) -> Result<Option<u32>, EmbeddedError> {
        let file = self.pgdata().join("PG_VERSION");
        match fs::read_to_string(&file) {
            Ok(text) => text.trim().parse().map(Some).map_err(|_| {
                let problem = std::io::Error::new(ErrorKind::InvalidData, "not a major version");
                EmbeddedError::io("understand", &file)(problem)
            }),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(EmbeddedError::io("read", &file)(e)),
        }
    }

    /// Makes an empty cluster. It gets its name only when it is complete, so that a killed
    /// initdb leaves no half of one.
    pub(crate) async fn initdb(
        &self,
        bin_dir: &Path,
        account: &Account,
    ) -> Result<(), EmbeddedError> {
        let unfinished = self.debris_dir()?;
        account.own(unfinished.path())?;
        let mut initdb = account.command(bin_dir.join("initdb"));
        initdb
            .args(["--auth=trust", "--encoding=UTF8", "--no-locale"])
            .args(["-U", crate::SUPERUSER, "-D"])
            .arg(unfinished.path());
        account::run(initdb).await?;
        let finished = self.pgdata();
        fs::rename(unfinished.keep(), &finished).map_err(EmbeddedError::io("create", &finished))
    }

    /// Deletes the cluster.
    pub(crate) async fn clear(&self) -> Result<(), EmbeddedError> {
        let pgdata = self.pgdata();
        if !pgdata.exists() {
            return Ok(());
        }
        // Renamed first, so that a killed deletion leaves no half of a cluster.
        let debris = self.debris_dir()?.keep();
        let moved = debris.join("pgdata");
        fs::rename(&pgdata, &moved).map_err(EmbeddedError::io("delete", &pgdata))?;
        blocking(move || fs::remove_dir_all(&debris).map_err(EmbeddedError::io("delete", &debris)))
            .await
    }

    /// Deletes what killed processes left unfinished, as far as that succeeds.
    pub(crate) async fn remove_debris(&self) {
        let Ok(entries) = fs::read_dir(&self.path) else {
            return;
        };
        for entry in entries.flatten() {
            if entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(DEBRIS.as_bytes())
            {
                // An initdb that outlives its process may still be writing; the next start
                // deletes what it leaves.
                blocking(move || {
                    let _ = fs::remove_dir_all(entry.path());
                })
                .await;
            }
        }
    }

    /// Waits for the end of a server that a killed process left behind: its supervisor is
    /// stopping it.
    pub(crate) async fn wait_for_leftover_server(&self) -> Result<(), EmbeddedError> {
        let deadline = Instant::now() + LEFTOVER_PATIENCE;
        while let Some(pid) = self.leftover_server()? {
            if Instant::now() > deadline {
                return Err(EmbeddedError::StillRunning {
                    pid,
                    pgdata: self.pgdata(),
                });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    fn leftover_server(&self) -> Result<Option<u32>, EmbeddedError> {
        let pgdata = self.pgdata();
        let pid_file = pgdata.join("postmaster.pid");
        let Some(pid) = fs::read_to_string(&pid_file)
            .ok()
            .and_then(|text| text.lines().next()?.trim().parse::<u32>().ok())
        else {
            return Ok(None);
        };
        if !is_alive(pid) {
            // PostgreSQL recognises such a stale file itself.
            return Ok(None);
        }
        if works_in(pid, &pgdata) {
            return Ok(Some(pid));
        }
        // The number has gone to another process, or to a dead one that nobody has reaped.
        // PostgreSQL would take either for a running server.
        match fs::remove_file(&pid_file) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                Err(EmbeddedError::io("delete the stale", &pid_file)(e))
            }
            _ => Ok(None),
        }
    }

    /// An empty private directory for the server's socket.
    pub(crate) fn socket(&self, account: &Account) -> Result<SocketDirectory, EmbeddedError> {
        let inside = self.path.join("socket");
        let socket = inside.join(format!(".s.PGSQL.{PORT}"));
        let path = socket.as_os_str().as_encoded_bytes();
        // libpq takes a comma for the end of a host, however it is written.
        if path.len() > SOCKET_PATH_MAX || path.contains(&b',') {
            // Not in $TMPDIR, which can be as long, and closed to the server's account.
            let short = tempfile::Builder::new()
                .prefix("evenkeel-")
                .permissions(Permissions::from_mode(0o700))
                .tempdir_in("/tmp")
                .map_err(EmbeddedError::io(
                    "create a socket directory in",
                    Path::new("/tmp"),
                ))?;
            account.own(short.path())?;
            return Ok(SocketDirectory::Short(short));
        }
        // Emptied, because a stale lock file of a socket can keep a server from starting.
        match fs::remove_dir_all(&inside) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                return Err(EmbeddedError::io("empty", &inside)(e));
            }
            _ => {}
        }
        create_private(&inside)?;
        account.own(&inside)?;
        Ok(SocketDirectory::Inside(inside))
    }

    fn debris_dir(&self) -> Result<TempDir, EmbeddedError> {
        tempfile::Builder::new()
            .prefix(DEBRIS)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(&self.path)
            .map_err(EmbeddedError::io("create a directory in", &self.path))
    }
}

/// Where the server's socket is.
#[derive(Debug)]
pub(crate) enum SocketDirectory {
    /// In the data directory.
    Inside(PathBuf),
    /// In a short place of its own, because the path of the data directory is too long for a
    /// unix socket or not fit for a URL. Deleted on drop.
    Short(TempDir),
}

impl SocketDirectory {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Inside(path) => path,
            Self::Short(dir) => dir.path(),
        }
    }
}

/// Where the cluster of a data directory is.
pub(crate) fn pgdata(path: &Path) -> PathBuf {
    path.join("pgdata")
}

fn create_private(dir: &Path) -> Result<(), EmbeddedError> {
    fs::DirBuilder::new()
        .mode(0o700)
        .create(dir)
        .map_err(EmbeddedError::io("create the directory", dir))
}

/// Refuses a directory with contents that are not ours.
fn check_ours(path: &Path) -> Result<(), EmbeddedError> {
    let entries = fs::read_dir(path).map_err(EmbeddedError::io("read", path))?;
    // The lock is the first file that a start creates, the marker the second. The marker is
    // looked for last: another process may be creating both just now.
    let has_contents = entries.flatten().any(|entry| {
        ![LOCK, MARKER]
            .map(OsStr::new)
            .contains(&&*entry.file_name())
    });
    if has_contents && !path.join(MARKER).exists() {
        return Err(EmbeddedError::NotOurs(path.to_owned()));
    }
    Ok(())
}

/// Locks the directory and leaves this process's id for whoever comes second.
///
/// The lock of a process that was killed can outlive it for a moment: a child that it was just starting
/// shares the open file until it executes its program. Such a lock is waited for.
async fn lock(dir: &Path) -> Result<File, EmbeddedError> {
    let deadline = Instant::now() + LEFTOVER_PATIENCE;
    loop {
        match try_lock(dir) {
            Err(EmbeddedError::InUse {
                holder: Some(pid), ..
            }) if !is_alive(pid) && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            done => return done,
        }
    }
}

fn try_lock(dir: &Path) -> Result<File, EmbeddedError> {
    let path = dir.join(LOCK);
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(EmbeddedError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(EmbeddedError::InUse {
                data_dir: dir.to_owned(),
                holder: fs::read_to_string(&path)
                    .ok()
                    .and_then(|text| text.trim().parse().ok()),
            });
        }
        Err(TryLockError::Error(e)) => return Err(EmbeddedError::io("lock", &path)(e)),
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(EmbeddedError::io("write", &path))?;
    Ok(file)
}

fn is_alive(pid: u32) -> bool {
    kill(Pid::from_raw(pid.cast_signed()), None) != Err(Errno::ESRCH)
}

/// Whether a live process has `dir` as its working directory, as the postmaster of `dir` has.
fn works_in(pid: u32, dir: &Path) -> bool {
    if !Path::new("/proc/self").exists() {
        // Nothing better is known than that the process exists.
        return true;
    }
    let id = |path: &Path| fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    let cwd = id(Path::new(&format!("/proc/{pid}/cwd")));
    cwd.is_some() && cwd == id(dir)
}

/// The processes of a server: those that run `program` in `dir`, which no other program and no server of
/// another directory does. None where the system does not say.
pub(crate) fn processes_of(program: &Path, dir: &Path) -> Vec<u32> {
    let (Ok(program), Ok(entries)) = (fs::canonicalize(program), fs::read_dir("/proc")) else {
        return Vec::new();
    };
    let pids = entries.flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let runs = |pid: &u32| {
        fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|running| running == program)
    };
    pids.filter(runs)
        .filter(|pid| works_in(*pid, dir))
        .collect()
}

/// Runs file operations that may take long where they hold up no async task.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(e) => std::panic::resume_unwind(e.into_panic()),
    }
}
