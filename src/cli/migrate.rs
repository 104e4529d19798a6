//! `evenkeel migrate`: looks at background migrations and controls them. Only rows are read and
//! written here; a shop process does the work, except with `run --standalone`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use nix::unistd::{User, getuid};
use sqlx::postgres::PgConnection;

mod error;
mod plan;
mod proof;
mod status;

use super::database::Database;
use super::elsewhere::Elsewhere;
use super::standalone;
use crate::config::Settings;
use crate::migration::control;
use crate::migration::definition::{self, Definition};
use crate::migration::ledger::{self, Run, State};
use crate::migration::progress::Progress;

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
        /// Schema files, background migrations, or any SQL.
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
    },
}

fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|duty: &f64| *duty > 0.0 && *duty <= 1.0)
        .ok_or_else(|| "a number above 0 and at most 1 is wanted".to_owned())
}

/// Runs the command and prints what it found or did.
///
/// # Errors
/// [`MigrateError`] says what to do.
pub async fn run(args: Args, settings: Settings) -> Result<(), MigrateError> {
    let reads_none = matches!(
        &args.command,
        Command::New { .. }
            | Command::Lint { .. }
            | Command::Status { .. }
            | Command::Pause { .. }
            | Command::Resume { .. }
            | Command::Cancel { .. }
            | Command::Certificate { .. }
            | Command::Quarantine { .. }
            | Command::Retry { .. }
    ) || matches!(&args.command, Command::Throttle(args) if args.name().is_none());
    let settings = args.elsewhere.settings(settings, reads_none)?;
    if let Command::New { name } = &args.command {
        return create(&settings.migration.definitions, name);
    }
    if let Command::Lint { files, json } = &args.command {
        return Ok(super::lint::run(files, *json)?);
    }
    let database = args.elsewhere.database(&settings).await?;
    let mut conn = database.connect().await?;
    let result = dispatch(args.command, &settings, &database, &mut conn).await;
    drop(conn);
    database.close().await?;
    result
}

async fn dispatch(
    command: Command,
    settings: &Settings,
    database: &Database,
    conn: &mut PgConnection,
) -> Result<(), MigrateError> {
    let load = |name: &str| definition::load(&settings.migration.definitions, name);
    match command {
        Command::New { name } => create(&settings.migration.definitions, &name),
        Command::Lint { files, json } => Ok(super::lint::run(&files, json)?),
        Command::List => list(settings, conn).await,
        Command::Plan { name, json } => plan::show(settings, conn, &load(&name)?, json).await,
        Command::Start {
            name,
            from_last,
            by,
        } => {
            let definition = load(&name)?;
            let run = if from_last {
                control::start_from_last(conn, &definition, &actor()).await?
            } else {
                control::start(conn, &definition, &actor()).await?
            };
            if let Some(by) = by {
                ledger::set_deadline(conn, run.id, by, &actor()).await?;
            }
            announce(&run);
            Ok(())
        }
        Command::Spend(args) => {
            // An allowance for a migration that does not exist would allow nothing.
            load(&args.name)?;
            Ok(super::throttle::spend(&args, conn, &actor()).await?)
        }
        Command::Undo { name } => {
            announce(&control::undo(conn, &load(&name)?, &actor()).await?);
            Ok(())
        }
        Command::Retry { name } => {
            let run = ledger::latest(conn, &name).await?;
            announce(&ledger::retry(conn, run.id, &actor()).await?);
            Ok(())
        }
        Command::Quarantine { name } => proof::quarantine(conn, &name).await,
        Command::Certificate { name, json } => proof::certificate(conn, &name, json).await,
        Command::Status { name: None, .. } => {
            for run in ledger::recent(conn, 50).await? {
                println!("{}", headline(&Progress::of(conn, run).await?));
            }
            Ok(())
        }
        Command::Status {
            name: Some(name),
            watch,
        } => status::show(conn, &name, watch).await,
        Command::Pause { name } => command_run(conn, &name, State::Paused).await,
        Command::Resume { name } => command_run(conn, &name, State::Queued).await,
        Command::Cancel { name } => command_run(conn, &name, State::Cancelled).await,
        Command::Throttle(args) => {
            // A cap on a migration that does not exist would cap nothing.
            args.name().map(load).transpose()?;
            Ok(super::throttle::run(&args, conn, &actor()).await?)
        }
        Command::Verify { name, replica } => {
            proof::verify(settings, database, conn, &name, replica.as_deref()).await
        }
        Command::Run { name, duty, .. } => {
            standalone::run(settings, database, conn, &load(&name)?, duty).await
        }
    }
}

fn announce(run: &Run) {
    let name = &run.migration;
    println!(
        "run {} of {name} is queued; `evenkeel migrate status {name} --watch` follows it",
        run.id
    );
}

fn create(dir: &Path, name: &str) -> Result<(), MigrateError> {
    // Refuses a name that the file could not be loaded by.
    Definition::parse(name, definition::TEMPLATE)?;
    let path = dir.join(format!("{name}.sql"));
    let write = || {
        std::fs::create_dir_all(dir)?;
        let mut file = File::create_new(&path)?;
        file.write_all(definition::TEMPLATE.as_bytes())
    };
    write().map_err(|source| MigrateError::Write {
        path: path.clone(),
        source,
    })?;
    println!("{} is there to be edited", path.display());
    Ok(())
}

/// Who types, for the ledger.
pub(super) fn actor() -> String {
    let user = User::from_uid(getuid()).ok().flatten();
    user.map_or_else(|| format!("uid {}", getuid()), |user| user.name)
}

async fn list(settings: &Settings, conn: &mut PgConnection) -> Result<(), MigrateError> {
    for (definition, run) in control::list(conn, &settings.migration.definitions).await? {
        let state = run.map_or("never run".to_owned(), |run| status::state(&run));
        println!("{:<28} {:<10} {}", definition.name, state, definition.title);
    }
    Ok(())
}

async fn command_run(conn: &mut PgConnection, name: &str, to: State) -> Result<(), MigrateError> {
    let run = ledger::latest(conn, name).await?;
    let run = ledger::command(conn, run.id, to, &actor()).await?;
    println!("run {} of {name} is {}", run.id, run.state.name());
    Ok(())
}
