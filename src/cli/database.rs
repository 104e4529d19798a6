//! The database that a command works on, by one rule for all of them: `--database-url` or `--data-dir`,
//! else `DATABASE_URL`, else the settings, else the embedded server in the user's data directory.
//!
//! Whose it is follows from what it holds ([`Contents`]), never from the way in which it was named. What a
//! command may do to its schema is its [`Access`].

mod error;

use std::path::{Path, PathBuf};
use std::time::Duration;

use embedded_postgres::{Cluster, ClusterOptions, has_cluster};
use pool::address::{self, Unreachable};
use pool::sessions::Kept;
use pool::{PoolError, catalog, sessions};
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tracing::{info, warn};

use crate::config::{self, Settings, directories};
use crate::db::contents::{Contents, Whose};
use crate::db::schema::{self, Part, SchemaError};
use crate::migration::lint::{self, Unsafe};
pub use error::DatabaseError;

/// Name of the shop's database on the embedded server.
const NAME: &str = "evenkeel";
/// What names the shop's database, for people.
const SHOPS: &str = "database.url (DATABASE_URL, --database-url)";
/// File beside the embedded server's data that tells other commands how to reach it.
const URL_FILE: &str = "url";

/// A database and, where this process started it, its server.
pub struct Database {
    /// How to connect.
    pub options: PgConnectOptions,
    /// The same as a URL.
    url: String,
    /// How PostgreSQL itself is reached, where `options` lead to a pooler.
    direct: Option<PgConnectOptions>,
    cluster: Option<Cluster>,
    /// How long connecting may take where a pooler may stand before the server; `None` of our own.
    reached_by_url: Option<Duration>,
    /// Whether commands may bring its schema up to date.
    apply_schema: bool,
}

/// What a command does to the engine's ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It reads, and writes no DDL.
    Read,
    /// It changes what is there: a ledger of an earlier version is brought up to date, except a shop's, and
    /// none is made.
    Change,
    /// It needs a ledger, which is made where there is none.
    Make,
}

pub(super) fn data_dir(settings: &config::Database) -> PathBuf {
    settings.data_dir.clone().unwrap_or_else(directories::data)
}

