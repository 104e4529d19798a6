//! `evenkeel migrate`: looks at background migrations and controls them. Only rows are read and
//! written here; a shop process does the work, except with `run --standalone`.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use nix::unistd::{User, getuid};
use sqlx::postgres::PgConnection;

mod command;
mod context;
mod error;
mod plan;
mod proof;
mod status;

use super::database::Database;
use super::elsewhere::{Elsewhere, Flags, NoDefinitions, Place};
use super::standalone;
use crate::config::Settings;
use crate::db::contents::{Contents, Whose};
use crate::migration::control::{self, ControlError};
use crate::migration::definition::{self, Definition};
use crate::migration::ledger::{self, State};

use command::Command;
use context::Context;

pub use error::MigrateError;
pub(super) use proof::second;
pub(super) use status::{describe, headline};

/// Look at background migrations and control them.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    elsewhere: Elsewhere,
    #[command(subcommand)]
    command: Command,
}

impl Args {
    /// The flags of this invocation, for commands that are advised.
    pub fn flags(&self, place: &Place) -> Flags {
        self.elsewhere.flags(place)
    }
}

/// Runs the command and prints what it found or did. What it advises carries `flags`.
///
/// # Errors
/// [`MigrateError`] says what to do.
pub async fn run(args: Args, settings: Settings, flags: &Flags) -> Result<(), MigrateError> {
    let done = run_command(args, settings, flags).await;
    done.map_err(|err| MigrateError::Told(flags.complete(&err.to_string())))
}

async fn run_command(args: Args, settings: Settings, flags: &Flags) -> Result<(), MigrateError> {
    let settings = args.elsewhere.settings(settings);
    if let Command::New { name } = &args.command {
        return create(&settings.migration.definitions, name, flags);
    }
    if let Command::Lint { files, json } = &args.command {
        return Ok(super::lint::run(files, *json)?);
    }
    if args.elsewhere.is_named() && args.command.reads_files() {
        NoDefinitions::refuse(&settings.migration.definitions)?;
    }
    let database = Database::shared(&settings).await?;
    let done = on(&database, &args, &settings, flags).await;
    database.close().await?;
    done
}

async fn on(
    database: &Database,
    args: &Args,
    settings: &Settings,
    flags: &Flags,
) -> Result<(), MigrateError> {
    let command = &args.command;
    if args.command.evaluates() {
        database.refuse_shared_sessions(settings).await?;
    }
    let mut context = Context {
        settings,
        database,
        flags,
        has_built_in: !args.elsewhere.is_named(),
    };
    let mut conn = database.open().await?;
    let contents = match database.ledger(&mut conn, command.access()).await {
        Ok(contents) => contents,
        Err(refused) => return Err(context.refused(refused, command, &mut conn).await),
    };
    if contents.whose == Whose::Others {
        // The definitions that are built in are the shop's, and mean nothing here.
        context.has_built_in = false;
        if command.reads_files() {
            NoDefinitions::refuse(&settings.migration.definitions)?;
        }
    }
    let looks_around = matches!(command, Command::List | Command::Status { name: None, .. });
    if !contents.has_ledger && looks_around {
        tell_of_no_ledger(&contents);
    }
    match dispatch(command, &context, &mut conn).await {
        Err(MigrateError::Control(ControlError::Database(refused))) => {
            Err(context.explained(refused, &mut conn).await)
        }
        done => done,
    }
}

/// For whoever meant another database.
fn tell_of_no_ledger(contents: &Contents) {
    let database = &contents.database;
    match contents.whose {
        Whose::Nobodys => eprintln!(
            "database {database} is empty: `evenkeel serve` makes a shop there, if it is meant"
        ),
        _ => eprintln!(
            "there is no ledger of migrations in database {database}: the first `evenkeel migrate start` or \
             `run` makes it, the schema `evenkeel`"
        ),
    }
}

