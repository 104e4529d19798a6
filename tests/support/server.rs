//! One PostgreSQL server per test run, with an empty shop as template for a database per test.

use std::path::{Path, PathBuf};
use std::sync::mpsc;

use embedded_postgres::{Cluster, ClusterOptions};
use evenkeel::config::directories;
use evenkeel::db::schema;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};
use tokio::sync::OnceCell;

const TEMPLATE: &str = "shop_template";
const DIRECTORY: &str = "evenkeel-tests-";

static SERVER: OnceCell<PgConnectOptions> = OnceCell::const_new();

/// A new database with the shop's schema and nothing in it.
pub async fn empty_database() -> PgConnectOptions {
    let server = SERVER.get_or_init(start).await;
    let name = format!("test_{}", uuid::Uuid::new_v4().simple());
    let mut admin = server.connect().await.unwrap();
    let create = AssertSqlSafe(format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE}"));
    admin.execute(create).await.unwrap();
    server.clone().database(&name)
}

/// A new database that Evenkeel has never seen.
pub async fn blank_database() -> PgConnectOptions {
    let server = SERVER.get_or_init(start).await;
    let name = format!("test_{}", uuid::Uuid::new_v4().simple());
    let mut admin = server.connect().await.unwrap();
    let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
    admin.execute(create).await.unwrap();
    server.clone().database(&name)
}

/// A new database that Evenkeel has never seen, whose text is in `encoding`.
pub async fn encoded_database(encoding: &str) -> PgConnectOptions {
    let server = SERVER.get_or_init(start).await;
    let name = format!("test_{}", uuid::Uuid::new_v4().simple());
    let mut admin = server.connect().await.unwrap();
    let create = AssertSqlSafe(format!(
        "CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    ));
    admin.execute(create).await.unwrap();
    server.clone().database(&name)
}

/// Settings that suit tests: nothing here has to survive a power cut.
pub fn options(directory: impl Into<PathBuf>) -> ClusterOptions {
    let mut options = ClusterOptions::new(directory, directories::cache());
    for (name, value) in [
        ("fsync", "off"),
        ("max_connections", "400"),
        ("shared_buffers", "128MB"),
        ("max_wal_size", "64MB"),
    ] {
        options.settings.push((name.to_owned(), value.to_owned()));
    }
    options
}

/// Where the server that is used for `purpose` keeps its data.
pub fn directory(purpose: &str) -> PathBuf {
    let name = format!("{DIRECTORY}{}-{purpose}", std::process::id());
    std::env::temp_dir().join(name)
}

/// A server of a test's own with an empty shop, for a test that kills it.
pub struct OwnServer {
    pub cluster: Cluster,
    pub database: PgConnectOptions,
    directory: PathBuf,
}

impl OwnServer {
    /// One for `purpose`, which no other test has.
    pub async fn start(purpose: &str) -> Self {
        let directory = directory(purpose);
        let cluster = Cluster::start(options(&directory), |_| ()).await.unwrap();
        cluster.create_database("shop").await.unwrap();
        let database = cluster.connect_options("shop");
        apply_schema(&database).await;
        Self {
            cluster,
            database,
            directory,
        }
    }

    pub async fn stop(self) {
        self.cluster.stop().await.unwrap();
        std::fs::remove_dir_all(self.directory).unwrap();
    }
}

/// Brings the schema into `database`.
pub async fn apply_schema(database: &PgConnectOptions) {
    let mut conn = database.connect().await.unwrap();
    schema::apply(&mut conn, schema::latest()).await.unwrap();
    conn.close().await.unwrap();
}

async fn start() -> PgConnectOptions {
    // A thousand clients and their connections in one process.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    remove_leftovers();
    let directory = directory("shared");
    let (ready, started) = mpsc::channel();
    // Every test has a runtime of its own; the server outlives them all on this one.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let cluster = Cluster::start(options(directory), |_| ()).await.unwrap();
            cluster.create_database(TEMPLATE).await.unwrap();
            apply_schema(&cluster.connect_options(TEMPLATE)).await;
            ready.send(cluster.connect_options("postgres")).unwrap();
            std::future::pending::<()>().await;
        });
    });
    tokio::task::spawn_blocking(move || started.recv().unwrap())
        .await
        .unwrap()
}

/// Nothing runs when a test process ends, so the next one tidies up behind those that have.
fn remove_leftovers() {
    let entries = std::fs::read_dir(std::env::temp_dir()).unwrap();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_str().and_then(|name| name.strip_prefix(DIRECTORY));
        let pid = name.and_then(|name| name.split_once('-')?.0.parse().ok());
        if let Some(pid) = pid
            && kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH)
        {
            remove(&entry.path());
        }
    }
}

fn remove(directory: &Path) {
    // Another test process may be tidying up as well.
    let _ = std::fs::remove_dir_all(directory);
}
