//! `evenkeel serve`: runs the shop and, beside it, the migration engine.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rand::RngExt;
use tokio::net::TcpListener;
use tracing::{info, warn};

mod prepare;
mod watching;

use pool::sessions::Kept;
use pool::settings::SIDE_CONNECTIONS;

use super::database::{Database, DatabaseError};
use super::fresh::{self, FreshError};
use super::schema_files;
use crate::app::{App, MOST_CONNECTIONS};
use crate::config::{ConfigError, LogFormat, Settings};
use crate::http::{self, Listeners};
use crate::migration::governor::Sensors;
use crate::migration::runner::Runner;
use crate::shutdown::{Shutdown, Signalled};
use crate::store::sample::SampleError;
use crate::watch::alerts::RulesError;
use crate::watch::log::LogError;
use watching::Watching;

/// Open files beside connections and the pool: logs, journal, probes, watch, the embedded server's pipes.
const OTHER_FILES: usize = 64;
/// Fewer connections than this are a small crowd even for a small shop.
const FEW_CONNECTIONS: usize = 500;

/// Run the shop (this is what happens without a command).
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Delete the embedded server's data first: products, orders, accounts and all else. Asks before it does
    /// so, or wants --yes.
    #[arg(long)]
    fresh: bool,
    /// Do not ask before --fresh deletes the data.
    #[arg(long, requires = "fresh")]
    yes: bool,
    /// Make the shop's tables also in a database that holds somebody else's.
    #[arg(long)]
    create: bool,
    /// Fill a shop without products with a sample shop. An embedded server's is filled anyway, unless
    /// `database.sample_shop` is false.
    #[arg(long)]
    sample_shop: bool,
    /// Address to listen on; port 0 takes a free one.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Address for operators (`/ops`, `/metrics`); port 0 takes a free one.
    #[arg(long)]
    ops_listen: Option<SocketAddr>,
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
    /// Nobody has said that the data may be deleted.
    #[error(transparent)]
    Fresh(#[from] FreshError),
    /// The sample shop could not be written.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The address is taken or not ours.
    #[error(
        "cannot listen on {address}: {source}{}", another(.source)
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The pool is larger than what the server lets in.
    #[error(
        "pool.size is {size}, but the database lets in {limit} connections (max_connections less those that \
         are reserved, or a CONNECTION LIMIT of the role or the database), and a process opens up to \
         {SIDE_CONNECTIONS} beside its pool: set pool.size to at most {}, or raise the limit",
        (.limit - SIDE_CONNECTIONS as i64).max(1)
    )]
    Connections {
        /// `pool.size`.
        size: usize,
        /// What the server lets in.
        limit: i64,
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
    #[error("watch.database_url: {}; give a postgres:// URL, or leave it out", pool::describe(.0))]
    WatchUrl(sqlx::Error),
    /// The system refuses what every service needs.
    #[error("the service cannot run: {0}")]
    Serve(#[from] std::io::Error),
}

/// Runs the shop until Ctrl-C or SIGTERM, then ends in order: requests under way are answered, the
/// batch in flight commits, the lease is given back.
///
/// # Errors
/// [`ServeError`] says what to do.
pub async fn run(args: Args, mut settings: Settings) -> Result<(), ServeError> {
    let files = raise_open_files();
    fit_connections(&mut settings, files);
    // Before anything is written.
    let watching = Watching::prepare(&settings).await?;
    // Before the database is started: a taken address is the commonest mistake.
    let listeners = Listeners {
        shop: listen(args.listen.unwrap_or(settings.http.listen)).await?,
        ops: listen(args.ops_listen.unwrap_or(settings.ops.listen)).await?,
    };
    let (shop, ops) = (listeners.shop.local_addr()?, listeners.ops.local_addr()?);
    if args.fresh && !args.yes {
        fresh::consent(&settings).await?;
    }
    // Not before the question, at which Ctrl-C ends the process.
    let interrupted = interruption(args.die_with_stdin);
    tokio::pin!(interrupted);
    let mut database = tokio::select! {
        database = Database::own(&settings, args.fresh) => database?,
        _ = &mut interrupted => return Ok(()),
    };
    let prepared = tokio::select! {
        prepared = prepare::prepare(&database, &settings, &args) => prepared.map(Some),
        _ = &mut interrupted => Ok(None),
    };
    let served = match prepared {
        Ok(Some(kept)) => {
            schema_files::tell(&settings.migration.definitions);
            warn_of_bare_cookies(&settings, shop);
            let token = admin_token(&mut settings);
            let app = App::new(settings, database.options.clone());
            if kept == Kept::Statements {
                app.pool.share_sessions();
            }
            announce(app.settings.log.format, shop, ops, &token);
            let shutdown = app.shutdown.clone();
            tokio::select! {
                served = serve(app, watching, listeners, interrupted) => served,
                err = database.keep() => {
                    shutdown.finish().await;
                    Err(err.into())
                }
            }
        }
        Ok(None) => Ok(()),
        Err(err) => Err(err),
    };
    database.close().await?;
    served
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Listen { address, source })
}

