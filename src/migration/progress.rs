//! How far a run is, how fast it goes, and what limits it.

use std::time::Duration;

use serde::Serialize;
use sqlx::postgres::PgConnection;
use utoipa::ToSchema;

use super::ledger::{self, Phase, Run, SetAside, State};

/// The rate is taken over this many seconds.
const RATE_WINDOW_S: f64 = 10.0;

/// A run with what people want to know about it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Progress {
    /// The run itself.
    #[serde(flatten)]
    pub run: Run,
    /// Share of the table that the main phase has passed, from 0 to 1; `None` before it began.
    pub done: Option<f64>,
    /// Rows passed per second of late.
    pub rows_per_s: Option<f64>,
    /// Seconds that the main phase still takes at that rate. The sweep only reads and is short.
    pub eta_s: Option<f64>,
    /// Whether the lease is held by a process that still renews it.
    pub driven: bool,
    /// Ranges that are set aside, the newest 20.
    pub set_aside: Vec<SetAside>,
}

impl Progress {
    /// Completes `run` with its rate and its quarantine.
    ///
    /// # Errors
    /// What the database says.
    pub async fn of(conn: &mut PgConnection, run: Run) -> Result<Self, sqlx::Error> {
        let (rows, driven): (i64, bool) = sqlx::query_as(
            "SELECT coalesce(sum(rows_seen), 0)::bigint,
                    coalesce((SELECT lease_until >= clock_timestamp() FROM evenkeel.runs WHERE id = $1), false)
               FROM evenkeel.batches
              WHERE run_id = $1 AND committed_at > clock_timestamp() - make_interval(secs => $2)",
        )
        .bind(run.id)
        .bind(RATE_WINDOW_S)
        .fetch_one(&mut *conn)
        .await?;
        let set_aside = ledger::set_aside(conn, run.id, 20).await?;
        let rate = (run.state == State::Running && rows > 0).then(|| {
            let age = run.started_at.map(|at| chrono::Utc::now() - at);
            let age = age.and_then(|age| age.to_std().ok());
            rows as f64
                / age
                    .unwrap_or(Duration::MAX)
                    .as_secs_f64()
                    .clamp(0.1, RATE_WINDOW_S)
        });
        let left = (run.rows_estimate.unwrap_or(0) - run.rows_seen).max(0);
        Ok(Self {
            done: done(&run),
            rows_per_s: rate,
            eta_s: rate
                .filter(|_| run.phase == Phase::Main)
                .map(|rate| left as f64 / rate),
            driven: driven && run.state == State::Running,
            set_aside,
            run,
        })
    }
}

/// The ledger keeps the share, so that neither a pause nor a new estimate makes it jump back. The
/// planner's estimate can be too low, so it never exceeds 1, and reaches it only when the main phase
/// has ended.
fn done(run: &Run) -> Option<f64> {
    if run.phase == Phase::Sweep || run.state == State::Completed {
        return Some(1.0);
    }
    run.end_key.as_ref()?;
    Some(run.share_done)
}