async fn dispatch(
    command: &Command,
    context: &Context<'_>,
    conn: &mut PgConnection,
) -> Result<(), MigrateError> {
    let (settings, flags) = (context.settings, context.flags);
    if let Some(name) = command.about() {
        context.know(conn, name).await?;
    }
    match command {
        Command::New { name } => create(&settings.migration.definitions, name, flags),
        Command::Lint { files, json } => Ok(super::lint::run(files, *json)?),
        Command::List => {
            super::schema_files::tell(&settings.migration.definitions);
            status::list(settings, conn).await
        }
        Command::Plan { name, json } => {
            plan::show(settings, conn, &context.load(name)?, *json).await
        }
        Command::Start {
            name,
            from_last,
            again,
            by,
        } => {
            let definition = context.load(name)?;
            let run = if *from_last {
                control::start_from_last(conn, &definition, &actor()).await?
            } else {
                control::start_or_again(conn, &definition, &actor(), *again).await?
            };
            if let Some(by) = by {
                ledger::set_deadline(conn, run.id, *by, &actor()).await?;
            }
            context.announce(conn, &run).await
        }
        Command::Spend(args) => {
            let granted = super::throttle::spend(args, conn, &actor()).await?;
            println!("{}", flags.complete(&granted));
            Ok(())
        }
        Command::Undo { name, again } => {
            let definition = context.load_or_recall(conn, name).await?;
            let run = control::undo(conn, &definition, &actor(), *again).await?;
            context.announce(conn, &run).await
        }
        Command::Retry { name } => {
            let run = ledger::latest(conn, name).await?;
            let run = ledger::retry(conn, run.id, &actor()).await?;
            context.announce(conn, &run).await
        }
        Command::Quarantine { name } => proof::quarantine(conn, name, flags).await,
        Command::Certificate { name, json } => proof::certificate(conn, name, *json).await,
        Command::Status { name: None, .. } => status::show_all(conn).await,
        Command::Status {
            name: Some(name),
            watch,
        } => status::show(conn, name, *watch, flags).await,
        Command::Pause { name } => command_run(context, conn, name, State::Paused).await,
        Command::Resume { name } => command_run(context, conn, name, State::Queued).await,
        Command::Cancel { name } => command_run(context, conn, name, State::Cancelled).await,
        Command::Throttle(args) => {
            let done = super::throttle::run(args, conn, &actor()).await?;
            println!("{}", flags.complete(&done));
            Ok(())
        }
        Command::Verify { name, replica } => {
            proof::verify(settings, context.database, conn, name, replica.as_deref()).await
        }
        Command::Run {
            name, duty, again, ..
        } => {
            let load = || context.load(name);
            let queued = standalone::queue(conn, name, load, *again).await?;
            standalone::run(settings, context.database, conn, &queued, *duty).await
        }
    }
}

fn create(dir: &Path, name: &str, flags: &Flags) -> Result<(), MigrateError> {
    // Refuses a name that the file could not be loaded by.
    Definition::parse(name, definition::TEMPLATE)?;
    let path = dir.join(format!("{name}.sql"));
    let write = || {
        std::fs::create_dir_all(dir)?;
        let mut file = File::create_new(&path)?;
        file.write_all(definition::TEMPLATE.as_bytes())
    };
    write().map_err(|err| MigrateError::Told(format!("cannot write {}: {err}", path.display())))?;
    let told = format!(
        "{} is written: say in it what to change, then `evenkeel migrate plan {name}` tries it and changes \
         nothing",
        path.display()
    );
    println!("{}", flags.complete(&told));
    Ok(())
}

/// Who types, for the ledger.
pub(super) fn actor() -> String {
    let user = User::from_uid(getuid()).ok().flatten();
    user.map_or_else(|| format!("uid {}", getuid()), |user| user.name)
}

async fn command_run(
    context: &Context<'_>,
    conn: &mut PgConnection,
    name: &str,
    to: State,
) -> Result<(), MigrateError> {
    let run = ledger::latest(conn, name).await?;
    let run = ledger::command(conn, run.id, to, &actor()).await?;
    if run.state == State::Queued {
        return context.announce(conn, &run).await;
    }
    println!("run {} of {name} is {}", run.id, run.state.name());
    Ok(())
}
