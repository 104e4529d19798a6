//! Migrations of a database that Evenkeel did not create.

use std::path::PathBuf;

use super::database::{Database, DatabaseError};
use crate::config::Settings;

/// Where the migrated database and the definitions are, when not where the settings say.
#[derive(Debug, Default, clap::Args)]
pub struct Elsewhere {
    /// A database that Evenkeel did not create; the engine keeps its ledger there, in the schema
    /// `evenkeel`, and needs no shop.
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
    /// Where the definitions are.
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// There are no definitions.
#[derive(Debug, thiserror::Error)]
#[error(
    "there is no directory {0}; `evenkeel migrate new NAME --dir {0}` writes a definition to start \
     from"
)]
pub struct NoDefinitions(String);

impl Elsewhere {
    /// The settings with what was said on the command line. `reads_none` when the command
    /// needs no definition.
    ///
    /// # Errors
    /// When there are no definitions: those that are built in are the shop's, and mean nothing here.
    pub fn settings(
        &self,
        mut settings: Settings,
        reads_none: bool,
    ) -> Result<Settings, NoDefinitions> {
        let named = self.dir.is_some() || self.database_url.is_some();
        if let Some(dir) = &self.dir {
            settings.migration.definitions.clone_from(dir);
        }
        if self.database_url.is_some() {
            // That is the shop's database.
            settings.database.direct_url = None;
        }
        let dir = &settings.migration.definitions;
        if named && !reads_none && !dir.is_dir() {
            return Err(NoDefinitions(dir.display().to_string()));
        }
        Ok(settings)
    }

    /// The database to migrate.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn database(&self, settings: &Settings) -> Result<Database, DatabaseError> {
        match &self.database_url {
            Some(url) => Database::foreign(url),
            None => Database::shared(settings).await,
        }
    }
}
