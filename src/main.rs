//! The `evenkeel` binary: parse the command line, start tracing, dispatch.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use evenkeel::cli::elsewhere::Place;
use evenkeel::cli::{alert, catalog, demo, incident, load, migrate, psql, serve};
use evenkeel::config::print::print;
use evenkeel::config::{ConfigError, LogFormat, Settings, log_filter};
use tracing::error;
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
    /// How a line of the log is written; log.format unless given.
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
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
    let settings = Settings::load_with(cli.place.config.as_deref(), &cli.place.command_line());
    let configured = settings.as_ref().map(|settings| settings.log.format);
    let format = cli.log_format.or(configured.ok()).unwrap_or_default();
    let logged = start_log(&cli, format);
    let ended = match settings.and_then(|settings| logged.map(|()| settings)) {
        Ok(settings) => dispatch(cli, settings).await,
        Err(err) => Err(err.into()),
    };
    ended.unwrap_or_else(|failure| {
        match format {
            LogFormat::Text => eprintln!("evenkeel: {failure}"),
            LogFormat::Json => error!("{failure}"),
        }
        ExitCode::FAILURE
    })
}

/// From here on the log is written to standard error, as by default where what is asked for cannot be read.
fn start_log(cli: &Cli, format: LogFormat) -> Result<(), ConfigError> {
    let default = match cli.command {
        // It draws on the terminal.
        Some(Command::Demo(_)) => "error",
        // In an outage every request's statement is slow, and sqlx would warn of each.
        _ => "info,sqlx=warn,sqlx::query=error",
    };
    let (filter, read) = match log_filter(default) {
        Ok(filter) => (filter, Ok(())),
        Err(err) => (EnvFilter::new(default), Err(err)),
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => {
            log.json().flatten_event(true).with_span_list(false).init();
            std::panic::set_hook(Box::new(|panic| error!("{panic}")));
        }
    }
    // A service goes on when nobody reads its log any more.
    if !matches!(cli.command, None | Some(Command::Serve(_))) {
        end_quietly_when_nobody_reads();
    }
    read
}

async fn dispatch(cli: Cli, mut settings: Settings) -> Result<ExitCode, Failure> {
    if let Some(format) = cli.log_format {
        settings.log.format = format;
    }
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
        Command::Config => print!("{}", print(&settings)?),
        Command::Catalog(args) => return Ok(catalog::run(args, &settings).await?),
    }
    Ok(ExitCode::SUCCESS)
}
