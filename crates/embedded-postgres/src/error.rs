//! What can go wrong with the embedded server.

use std::path::{Path, PathBuf};

/// Why the embedded server could not be found, started or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// Another process, or another cluster of this one, uses the data directory.
    #[error(
        "the data directory {} is in use by {}; stop that process, or give this one data of its own: --data-dir DIR",
        data_dir.display(),
        holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    InUse {
        /// The directory.
        data_dir: PathBuf,
        /// The process that holds its lock, if it could be read.
        holder: Option<u32>,
    },

    /// The directory has contents, and they are not a cluster of ours.
    #[error(
        "{} is not empty and was not made by evenkeel, so nothing in it is touched; choose a new or an empty data directory",
        .0.display()
    )]
    NotOurs(PathBuf),

    /// The process is root, and there is no user to run the server as.
    #[error(
        "PostgreSQL refuses to run as root, and there is neither a user `postgres` nor a user `nobody`; create one (`useradd --system postgres`) or run evenkeel as an ordinary user"
    )]
    NoAccount,

    /// The server's user cannot reach a directory that it needs.
    #[error(
        "PostgreSQL refuses to run as root and runs as user `{account}` instead, but that user cannot enter {}; choose a directory elsewhere, or allow it with `chmod o+x {}`",
        dir.display(),
        dir.display()
    )]
    NotTraversable {
        /// The first directory on the way that is closed.
        dir: PathBuf,
        /// The server's user.
        account: String,
    },

    /// `PG_BIN_DIR` does not name a usable PostgreSQL.
    #[error("PG_BIN_DIR is {}, but {reason}; correct it, or unset it to have PostgreSQL looked for", dir.display())]
    BinDir {
        /// Its value.
        dir: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// A program of PostgreSQL or of a package manager failed.
    #[error("{program} failed: {reason}")]
    Program {
        /// Its name.
        program: String,
        /// The last of what it wrote, or why it could not be run.
        reason: String,
    },

    /// There is no usable PostgreSQL, and none could be fetched.
    #[error(
        "no usable PostgreSQL ({minimum} or newer) was found, and none could be fetched:\n{}\n\
         Install it (Debian, Ubuntu: `apt install postgresql`; Fedora: `dnf install postgresql-server`; \
         macOS: `brew install postgresql@17`), or set PG_BIN_DIR to the directory that holds `initdb` and `postgres`, \
         or set DATABASE_URL to use a server that runs already",
        list(tried)
    )]
    NotFound {
        /// The oldest major version that would do.
        minimum: u32,
        /// What was looked at, and why it would not do.
        tried: Vec<String>,
    },

    /// The data was made by a version of PostgreSQL that is not here.
    #[error(
        "the data in {} was made by PostgreSQL {data_major}, which was not found:\n{}\n\
         Install PostgreSQL {data_major}, or set PG_BIN_DIR to its binaries, or delete the data with --fresh",
        data_dir.display(),
        list(tried)
    )]
    VersionMismatch {
        /// The data directory.
        data_dir: PathBuf,
        /// The major version of the data.
        data_major: u32,
        /// What was looked at, and why it would not do.
        tried: Vec<String>,
    },

    /// A download is not the file that was pinned.
    #[error("{} is not the pinned file and was discarded: its checksum is {actual} instead of {expected}", file.display())]
    Checksum {
        /// The downloaded file.
        file: PathBuf,
        /// The pinned checksum.
        expected: String,
        /// The checksum found.
        actual: String,
    },

    /// No package is pinned for this kind of machine.
    #[error("no prebuilt PostgreSQL is known for {os} on {arch}")]
    NoPackage {
        /// The operating system.
        os: &'static str,
        /// The processor architecture.
        arch: &'static str,
    },

    /// The server ended while it was starting, or never accepted a connection.
    #[error(
        "PostgreSQL did not start: {reason}; the end of {}:\n{log_tail}\nIf the disk is full, make room and \
         start again; nothing is lost by that. If it says that data are damaged, copy the data directory before \
         anything else",
        log.display()
    )]
    NotStarted {
        /// What was seen.
        reason: String,
        /// The server's log.
        log: PathBuf,
        /// The last lines of the log.
        log_tail: String,
    },

    /// A server goes on although it was told to stop.
    #[error("a PostgreSQL server (process {pid}) still runs on {}; it may be flushing data: wait for it, or stop it with `kill -QUIT {pid}`", pgdata.display())]
    StillRunning {
        /// The postmaster.
        pid: u32,
        /// Its data.
        pgdata: PathBuf,
    },

    /// A file or directory could not be used.
    #[error("could not {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },

    /// The server answered a statement with an error.
    #[error("the embedded PostgreSQL answered: {}", pool::describe(.0))]
    Database(#[from] sqlx::Error),
}

impl EmbeddedError {
    /// For `map_err`: wraps an I/O error with what was tried and where.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

fn list(tried: &[String]) -> String {
    let lines: Vec<_> = tried.iter().map(|line| format!("  - {line}")).collect();
    lines.join("\n")
}
