//! The database that a command works on: `DATABASE_URL`, the embedded server of a running shop, or
//! an embedded server of its own for as long as the command lasts.

use std::path::{Path, PathBuf};

use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tracing::warn;

use crate::config::{self, Settings};
use crate::db::catalog::{self, Hidden};
use crate::db::embedded::{Cluster, ClusterOptions, EmbeddedError, default_data_dir};
use crate::db::schema::{self, Part, SchemaError};
use crate::db::{PoolError, sessions};
use crate::migration::lint::{self, Unsafe};

/// Name of the shop's database on the embedded server.
const NAME: &str = "evenkeel";
/// File beside the embedded server's data that tells other commands how to reach it.
const URL_FILE: &str = "url";

/// A database and, where this process started it, its server.
pub struct Database {
    /// How to connect.
    pub options: PgConnectOptions,
    /// How PostgreSQL itself is reached, where `options` lead to a pooler.
    direct: Option<PgConnectOptions>,
    cluster: Option<Cluster>,
    /// What a command brings into it; `None` when others see to that.
    schema: Option<Part>,
}

/// Why there is no database.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// `DATABASE_URL` or `--database-url` is not a URL that PostgreSQL's clients understand.
    #[error(
        "the database's URL cannot be used: {}; it should look like postgres://user@host/database", crate::db::describe(.0))]
    Url(#[source] sqlx::Error),
    /// The embedded server did not start.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// `--fresh` with a database that is not ours to drop.
    #[error(
        "--fresh drops the embedded server's data only; empty DATABASE_URL's database yourself"
    )]
    FreshElsewhere,
    /// Nothing answers at `DATABASE_URL`.
    #[error("cannot connect to the database: {}", crate::db::describe(.0))]
    Connect(#[source] sqlx::Error),
    /// The search path hides PostgreSQL's own operators, functions or types.
    #[error(transparent)]
    Hidden(#[from] Box<Hidden>),
    /// The schema could not be applied.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// A schema file that is due would lock, rewrite or scan what shoppers use.
    #[error(transparent)]
    Unsafe(#[from] Unsafe),
    /// The address file could not be written.
    #[error("cannot write {path}: {source}")]
    AddressFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

fn shop(settings: &config::Database) -> Option<Part> {
    settings.apply_schema.then_some(Part::Everything)
}

fn data_dir(settings: &config::Database) -> PathBuf {
    settings.data_dir.clone().unwrap_or_else(default_data_dir)
}

impl Database {
    /// The database of a shop that this process runs: an embedded server must be its own.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn own(settings: &Settings, fresh: bool) -> Result<Self, DatabaseError> {
        if let Some(url) = &settings.database.url {
            if fresh {
                return Err(DatabaseError::FreshElsewhere);
            }
            return Ok(Self {
                options: url.parse().map_err(DatabaseError::Url)?,
                direct: settings.database.direct().map_err(DatabaseError::Url)?,
                cluster: None,
                schema: shop(&settings.database),
            });
        }
        let dir = data_dir(&settings.database);
        let mut options = ClusterOptions::new(&dir);
        options.fresh = fresh;
        options.bin_dir.clone_from(&settings.database.bin_dir);
        let cluster = Cluster::start(options, |step| eprintln!("{step}")).await?;
        cluster.create_database(NAME).await?;
        write_address(&dir.join(URL_FILE), &cluster.url(NAME))?;
        Ok(Self {
            options: cluster.connect_options(NAME),
            direct: None,
            cluster: Some(cluster),
            schema: shop(&settings.database),
        })
    }

    /// The database of whichever shop runs, for a command beside it.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn shared(settings: &Settings) -> Result<Self, DatabaseError> {
        if settings.database.url.is_none()
            && let Some(options) = running(&data_dir(&settings.database)).await
        {
            return Ok(Self {
                options,
                direct: None,
                cluster: None,
                schema: shop(&settings.database),
            });
        }
        Self::own(settings, false).await
    }

    /// A database that Evenkeel did not create and keeps nothing in but the engine's ledger.
    ///
    /// # Errors
    /// [`DatabaseError::Url`].
    pub fn foreign(url: &str) -> Result<Self, DatabaseError> {
        Ok(Self {
            options: url.parse().map_err(DatabaseError::Url)?,
            direct: None,
            cluster: None,
            schema: Some(Part::Engine),
        })
    }

    /// Where a session is one's own, unless a pooler is all that the settings name.
    fn sessions(&self) -> &PgConnectOptions {
        self.direct.as_ref().unwrap_or(&self.options)
    }

    /// Refuses a pooler that shares sessions, for a command that runs an author's SQL.
    ///
    /// # Errors
    /// [`PoolError::NoSessions`] says what to do.
    pub async fn refuse_shared_sessions(&self, settings: &Settings) -> Result<(), PoolError> {
        sessions::refuse_shared(self.sessions(), settings.database.connect_timeout).await
    }

    /// A connection to a schema that is up to date, unless the settings leave that to others.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn connect(&self) -> Result<PgConnection, DatabaseError> {
        let mut conn = self.open().await?;
        self.prepare(&mut conn).await?;
        Ok(conn)
    }

    /// A connection, whatever the schema is.
    ///
    /// # Errors
    /// [`DatabaseError::Connect`]; [`DatabaseError::Hidden`] where statements would not mean what they say.
    pub async fn open(&self) -> Result<PgConnection, DatabaseError> {
        let options = self.sessions().clone();
        let options = options.application_name("evenkeel command");
        let connected = PgConnection::connect_with(&options).await;
        let mut conn = connected.map_err(DatabaseError::Connect)?;
        let hidden = catalog::hidden(&mut conn).await;
        match hidden.map_err(DatabaseError::Connect)? {
            Some(hidden) => Err(Box::new(hidden).into()),
            None => Ok(conn),
        }
    }

    /// Brings the schema up to date, unless the settings leave that to others.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn prepare(&self, conn: &mut PgConnection) -> Result<(), DatabaseError> {
        let Some(part) = self.schema else {
            return Ok(());
        };
        Unsafe::refuse(lint::schema_files(&schema::pending(conn, part).await?))?;
        match part {
            Part::Everything => schema::apply(conn, schema::latest()).await?,
            Part::Engine => schema::apply_engine(conn).await?,
        };
        Ok(())
    }

    /// Starts the server again whenever it ends although nobody stopped it, where this process started
    /// it. Returns when it cannot be started any more. May be dropped at any time.
    pub async fn keep(&mut self) -> DatabaseError {
        match &mut self.cluster {
            Some(cluster) => cluster.keep(&|step| warn!("{step}")).await.into(),
            None => std::future::pending().await,
        }
    }

    /// Stops the server, where this process started it.
    ///
    /// # Errors
    /// [`DatabaseError::Embedded`] when it does not stop.
    pub async fn close(self) -> Result<(), DatabaseError> {
        if let Some(cluster) = self.cluster {
            cluster.stop().await?;
        }
        Ok(())
    }
}

/// The embedded server that a running shop has in `dir`.
async fn running(dir: &Path) -> Option<PgConnectOptions> {
    let url = tokio::fs::read_to_string(dir.join(URL_FILE)).await.ok()?;
    let options: PgConnectOptions = url.trim().parse().ok()?;
    let conn = PgConnection::connect_with(&options).await.ok()?;
    let _ = conn.close().await;
    Some(options)
}

fn write_address(path: &Path, url: &str) -> Result<(), DatabaseError> {
    std::fs::write(path, url).map_err(|source| DatabaseError::AddressFile {
        path: path.to_path_buf(),
        source,
    })
}
