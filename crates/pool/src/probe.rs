//! Whether PostgreSQL answers, asked over a connection of its own: the pool is full when it matters,
//! and a question about health must not take a connection from a shopper.

use std::time::{Duration, Instant};

use serde::Serialize;
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often it is asked.
const EVERY: Duration = Duration::from_millis(500);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_millis(500);
/// An answer older than this says nothing about now.
const STALE: Duration = Duration::from_secs(3);

/// What the last question found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reachability {
    /// It answered.
    Reachable,
    /// It refused, or did not answer in time.
    Unreachable,
    /// It has not been asked lately.
    Unknown,
}

/// Asks again and again, and remembers the last answer. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Probe {
    options: PgConnectOptions,
    last: watch::Sender<Option<(Instant, bool)>>,
}

impl Probe {
    /// A probe that has not asked yet.
    pub fn new(options: PgConnectOptions) -> Self {
        Self {
            options,
            last: watch::Sender::new(None),
        }
    }

    /// What is known now, without asking.
    pub fn reading(&self) -> Reachability {
        match *self.last.borrow() {
            Some((at, _)) if at.elapsed() > STALE => Reachability::Unknown,
            Some((_, true)) => Reachability::Reachable,
            Some((_, false)) => Reachability::Unreachable,
            None => Reachability::Unknown,
        }
    }

    /// Asks until `stop`.
    pub async fn watch(self, stop: CancellationToken) {
        let mut conn = None;
        while !stop.is_cancelled() {
            let answer = tokio::time::timeout(PATIENCE, self.ask(&mut conn)).await;
            let reachable = matches!(answer, Ok(Ok(())));
            if !reachable {
                // A connection that failed or was cut off half-way is not asked again.
                conn = None;
            }
            let before = self.last.send_replace(Some((Instant::now(), reachable)));
            match (before, reachable) {
                (Some((_, false)), true) => info!("the database answers again"),
                (None | Some((_, true)), false) => warn!(?answer, "the database does not answer"),
                _ => {}
            }
            let _ = tokio::time::timeout(EVERY, stop.cancelled()).await;
        }
    }

    async fn ask(&self, slot: &mut Option<PgConnection>) -> Result<(), sqlx::Error> {
        let conn = match slot {
            Some(conn) => conn,
            None => slot.insert(PgConnection::connect_with(&self.options).await?),
        };
        conn.ping().await
    }
}
