//! What a command works with: definitions, names, and who is there.

use sqlx::postgres::PgConnection;

use super::{Command, MigrateError};
use crate::cli::database::{Database, DatabaseError};
use crate::cli::elsewhere::Flags;
use crate::config::Settings;
use crate::db::schema::SchemaError;
use crate::migration::control::ControlError;
use crate::migration::definition::{self, Definition, DefinitionError};
use crate::migration::ledger::{self, Run};
use crate::migration::names::Names;
use crate::migration::presence::Presence;
use crate::migration::rights;

/// What a command works with beside its connection.
pub(super) struct Context<'a> {
    pub settings: &'a Settings,
    pub database: &'a Database,
    pub flags: &'a Flags,
    /// Whether the definitions in the binary are meant where there are no others.
    pub has_built_in: bool,
}

impl Context<'_> {
    /// Refuses a name that neither a file nor a run has.
    pub(super) async fn know(
        &self,
        conn: &mut PgConnection,
        name: &str,
    ) -> Result<(), MigrateError> {
        let dir = &self.settings.migration.definitions;
        let names = Names::read(conn, dir, self.has_built_in).await?;
        names.look_up(name).map_err(ControlError::from)?;
        Ok(())
    }

    /// Why there is no ledger; when the role may not make or use one, with all else that it would lack
    /// for the command.
    pub(super) async fn refused(
        &self,
        refused: DatabaseError,
        command: &Command,
        conn: &mut PgConnection,
    ) -> MigrateError {
        let DatabaseError::Schema(SchemaError::Denied { grants, .. }) = &refused else {
            return refused.into();
        };
        let name = command.about().filter(|_| command.evaluates());
        let Some(definition) = name.and_then(|name| self.load(name).ok()) else {
            return refused.into();
        };
        let Ok(mut lacking) = rights::lacking(conn, &definition).await else {
            return refused.into();
        };
        lacking.grants.retain(|grant| !grants.contains(grant));
        lacking.grants.splice(0..0, grants.iter().cloned());
        ControlError::from(lacking).into()
    }

    /// What the database refused, with what helps where that is known.
    pub(super) async fn explained(
        &self,
        refused: sqlx::Error,
        conn: &mut PgConnection,
    ) -> MigrateError {
        match rights::named(conn, &refused).await {
            Ok(Some(lacking)) => ControlError::from(lacking).into(),
            _ => refused.into(),
        }
    }

    /// The definition in the file.
    pub(super) fn load(&self, name: &str) -> Result<Definition, MigrateError> {
        Ok(definition::load(
            &self.settings.migration.definitions,
            name,
        )?)
    }

    /// The definition in the file, or that of the newest run when the file is gone.
    pub(super) async fn load_or_recall(
        &self,
        conn: &mut PgConnection,
        name: &str,
    ) -> Result<Definition, MigrateError> {
        match definition::load(&self.settings.migration.definitions, name) {
            Err(DefinitionError::Unknown { .. }) => {
                let run = ledger::latest(conn, name).await?;
                Ok(Definition::parse(&run.migration, &run.definition)?)
            }
            loaded => Ok(loaded?),
        }
    }

    /// Says that `run` is queued, and who is there to take it.
    pub(super) async fn announce(
        &self,
        conn: &mut PgConnection,
        run: &Run,
    ) -> Result<(), MigrateError> {
        let (id, name) = (run.id, &run.migration);
        let text = match Presence::read(conn).await?.nobody() {
            None => format!(
                "run {id} of {name} is queued and a process of the shop will take it; `evenkeel \
                 migrate status {name} --watch` follows it"
            ),
            Some(why) => format!(
                "run {id} of {name} is queued, but {why}: `evenkeel migrate run {name} --standalone` \
                 drives it in this terminal"
            ),
        };
        println!("{}", self.flags.complete(&text));
        Ok(())
    }
}
