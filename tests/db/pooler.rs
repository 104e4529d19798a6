//! A pooler between us and PostgreSQL: one that loses what the shop has prepared is refused at the start,
//! and no author's SQL goes through one that shares sessions. With real PgBouncers.

use std::env;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use evenkeel::config::Settings;
use evenkeel::store::StoreError;
use pool::gate::{Admission, Gate};
use pool::sessions::{self, Kept};
use pool::settings::{Limits, Share};
use pool::{Addresses, Class, Pool, PoolError};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Executor, Row};
use tempfile::TempDir;

use crate::migration::process::{evenkeel, url};
use crate::support::app::{Shopper, TestApp, fresh_key, order};
use crate::support::{eventually, server};

/// Where `.ci/pgbouncer` puts the programs: the one of Debian 12, and one that keeps prepared statements.
const UNPACKED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/ci/pgbouncer/bin");
const KEEPING: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/target/ci/pgbouncer-keeping/bin"
);
const PATIENCE: Duration = Duration::from_secs(60);
/// Without it, PgBouncer refuses our driver.
const IGNORE: &str = "ignore_startup_parameters = extra_float_digits\n";

/// The PgBouncer in one of `directories`. Without it, the test that asks is skipped and says so, or fails
/// where `REQUIRE_PGBOUNCER=1` wants it.
fn program(directories: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    let found = directories
        .into_iter()
        .map(|directory| directory.join("pgbouncer"))
        .find(|program| program.is_file());
    if found.is_none() {
        let wanted = env::var_os("REQUIRE_PGBOUNCER").is_some_and(|wanted| wanted == "1");
        assert!(!wanted, "there is no pgbouncer: run .ci/pgbouncer");
        eprintln!("SKIPPED: there is no pgbouncer; .ci/pgbouncer fetches it");
    }
    found
}

/// A PgBouncer before a database.
struct Pooler {
    process: Child,
    /// Through it.
    options: PgConnectOptions,
    directory: TempDir,
}

impl Pooler {
    /// One in `mode` with at most `size` sessions; `None` where there is no program.
    async fn start(database: &PgConnectOptions, mode: &str, size: usize) -> Option<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        let unpacked = [PathBuf::from(UNPACKED), PathBuf::from("/usr/sbin")];
        let program = program(env::split_paths(&path).chain(unpacked))?;
        let pooler = Self::run(program, database, mode, size, IGNORE);
        pooler.answers().await;
        Some(pooler)
    }

    /// One that keeps prepared statements.
    async fn keeping(database: &PgConnectOptions, size: usize) -> Option<Self> {
        let program = program([PathBuf::from(KEEPING)])?;
        let settings = format!("{IGNORE}max_prepared_statements = 100\n");
        let pooler = Self::run(program, database, "transaction", size, &settings);
        pooler.answers().await;
        Some(pooler)
    }

    fn run(
        program: PathBuf,
        database: &PgConnectOptions,
        mode: &str,
        size: usize,
        more: &str,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Free again at the end of the statement.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = port.unwrap().port();
        let socket = database.get_socket().unwrap();
        let name = database.get_database().unwrap();
        let settings = format!(
            "[databases]\n{name} = host={} port={} user={} dbname={name}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = {mode}\ndefault_pool_size = {size}\n\
             max_client_conn = 500\nlogfile = {}\n{more}",
            socket.display(),
            database.get_port(),
            database.get_username(),
            directory.path().join("log").display(),
        );
        let file = directory.path().join("pgbouncer.ini");
        std::fs::write(&file, settings).unwrap();
        // It will not run as root; whoever runs the server may enter the socket's directory.
        let owner = std::fs::metadata(socket).unwrap();
        let mut command = Command::new(program);
        if nix::unistd::geteuid().is_root() {
            let (uid, gid) = (owner.uid(), owner.gid());
            std::os::unix::fs::chown(directory.path(), Some(uid), Some(gid)).unwrap();
            command.uid(uid).gid(gid);
        }
        let process = command
            .args(["-q".into(), file.into_os_string()])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(port)
            .username(database.get_username())
            .database(name);
        Self {
            process,
            options,
            directory,
        }
    }

    async fn answers(&self) {
        let answer = async || {
            let answer = tokio::time::timeout(PATIENCE, self.options.connect()).await;
            // One that cannot reach the server lets its clients wait.
            let log = self.directory.path().join("log");
            let log = || std::fs::read_to_string(&log).unwrap_or_default();
            answer.unwrap_or_else(|_| panic!("{}", log())).ok()
        };
        eventually("PgBouncer answers", answer).await;
    }

    fn url(&self) -> String {
        let options = &self.options;
        format!(
            "postgres://{}@127.0.0.1:{}/{}",
            options.get_username(),
            options.get_port(),
            options.get_database().unwrap()
        )
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn pool_of(addresses: impl Into<Addresses>) -> Pool {
    let limits = Limits {
        acquire: PATIENCE,
        hold: Some(PATIENCE),
    };
    let gate = Gate::new(Admission::new(4, [Share { min: 0, max: 4 }; 4]));
    Pool::new(addresses, 4, PATIENCE, gate, [limits; 4])
}

/// What `evenkeel serve` says when it ends by itself, which it must.
async fn refusal_of_serve(url: &str) -> String {
    let served = evenkeel(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--ops-listen",
        "127.0.0.1:0",
    ])
    .env("DATABASE_URL", url)
    .output();
    let served = tokio::time::timeout(Duration::from_secs(60), served).await;
    let served = served.expect("serve ends").unwrap();
    assert!(!served.status.success());
    String::from_utf8(served.stderr).unwrap()
}

