//! `evenkeel serve`: runs the shop and, beside it, the migration engine.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::FutureExt;
use indicatif::{ProgressBar, ProgressStyle};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rand::RngExt;
use sqlx::postgres::PgConnection;
use tokio::net::TcpListener;
use tracing::warn;

use super::database::{Database, DatabaseError};
use crate::app::App;
use crate::config::{ConfigError, Settings};
use crate::http;
use crate::migration::governor::Sensors;
use crate::migration::runner::Runner;
use crate::shutdown::Shutdown;
use crate::store::sample::{self, SampleError, SampleSize};
use crate::watch::alerts::{Rules, RulesError};
use crate::watch::journal;
use crate::watch::log::{Log, LogError};
use crate::watch::notify::Escalator;
use crate::watch::ticket::Tickets;

/// Run the shop (this is what happens without a command).
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Drop the embedded server's data first.
    #[arg(long)]
    fresh: bool,
    /// Address to listen on; port 0 takes a free one.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Stop when the standard input ends: whoever started this process is gone then, however.
    #[arg(long, hide = true)]
    die_with_stdin: bool,
}

/// Why the shop does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// No database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The sample shop could not be written.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {source}; choose another with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The journal of incidents.
    #[error(transparent)]
    Journal(#[from] LogError),
    /// The rules of the alerts.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// A channel or a key.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// How the watch is to connect.
    #[error("watch.database_url: {}; give a postgres:// URL, or leave it out", crate::db::describe(.0))]
    WatchUrl(sqlx::Error),
    /// The service ended by itself.
    #[error("the service failed: {0}")]
    Serve(#[from] std::io::Error),
}

/// Runs the shop until Ctrl-C or SIGTERM, then ends in order: requests under way are answered, the
/// batch in flight commits, the lease is given back.
///
/// # Errors
/// [`ServeError`] says what to do.
pub async fn run(args: Args, mut settings: Settings) -> Result<(), ServeError> {
    raise_open_files();
    let interrupted = interruption(args.die_with_stdin);
    tokio::pin!(interrupted);
    let address = args.listen.unwrap_or(settings.http.listen);
    // Before the database is started: a taken address is the commonest mistake.
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Listen { address, source })?;
    let address = listener.local_addr()?;
    let database = Database::own(&settings, args.fresh).await?;
    let prepared = tokio::select! {
        prepared = prepare(&database, &settings) => prepared.map(|()| true),
        () = &mut interrupted => Ok(false),
    };
    let served = match prepared {
        Ok(true) => {
            let token = admin_token(&mut settings);
            let app = App::new(settings, database.options.clone());
            announce(address, &token);
            serve(app, listener, interrupted).await
        }
        Ok(false) => Ok(()),
        Err(err) => Err(err),
    };
    database.close().await?;
    served
}

async fn serve(
    mut app: App,
    listener: TcpListener,
    interrupted: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let sampler = app.sampler(true);
    let stop = app.shutdown.token().clone();
    app.shutdown.spawn(async move { sampler.run(stop).await });
    if app.settings.migration.enabled {
        let sensors = Sensors {
            latencies: Some(app.latencies.clone()),
            pool: app.pool.clone(),
            surroundings: Some(app.surroundings.clone()),
        };
        let runner = Runner::new(
            sensors,
            app.settings.migration.clone(),
            app.settings.pace.clone(),
            app.shutdown.token().clone(),
        );
        app.shutdown.spawn(async move { runner.run().await });
    }
    if app.settings.watch.enabled {
        watch(&mut app).await?;
    }
    let serving = app.shutdown.spawn(http::serve(app.clone(), listener));
    tokio::pin!(serving);
    let result = tokio::select! {
        () = interrupted => None,
        result = &mut serving => Some(result),
    };
    eprintln!("stopping: requests and the batch under way are finished first");
    app.shutdown.finish().await;
    app.pool.close().await;
    match result {
        Some(Ok(result)) => Ok(result?),
        Some(Err(err)) => Err(std::io::Error::other(err).into()),
        None => Ok(()),
    }
}

