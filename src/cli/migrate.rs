//! `evenkeel migrate`: looks at background migrations and controls them. Only rows are read and
//! written here; a shop process does the work, except with `run --standalone`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::HumanDuration;
use nix::unistd::{User, getuid};
use sqlx::postgres::PgConnection;
use tokio_util::sync::CancellationToken;

mod plan;
mod proof;

use super::database::{Database, DatabaseError};
use crate::app::App;
use crate::config::Settings;
use crate::migration::control::{self, ControlError};
use crate::migration::definition::{self, Definition, DefinitionError};
use crate::migration::governor::Sensors;
use crate::migration::keyset::KeysetError;
use crate::migration::ledger::{self, LedgerError, Phase, Run, State};
use crate::migration::progress::Progress;
use crate::migration::retry::Failure;
use crate::migration::runner::{End, Runner};
use crate::migration::sweep::VerifyError;
use crate::shutdown::Shutdown;

/// Look at background migrations and control them.
#[derive(Debug, clap::Args)]
pub struct Args {
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
    /// Look for rows that are still pending, changing nothing. Ends with 1 if there are any. Ranges
    /// that changed since the last run was certified are named.
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

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// No database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The migration or its run does not allow it.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The new definition could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The engine could not reach the database.
    #[error(transparent)]
    Engine(#[from] Failure),
    /// Rows are pending.
    #[error("{0} rows are still pending; the first before the key {1:?}")]
    Pending(i64, Vec<String>),
    /// The address of a replica is none.
    #[error("--replica cannot be used: {0}; it should look like postgres://user@host/database")]
    Replica(#[source] sqlx::Error),
    /// The run did not complete.
    #[error("{0}")]
    Incomplete(String),
}

macro_rules! through_control {
    ($($error:ty),*) => {$(
        impl From<$error> for MigrateError {
            fn from(err: $error) -> Self {
                Self::Control(err.into())
            }
        }
    )*};
}

through_control!(
    DefinitionError,
    LedgerError,
    KeysetError,
    VerifyError,
    sqlx::Error
);

/// Runs the command and prints what it found or did.
///
/// # Errors
/// [`MigrateError`] says what to do.
pub async fn run(args: Args, settings: Settings) -> Result<(), MigrateError> {
    if let Command::New { name } = &args.command {
        return create(&settings.migration.definitions, name);
    }
    let database = Database::shared(&settings).await?;
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
        Command::List => list(settings, conn).await,
        Command::Plan { name, json } => plan::show(settings, conn, &load(&name)?, json).await,
        Command::Start { name, from_last } => {
            let definition = load(&name)?;
            let run = if from_last {
                control::start_from_last(conn, &definition, &actor()).await?
            } else {
                control::start(conn, &definition, &actor()).await?
            };
            announce(&run);
            Ok(())
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
        } => status(conn, &name, watch).await,
        Command::Pause { name } => command_run(conn, &name, State::Paused).await,
        Command::Resume { name } => command_run(conn, &name, State::Queued).await,
        Command::Cancel { name } => command_run(conn, &name, State::Cancelled).await,
        Command::Verify { name, replica } => {
            proof::verify(settings, database, conn, &name, replica.as_deref()).await
        }
        Command::Run { name, duty, .. } => {
            standalone(settings, database, conn, &load(&name)?, duty).await
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
fn actor() -> String {
    let user = User::from_uid(getuid()).ok().flatten();
    user.map_or_else(|| format!("uid {}", getuid()), |user| user.name)
}

async fn list(settings: &Settings, conn: &mut PgConnection) -> Result<(), MigrateError> {
    for (definition, run) in control::list(conn, &settings.migration.definitions).await? {
        let state = run.map_or("never run", |run| run.state.name());
        println!("{:<28} {:<10} {}", definition.name, state, definition.title);
    }
    Ok(())
}

async fn status(conn: &mut PgConnection, name: &str, watch: bool) -> Result<(), MigrateError> {
    let terminal = console::Term::stdout();
    loop {
        let run = ledger::latest(conn, name).await?;
        let ended = !matches!(run.state, State::Queued | State::Running | State::Paused);
        let progress = Progress::of(conn, run).await?;
        let text = describe(&progress);
        println!("{text}");
        if !watch || ended {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        if terminal.is_term() {
            // A line that cannot be cleared is merely printed again.
            let _ = terminal.clear_last_lines(text.lines().count());
        }
    }
}

fn headline(progress: &Progress) -> String {
    let run = &progress.run;
    let state = match (run.state, run.phase) {
        (State::Running, _) if !progress.driven => "running, but its process is silent",
        (State::Running, Phase::Sweep) => "running the final sweep",
        (state, _) => state.name(),
    };
    let done = progress
        .done
        .map_or(String::new(), |done| format!(", {:.1} %", done * 100.0));
    format!(
        "run {} of {}: {state}{done}, {} rows changed in {} batches",
        run.id, run.migration, run.rows_changed, run.batches
    )
}

fn describe(progress: &Progress) -> String {
    let mut lines = vec![headline(progress)];
    if let Some(rate) = progress.rows_per_s {
        let human = |s: f64| Duration::try_from_secs_f64(s).ok().map(HumanDuration);
        let eta = |s: Option<f64>| s.and_then(human);
        let eta = match (
            progress.eta.and_then(|e| eta(e.p50_s)),
            progress.eta.and_then(|e| eta(e.p90_s)),
        ) {
            (Some(p50), Some(p90)) => format!(", done in about {p50} (P90 {p90})"),
            (Some(p50), None) => format!(", done in about {p50}, or much later"),
            (None, _) => String::new(),
        };
        lines.push(format!("  {rate:.0} rows/s{eta}"));
    }
    if let (State::Running, Some(pace)) = (progress.run.state, &progress.run.pace) {
        let duty = pace["duty"].as_f64().unwrap_or(0.0);
        lines.push(format!("  works {:.0} % of the time", duty * 100.0));
        for cause in pace["causes"].as_array().into_iter().flatten() {
            let text = |key: &str| cause[key].as_str().unwrap_or_default().to_owned();
            lines.push(format!(
                "  limited by {} ({}): {}",
                text("source"),
                text("verdict"),
                text("reason")
            ));
        }
    }
    if let Some(spent) = describe_spent(&progress.run.time_spent) {
        lines.push(format!("  time spent: {spent}"));
    }
    if let Some(error) = &progress.run.error {
        lines.push(format!("  {error}"));
    }
    for range in &progress.set_aside {
        lines.push(format!(
            "  set aside: after {:?} up to {:?}: {}",
            range.lower_key, range.upper_key, range.error
        ));
    }
    lines.join("\n")
}

/// What a run's time went into, the most first; `None` before anything is known.
fn describe_spent(spent: &serde_json::Value) -> Option<String> {
    let seconds = spent.as_object()?.iter();
    let mut seconds: Vec<_> = seconds
        .filter_map(|(what, s)| Some((what, s.as_f64()?)))
        .collect();
    seconds.sort_by(|a, b| b.1.total_cmp(&a.1));
    let parts: Vec<_> = seconds
        .iter()
        .map(|(what, s)| format!("{what} {s:.1} s"))
        .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

async fn command_run(conn: &mut PgConnection, name: &str, to: State) -> Result<(), MigrateError> {
    let run = ledger::latest(conn, name).await?;
    let run = ledger::command(conn, run.id, to, &actor()).await?;
    println!("run {} of {name} is {}", run.id, run.state.name());
    Ok(())
}

async fn standalone(
    settings: &Settings,
    database: &Database,
    conn: &mut PgConnection,
    definition: &Definition,
    duty: f64,
) -> Result<(), MigrateError> {
    let app = App::new(settings.clone(), database.options.clone());
    let mut pace = settings.pace.clone();
    pace.duty_max = duty;
    pace.duty_min = pace.duty_min.min(duty);
    let sensors = Sensors {
        latencies: None,
        pool: app.pool.clone(),
    };
    let stop = CancellationToken::new();
    let runner = Runner::new(sensors, settings.migration.clone(), pace, stop.clone());
    let queued = control::start(conn, definition, &actor()).await?;
    let Some(run) = runner.take().await? else {
        return Err(MigrateError::Incomplete(format!(
            "run {} of {} is queued, because another run is under way; `evenkeel migrate status` \
             shows it",
            queued.id, definition.name
        )));
    };
    let began = Instant::now();
    let drive = runner.drive(run.clone());
    tokio::pin!(drive);
    let end = tokio::select! {
        end = &mut drive => end,
        () = Shutdown::signalled() => {
            stop.cancel();
            drive.await
        }
    };
    app.pool.close().await;
    let run = ledger::find(conn, run.id).await?;
    let progress = Progress::of(conn, run).await?;
    match end {
        End::Completed => {
            println!("{}", headline(&progress));
            println!("  took {}", HumanDuration(began.elapsed()));
            Ok(())
        }
        _ => Err(MigrateError::Incomplete(describe(&progress))),
    }
}