#[tokio::test]
async fn serve_refuses_a_pooler_that_loses_statements_and_says_what_to_do() {
    let database = server::empty_database().await;
    for (mode, size, more, said) in [
        ("transaction", 20, IGNORE, "max_prepared_statements"),
        ("transaction", 1, IGNORE, "max_prepared_statements"),
        (
            "transaction",
            20,
            "ignore_startup_parameters = extra_float_digits\nserver_round_robin = 1\n",
            "max_prepared_statements",
        ),
        ("transaction", 20, "", "ignore_startup_parameters"),
        ("statement", 20, IGNORE, "statement mode"),
        ("session", 1, IGNORE, "default_pool_size"),
    ] {
        let path = env::var_os("PATH").unwrap_or_default();
        let unpacked = [PathBuf::from(UNPACKED), PathBuf::from("/usr/sbin")];
        let Some(program) = program(env::split_paths(&path).chain(unpacked)) else {
            return;
        };
        let pooler = Pooler::run(program, &database, mode, size, more);
        let listens = async || {
            let options = &pooler.options;
            let address = (options.get_host(), options.get_port());
            tokio::net::TcpStream::connect(address).await.ok()
        };
        eventually("PgBouncer listens", listens).await;
        let told = refusal_of_serve(&pooler.url()).await;
        assert!(told.contains(said), "{mode} {size} {more}: {told}");
        assert!(told.contains("pooler"), "{mode} {size} {more}: {told}");
        assert!(
            told.contains("database.url"),
            "{mode} {size} {more}: {told}"
        );
    }
}

#[tokio::test]
async fn sessions_that_stay_ones_own_are_never_refused_however_busy_the_server_is() {
    let database = server::empty_database().await;
    let Some(pooler) = Pooler::start(&database, "session", 60).await else {
        return;
    };
    let stop = tokio_util::sync::CancellationToken::new();
    let mut others = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let (options, stop) = (pooler.options.clone(), stop.clone());
        others.spawn(async move {
            let mut conn = options.connect().await.unwrap();
            while !stop.is_cancelled() {
                conn.execute("SELECT count(*) FROM generate_series(1, 100000)")
                    .await
                    .unwrap();
            }
        });
    }
    for options in [&database, &pooler.options] {
        for _ in 0..5 {
            let kept = sessions::examine(options, PATIENCE).await;
            assert!(matches!(kept, Ok(Kept::Session)), "{kept:?}");
        }
    }
    stop.cancel();
    others.join_all().await;
}

/// Everything that a shop does, by many at once, so that every session of the pooler sees every statement.
#[tokio::test]
async fn a_pooler_that_keeps_statements_serves_the_shop() {
    let database = server::empty_database().await;
    for size in [1, 5] {
        let Some(pooler) = Pooler::keeping(&database, size).await else {
            return;
        };
        let kept = sessions::examine(&pooler.options, PATIENCE).await;
        assert!(matches!(kept, Ok(Kept::Statements)), "{size}: {kept:?}");
        assert!(
            sessions::refuse_shared(&pooler.options, PATIENCE)
                .await
                .is_err()
        );
        let shop = TestApp::builder()
            .database(database.clone())
            .reached_through(pooler.options.clone())
            .start()
            .await;
        shop.app.pool.share_sessions();
        let sku = format!("lamp-{size}");
        shop.product(&sku, 1_000, 1_000).await;
        let mut shoppers = Vec::new();
        for number in 0..4 {
            let email = format!("shopper-{size}-{number}@example.com");
            shoppers.push(shop.shopper(&email).await);
        }
        let buy = async |shopper: &Shopper| {
            for _ in 0..20 {
                shop.get("/api/products").await.expect(200);
                shop.get(&format!("/api/products/{sku}")).await.expect(200);
                shop.get_as(shopper, "/api/me").await.expect(200);
                let lines = order(&[(&sku, 1)]);
                shop.place(shopper, &fresh_key(), &lines).await.expect(201);
                shop.get_as(shopper, "/api/orders").await.expect(200);
            }
        };
        futures_util::future::join_all(shoppers.iter().map(buy)).await;
        assert_eq!(shop.stock(&sku).await, 1_000 - 4 * 20);
        shop.app.shutdown.finish().await;
    }
}