/// What to do when the address is taken, most often by another shop.
fn another(source: &std::io::Error) -> &'static str {
    if source.kind() == std::io::ErrorKind::AddrInUse {
        "; take free ports: evenkeel serve --listen 127.0.0.1:0 --ops-listen 127.0.0.1:0 (a second \
         shop on this machine also needs data of its own: --data-dir DIR, or its own DATABASE_URL)"
    } else {
        ""
    }
}

async fn serve(
    mut app: App,
    watching: Option<Watching>,
    listeners: Listeners,
    interrupted: impl Future<Output = Signalled>,
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
    if app.settings.retention.enabled {
        let sweeper = app.sweeper();
        app.shutdown
            .spawn(sweeper.run(app.shutdown.token().clone()));
    }
    if let Some(watching) = watching {
        watching.begin(&mut app).await?;
    }
    app.shutdown.spawn(http::serve(app.clone(), listeners));
    let notice = app.settings.http.notice;
    if interrupted.await == Signalled::Terminate && !notice.is_zero() {
        info!("stopping: readiness says so for {notice:?}, then the port closes");
        app.shutdown.announce();
        tokio::select! {
            () = tokio::time::sleep(notice) => {}
            // Whoever asks again has no time.
            _ = Shutdown::signalled() => {}
        }
    }
    info!("stopping: requests and the batch under way are finished first");
    app.shutdown.finish().await;
    app.pool.close().await;
    Ok(())
}

/// Completes on Ctrl-C or SIGTERM, and if wanted at the end of the standard input; signals count from this
/// call on.
fn interruption(with_stdin: bool) -> impl Future<Output = Signalled> {
    let signalled = Shutdown::signalled();
    async move {
        if !with_stdin {
            return signalled.await;
        }
        let (ended, end) = tokio::sync::oneshot::channel();
        // Not a task of the runtime, which would wait for the read when this process ends.
        std::thread::spawn(move || {
            // A read that fails is an end, too.
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            let _ = ended.send(());
        });
        tokio::select! {
            signalled = signalled => signalled,
            _ = end => Signalled::Interrupt,
        }
    }
}

/// Says when sessions could be read on the way.
fn warn_of_bare_cookies(settings: &Settings, shop: SocketAddr) {
    let public = settings.watch.public_url.as_deref().unwrap_or_default();
    if !settings.accounts.secure_cookies
        && (!shop.ip().is_loopback() || public.starts_with("https:"))
    {
        warn!(
            "session cookies are sent over connections without TLS, too: put a TLS proxy in front and set \
             accounts.secure_cookies = true"
        );
    }
}

/// Every connection is an open file, and the usual soft limit of 1,024 is a small crowd. The limit that
/// holds now, if it is known.
fn raise_open_files() -> Option<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    if soft < hard
        && let Err(err) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        warn!(%err, soft, "the limit of open files stays as it is");
        return Some(soft);
    }
    Some(hard)
}

/// Caps the shop's connections so that the database, the journal and the operators always find an open
/// file.
fn fit_connections(settings: &mut Settings, files: Option<u64>) {
    let wanted = settings.http.max_connections.unwrap_or(MOST_CONNECTIONS);
    // The pool twice: a connection that is being replaced is open beside its successor.
    let held_back = 2 * settings.pool.size + http::OPERATORS + OTHER_FILES;
    let files = files.map_or(usize::MAX, |files| {
        usize::try_from(files).unwrap_or(usize::MAX)
    });
    let room = files.saturating_sub(held_back).max(1);
    if room < wanted && (settings.http.max_connections.is_some() || room < FEW_CONNECTIONS) {
        warn!(
            files,
            held_back,
            "the limit of open files leaves room for {room} connections: raise it (ulimit -n)"
        );
    }
    settings.http.max_connections = Some(wanted.min(room));
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

fn announce(format: LogFormat, shop: SocketAddr, ops: SocketAddr, token: &Token) {
    if format == LogFormat::Json {
        // A token is no matter for a log.
        if matches!(token, Token::Made(_)) {
            warn!("ops.admin_token is not set: nobody can use /ops until it is");
        }
        info!(%shop, %ops, "serving");
        return;
    }
    println!("shop            http://{shop}/");
    println!("API             http://{shop}/api/products");
    println!("documentation   http://{shop}/api/docs");
    println!("health          http://{shop}/health/ready");
    println!("operations      http://{ops}/ops/migrations");
    println!("metrics         http://{ops}/metrics");
    match token {
        Token::Configured => println!("operations token: as configured"),
        Token::Made(token) => println!(
            "operations token: {token}  (until this process ends; set EVENKEEL_OPS__ADMIN_TOKEN to keep one)"
        ),
    }
}
