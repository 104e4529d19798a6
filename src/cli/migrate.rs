//! `evenkeel migrate`: looks at background migrations and controls them. Only rows are read and
//! written here; a shop process does the work, except with `run --standalone`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::HumanDuration;
use nix::unistd::{User, getuid};
use sqlx::postgres::PgConnection;

use super::database::{Database, DatabaseError};
use super::elsewhere::{Elsewhere, NoDefinitions};
use super::lint::LintError;
use super::standalone;
use crate::app::App;
use crate::config::Settings;
use crate::migration::control::{self, ControlError};
use crate::migration::definition::{self, Definition, DefinitionError};
use crate::migration::keyset::{Keyset, KeysetError};
use crate::migration::ledger::{self, LedgerError, Phase, State, Step};
use crate::migration::lint::Unsafe;
use crate::migration::plan::plan;
use crate::migration::progress::Progress;
use crate::migration::retry::Failure;
use crate::migration::sweep::{VerifyError, verify};
use crate::migration::throttle::ThrottleError;

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
    /// Try one batch, roll it back, and predict.
    Plan {
        /// Name of the migration: its file without `.sql`.
        name: String,
    },
    /// Queue a run; a shop process takes it.
    Start {
        /// Name of the migration.
        name: String,
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
    /// Look for rows that are still pending, changing nothing. Ends with 1 if there are any.
    Verify {
        /// Name of the migration.
        name: String,
    },
    /// Cap the pace of one migration or of all, for a time.
    Throttle(super::throttle::Args),
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
    /// No definitions.
    #[error(transparent)]
    Definitions(#[from] NoDefinitions),
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
    /// The lint has findings.
    #[error(transparent)]
    Lint(#[from] LintError),
    /// The throttle was not made or removed.
    #[error(transparent)]
    Throttle(#[from] ThrottleError),
    /// The engine could not reach the database.
    #[error(transparent)]
    Engine(#[from] Failure),
    /// Rows are pending.
    #[error("{0} rows are still pending; the first before the key {1:?}")]
    Pending(i64, Vec<String>),
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
    Unsafe,
    sqlx::Error
);

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
        Command::Plan { name } => show_plan(conn, &load(&name)?).await,
        Command::Start { name } => {
            let run = control::start(conn, &load(&name)?, &actor()).await?;
            println!(
                "run {} of {name} is queued; `evenkeel migrate status {name} --watch` follows it",
                run.id
            );
            Ok(())
        }
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
        Command::Throttle(args) => {
            // A cap on a migration that does not exist would cap nothing.
            args.name().map(load).transpose()?;
            Ok(super::throttle::run(&args, conn, &actor()).await?)
        }
        Command::Verify { name } => check(settings, database, conn, &load(&name)?).await,
        Command::Run { name, duty, .. } => {
            standalone::run(settings, database, conn, &load(&name)?, duty).await
        }
    }
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
        let state = run.map_or("never run", |run| run.state.name());
        println!("{:<28} {:<10} {}", definition.name, state, definition.title);
    }
    Ok(())
}

async fn show_plan(conn: &mut PgConnection, definition: &Definition) -> Result<(), MigrateError> {
    control::refuse_unsafe(definition)?;
    println!("{}: {}", definition.name, definition.title);
    for (step, statements) in [
        (Step::Expand, &definition.expand),
        (Step::Contract, &definition.contract),
    ] {
        for ddl in statements {
            println!("  {:<9} {}", step.name(), one_line(&ddl.sql));
        }
    }
    if !definition.has_backfill() {
        return Ok(());
    }
    let plan = match plan(conn, definition).await {
        Err(KeysetError::Database(err)) if !definition.expand.is_empty() => {
            println!("  sample    not possible before the expand step: {err}");
            return Ok(());
        }
        plan => plan?,
    };
    println!(
        "  walks     {} by {} (index {})",
        definition.table, plan.key, plan.index
    );
    println!(
        "  rows      about {}, of which about {} are pending",
        plan.rows, plan.pending
    );
    println!(
        "  sample    {} rows passed, {} changed and rolled back, {:.1} ms",
        plan.sample_rows, plan.sample_changed, plan.sample_ms
    );
    let time = Duration::try_from_secs_f64(plan.full_speed_s).unwrap_or_default();
    println!(
        "  time      about {} at full speed; longer while shoppers need the database",
        HumanDuration(time)
    );
    for warning in plan.warnings {
        println!("  warning   {warning}");
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

pub(super) fn headline(progress: &Progress) -> String {
    let run = &progress.run;
    let state = match (run.state, run.step, run.phase) {
        (State::Running, ..) if !progress.driven => "running, but its process is silent",
        (State::Running, Some(Step::Expand), _) => "running the expand step",
        (State::Running, Some(Step::Contract), _) => "running the contract step",
        (State::Running, _, Phase::Sweep) => "running the final sweep",
        (state, ..) => state.name(),
    };
    let done = progress
        .done
        .map_or(String::new(), |done| format!(", {:.1} %", done * 100.0));
    format!(
        "run {} of {}: {state}{done}, {} rows changed in {} batches",
        run.id, run.migration, run.rows_changed, run.batches
    )
}

pub(super) fn describe(progress: &Progress) -> String {
    let mut lines = vec![headline(progress)];
    if let Some(rate) = progress.rows_per_s {
        let eta = progress
            .eta_s
            .and_then(|s| Duration::try_from_secs_f64(s).ok());
        let eta = eta.map_or(String::new(), |eta| {
            format!(", done in about {}", HumanDuration(eta))
        });
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
    if let Some(error) = &progress.run.error {
        lines.push(format!("  {error}"));
    }
    for statement in &progress.statements {
        let state = match (&statement.done_at, &statement.waits_for) {
            (Some(_), _) => "done".to_owned(),
            (None, Some(why)) => format!("tried {} times, waits: {why}", statement.tries),
            (None, None) => "under way".to_owned(),
        };
        let sql = one_line(&statement.statement);
        lines.push(format!("  {}: {sql}: {state}", statement.step.name()));
    }
    for range in &progress.set_aside {
        lines.push(format!(
            "  set aside: after {:?} up to {:?}: {}",
            range.lower_key, range.upper_key, range.error
        ));
    }
    lines.join("\n")
}

fn one_line(sql: &str) -> String {
    sql.split_whitespace().collect::<Vec<_>>().join(" ")
}

async fn command_run(conn: &mut PgConnection, name: &str, to: State) -> Result<(), MigrateError> {
    let run = ledger::latest(conn, name).await?;
    let run = ledger::command(conn, run.id, to, &actor()).await?;
    println!("run {} of {name} is {}", run.id, run.state.name());
    Ok(())
}

async fn check(
    settings: &Settings,
    database: &Database,
    conn: &mut PgConnection,
    definition: &Definition,
) -> Result<(), MigrateError> {
    let keyset = Keyset::resolve(conn, definition).await?;
    let app = App::new(settings.clone(), database.options.clone());
    let found = verify(&app.pool, &settings.migration, definition, &keyset).await?;
    app.pool.close().await;
    match found.first_range {
        Some(key) if found.pending > 0 => Err(MigrateError::Pending(found.pending, key)),
        _ => {
            println!("{}: {} rows, none pending", definition.name, found.rows);
            Ok(())
        }
    }
}
