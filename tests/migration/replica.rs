//! A replica that falls behind slows a migration down, by its name.

use std::convert::Infallible;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use embedded_postgres::Cluster;
use evenkeel::migration::definition::Definition;
use evenkeel::migration::physical::{Answer, Polite, Question, read};
use evenkeel::migration::sampler::Sampler;
use pool::Pool;
use pool::gate::{Admission, Gate};
use pressure::database::{Judge, Replica};
use pressure::settings::{Budgets, PaceSettings};
use pressure::{Signal, Surroundings, Verdict};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Executor};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::fixture::{Fixture, PATIENCE, migration};
use crate::support::server;

/// Where `pg_basebackup` is; the packages that the embedded server falls back to lack it.
fn pg_basebackup() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<_> = std::env::split_paths(&path).collect();
    found.extend(
        std::fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path().join("bin")),
    );
    let programs = found.into_iter().map(|dir| dir.join("pg_basebackup"));
    programs.into_iter().find(|program| program.is_file())
}

/// A server that follows `primary`.
async fn follow(primary: &PgConnectOptions, program: PathBuf) -> Cluster {
    let name = format!("replica-{}", uuid::Uuid::new_v4().simple());
    let directory = server::directory(&name);
    // What an ordinary start makes is then replaced, so that all belongs to the right account.
    let empty = Cluster::start(server::options(&directory), |_| ())
        .await
        .unwrap();
    empty.stop().await.unwrap();
    let data = directory.join("pgdata");
    let owner = std::fs::metadata(&data).unwrap();
    let (uid, gid) = (owner.uid(), owner.gid());
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, PermissionsExt::from_mode(0o700)).unwrap();
    chown(&data, Some(uid), Some(gid)).unwrap();
    let mut backup = Command::new(program);
    if nix::unistd::geteuid().is_root() {
        backup.uid(uid).gid(gid);
    }
    let source = format!(
        "host={} port={} user={} application_name=backup",
        primary.get_socket().unwrap().display(),
        primary.get_port(),
        primary.get_username()
    );
    let done = backup
        .current_dir("/")
        .args([
            "--write-recovery-conf",
            "--checkpoint=fast",
            "--create-slot",
            "--slot=follower",
        ])
        .arg("--dbname")
        .arg(source)
        .arg("--pgdata")
        .arg(&data)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    Cluster::start(server::options(&directory), |_| ())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_replica_that_falls_behind_is_named_and_so_is_one_that_vanishes() {
    let Some(program) = pg_basebackup() else {
        println!("not tested: there is no pg_basebackup on this machine");
        return;
    };
    let primary = Cluster::start(server::options(server::directory("primary")), |_| ())
        .await
        .unwrap();
    let at = primary.connect_options("postgres");
    server::apply_schema(&at).await;
    let replica = follow(&at, program).await;

    let surroundings = Surroundings::new("a", Budgets::default());
    let gate = Gate::new(Admission::new(
        1,
        [pool::settings::Share { min: 0, max: 1 }; 4],
    ));
    let limits = pool::settings::Limits {
        acquire: Duration::from_secs(1),
        hold: None,
    };
    let pool = Pool::new(at.clone(), 1, Duration::from_secs(5), gate, [limits; 4]);
    let stop = CancellationToken::new();
    let sampler = Sampler::new(at.clone(), pool, surroundings.clone(), None);
    let sampling = tokio::spawn(sampler.run(stop.clone()));

    let mut budgets = Budgets::default();
    budgets.replica_lag.soft = 0.5;
    // Nothing is driven, so it is measured once a second.
    let settings = PaceSettings {
        stale_after: Duration::from_secs(5),
        ..PaceSettings::default()
    };
    let mut judge = Judge::default();
    let mut here = at.connect().await.unwrap();
    here.execute("CREATE TABLE written (n integer)")
        .await
        .unwrap();
    let mut wait_for = async |met: fn(&[Replica], Option<&Signal>) -> bool| {
        let until = Instant::now() + PATIENCE;
        let mut last = None;
        while Instant::now() < until {
            // A replica that has nothing to write reports every ten seconds only.
            here.execute("INSERT INTO written VALUES (1)")
                .await
                .unwrap();
            if let Some(reading) = surroundings.seen().database {
                let now = Instant::now();
                let signals = judge.judge(&settings, &budgets, Some(&reading), None, now);
                let signal = signals
                    .into_iter()
                    .find(|signal| signal.source == "replica lag of follower");
                if met(&reading.sample.replicas, signal.as_ref()) {
                    return;
                }
                last = Some((reading.sample.replicas.clone(), signal));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("never: {last:?}");
    };
    let follows = |replicas: &[Replica], signal: Option<&Signal>| {
        let state = replicas
            .first()
            .and_then(|replica| replica.state.as_deref());
        state == Some("streaming") && signal.is_none()
    };
    wait_for(follows).await;
    let mut there = replica.connect_options("postgres").connect().await.unwrap();
    there.execute("SELECT pg_wal_replay_pause()").await.unwrap();
    wait_for(|_, signal| {
        signal.is_some_and(|s| s.verdict >= Verdict::Slow && s.reason.contains("s behind"))
    })
    .await;
    there
        .execute("SELECT pg_wal_replay_resume()")
        .await
        .unwrap();
    wait_for(follows).await;
    drop(there);
    replica.stop().await.unwrap();
    wait_for(|_, signal| {
        signal.is_some_and(|s| {
            s.verdict == Verdict::Unknown && s.reason.contains("no longer connected")
        })
    })
    .await;
    stop.cancel();
    sampling.await.unwrap();
    drop(here);
    primary.stop().await.unwrap();
}

/// Has the primary remove rows that the replica still reads.
struct InTheWay {
    primary: PgConnection,
    portions: u32,
}

impl Polite for InTheWay {
    type Stop = Infallible;

    async fn permission(&mut self) -> Result<(), Infallible> {
        Ok(())
    }

    async fn rest(&mut self, _: Duration) -> Result<(), Infallible> {
        self.portions += 1;
        if self.portions == 2 {
            for sql in ["DELETE FROM t WHERE id <= 10", "VACUUM t"] {
                self.primary.execute(sql).await.unwrap();
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        Ok(())
    }

    fn target(&self) -> Duration {
        Duration::ZERO
    }
}

#[tokio::test]
async fn a_replica_gives_the_second_proof_and_its_recovery_may_be_in_the_way() {
    let Some(program) = pg_basebackup() else {
        println!("not tested: there is no pg_basebackup on this machine");
        return;
    };
    let primary = Cluster::start(server::options(server::directory("proved")), |_| ())
        .await
        .unwrap();
    let at = primary.connect_options("postgres");
    server::apply_schema(&at).await;
    let mut fixture = Fixture::at(at.clone()).await;
    fixture
        .run(
            "CREATE TABLE t (id bigint PRIMARY KEY, done boolean NOT NULL, filler text);
             INSERT INTO t SELECT i, i <> 77, repeat('x', 1000) FROM generate_series(1, 250) AS i",
        )
        .await;
    let replica = follow(&at, program).await;
    let there = Fixture::at(replica.connect_options("postgres")).await;
    let mut sql = there.connect().await;
    for setting in [
        "ALTER SYSTEM SET max_standby_streaming_delay = '50ms'",
        "SELECT pg_reload_conf()",
    ] {
        sql.execute(setting).await.unwrap();
    }
    let text = migration(
        "-- table: t\n-- pending: NOT done",
        "UPDATE t SET done = true WHERE :range",
    );
    let definition = Definition::parse("m", &text).unwrap();
    let question = Question {
        definition: &definition,
        key: vec!["id".to_owned()],
        session: "evenkeel migration m run 1 second proof".to_owned(),
    };
    let mut polite = InTheWay {
        primary: fixture.connect().await,
        portions: 0,
    };
    let hour = Duration::from_secs(3600);
    let Ok(found) = read(&there.pool, &there.engine, &question, hour, &mut polite).await;
    // The first snapshot, which had 250 rows, is lost; another one had what the primary has by now.
    assert_eq!((found.rows, found.pending), (240, 1), "{found:?}");
    assert_eq!((found.answer, found.reason), (Answer::Pending, None));
    assert_eq!(found.named, ["id 77"]);
    drop(sql);
    there.pool.close().await;
    fixture.pool.close().await;
    replica.stop().await.unwrap();
    primary.stop().await.unwrap();
}