/// Starts whoever watches, keeps the record and tells people: apart from the shop, whose requests would
/// keep them from it when there are too many.
async fn watch(app: &mut App) -> Result<(), ServeError> {
    let settings = &app.settings.watch;
    let options = match &settings.database_url {
        Some(url) => Some(url.parse().map_err(ServeError::WatchUrl)?),
        None => None,
    };
    let rules = Rules::load(settings.alerts.rules.as_deref())?;
    let log = Log::open(journal::directory(&app.settings)).await?;
    let tickets = Tickets::new(&settings.notify)?;
    let escalator = Escalator::new(settings, log.clone(), tickets.clone())?;
    let replicator = app.replicator(log.clone());
    let keeper = app.keeper(log.clone(), options);
    let keeper = keeper.with_alerts(rules, app.board.clone());
    let (leads, stop) = (keeper.leads(), app.shutdown.token().clone());
    let escalator = escalator.on_duty(leads);
    app.shutdown.spawn_apart(
        "watch",
        vec![
            replicator.run(stop.clone()).boxed(),
            escalator.run(stop.clone()).boxed(),
            keeper.run(stop).boxed(),
        ],
    )?;
    (app.incidents, app.tickets) = (Some(log), Some(tickets));
    Ok(())
}

/// Completes on Ctrl-C or SIGTERM, and if wanted at the end of the standard input.
async fn interruption(with_stdin: bool) {
    if !with_stdin {
        return Shutdown::signalled().await;
    }
    let (ended, end) = tokio::sync::oneshot::channel();
    // Not a task of the runtime, which would wait for the read when this process ends.
    std::thread::spawn(move || {
        // A read that fails is an end, too.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = ended.send(());
    });
    tokio::select! {
        () = Shutdown::signalled() => {}
        _ = end => {}
    }
}

async fn prepare(database: &Database, settings: &Settings) -> Result<(), ServeError> {
    let mut conn = database.connect().await?;
    if settings.database.sample_shop {
        fill(&mut conn).await?;
    }
    Ok(())
}

async fn fill(conn: &mut PgConnection) -> Result<(), SampleError> {
    let size = SampleSize::default();
    if !sample::is_wanted(conn, size).await? {
        return Ok(());
    }
    let style = ProgressStyle::with_template("filling the sample shop {bar:40} {percent} %");
    let bar =
        ProgressBar::new(1).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let done = sample::fill(conn, size, &|done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })
    .await;
    bar.finish_and_clear();
    match done {
        // A shop with products of its own needs no samples.
        Ok(()) | Err(SampleError::NotEmpty) => Ok(()),
        Err(err) => Err(err),
    }
}

/// Every connection is an open file, and the usual soft limit of 1,024 is a small crowd.
fn raise_open_files() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(err) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        warn!(%err, soft, "the limit of open files stays as it is");
    }
}

/// The configured token, or a random one that lasts until the process ends.
fn admin_token(settings: &mut Settings) -> Token {
    if settings.ops.admin_token.is_some() {
        return Token::Configured;
    }
    let token = URL_SAFE_NO_PAD.encode(rand::rng().random::<[u8; 24]>());
    settings.ops.admin_token = Some(token.clone());
    Token::Made(token)
}

enum Token {
    Configured,
    Made(String),
}

fn announce(address: SocketAddr, token: &Token) {
    println!("shop            http://{address}/");
    println!("API             http://{address}/api/products");
    println!("documentation   http://{address}/api/docs");
    println!("health          http://{address}/health/ready");
    println!("metrics         http://{address}/metrics");
    println!("operations      http://{address}/ops/migrations");
    match token {
        Token::Configured => println!("operations token: as configured"),
        Token::Made(token) => println!(
            "operations token: {token}  (until this process ends; set EVENKEEL_OPS__ADMIN_TOKEN to keep one)"
        ),
    }
}
