//! A shift: all runs that a process drives at once, under one governor.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use pressure::pace::Pace;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::debug;

use super::Runner;
use crate::migration::governor::Governor;
use crate::migration::ledger::Run;

/// For this long what a shift has learnt of the shop is believed by the next.
const MEMORY: Duration = Duration::from_secs(60);

impl Runner {
    /// Drives `first`, and what becomes due meanwhile, until nothing is left.
    pub(super) async fn drive_all(&self, first: Run) {
        let drive = |run| {
            let runner = self.clone();
            async move { runner.drive_one(run).await }
        };
        let mut drives = JoinSet::new();
        drives.spawn(drive(first));
        let mut looks = tokio::time::interval(self.engine.poll);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !drives.is_empty() {
            let more = drives.len() < self.engine.at_once && !self.stop.is_cancelled();
            tokio::select! {
                ended = drives.join_next() => {
                    let broken = ended.and_then(Result::err);
                    if let Some(Ok(panic)) = broken.map(|err| err.try_into_panic()) {
                        std::panic::resume_unwind(panic);
                    }
                }
                _ = looks.tick(), if more => match self.take().await {
                    Ok(Some(run)) => {
                        drives.spawn(drive(run));
                    }
                    Ok(None) => {}
                    // What ails the database is told by the runs that are driven.
                    Err(failure) => debug!(error = %failure, "cannot look for runs"),
                }
            }
        }
    }

    /// Has one governor set the pace for as long as `work` lasts.
    pub(super) async fn govern<T>(&self, work: impl Future<Output = T>) -> T {
        self.pace_now
            .send_replace(Pace::initial(&self.pace, Instant::now()));
        let mut governor = self.governor(Instant::now());
        let done = tokio::select! {
            done = work => done,
            never = governor.run(&self.sensors, &self.pace_now) => match never {},
        };
        *self.learnt.lock() = Some((Instant::now(), governor));
        done
    }

    /// Makes the pace of all runs that of `migration`: less, where operators allow it less.
    pub(super) async fn cap(&self, migration: &str, own: &watch::Sender<Pace>) -> Infallible {
        let mut shared = self.pace();
        loop {
            let pace = shared.borrow_and_update().clone();
            let caps = self.sensors.surroundings.as_ref();
            let caps = caps.map_or_else(Vec::new, |s| s.caps_of(migration, Instant::now()));
            own.send_replace(pace.capped(&self.pace, &caps));
            // The sender lives in `self`: this ends with the drive alone.
            let _ = shared.changed().await;
        }
    }

    /// The governor of the last drive, unless that is long ago.
    fn governor(&self, now: Instant) -> Governor {
        match self.learnt.lock().take() {
            Some((ended, mut governor)) if now.saturating_duration_since(ended) < MEMORY => {
                governor.resume(now);
                governor
            }
            _ => Governor::new(self.pace.clone(), rand::random(), now),
        }
    }
}