impl Database {
    /// The database of a shop that this process runs: an embedded server must be its own, and is made
    /// where there is none.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn own(settings: &Settings, fresh: bool) -> Result<Self, DatabaseError> {
        if let Some(named) = Self::named(&settings.database)? {
            return match fresh {
                true => Err(DatabaseError::FreshElsewhere),
                false => Ok(named),
            };
        }
        let started = Self::start(&settings.database, fresh).await?;
        if let Some(cluster) = &started.cluster {
            cluster.create_database(NAME).await?;
        }
        Ok(started)
    }

    /// The database of whichever shop runs, or ran, for a command beside it. It makes no data directory.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn shared(settings: &Settings) -> Result<Self, DatabaseError> {
        let settings = &settings.database;
        if let Some(found) = Self::running(settings).await? {
            return Ok(found);
        }
        let dir = data_dir(settings);
        if !has_cluster(&dir) {
            return Err(DatabaseError::NoCluster(dir));
        }
        Self::start(settings, false).await
    }

    /// As [`Database::shared`]; with `create` an embedded server is made where there is none.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn shared_or_new(settings: &Settings, create: bool) -> Result<Self, DatabaseError> {
        match Self::shared(settings).await {
            Err(DatabaseError::NoCluster(_)) if create => Self::own(settings, false).await,
            found => found,
        }
    }

    /// The database that an address names, or the embedded server of a shop that runs; `None` when none
    /// does.
    ///
    /// # Errors
    /// [`DatabaseError::Url`].
    pub async fn running(settings: &config::Database) -> Result<Option<Self>, DatabaseError> {
        if let Some(named) = Self::named(settings)? {
            return Ok(Some(named));
        }
        let running = running(&data_dir(settings)).await;
        Ok(running.map(|(url, options)| Self {
            options,
            url,
            direct: None,
            cluster: None,
            reached_by_url: None,
            apply_schema: settings.apply_schema,
        }))
    }

    fn named(settings: &config::Database) -> Result<Option<Self>, DatabaseError> {
        let Some(url) = &settings.url else {
            return Ok(None);
        };
        Ok(Some(Self {
            options: url.parse().map_err(DatabaseError::Url)?,
            url: url.clone(),
            direct: settings.direct().map_err(DatabaseError::Url)?,
            cluster: None,
            reached_by_url: Some(settings.connect_timeout),
            apply_schema: settings.apply_schema,
        }))
    }

    /// Starts the embedded server.
    async fn start(settings: &config::Database, fresh: bool) -> Result<Self, DatabaseError> {
        let dir = data_dir(settings);
        let mut options = ClusterOptions::new(&dir, directories::cache());
        options.fresh = fresh;
        options.bin_dir.clone_from(&settings.bin_dir);
        let cluster = Cluster::start(options, |step| info!("{step}")).await?;
        write_address(&dir.join(URL_FILE), &cluster.url(NAME))?;
        Ok(Self {
            options: cluster.connect_options(NAME),
            url: cluster.url(NAME),
            direct: None,
            cluster: Some(cluster),
            reached_by_url: None,
            apply_schema: settings.apply_schema,
        })
    }

    /// How clients of PostgreSQL's own connect to it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether this is an embedded server that this process runs.
    pub fn is_embedded(&self) -> bool {
        self.cluster.is_some()
    }

    /// Where a session is one's own, unless a pooler is all that the settings name.
    fn sessions(&self) -> &PgConnectOptions {
        self.direct.as_ref().unwrap_or(&self.options)
    }

    /// Refuses a pooler that shares sessions, for a command that runs an author's SQL.
    ///
    /// # Errors
    /// [`PoolError::Pooler`] says what to do.
    pub async fn refuse_shared_sessions(&self, settings: &Settings) -> Result<(), DatabaseError> {
        let refused = sessions::refuse_shared(self.sessions(), settings.database.connect_timeout);
        refused.await.map_err(|err| self.unreached(err))
    }

    /// That the shop's address did not lead to a session.
    pub(super) fn unreachable(&self, err: sqlx::Error) -> DatabaseError {
        Box::new(Unreachable::new(&self.options, SHOPS, err)).into()
    }

    /// Names the address of [`Database::sessions`] where there was no connection.
    fn unreached(&self, err: PoolError) -> DatabaseError {
        match (err, &self.direct) {
            (PoolError::Connect(err), Some(direct)) => {
                Box::new(Unreachable::new(direct, "database.direct_url", err)).into()
            }
            (err, _) => self.shop_unreached(err),
        }
    }

    /// Names the address of the shop where there was no connection.
    fn shop_unreached(&self, err: PoolError) -> DatabaseError {
        match err {
            PoolError::Connect(err) => self.unreachable(err),
            err => err.into(),
        }
    }

    /// What the shop's sessions keep at the address that it is given.
    ///
    /// # Errors
    /// [`PoolError::Pooler`] says what to do about a pooler that the shop cannot be served through;
    /// [`DatabaseError::Unreachable`].
    pub async fn kept(&self) -> Result<Kept, DatabaseError> {
        match self.reached_by_url {
            Some(connect_timeout) => {
                let kept = sessions::examine(&self.options, connect_timeout).await;
                kept.map_err(|err| self.shop_unreached(err))
            }
            None => Ok(Kept::Session),
        }
    }

    /// A connection, whatever the schema is.
    ///
    /// # Errors
    /// [`DatabaseError::Unreachable`]; [`DatabaseError::Pool`] where a pooler would lose statements, or the
    /// direct address leads to another database;
    /// [`DatabaseError::Hidden`] where statements would not mean what they say.
    pub async fn open(&self) -> Result<PgConnection, DatabaseError> {
        if let Some(connect_timeout) = self.reached_by_url {
            let examined = sessions::examine(self.sessions(), connect_timeout).await;
            examined.map_err(|err| self.unreached(err))?;
            if let Some(direct) = &self.direct {
                match address::refuse_another(&self.options, direct, connect_timeout).await {
                    // The direct one has answered just now. When a pooler is down, an operator needs it most.
                    Err(PoolError::Connect(err)) => warn!(
                        "whether database.direct_url leads to the shop's database is not known: {}",
                        self.unreachable(err)
                    ),
                    same => same?,
                }
            }
        }
        let options = self.sessions().clone();
        let options = options.application_name("evenkeel command");
        let connected = PgConnection::connect_with(&options).await;
        let connected = connected.map_err(PoolError::Connect);
        let mut conn = connected.map_err(|err| self.unreached(err))?;
        let hidden = catalog::hidden(&mut conn).await;
        match hidden.map_err(DatabaseError::Asked)? {
            Some(hidden) => Err(Box::new(hidden).into()),
            None => Ok(conn),
        }
    }

    /// A connection to a shop's database whose schema is up to date, and whether the shop is new: its tables
    /// are made in a database that is empty, and with `create` beside what others keep there.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn shop(&self, create: bool) -> Result<(PgConnection, bool), DatabaseError> {
        let mut conn = self.open().await?;
        let contents = Contents::read(&mut conn).await?;
        if self.apply_schema {
            contents.refuse_shop(create)?;
            apply(&mut conn, Part::Everything).await?;
        } else if contents.whose != Whose::Shops {
            return Err(DatabaseError::NoShop(contents.database));
        }
        Ok((conn, contents.whose != Whose::Shops))
    }

    /// As [`Database::shop`], for a command beside a shop: it makes one, and changes no shop's tables.
    ///
    /// # Errors
    /// [`DatabaseError`], also where the tables are those of an earlier version.
    pub async fn shop_or_new(&self, create: bool) -> Result<PgConnection, DatabaseError> {
        let (conn, contents) = self.record().await?;
        match contents.whose {
            Whose::Shops => Ok(conn),
            _ => Ok(self.shop(create).await?.0),
        }
    }

    /// A connection for what reads a shop or takes something away from it, and makes no table.
    ///
    /// # Errors
    /// [`DatabaseError::NoShop`], and where its tables are those of an earlier version.
    pub async fn shop_as_it_is(&self) -> Result<PgConnection, DatabaseError> {
        let (conn, contents) = self.record().await?;
        match contents.whose {
            Whose::Shops => Ok(conn),
            _ => Err(DatabaseError::NoShop(contents.database)),
        }
    }

    /// A connection for whoever reads or adds to the record of incidents, and what the database holds. There
    /// is no record where there is no shop.
    ///
    /// # Errors
    /// [`DatabaseError`], also where the tables are those of an earlier version.
    pub async fn record(&self) -> Result<(PgConnection, Contents), DatabaseError> {
        let mut conn = self.open().await?;
        let contents = Contents::read(&mut conn).await?;
        contents.refuse_taken()?;
        if contents.whose == Whose::Shops {
            refuse_earlier(&mut conn, &contents, Part::Everything).await?;
        }
        Ok((conn, contents))
    }

    /// Has the engine's ledger ready for `access`, and says what the database holds.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn ledger(
        &self,
        conn: &mut PgConnection,
        access: Access,
    ) -> Result<Contents, DatabaseError> {
        let contents = Contents::read(conn).await?;
        contents.refuse_taken()?;
        if access == Access::Read {
            schema::refuse_unreadable(conn).await?;
        }
        // A newer command would leave the shop's own processes with a schema that they do not know.
        let is_the_shops = contents.whose == Whose::Shops;
        if contents.has_ledger && (access == Access::Read || is_the_shops || !self.apply_schema) {
            refuse_earlier(conn, &contents, Part::Engine).await?;
        } else if self.apply_schema && (contents.has_ledger || access == Access::Make) {
            apply(conn, Part::Engine).await?;
        }
        Ok(contents)
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

async fn apply(conn: &mut PgConnection, part: Part) -> Result<(), DatabaseError> {
    Unsafe::refuse(lint::schema_files(&schema::pending(conn, part).await?))?;
    match part {
        Part::Everything => schema::apply(conn, schema::latest()).await?,
        Part::Engine => schema::apply_engine(conn).await?,
    };
    Ok(())
}

/// Refuses tables of an earlier version, whose columns are not what this one reads.
async fn refuse_earlier(
    conn: &mut PgConnection,
    contents: &Contents,
    part: Part,
) -> Result<(), DatabaseError> {
    let lacking = schema::pending(conn, part).await?;
    if lacking.is_empty() {
        return Ok(());
    }
    Err(SchemaError::Earlier {
        database: contents.database.clone(),
        steps: lacking.into_iter().map(|file| file.name()).collect(),
        way_out: match contents.whose {
            Whose::Shops => "`evenkeel serve` of this version applies them",
            _ => "the next `evenkeel migrate start` or `run` of this version applies them",
        },
    }
    .into())
}

/// The embedded server that a running shop has in `dir`.
async fn running(dir: &Path) -> Option<(String, PgConnectOptions)> {
    let url = tokio::fs::read_to_string(dir.join(URL_FILE)).await.ok()?;
    let url = url.trim().to_owned();
    let options: PgConnectOptions = url.parse().ok()?;
    let conn = PgConnection::connect_with(&options).await.ok()?;
    let _ = conn.close().await;
    Some((url, options))
}

fn write_address(path: &Path, url: &str) -> Result<(), DatabaseError> {
    std::fs::write(path, url).map_err(|source| DatabaseError::AddressFile {
        path: path.to_path_buf(),
        source,
    })
}
