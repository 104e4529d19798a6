//! `evenkeel demo`: the outage of June 20, and the same change without one.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::Settings;
use crate::demo::{self, DemoError, Options};

/// Watch the outage of June 20 happen, then the same change go through at the same peak.
///
/// Plays on a PostgreSQL of its own in a temporary directory, which is removed at the end, and loads
/// only this machine. Takes about five minutes. Ends with 1 if a claim did not hold.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A smaller shop and shorter acts.
    #[arg(long)]
    quick: bool,
    /// Directory for report.html, postmortem.md and demo.json.
    #[arg(long, value_name = "DIR", default_value = "demo-report")]
    report: PathBuf,
    /// What is played: the script of June 20 alone, or other causes as well, to see whether the watch
    /// tells them apart.
    #[arg(long, value_enum, default_value_t = Play::June)]
    story: Play,
    /// The same seed sends the same requests at the same times.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What a demo plays.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Play {
    /// June 20.
    June,
    /// That, and a surge of traffic, a bad deploy, a reader that blocks an ALTER, and forgotten connections.
    All,
}

/// Runs the command.
///
/// # Errors
/// When the demo could not be played to its end.
pub async fn run(args: Args, settings: Settings) -> Result<ExitCode, DemoError> {
    let options = Options {
        quick: args.quick,
        stories: matches!(args.story, Play::All),
        report: args.report,
        seed: args.seed,
    };
    let broken = demo::play(&options, &settings.database).await?;
    for claim in &broken {
        eprintln!("not as claimed: {claim}");
    }
    Ok(if broken.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
