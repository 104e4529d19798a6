//! Measures what surrounds a migration: the database, the other processes, the operators' rules.
//!
//! One task per process, on a connection of its own: the pool is full when it matters, and a question
//! to the database must neither take a connection from a shopper nor wait behind a batch. Each look
//! is one short transaction under a `statement_timeout`: once a second, and four times a second while a
//! migration runs in this process or in another one, which is told what the shoppers feel here.

mod database;
mod fleet;

use std::sync::Arc;
use std::time::{Duration, Instant};

use pool::{Class, Pool, describe};
use pressure::fleet::Report;
use pressure::latency::{FAST, SLOW, TICK};
use pressure::{Latencies, Surroundings};
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::throttle;

/// How its session calls itself in the database.
pub const APPLICATION: &str = "evenkeel sampler";
/// How often is looked while a migration runs in some process.
const BUSY: Duration = Duration::from_millis(250);
/// How often is looked while none does.
const IDLE: Duration = Duration::from_secs(1);
/// How often a process says that it is alive while none runs.
const ALIVE: Duration = Duration::from_secs(5);
/// How long one look may take; the connection is given up after that.
const PATIENCE: Duration = Duration::from_secs(2);
/// The transaction of one look. Nothing in it waits for anybody's locks. Its statement is long and
/// what it reads is small: compiled and planned each time it takes 57 ms, otherwise 0.8.
const BEGIN: &str = "BEGIN; SET LOCAL statement_timeout = 1000; SET LOCAL lock_timeout = 100; \
                     SET LOCAL synchronous_commit = off; SET LOCAL jit = off; \
                     SET LOCAL plan_cache_mode = force_generic_plan";

/// Measures until it is stopped.
pub struct Sampler {
    options: PgConnectOptions,
    pool: Pool,
    surroundings: Surroundings,
    /// What is told to the other processes; `None` where no shopper comes.
    latencies: Option<Latencies>,
    /// Whether this process takes runs, for whoever queues one.
    takes_runs: bool,
    fleet: fleet::Fleet,
    published: Option<Instant>,
}

impl Sampler {
    /// A sampler that has not looked yet and publishes to `surroundings`.
    pub fn new(
        options: PgConnectOptions,
        pool: Pool,
        surroundings: Surroundings,
        latencies: Option<Latencies>,
    ) -> Self {
        Self {
            options: options.application_name(APPLICATION),
            pool,
            fleet: fleet::Fleet::new(surroundings.process()),
            surroundings,
            latencies,
            takes_runs: false,
            published: None,
        }
    }

    /// Says of this process whether it takes runs.
    pub fn taking_runs(mut self, takes_runs: bool) -> Self {
        self.takes_runs = takes_runs;
        self
    }

    /// Looks until `stop`, then tells the others that this process leaves.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut driven = self.surroundings.driven();
        let mut conn = None;
        let mut active = false;
        while !stop.is_cancelled() {
            let look = tokio::time::timeout(PATIENCE, self.look(&mut conn)).await;
            let problem = match look {
                Ok(Ok(now_active)) => {
                    active = now_active;
                    None
                }
                Ok(Err(err)) => Some(describe(&err)),
                Err(_) => Some(format!("no answer within {PATIENCE:?}")),
            };
            self.tell(problem, &mut conn);
            let driving = !driven.borrow_and_update().is_empty();
            let every = if driving || active { BUSY } else { IDLE };
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                // A migration begins or ends here.
                _ = driven.changed() => {}
                () = stop.cancelled() => {}
            }
        }
        if self.latencies.is_some() {
            let leave = tokio::time::timeout(PATIENCE, self.leave(&mut conn)).await;
            if !matches!(leave, Ok(Ok(()))) {
                warn!(
                    ?leave,
                    "this process counts as silent until it is declared gone"
                );
            }
        }
    }

    fn tell(&self, problem: Option<String>, conn: &mut Option<PgConnection>) {
        let before = self.surroundings.seen().problem;
        match (&before, &problem) {
            (None, Some(problem)) => warn!(%problem, "cannot measure the database"),
            (Some(_), None) => info!("the database can be measured again"),
            _ => {}
        }
        if problem.is_some() {
            // What is left on it is not known.
            *conn = None;
        }
        let problem: Option<Arc<str>> = problem.map(Into::into);
        if before != problem {
            self.surroundings.publish(|seen| seen.problem = problem);
        }
    }

    /// Looks once; whether a migration runs in some process.
    async fn look(&mut self, slot: &mut Option<PgConnection>) -> Result<bool, sqlx::Error> {
        let conn = match slot {
            Some(conn) => conn,
            None => slot.insert(PgConnection::connect_with(&self.options).await?),
        };
        let driven = self.surroundings.driven().borrow().clone();
        // From before the question: what the answer says may be older than its arrival.
        let asked = Instant::now();
        let mut tx = conn.begin_with(BEGIN).await?;
        let due = self.published.is_none_or(|at| asked - at >= ALIVE);
        let report = self.latencies.as_ref().map(|latencies| {
            let gap = self.published.map_or(SLOW, |at| asked - at);
            Report {
                takes_runs: self.takes_runs,
                ..report(latencies, &self.pool, gap, asked)
            }
        });
        let (active, published) = self.fleet.publish(&mut tx, report.as_ref(), due).await?;
        // A change of the schema alone walks none.
        let tables = driven.iter().map(|driven| driven.table.clone());
        let tables: Vec<_> = tables.filter(|table| !table.is_empty()).collect();
        let database = database::read(&mut tx, &tables, asked).await?;
        let (mut fleet, mut rules) = (None, None);
        if !driven.is_empty() {
            fleet = Some(Arc::new(self.fleet.read(&mut tx, asked).await?));
            rules = Some(Arc::new(throttle::read(&mut tx, asked).await?));
        } else if !active {
            self.fleet.tidy(&mut tx).await?;
        }
        tx.commit().await?;
        self.surroundings.publish(|seen| {
            seen.database = Some(Arc::new(database));
            seen.fleet = fleet;
            seen.rules = rules;
        });
        if published {
            self.published = Some(asked);
        }
        Ok(active)
    }

    async fn leave(&self, slot: &mut Option<PgConnection>) -> Result<(), sqlx::Error> {
        let mut conn = match slot.take() {
            Some(conn) => conn,
            None => PgConnection::connect_with(&self.options).await?,
        };
        fleet::leave(&mut conn, self.surroundings.process()).await?;
        conn.close().await
    }
}

/// The fast window reaches back to the report before, so that nothing falls between two of them.
fn report(latencies: &Latencies, pool: &Pool, gap: Duration, now: Instant) -> Report {
    let fast = (gap + TICK).clamp(FAST, SLOW);
    Report {
        totals: Class::SHOPPERS.map(|class| latencies.totals(class)),
        fast_window_ms: u64::try_from(fast.as_millis()).unwrap_or(u64::MAX),
        fast: Class::SHOPPERS.map(|class| latencies.read(class, fast, now)),
        slow: Class::SHOPPERS.map(|class| latencies.read(class, SLOW, now)),
        gates: pool.gates(),
        takes_runs: false,
    }
}
