//! Rules by which operators cap the pace for a time, or let shoppers pay more, in
//! `evenkeel.throttles`.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use pressure::rules::{Reading, Rule};
use serde::Serialize;
use sqlx::FromRow;
use sqlx::postgres::PgConnection;
use utoipa::ToSchema;

use crate::db::schema::none_if_absent;

/// A rule lasts at most this long; whoever wants more pauses the run.
pub const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// A rule in force.
#[derive(Clone, Debug, PartialEq, FromRow, Serialize, ToSchema)]
pub struct Throttle {
    /// Its number.
    pub id: i64,
    /// The migration that it is for; absent for all.
    pub migration: Option<String>,
    /// The most that the duty may be; 0 stands still.
    pub duty: f64,
    /// Milliseconds at the 95th percentile that shoppers may pay beyond the pace's own budget.
    pub extra_ms: f64,
    /// Who asked.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// Until when, by the database's clock.
    pub until: DateTime<Utc>,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The migration that it is for; `None` for all.
    pub migration: Option<&'a str>,
    /// The most that the duty may be; 0 stands still.
    pub duty: f64,
    /// Milliseconds at the 95th percentile that shoppers may pay beyond the pace's own budget; then
    /// the duty is 1.
    pub extra_ms: f64,
    /// For how long.
    pub time: Duration,
    /// Why.
    pub reason: &'a str,
}

/// Why a rule was not made or removed.
#[derive(Debug, thiserror::Error)]
pub enum ThrottleError {
    /// The duty is no share.
    #[error("a duty is a number from 0 (stand still) to 1 (no limit), not {0}")]
    Duty(f64),
    /// Nobody may grant so much, or nothing.
    #[error(
        "shoppers may be let pay up to {MOST_MS} ms more, not {0}; a fraction of a millisecond is fine"
    )]
    Extra(f64),
    /// It limits nothing and grants nothing, or both at once.
    #[error("say either a duty below 1, or how many milliseconds more shoppers may pay")]
    Both,
    /// It would never or for ever apply.
    #[error("a throttle lasts between a second and seven days; to stop for longer, pause the run")]
    Time,
    /// Nobody would know why.
    #[error("say why, in a few words: whoever wonders about the pace reads it in the status")]
    Reason,
    /// Neither a migration nor all of them.
    #[error("name the migration, or say --all")]
    Whom,
    /// No such rule, or not in force any more.
    #[error("no throttle {0} is in force; `evenkeel migrate throttle --list` shows them")]
    Unknown(i64),
    /// No connection.
    #[error(transparent)]
    Pool(#[from] pool::PoolError),
    /// The database refused.
    #[error("{}", pool::describe(.0))]
    Database(#[from] sqlx::Error),
}

const COLUMNS: &str = "id, migration, duty, extra_ms, actor, reason, created_at, until";
/// More than this is no price for a deadline but an outage.
pub const MOST_MS: f64 = 100.0;

/// Puts a rule in force, on behalf of `actor`. It ends by itself.
///
/// # Errors
/// [`ThrottleError`] says what to change.
pub async fn add(
    conn: &mut PgConnection,
    request: &Request<'_>,
    actor: &str,
) -> Result<Throttle, ThrottleError> {
    if !(0.0..=1.0).contains(&request.duty) {
        return Err(ThrottleError::Duty(request.duty));
    }
    if !(0.0..=MOST_MS).contains(&request.extra_ms) {
        return Err(ThrottleError::Extra(request.extra_ms));
    }
    // Either it limits or it grants.
    if (request.duty < 1.0) == (request.extra_ms > 0.0) {
        return Err(ThrottleError::Both);
    }
    if request.time < Duration::from_secs(1) || request.time > LONGEST {
        return Err(ThrottleError::Time);
    }
    if request.reason.trim().is_empty() {
        return Err(ThrottleError::Reason);
    }
    let sql = format!(
        "INSERT INTO evenkeel.throttles (migration, duty, actor, reason, until, extra_ms)
         VALUES ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5), $6)
         RETURNING {COLUMNS}"
    );
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(request.migration)
        .bind(request.duty)
        .bind(actor)
        .bind(request.reason.trim())
        .bind(request.time.as_secs_f64())
        .bind(request.extra_ms)
        .fetch_one(conn)
        .await?)
}

/// The rules in force, the oldest first.
///
/// # Errors
/// What the database says.
pub async fn list(conn: &mut PgConnection) -> Result<Vec<Throttle>, sqlx::Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM evenkeel.throttles
          WHERE removed_at IS NULL AND until > clock_timestamp() ORDER BY id"
    );
    let rules = sqlx::query_as(sqlx::AssertSqlSafe(sql));
    none_if_absent(rules.fetch_all(conn).await)
}

/// Ends a rule before its time, on behalf of `actor`. Its row stays.
///
/// # Errors
/// [`ThrottleError::Unknown`] when it is not in force.
pub async fn remove(
    conn: &mut PgConnection,
    id: i64,
    actor: &str,
) -> Result<Throttle, ThrottleError> {
    let sql = format!(
        "UPDATE evenkeel.throttles SET removed_at = clock_timestamp(), removed_by = $2
          WHERE id = $1 AND removed_at IS NULL AND until > clock_timestamp() RETURNING {COLUMNS}"
    );
    let ended = sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(id)
        .bind(actor);
    none_if_absent(ended.fetch_optional(conn).await)?.ok_or(ThrottleError::Unknown(id))
}

/// The rules in force as the pace hears of them, asked at `at`.
///
/// # Errors
/// What the database says.
pub(super) async fn read(conn: &mut PgConnection, at: Instant) -> Result<Reading, sqlx::Error> {
    let rules = list(conn).await?;
    if rules.is_empty() {
        return Ok(Reading {
            at,
            rules: Vec::new(),
        });
    }
    let now: DateTime<Utc> = sqlx::query_scalar("SELECT clock_timestamp()")
        .fetch_one(conn)
        .await?;
    let rules = rules.into_iter().map(|throttle| {
        let left = (throttle.until - now).to_std().unwrap_or_default();
        Rule {
            id: throttle.id,
            migration: throttle.migration,
            duty: throttle.duty,
            extra_ms: throttle.extra_ms,
            actor: throttle.actor,
            reason: throttle.reason,
            until: throttle.until,
            ends: at + left,
        }
    });
    Ok(Reading {
        at,
        rules: rules.collect(),
    })
}
