//! Deletes what has been kept for long enough, so that no table only grows.
//!
//! Each kind of row has a life in the settings ([`Retention`]) and one statement
//! that deletes a few of those that have outlived it (`rules`). A pass goes through all kinds, a batch
//! at a time, each in a transaction of its own and at the pace of a migration: it works when shoppers
//! allow it and rests for as long as they need. Any number of processes may do so at once, because each
//! skips the rows that another one has locked.
//!
//! Tables that bound themselves are not here: `watch_history` and `order_marks` keep 27 weeks, `readings`
//! a row per process, `watch_lease` one row.

mod indexes;
mod rules;

use std::time::{Duration, Instant};

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use pool::{Class, Pool, PoolError};
use pressure::pace::Pace;
use pressure::settings::PaceSettings;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::Retention;
use crate::migration::governor::{Governor, Sensors};
use crate::migration::physical::{Paced, Polite};
use rules::{RULES, Rule};

/// PostgreSQL knows no times before 4713 BC.
const FIRST_YEAR: i32 = -4000;
/// How long a batch should take at full duty.
const BATCH: Duration = Duration::from_millis(50);

/// Why a batch was not deleted.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// No connection, or the time limit passed.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The database refused.
    #[error("{}", pool::describe(.0))]
    Database(#[from] sqlx::Error),
}

/// Deletes old rows of one shop, at the pace that its shoppers allow.
pub struct Sweeper {
    sensors: Sensors,
    /// How the database is reached beside the pool.
    options: PgConnectOptions,
    settings: Retention,
    pace: PaceSettings,
}

impl Sweeper {
    /// A sweeper that feels what `sensors` feel and works on their pool. It builds its indexes on a
    /// connection of its own, as `options` say.
    pub fn new(
        sensors: Sensors,
        options: PgConnectOptions,
        settings: Retention,
        pace: PaceSettings,
    ) -> Self {
        Self {
            sensors,
            options,
            settings,
            pace,
        }
    }

    /// Builds the indexes that are missing.
    pub async fn build_indexes(&self) {
        indexes::build(&self.options).await;
    }

    /// Makes a pass every `retention.every` until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut passes = tokio::time::interval(self.settings.every);
        passes.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = passes.tick() => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = async {
                    self.build_indexes().await;
                    self.pass(Utc::now()).await;
                } => {}
            }
        }
    }

    /// Deletes everything that has been kept for long enough at `now`, at the pace of a migration. What
    /// fails is told and left to the next pass.
    pub async fn pass(&self, now: DateTime<Utc>) {
        let began = Instant::now();
        let (publish, pace) = watch::channel(Pace::initial(&self.pace, began));
        let mut governor = Governor::new(self.pace.clone(), rand::random(), began);
        let paced = Paced {
            pace,
            target: BATCH,
        };
        tokio::select! {
            () = sweep(&self.sensors.pool, &self.settings, now, paced) => {}
            never = governor.run(&self.sensors, &publish) => match never {},
        }
    }
}

/// Deletes everything that has been kept for long enough at `now`, whenever `polite` permits a batch.
pub async fn sweep(pool: &Pool, settings: &Retention, now: DateTime<Utc>, mut polite: impl Polite) {
    // Told once: what ails one rule mostly ails them all.
    let mut failed: Option<(RetentionError, Vec<&str>)> = None;
    for rule in &RULES {
        let life = TimeDelta::from_std((rule.life)(settings)).ok();
        // Before PostgreSQL's first year nothing is old enough.
        let Some(before) = life
            .and_then(|life| now.checked_sub_signed(life))
            .filter(|before| before.year() > FIRST_YEAR)
        else {
            continue;
        };
        let mut deleted = 0;
        loop {
            if polite.permission().await.is_err() {
                return;
            }
            let began = Instant::now();
            let batch = match batch(pool, rule, before, settings.batch).await {
                Ok(batch) => batch,
                Err(err) => {
                    failed.get_or_insert((err, Vec::new())).1.push(rule.what);
                    break;
                }
            };
            deleted += batch;
            if polite.rest(began.elapsed()).await.is_err() {
                return;
            }
            if batch < u64::from(settings.batch) {
                break;
            }
        }
        if deleted > 0 {
            info!(deleted, what = rule.what, %before, "old rows deleted");
        }
    }
    if let Some((err, what)) = failed {
        let what = what.join(", ");
        warn!(what, %err, "old rows are not deleted; the next pass tries again");
    }
}

async fn batch(
    pool: &Pool,
    rule: &Rule,
    before: DateTime<Utc>,
    rows: u32,
) -> Result<u64, RetentionError> {
    pool.run(Class::Background, async |conn| {
        let deleted = sqlx::query(rule.delete)
            .bind(before)
            .bind(i64::from(rows))
            .execute(conn)
            .await?;
        Ok(deleted.rows_affected())
    })
    .await
}
