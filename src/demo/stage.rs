//! The database that the demo plays on: a cluster of its own in a temporary directory.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use embedded_postgres::{Cluster, ClusterOptions};
use nix::unistd::geteuid;
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tempfile::TempDir;

use super::DemoError;
use crate::config::{Database, directories};

const DATABASE: &str = "shop";

/// What a shop of this size would set. Durability is PostgreSQL's own: every order is flushed to
/// disk before it is acknowledged. Checkpoints are far enough apart to fall between the acts.
const SETTINGS: [(&str, &str); 5] = [
    ("shared_buffers", "512MB"),
    ("max_wal_size", "4GB"),
    ("checkpoint_timeout", "15min"),
    ("checkpoint_completion_target", "0.9"),
    ("log_min_duration_statement", "1000"),
];

/// A private cluster and the directory that holds everything of it.
#[derive(Debug)]
pub struct Stage {
    // Fields drop in order: the server is told to stop before its directory goes.
    cluster: Cluster,
    directory: TempDir,
}

impl Stage {
    /// Creates and starts the cluster. What takes long is told to `progress`.
    ///
    /// # Errors
    /// When PostgreSQL is not to be had or there is no place for its files.
    pub async fn open(
        settings: &Database,
        progress: impl Fn(&str) + Send + Sync,
    ) -> Result<Self, DemoError> {
        let parent = std::env::temp_dir();
        let directory = tempfile::Builder::new()
            .prefix("evenkeel-demo-")
            .tempdir_in(&parent)
            .map_err(DemoError::file("create a directory in", parent))?;
        if geteuid().is_root() {
            // The server then runs as another user, who has to get in.
            fs::set_permissions(directory.path(), Permissions::from_mode(0o755))
                .map_err(DemoError::file("open up", directory.path()))?;
        }
        let mut options =
            ClusterOptions::new(directory.path().join("postgresql"), directories::cache());
        options.bin_dir.clone_from(&settings.bin_dir);
        options.settings = SETTINGS
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
        let cluster = Cluster::start(options, progress).await?;
        cluster.create_database(DATABASE).await?;
        Ok(Self { cluster, directory })
    }

    /// A connection whose owner pg_stat_activity shows as `application`.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn connect(&self, application: &str) -> Result<PgConnection, sqlx::Error> {
        self.options().application_name(application).connect().await
    }

    /// The same as another role.
    ///
    /// # Errors
    /// When the server does not answer or does not know the role.
    pub async fn connect_as(
        &self,
        role: &str,
        application: &str,
    ) -> Result<PgConnection, sqlx::Error> {
        let options = self.options().username(role);
        options.application_name(application).connect().await
    }

    /// How to connect to the shop's database.
    pub fn options(&self) -> PgConnectOptions {
        self.cluster.connect_options(DATABASE)
    }

    /// The shop's `DATABASE_URL`.
    pub fn url(&self) -> String {
        self.cluster.url(DATABASE)
    }

    /// Where the shop's log goes.
    pub fn log(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The directory that everything is in.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Stops the server and removes the directory.
    ///
    /// # Errors
    /// When either fails; the message names the directory that is left.
    pub async fn close(self) -> Result<(), DemoError> {
        // As in a crash, because the data is thrown away: no time is spent on writing it.
        self.cluster.abandon().await?;
        let path = self.directory.path().to_owned();
        self.directory
            .close()
            .map_err(DemoError::file("remove", path))
    }
}
