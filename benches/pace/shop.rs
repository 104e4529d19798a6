//! The shop as a process of its own, with every contestant in it: they share its pool and feel its
//! shoppers, as Evenkeel's engine does.
//!
//! Commands come by the standard input, a line each: `on NAME` and `off`. Answers go to the standard
//! output: `ready`, `on`, `off ROWS`, and `duty D` whenever the contestant at work changes its mind.

use std::net::SocketAddr;
use std::sync::Arc;

use evenkeel::app::App;
use evenkeel::config::Settings;
use evenkeel::http;
use evenkeel::migration::definition::Definition;
use evenkeel::migration::governor::Sensors;
use evenkeel::migration::keyset::Keyset;
use evenkeel::migration::ledger::{self, Lease, Phase, State};
use evenkeel::migration::runner::Runner;
use pressure::pace::Order;
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::laws::{Aimd, Pi, TargetTime, Vegas};
use super::walk::{Peer, Position};

/// The first argument of this program when it is to be the shop.
pub const ARGUMENT: &str = "--be-the-shop";
/// Evenkeel's engine.
pub const OURS: &str = "evenkeel";
/// The same batches without any pace; with shoppers this is what peers call target time.
pub const UNPACED: &str = "target-time";
/// Nobody at work: what its ratios scatter by is noise.
pub const CONTROL: &str = "nobody";
/// Everybody who works.
pub const CONTESTANTS: [&str; 6] = [OURS, "fixed", UNPACED, "AIMD", "Vegas", "PI"];
/// Everybody who takes turns.
pub const EVERYBODY: [&str; 7] = [CONTROL, OURS, "fixed", UNPACED, "AIMD", "Vegas", "PI"];

/// What all contestants do to the table, over and over: it is never done.
const MIGRATION: &str = "\
-- title: Fill the day on which an order was placed
-- owner: benchmark
-- table: orders
-- key: account_id, id
-- pending: true

UPDATE orders SET placed_day = (placed_at AT TIME ZONE 'UTC')::date WHERE :range
";

/// A peer's way to decide; `None` for ours, whose governor stays between its runs.
fn peer(name: &str) -> Option<Peer> {
    Some(match name {
        "fixed" => Peer::Fixed,
        UNPACED => Peer::Steered(Box::new(TargetTime)),
        "AIMD" => Peer::Steered(Box::new(Aimd(0.01))),
        "Vegas" => Peer::Steered(Box::new(Vegas(0.01))),
        "PI" => Peer::Steered(Box::new(Pi::default())),
        _ => return None,
    })
}

enum Contestant {
    Peer {
        peer: Box<Peer>,
        position: Box<Position>,
    },
    Ours,
}

/// A contestant at work.
struct Work {
    stop: CancellationToken,
    task: JoinHandle<Contestant>,
    name: String,
    rows_before: i64,
}

struct Theatre {
    app: App,
    conn: PgConnection,
    runner: Arc<Runner>,
    idle: std::collections::HashMap<String, Contestant>,
}

/// Serves `url`'s shop at `address` until the standard input ends.
pub async fn run(url: &str, address: SocketAddr) {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let options: PgConnectOptions = url.parse().unwrap();
    let app = App::new(Settings::default(), options.clone());
    let listeners = http::Listeners {
        shop: tokio::net::TcpListener::bind(address).await.unwrap(),
        ops: tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(),
    };
    app.shutdown.spawn(http::serve(app.clone(), listeners));
    let sensors = Sensors {
        latencies: Some(app.latencies.clone()),
        pool: app.pool.clone(),
        // The contest is about shoppers; the other laws hear nothing of the database either.
        surroundings: None,
    };
    let (engine, pace) = (app.settings.migration.clone(), app.settings.pace.clone());
    let runner = Runner::new(sensors, engine, pace, app.shutdown.token().clone());
    let mut theatre = Theatre {
        conn: options
            .application_name("benchmark")
            .connect()
            .await
            .unwrap(),
        app,
        runner: Arc::new(runner),
        idle: std::collections::HashMap::new(),
    };
    for name in CONTESTANTS {
        let contestant = theatre.enter(name).await;
        theatre.idle.insert(name.to_owned(), contestant);
    }
    println!("ready");
    let mut commands = BufReader::new(tokio::io::stdin()).lines();
    let mut working = None;
    while let Some(line) = commands.next_line().await.unwrap() {
        match line.split_once(' ') {
            Some(("on", name)) => {
                working = Some(theatre.start(name).await);
                println!("on");
            }
            _ => {
                let work: Work = working.take().unwrap();
                println!("off {}", theatre.stop(work).await);
            }
        }
    }
}

