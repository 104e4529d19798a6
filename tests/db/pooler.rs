//! A pooler between us and PostgreSQL: one that shares sessions is found out, and no author's SQL goes
//! through it. With a real PgBouncer.

use std::env;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use evenkeel::class::Class;
use evenkeel::config::{Limits, Settings, Share};
use evenkeel::db::gate::{Admission, Gate};
use evenkeel::db::{Addresses, Pool, PoolError, sessions};
use evenkeel::store::StoreError;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Executor, Row};
use tempfile::TempDir;

use crate::migration::process::{evenkeel, url};
use crate::support::{eventually, server};

/// Where `.ci/pgbouncer` puts the program.
const UNPACKED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/ci/pgbouncer/bin");
const PATIENCE: Duration = Duration::from_secs(10);

/// Where PgBouncer is. Without it, the test that asks is skipped and says so, or fails where
/// `REQUIRE_PGBOUNCER=1` wants it.
fn program() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .chain([PathBuf::from(UNPACKED), PathBuf::from("/usr/sbin")])
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
    _directory: TempDir,
}

impl Pooler {
    /// One in `mode` with at most `size` sessions; `None` where there is no program.
    async fn start(database: &PgConnectOptions, mode: &str, size: usize) -> Option<Self> {
        let program = program()?;
        let directory = tempfile::tempdir().unwrap();
        // Free again at the end of the statement.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = port.unwrap().port();
        let socket = database.get_socket().unwrap();
        let name = database.get_database().unwrap();
        let log = directory.path().join("log");
        let settings = format!(
            "[databases]\n{name} = host={} port={} user={} dbname={name}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = {mode}\ndefault_pool_size = {size}\n\
             ignore_startup_parameters = extra_float_digits\nlogfile = {}\n",
            socket.display(),
            database.get_port(),
            database.get_username(),
            log.display(),
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
        let pooler = Self {
            process,
            options,
            _directory: directory,
        };
        let answer = async || {
            let answer = tokio::time::timeout(PATIENCE, pooler.options.connect()).await;
            // One that cannot reach the server lets its clients wait.
            let log = || std::fs::read_to_string(&log).unwrap_or_default();
            answer.unwrap_or_else(|_| panic!("{}", log())).ok()
        };
        eventually("PgBouncer answers", answer).await;
        Some(pooler)
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

fn is_refusal<T: std::fmt::Debug>(found: &Result<T, StoreError>) -> bool {
    matches!(found, Err(StoreError::Pool(PoolError::NoSessions(_))))
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
            matches!(found, Err(PoolError::NoSessions(_))),
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
        direct: database.clone(),
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
