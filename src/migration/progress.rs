//! How far a run is, how fast it goes, and what limits it.

use serde::Serialize;
use sqlx::postgres::PgConnection;
use utoipa::ToSchema;

use super::eta::{self, Eta};
use super::late::{self, Late};
use super::ledger::{self, Phase, Run, SetAside, State, Statement};
use super::presence::{HEARD, Presence};

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
    /// When the main phase will be done, by the spread of the recent rates.
    pub eta: Option<Eta>,
    /// Whether it will miss its deadline; absent when it will not, or has none.
    pub late: Option<Late>,
    /// Whether the lease is held by a process that still renews it.
    pub driven: bool,
    /// For how many seconds the holder has not renewed its lease that has run out; absent while it says that
    /// it is alive, and while the server has only just started, so that it may not have been able to.
    pub silent_s: Option<f64>,
    /// Who is there to take it, when it is queued or its process is silent.
    pub presence: Option<Presence>,
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
        let (rows, silent_s, is_known): (i64, Option<f64>, bool) = sqlx::query_as(
            "SELECT coalesce(sum(rows_seen), 0)::bigint,
                    (SELECT extract(epoch FROM clock_timestamp() - lease_until)::float8
                       FROM evenkeel.runs WHERE id = $1),
                    pg_postmaster_start_time() < clock_timestamp() - make_interval(secs => $3)
                    AND NOT EXISTS (SELECT FROM evenkeel.readings JOIN evenkeel.runs ON process = lease_holder
                                     WHERE id = $1 AND at > clock_timestamp() - make_interval(secs => $3))
               FROM evenkeel.batches
              WHERE run_id = $1 AND committed_at > clock_timestamp() - make_interval(secs => $2)",
        )
        .bind(run.id)
        .bind(RATE_WINDOW_S)
        .bind(HEARD.as_secs_f64())
        .fetch_one(&mut *conn)
        .await?;
        let is_running = run.state == State::Running;
        let driven = is_running && silent_s.is_some_and(|s| s <= 0.0);
        let waits = run.state == State::Queued || (is_running && !driven);
        let presence = if waits {
            Some(Presence::read(&mut *conn).await?)
        } else {
            None
        };
        let set_aside = ledger::set_aside_named(&mut *conn, &run, 20).await?;
        let statements = ledger::statements(conn, run.id).await?;
        let rate = (is_running && rows > 0).then(|| {
            let age = run.started_at.map(|at| chrono::Utc::now() - at);
            let age = age.map_or(RATE_WINDOW_S, |age| age.as_seconds_f64());
            rows as f64 / age.clamp(0.1, RATE_WINDOW_S)
        });
        let under_way = is_running && run.phase == Phase::Main;
        let left = estimate(&run).map(|rows| (rows - run.rows_seen).max(0));
        let eta = match left {
            Some(left) if under_way => eta::predict(left, &rates(conn, &run).await?),
            _ => None,
        };
        let late = run.deadline.filter(|_| under_way && rate.is_some());
        let late = late.and_then(|deadline| {
            let left_s = eta.and_then(|eta: Eta| eta.p90_s);
            late::foresee(deadline, chrono::Utc::now(), left_s, run.pace.as_ref())
        });
        Ok(Self {
            done: done(&run),
            rows_per_s: rate,
            eta,
            late,
            driven,
            silent_s: silent_s.filter(|_| is_running && !driven && is_known),
            presence,
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

/// The ledger keeps the share, so that neither a pause nor a new estimate makes it jump back. The
/// planner's estimate can be too low, so it never exceeds 1, and reaches it only when the main phase
/// has ended.
fn done(run: &Run) -> Option<f64> {
    if run.phase == Phase::Sweep || run.state == State::Completed {
        return Some(1.0);
    }
    run.end_key.as_ref()?;
    estimate(run)?;
    Some(run.share_done)
}

/// Rows per second of the main phase in windows of equal length, under the present lease and not
/// longer ago than [`eta::PAST_S`]: a pause or the death of a process says nothing of the rate.
async fn rates(conn: &mut PgConnection, run: &Run) -> Result<Vec<f64>, sqlx::Error> {
    let windows = i32::try_from(eta::WINDOWS).unwrap_or(i32::MAX);
    sqlx::query_scalar(
        "WITH recent AS (
             SELECT committed_at, rows_seen
               FROM (SELECT * FROM evenkeel.batches WHERE run_id = $1
                      ORDER BY number DESC LIMIT 20000) AS last
              WHERE lease_token = $2 AND phase = 'main'
                AND committed_at > clock_timestamp() - make_interval(secs => $3)),
         past AS (
             SELECT since, windows, extract(epoch FROM clock_timestamp() - since)::float8 / windows AS length
               -- A window of fewer batches would tell of the batches and not of the rate.
               FROM (SELECT min(committed_at) AS since, least($4, count(*) / 4)::int AS windows
                       FROM recent) AS counted
              WHERE windows > 0)
         SELECT (coalesce(sum(rows_seen), 0) / length)::float8
           FROM past CROSS JOIN LATERAL generate_series(0, windows - 1) AS w
           LEFT JOIN recent ON committed_at > since + make_interval(secs => w * length)
                           AND committed_at <= since + make_interval(secs => (w + 1) * length)
          GROUP BY w, length",
    )
    .bind(run.id)
    .bind(run.lease_token)
    .bind(eta::PAST_S)
    .bind(windows)
    .fetch_all(conn)
    .await
}