impl Theatre {
    /// Gives a contestant a run of its own, which no engine takes by itself.
    async fn enter(&mut self, name: &str) -> Contestant {
        let conn = &mut self.conn;
        let run = ledger::enqueue(conn, name, MIGRATION, "benchmark")
            .await
            .unwrap();
        let Some(peer) = peer(name) else {
            ledger::command(conn, run.id, State::Paused, "benchmark")
                .await
                .unwrap();
            return Contestant::Ours;
        };
        let run = self.runner.take().await.unwrap().unwrap();
        assert_eq!(run.migration, name);
        // Its batches commit under its lease all the same.
        ledger::command(conn, run.id, State::Paused, "benchmark")
            .await
            .unwrap();
        let definition = Definition::parse(name, MIGRATION).unwrap();
        let keyset = Keyset::resolve(conn, &definition).await.unwrap();
        let end = keyset.last(conn).await.unwrap().unwrap();
        let lease = Lease {
            run: run.id,
            token: run.lease_token,
        };
        let rows = self.app.settings.migration.batch_first;
        let position = Position {
            definition,
            keyset,
            lease,
            cursor: None,
            end,
            rows,
        };
        Contestant::Peer {
            peer: Box::new(peer),
            position: Box::new(position),
        }
    }

    async fn start(&mut self, name: &str) -> Work {
        let rows_before = self.rows(name).await;
        let stop = CancellationToken::new();
        let contestant = self.idle.remove(name).unwrap();
        let task = match contestant {
            Contestant::Ours => {
                self.queue().await;
                let (runner, stop) = (Arc::clone(&self.runner), stop.clone());
                tokio::spawn(async move {
                    ours(&runner, &stop).await;
                    Contestant::Ours
                })
            }
            Contestant::Peer {
                mut peer,
                mut position,
            } => {
                let (app, stop) = (self.app.clone(), stop.clone());
                tokio::spawn(async move {
                    let tell = |duty| println!("duty {duty}");
                    if let Err(failure) = peer.work(&app, &mut position, &stop, tell).await {
                        eprintln!("{}: {failure}", position.definition.name);
                    }
                    Contestant::Peer { peer, position }
                })
            }
        };
        Work {
            stop,
            task,
            name: name.to_owned(),
            rows_before,
        }
    }

    /// Ends a contestant's work; returns the rows that it has changed.
    async fn stop(&mut self, work: Work) -> i64 {
        work.stop.cancel();
        if work.name == OURS {
            let run = ledger::latest(&mut self.conn, OURS).await.unwrap();
            if matches!(run.state, State::Running | State::Queued) {
                ledger::command(&mut self.conn, run.id, State::Paused, "benchmark")
                    .await
                    .unwrap();
            }
        }
        let contestant = work.task.await.unwrap();
        let rows = self.rows(&work.name).await - work.rows_before;
        self.idle.insert(work.name, contestant);
        rows
    }

    /// Queues our run; a new one when the last has come to the end of the table.
    async fn queue(&mut self) {
        let run = ledger::latest(&mut self.conn, OURS).await.unwrap();
        let (conn, by) = (&mut self.conn, "benchmark");
        if run.state == State::Paused && run.phase == Phase::Main {
            ledger::command(conn, run.id, State::Queued, by)
                .await
                .unwrap();
            return;
        }
        if run.state == State::Paused {
            ledger::command(conn, run.id, State::Cancelled, by)
                .await
                .unwrap();
        }
        ledger::enqueue(conn, OURS, MIGRATION, by).await.unwrap();
    }

    async fn rows(&mut self, name: &str) -> i64 {
        let sql = "SELECT sum(rows_changed)::bigint FROM evenkeel.runs WHERE migration = $1";
        sqlx::query_scalar(sql)
            .bind(name)
            .fetch_one(&mut self.conn)
            .await
            .unwrap()
    }
}

/// Drives our run and tells its duty until it is paused.
async fn ours(runner: &Runner, stop: &CancellationToken) {
    let mut pace = runner.pace();
    let told = async {
        while pace.changed().await.is_ok() {
            let pace = pace.borrow_and_update();
            println!(
                "duty {}",
                if pace.order == Order::Work {
                    pace.duty
                } else {
                    0.0
                }
            );
        }
    };
    let driven = async {
        // A run that fails at the end of the table leaves the rest of the period to nobody.
        while !stop.is_cancelled() {
            match runner.take().await {
                Ok(Some(run)) => drop(runner.drive(run).await),
                Ok(None) => return,
                // Shoppers have all the connections.
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    tokio::select! {
        () = driven => {}
        () = told => {}
    }
}
