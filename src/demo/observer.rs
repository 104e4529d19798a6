//! Watches from outside while the shop is under load: its pool, who holds what others wait for, and
//! how the migration is doing. The same readings feed the terminal and the report.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pressure::cost::Cost;
use serde_json::Value;
use sqlx::FromRow;
use sqlx::postgres::PgConnection;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::shop::Pages;

/// Often enough for a figure per second, rarely enough to cost nothing.
const EVERY: Duration = Duration::from_millis(250);

/// What was seen at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When.
    pub at: Instant,
    /// The shop's pool; `None` when the shop did not say.
    pub pool: Option<PoolReading>,
    /// Who holds what the most sessions wait for.
    pub blocker: Option<Blocker>,
    /// The newest run, once there is one.
    pub migration: Option<Progress>,
}

/// The shop's connections.
#[derive(Clone, Copy, Debug, Default)]
pub struct PoolReading {
    /// Lent out to any class.
    pub in_use: u64,
    /// Requests that wait for one.
    pub waiting: u64,
}

/// The session at the root of a queue for locks.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Blocker {
    /// Its process id.
    pub pid: i32,
    /// The name that it gave itself.
    pub application: String,
    /// What it holds, e.g. `AccessExclusiveLock on orders`.
    pub holds: String,
    /// Sessions that wait, directly or behind others.
    pub waiting: i64,
}

/// How a run is doing.
#[derive(Clone, Debug, FromRow)]
pub struct Progress {
    /// Its state.
    pub state: String,
    /// Rows changed so far.
    pub rows_changed: i64,
    /// Share of the time that the engine last said it works; 0 unless it is running.
    #[sqlx(skip)]
    pub duty: f64,
    pace: Option<Value>,
}

impl Progress {
    /// What the engine has found out about its effect on shoppers; empty until it has.
    pub fn costs(&self) -> Vec<Cost> {
        let costs = self.pace.as_ref().map(|pace| pace["costs"].clone());
        costs
            .and_then(|costs| serde_json::from_value(costs).ok())
            .unwrap_or_default()
    }

    /// What limits the pace most, in words; empty when nothing does.
    pub fn cause(&self) -> String {
        let cause = self.pace.as_ref().and_then(|pace| pace["causes"].get(0));
        let text = |key: &str| cause.and_then(|cause| cause[key].as_str()).unwrap_or("");
        match text("source") {
            "" => String::new(),
            source => format!("{source}: {}", text("reason")),
        }
    }
}

/// A watch under way; it ends when it is dropped.
#[derive(Debug)]
pub struct Observer {
    samples: Arc<Mutex<Vec<Sample>>>,
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl Observer {
    /// Watches over a connection of its own, because the shop's pool is full when it matters.
    pub fn start(conn: PgConnection, pages: Pages) -> Self {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let stop = CancellationToken::new();
        let task = AbortOnDropHandle::new(tokio::spawn(watch(
            conn,
            pages,
            Arc::clone(&samples),
            stop.clone(),
        )));
        Self {
            samples,
            stop,
            task,
        }
    }

    /// The newest sample.
    pub fn latest(&self) -> Option<Sample> {
        self.samples.lock().last().cloned()
    }

    /// Ends the watch and hands over what was seen.
    pub async fn stop(self) -> Vec<Sample> {
        self.stop.cancel();
        // It ends by itself; were it aborted or had it panicked, the samples so far remain.
        let _ = self.task.await;
        std::mem::take(&mut *self.samples.lock())
    }
}

async fn watch(
    mut conn: PgConnection,
    pages: Pages,
    samples: Arc<Mutex<Vec<Sample>>>,
    stop: CancellationToken,
) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !stop.is_cancelled() {
        ticks.tick().await;
        let at = Instant::now();
        let metrics = pages.get("/metrics").await;
        let sample = Sample {
            at,
            pool: metrics.as_deref().map(pool),
            blocker: blocker(&mut conn).await.ok().flatten(),
            migration: progress(&mut conn).await.ok().flatten(),
        };
        samples.lock().push(sample);
    }
}

/// Sums the shop's gauges over the classes.
fn pool(metrics: &str) -> PoolReading {
    let sum = |name: &str| {
        let values = metrics
            .lines()
            .filter(|line| line.starts_with(name))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        values.sum::<f64>() as u64
    };
    PoolReading {
        in_use: sum("evenkeel_pool_in_use{"),
        waiting: sum("evenkeel_pool_waiting{"),
    }
}

/// The session that others wait for and that waits for nobody: the root of the chain, not its first
/// victim.
async fn blocker(conn: &mut PgConnection) -> Result<Option<Blocker>, sqlx::Error> {
    sqlx::query_as(
        "WITH waiting AS MATERIALIZED (
             SELECT pid, pg_blocking_pids(pid) AS by
               FROM pg_stat_activity WHERE wait_event_type = 'Lock'
         ), root AS (
             SELECT root, (SELECT count(*) FROM waiting) AS waiting
               FROM (SELECT DISTINCT unnest(by) AS root FROM waiting) AS blockers
              WHERE root NOT IN (SELECT pid FROM waiting)
         )
         SELECT a.pid, a.application_name AS application, root.waiting,
                coalesce((SELECT l.mode || ' on ' || l.relation::regclass::text
                            FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
                           WHERE l.pid = a.pid AND l.granted AND c.relkind = 'r'
                             AND c.relnamespace = 'public'::regnamespace
                        ORDER BY l.mode = 'AccessExclusiveLock' DESC LIMIT 1), 'a row') AS holds
           FROM root JOIN pg_stat_activity a ON a.pid = root.root
          ORDER BY root.waiting DESC, a.xact_start LIMIT 1",
    )
    .fetch_optional(conn)
    .await
}

async fn progress(conn: &mut PgConnection) -> Result<Option<Progress>, sqlx::Error> {
    let progress: Option<Progress> = sqlx::query_as(
        "SELECT state, rows_changed, pace FROM evenkeel.runs ORDER BY id DESC LIMIT 1",
    )
    .fetch_optional(conn)
    .await?;
    Ok(progress.map(|mut progress| {
        let duty = progress
            .pace
            .as_ref()
            .filter(|pace| pace["order"] == "work")
            .and_then(|pace| pace["duty"].as_f64());
        progress.duty = duty
            .filter(|_| progress.state == "running")
            .unwrap_or_default();
        progress
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_is_summed_over_its_classes() {
        let reading = pool(
            "# TYPE evenkeel_pool_in_use gauge\n\
             evenkeel_pool_in_use{class=\"browse\"} 3\n\
             evenkeel_pool_in_use{class=\"checkout\"} 2\n\
             evenkeel_pool_waiting{class=\"browse\"} 7\n\
             evenkeel_pool_open 16\n",
        );
        assert_eq!((reading.in_use, reading.waiting), (5, 7));
    }
}
