//! `evenkeel migrate`: looks at background migrations and controls them. Only rows are read and
//! written here; a shop process does the work, except with `run --standalone`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use nix::unistd::{User, getuid};
use sqlx::postgres::PgConnection;

mod context;
mod error;
mod plan;
mod proof;
mod status;

use super::database::{Access, Database};
use super::elsewhere::{Elsewhere, Flags, NoDefinitions, Place};
use super::standalone;
use crate::config::Settings;
use crate::db::contents::{Contents, Whose};
use crate::migration::control::{self, ControlError};
use crate::migration::definition::{self, Definition};
use crate::migration::ledger::{self, State};

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

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Write a definition to start from.
    New {
        /// Name of the migration.
        name: String,
    },
    /// Name what would lock, rewrite or scan a table that shoppers use. Ends with 1 if there is
    /// anything.
    Lint {
        /// Schema files, background migrations, or any SQL; of a folder every .sql file in it and
        /// below it.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Print the findings as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show the declared migrations and the state of their newest run.
    List,
    /// Try batches all over the table, roll them back, and predict.
    Plan {
        /// Name of the migration: its file without `.sql`.
        name: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Queue a run; a shop process takes it.
    Start {
        /// Name of the migration.
        name: String,
        /// Go on where the last run was cancelled or failed, if it was of exactly this definition.
        /// The final sweep covers what that run had done.
        #[arg(long)]
        from_last: bool,
        /// Run a migration again that is complete, for rows that became pending since.
        #[arg(long, conflicts_with = "from_last")]
        again: bool,
        /// When it should be done, e.g. 2026-12-01T06:00:00Z. The status says when it will not be,
        /// and what that would cost shoppers; nothing is hurried unless somebody says `spend`.
        #[arg(long, value_name = "WHEN")]
        by: Option<chrono::DateTime<chrono::Utc>>,
    },
    /// Show how far a run is, how fast it goes and what limits it; without a name, all runs.
    Status {
        /// Name of the migration.
        name: Option<String>,
        /// Show it again every second until it ends.
        #[arg(long, requires = "name")]
        watch: bool,
    },
    /// Stop a run after the batch in flight; its cursor is kept.
    Pause {
        /// Name of the migration.
        name: String,
    },
    /// Let a paused or failed run go on.
    Resume {
        /// Name of the migration.
        name: String,
    },
    /// Give a run up; what was changed stays changed.
    Cancel {
        /// Name of the migration.
        name: String,
    },
    /// Look for rows that the last completed run has left, changing nothing: once by key, and once by
    /// physical position. Ends with 1 if either finds any; with 0 if the walk by key finds none and the
    /// other proof is unknown, which is said. Ranges that changed since the last run was certified are
    /// named.
    Verify {
        /// Name of the migration.
        name: String,
        /// Read from this replica, a URL as in DATABASE_URL, instead of the database itself.
        #[arg(long, value_name = "URL")]
        replica: Option<String>,
    },
    /// Print what the last completed run certifies.
    Certificate {
        /// Name of the migration.
        name: String,
        /// As the JSON document that is stored.
        #[arg(long)]
        json: bool,
    },
    /// Queue a run of the statement for the way back.
    Undo {
        /// Name of the migration.
        name: String,
        /// Also when it is taken back already: for rows that got the change since.
        #[arg(long)]
        again: bool,
    },
    /// List the ranges that the newest run has set aside, with their errors.
    Quarantine {
        /// Name of the migration.
        name: String,
    },
    /// Let a failed or paused run try the ranges that it has set aside, after a fix.
    Retry {
        /// Name of the migration.
        name: String,
    },
    /// Cap the pace of one migration or of all, for a time.
    Throttle(super::throttle::Args),
    /// Let shoppers pay more for a migration than its own budget, for a time.
    Spend(super::throttle::Spend),
    /// Queue a run and drive it in this process, without a shop.
    Run {
        /// Name of the migration.
        name: String,
        /// Required, because no shopper is measured here: it goes at the speed that --duty gives.
        #[arg(long, required = true)]
        standalone: bool,
        /// Share of the time to work, above 0 and at most 1.
        #[arg(long, default_value_t = 1.0, value_parser = share)]
        duty: f64,
        /// Run a migration again that is complete, for rows that became pending since.
        #[arg(long)]
        again: bool,
    },
}

impl Command {
    /// The migration that the command is about, when it has to be one that is known.
    fn about(&self) -> Option<&str> {
        match self {
            Self::New { .. } | Self::Lint { .. } | Self::List => None,
            Self::Status { name, .. } => name.as_deref(),
            Self::Throttle(args) => args.name(),
            Self::Spend(args) => Some(&args.name),
            Self::Plan { name, .. }
            | Self::Start { name, .. }
            | Self::Pause { name }
            | Self::Resume { name }
            | Self::Cancel { name }
            | Self::Verify { name, .. }
            | Self::Certificate { name, .. }
            | Self::Undo { name, .. }
            | Self::Quarantine { name }
            | Self::Retry { name }
            | Self::Run { name, .. } => Some(name),
        }
    }

    /// Whether it evaluates SQL that an author wrote, or has another process do so.
    fn evaluates(&self) -> bool {
        matches!(
            self,
            Self::Plan { .. }
                | Self::Start { .. }
                | Self::Verify { .. }
                | Self::Undo { .. }
                | Self::Run { .. }
        )
    }

    /// What it does to the ledger. One that is about a run which is there makes no ledger to say that there
    /// is none.
    fn access(&self) -> Access {
        match self {
            Self::Start { .. } | Self::Run { .. } | Self::Spend(_) => Access::Make,
            Self::Throttle(args) if args.adds() => Access::Make,
            Self::Pause { .. }
            | Self::Resume { .. }
            | Self::Cancel { .. }
            | Self::Undo { .. }
            | Self::Retry { .. } => Access::Change,
            Self::New { .. }
            | Self::Lint { .. }
            | Self::List
            | Self::Plan { .. }
            | Self::Status { .. }
            | Self::Verify { .. }
            | Self::Certificate { .. }
            | Self::Quarantine { .. }
            | Self::Throttle(_) => Access::Read,
        }
    }

    /// Whether it can do nothing without definitions. What has run is there to be looked at, controlled
    /// and taken back when its file is gone.
    fn reads_files(&self) -> bool {
        matches!(
            self,
            Self::List | Self::Plan { .. } | Self::Start { .. } | Self::Run { .. }
        )
    }
}

fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|duty: &f64| *duty > 0.0 && *duty <= 1.0)
        .ok_or_else(|| "a number above 0 and at most 1 is wanted".to_owned())
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
