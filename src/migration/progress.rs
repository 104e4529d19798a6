//! How far a run is, how fast it goes, and what limits it.

use std::time::Duration;

use serde::Serialize;
use sqlx::FromRow;
use sqlx::postgres::PgConnection;
use utoipa::ToSchema;

use super::ledger::{self, Phase, Run, State, Statement};

/// The rate is taken over this many seconds.
const RATE_WINDOW_S: f64 = 10.0;

/// A range that is set aside.
#[derive(Clone, Debug, FromRow, Serialize, ToSchema)]
pub struct SetAside {
    /// Exclusive; absent from the beginning of the table.
    pub lower_key: Option<Vec<String>>,
    /// Inclusive.
    pub upper_key: Vec<String>,
    /// The SQLSTATE of the error.
    pub sqlstate: Option<String>,
    /// The error.
    pub error: String,
}

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
    /// Schema statements of a change that were tried so far, in order.
    pub statements: Vec<Statement>,
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
        let set_aside = sqlx::query_as(
            "SELECT lower_key, upper_key, sqlstate, error FROM evenkeel.quarantine
              WHERE run_id = $1 AND resolved_at IS NULL ORDER BY id DESC LIMIT 20",
        )
        .bind(run.id)
        .fetch_all(&mut *conn)
        .await?;
        let statements = ledger::statements(conn, run.id).await?;
        let rate = (run.state == State::Running && rows > 0).then(|| {
            let age = run.started_at.map(|at| chrono::Utc::now() - at);
            let age = age.and_then(|age| age.to_std().ok());
            rows as f64
                / age
                    .unwrap_or(Duration::MAX)
                    .as_secs_f64()
                    .clamp(0.1, RATE_WINDOW_S)
        });
        let left = estimate(&run).map(|rows| (rows - run.rows_seen).max(0));
        Ok(Self {
            done: done(&run),
            rows_per_s: rate,
            eta_s: rate
                .filter(|_| run.phase == Phase::Main)
                .zip(left)
                .map(|(rate, left)| left as f64 / rate),
            driven: driven && run.state == State::Running,
            set_aside,
            statements,
            run,
        })
    }
}

/// Rows of the table, unless it was never analysed.
fn estimate(run: &Run) -> Option<i64> {
    run.rows_estimate.filter(|rows| *rows > 0)
}

/// The planner's estimate can be too low, so a share never exceeds 1, and reaches it only when the
/// main phase has ended.
fn done(run: &Run) -> Option<f64> {
    if run.phase == Phase::Sweep || run.state == State::Completed {
        return Some(1.0);
    }
    run.end_key.as_ref()?;
    let total = estimate(run)?.max(run.rows_seen);
    Some((run.rows_seen as f64 / total as f64).min(0.999))
}
