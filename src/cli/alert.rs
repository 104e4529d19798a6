//! `evenkeel alert`: what the rules say, and what would have fired.

use std::path::PathBuf;
use std::process::ExitCode;

use chrono::{DateTime, Utc};

use super::database::{Database, DatabaseError};
use crate::config::Settings;
use crate::watch::alerts::recording::{self, RecordingError};
use crate::watch::alerts::replay::{Fired, Replay};
use crate::watch::alerts::{Evaluator, Reading, Rules, RulesError, history};
use crate::watch::event::Severity;

/// Look after the rules of the watch's alerts.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Read the rules and say what is wrong with them.
    Check(Which),
    /// Say what every rule means.
    List(Which),
    /// Replay the rules over history: what would have fired, and how many pages a week.
    ///
    /// Ends with 1 when that is above the budget of the rules.
    Test(Test),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The rules; those of `watch.alerts.rules`, or else the built-in ones, if absent.
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("where").required(true).args(["history", "from_database"]))]
struct Test {
    #[command(flatten)]
    which: Which,
    /// Readings: CSV with a column `at`, or JSON lines (`*.jsonl`).
    #[arg(long, value_name = "FILE", num_args = 1..)]
    history: Vec<PathBuf>,
    /// The shop's own history.
    #[arg(long)]
    from_database: bool,
    /// Count only from this time on, and learn from what is before.
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<DateTime<Utc>>,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

fn time(text: &str) -> Result<DateTime<Utc>, String> {
    text.parse()
        .map_err(|_| "write it like 2024-06-20T10:00:00Z".to_owned())
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AlertError {
    /// The rules cannot be used.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// A file of history cannot be used.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// No database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The history in the database cannot be read.
    #[error("cannot read the history in the database: {}", pool::describe(.0))]
    History(#[from] sqlx::Error),
    /// There is nothing to replay.
    #[error(
        "there is no reading to replay{0}; `evenkeel serve` writes history to the database while it \
         watches"
    )]
    Nothing(String),
}

/// Does what was asked, prints it and returns the exit status.
///
/// # Errors
/// [`AlertError`] says what to do.
pub async fn run(args: Args, settings: Settings) -> Result<ExitCode, AlertError> {
    match args.command {
        Command::Check(which) => {
            let rules = which.load(&settings)?;
            let pages = rules
                .iter()
                .filter(|rule| rule.severity == Severity::Critical);
            println!(
                "{} rules, {} of them page",
                rules.iter().count(),
                pages.count()
            );
        }
        Command::List(which) => {
            for rule in &which.load(&settings)? {
                println!("{:<8} {}: {}", kind(rule.severity), rule.name, rule.title);
                println!("         {rule}");
            }
        }
        Command::Test(test) => return test.run(&settings).await,
    }
    Ok(ExitCode::SUCCESS)
}

impl Which {
    fn load(&self, settings: &Settings) -> Result<Rules, RulesError> {
        let file = self.rules.as_ref().or(settings.watch.alerts.rules.as_ref());
        Rules::load(file.map(PathBuf::as_path))
    }
}

impl Test {
    async fn run(&self, settings: &Settings) -> Result<ExitCode, AlertError> {
        let rules = self.which.load(settings)?;
        let mut readings = self.readings(settings).await?;
        readings.sort_by_key(|reading| reading.at);
        let mut evaluator = Evaluator::new(rules);
        let Some(replay) = Replay::run(&mut evaluator, &readings, self.from) else {
            let from = self.from.map(|from| format!(" from {from} on"));
            return Err(AlertError::Nothing(from.unwrap_or_default()));
        };
        if self.json {
            println!("{}", serde_json::json!(replay));
        } else {
            show(&replay, &readings, evaluator.rules());
        }
        Ok(if replay.is_above_budget() {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }

    async fn readings(&self, settings: &Settings) -> Result<Vec<Reading>, AlertError> {
        let mut readings = Vec::new();
        for file in &self.history {
            readings.extend(recording::read(file)?);
        }
        if self.from_database {
            let database = Database::shared(settings).await?;
            let loaded = load(&database).await;
            database.close().await?;
            readings.extend(loaded?);
        }
        Ok(readings)
    }
}

async fn load(database: &Database) -> Result<Vec<Reading>, AlertError> {
    let mut conn = database.shop_as_it_is().await?;
    Ok(history::load(&mut conn, DateTime::UNIX_EPOCH).await?)
}

fn show(replay: &Replay, readings: &[Reading], rules: &Rules) {
    for fired in &replay.fired {
        println!("{}", line(fired));
        println!("    {}", fired.detail);
    }
    let counted = readings.iter().filter(|reading| reading.at >= replay.from);
    println!(
        "{} readings from {} to {}, {} before that to learn from",
        counted.count(),
        minute(replay.from),
        minute(replay.to),
        readings.partition_point(|reading| reading.at < replay.from)
    );
    let learns_from = readings.first().map_or(replay.from, |first| first.at);
    if replay.to - learns_from < rules.learns_for() {
        println!(
            "rules by the hour of the week have judged nothing: they need {} weeks of history first",
            rules.learns_for().num_weeks()
        );
    }
    let verdict = if replay.is_above_budget() {
        "above"
    } else {
        "within"
    };
    println!(
        "{} pages and {} warnings: {:.1} pages a week, {verdict} the budget of {}",
        replay.pages(),
        replay.fired.len() - replay.pages(),
        replay.pages_per_week(),
        replay.budget
    );
}

fn line(fired: &Fired) -> String {
    let lasted = match fired.resolved {
        Some(resolved) => {
            let seconds = (resolved - fired.at).num_seconds().unsigned_abs();
            let lasted = std::time::Duration::from_secs(seconds);
            format!("for {}", humantime::format_duration(lasted))
        }
        None => "until the end".to_owned(),
    };
    format!(
        "{} {:<7} {}: {}, {lasted}",
        fired.at.format("%Y-%m-%d %H:%M:%S"),
        kind(fired.severity),
        fired.rule,
        fired.title,
    )
}

fn kind(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "page",
        Severity::Warning => "warning",
    }
}

fn minute(at: DateTime<Utc>) -> impl std::fmt::Display {
    at.format("%Y-%m-%d %H:%M")
}
