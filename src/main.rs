//! The `evenkeel` binary: parse the command line, start tracing, dispatch.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use evenkeel::cli::elsewhere::Place;
use evenkeel::cli::{alert, catalog, demo, incident, load, migrate, psql, serve};
use evenkeel::config::Settings;
use tracing_subscriber::EnvFilter;

/// glibc's allocator keeps what a password hash needs (19 MB) in every thread that ever made one,
/// which adds up to hundreds of megabytes; this one gives it back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A storefront backend that stays upright while its data is migrated.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Serve(serve::Args),
    Demo(demo::Args),
    Migrate(migrate::Args),
    Catalog(catalog::Args),
    Load(load::Args),
    Psql(psql::Args),
    Incident(incident::Args),
    Alert(alert::Args),
    /// Print the settings that are in force, as a settings file.
    Config,
}

type Failure = Box<dyn std::error::Error>;

/// Whoever reads the output may stop before its end, as `head` does: that is no fault. The macros that
/// print panic then, and the signal that would end the process stays ignored, because it would also end a
/// service whose client hangs up.
fn end_quietly_when_nobody_reads() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let said = panic.payload_as_str().unwrap_or_default();
        if said.starts_with("failed printing to std") && said.contains("Broken pipe") {
            // As a shell reports a process that SIGPIPE has ended.
            std::process::exit(128 + 13);
        }
        report(panic);
    }));
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    // A service goes on when nobody reads its log any more.
    if !matches!(cli.command, None | Some(Command::Serve(_))) {
        end_quietly_when_nobody_reads();
    }
    let default = match cli.command {
        // It draws on the terminal, and provokes every slow statement that would be logged.
        Some(Command::Demo(_)) => "error",
        _ => "info,sqlx=warn",
    };
    let filter =
        EnvFilter::try_from_env("EVENKEEL_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    dispatch(cli).await.unwrap_or_else(|failure| {
        eprintln!("evenkeel: {failure}");
        ExitCode::FAILURE
    })
}

async fn dispatch(cli: Cli) -> Result<ExitCode, Failure> {
    let settings = Settings::load(cli.place.config.as_deref())?;
    let settings = cli.place.settings(settings);
    match cli
        .command
        .unwrap_or(Command::Serve(serve::Args::default()))
    {
        Command::Serve(args) => serve::run(args, settings).await?,
        Command::Demo(args) => return Ok(demo::run(args, settings).await?),
        Command::Migrate(args) => {
            let flags = args.flags(&cli.place);
            migrate::run(args, settings, &flags).await?;
        }
        Command::Load(args) => load::run(args, &settings).await?,
        Command::Psql(args) => return Ok(psql::run(args, &settings).await?),
        Command::Incident(args) => incident::run(args, &settings).await?,
        Command::Alert(args) => return Ok(alert::run(args, settings).await?),
        Command::Config => print!("{}", toml::to_string(&settings)?),
        Command::Catalog(args) => return Ok(catalog::run(args, &settings).await?),
    }
    Ok(ExitCode::SUCCESS)
}