fn is_refusal<T: std::fmt::Debug>(found: &Result<T, StoreError>) -> bool {
    matches!(found, Err(StoreError::Pool(PoolError::Pooler(_))))
}

#[tokio::test]
async fn a_pooler_that_shares_sessions_is_told_from_one_that_does_not() {
    let database = server::empty_database().await;
    sessions::refuse_shared(&database, PATIENCE).await.unwrap();
    for (mode, size, shares) in [
        ("transaction", 1, true),
        ("transaction", 2, true),
        ("transaction", 20, true),
        ("statement", 20, true),
        ("session", 20, false),
    ] {
        let Some(pooler) = Pooler::start(&database, mode, size).await else {
            return;
        };
        // Others have used its sessions before.
        for _ in 0..size.min(5) {
            let mut client = pooler.options.connect().await.unwrap();
            client.execute("SELECT 1").await.unwrap();
        }
        let found = sessions::refuse_shared(&pooler.options, PATIENCE).await;
        assert_eq!(
            matches!(found, Err(PoolError::Pooler(_))),
            shares,
            "{mode} {size}: {found:?}"
        );
        assert!(shares || found.is_ok(), "{mode} {size}: {found:?}");
    }
}

#[tokio::test]
async fn behind_a_pooler_that_shares_sessions_no_authors_sql_runs_unless_there_is_a_direct_address()
{
    let database = server::empty_database().await;
    let Some(pooler) = Pooler::start(&database, "transaction", 20).await else {
        return;
    };
    let create = async |conn: &mut PgConnection| {
        conn.execute("SET search_path = pg_catalog; CREATE TABLE public.made ()")
            .await?;
        Ok::<_, StoreError>(())
    };
    let pool = pool_of(pooler.options.clone());
    assert!(is_refusal(&pool.author().run(create).await));
    assert!(is_refusal(&pool.run_alone(create).await));
    let mut observer = database.connect().await.unwrap();
    let made = "SELECT to_regclass('made') IS NOT NULL";
    let made = observer.fetch_one(made).await.unwrap();
    assert!(!made.get::<bool, _>(0));

    let pool = pool_of(Addresses {
        shop: pooler.options.clone(),
        direct: Some(database.clone()),
    });
    pool.run_alone(create).await.unwrap();
    let author = pool.author();
    let port = async |conn: &mut PgConnection| {
        // Of a unix socket, there is none.
        let row = conn
            .fetch_one("SELECT pg_backend_pid(), current_setting('search_path')")
            .await?;
        Ok::<(i32, String), StoreError>((row.try_get(0)?, row.try_get(1)?))
    };
    let direct = author.run(port).await.unwrap();
    assert_eq!(author.run(port).await.unwrap(), direct, "one session");
    let shoppers = pool.run(Class::Browse, port).await.unwrap();
    assert_eq!(shoppers.1, direct.1);
    assert_ne!(shoppers.0, direct.0);
    assert_eq!(pool.open(), 2, "both count");
}

#[tokio::test]
async fn commands_that_run_an_authors_sql_refuse_such_a_pooler_and_say_what_to_do() {
    let database = server::empty_database().await;
    let Some(pooler) = Pooler::start(&database, "transaction", 20).await else {
        return;
    };
    let through = pooler.url();
    for arguments in [
        &["migrate", "start", "orders_total"][..],
        &["migrate", "undo", "orders_total"],
        &["migrate", "plan", "orders_total"],
        &["migrate", "verify", "orders_total"],
        &["migrate", "run", "orders_total", "--standalone"],
    ] {
        let said = evenkeel(arguments)
            .env("DATABASE_URL", &through)
            .output()
            .await
            .unwrap();
        assert!(!said.status.success());
        let said = String::from_utf8(said.stderr).unwrap();
        for what in ["database.direct_url", "session mode"] {
            assert!(said.contains(what), "{arguments:?}: {said}");
        }
    }
    // With a direct address it can be started.
    let started = evenkeel(&["migrate", "start", "orders_total"])
        .env("DATABASE_URL", &through)
        .env("EVENKEEL_DATABASE__DIRECT_URL", url(&database))
        .output()
        .await
        .unwrap();
    assert!(started.status.success(), "{started:?}");
    let mut settings = Settings::default();
    settings.database.url = Some(through);
    settings.database.direct_url = Some(url(&database));
    settings.validate().unwrap();
}
