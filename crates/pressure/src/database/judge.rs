//! From the database's readings to signals, by budget.
//!
//! What is within its budget says nothing: a database that is fine does not make an idle shop a busy
//! one. What cannot be trusted is Unknown, every source under its own name.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::doubt::{because, doubt, fault, was_reset};
use super::graded::{self, Judged};
use super::{Reading, Table};
use crate::settings::{Budgets, PaceSettings as Settings};
use crate::signal::{Signal, Verdict};

/// The WAL rate is taken over this long, so that one checkpoint's burst is not a trend.
const RATE_WINDOW: Duration = Duration::from_secs(1);
/// A replica that was there counts as Unknown for this long after it has vanished; then it has been
/// taken away.
const GONE_AFTER: Duration = Duration::from_secs(60);
const WAL: &str = "wal";
const REPLICAS: &str = "replica lag";
const DEAD_ROWS: &str = "dead rows";
const OLDEST: &str = "oldest transaction";
const LOCKS: &str = "lock waits";

/// Judges readings of the database, and remembers what that takes. It reads no clock.
#[derive(Clone, Debug, Default)]
pub struct Judge {
    /// Readings that were trusted, the oldest first.
    window: VecDeque<Reading>,
    /// What is wrong with the last reading as a whole.
    fault: Option<String>,
    replicas: BTreeMap<String, Follower>,
    /// The oldest transaction's holder, and what was known of it when it was first seen.
    oldest: Option<Held>,
    /// Tables whose statistics were reset between the last two readings.
    forgotten: Vec<String>,
}

/// What is remembered of the oldest transaction.
#[derive(Clone, Debug)]
pub(super) struct Held {
    holder: String,
    xmin: String,
    /// For what PostgreSQL keeps no time of, its age is counted from here.
    pub(super) since: Instant,
    age_s: Option<f64>,
    /// It became younger, which nothing does.
    pub(super) rejuvenated: bool,
}

/// What is remembered of a replica.
#[derive(Clone, Debug)]
struct Follower {
    seen: Instant,
    reply_s: Option<f64>,
    replied: Instant,
}

impl Judge {
    /// Judges the last `reading`; `problem` says why there is no newer one.
    pub fn judge(
        &mut self,
        settings: &Settings,
        budgets: &Budgets,
        reading: Option<&Reading>,
        problem: Option<&str>,
        now: Instant,
    ) -> Vec<Signal> {
        let Some(reading) = reading else {
            let why = format!("not measured yet{}", because(problem));
            return unknown(budgets, &why, now);
        };
        if reading.at > now {
            return unknown(budgets, "its time lies in the future", now);
        }
        let age = now.duration_since(reading.at);
        if age > settings.stale_after {
            let why = format!("last measured {age:.1?} ago{}", because(problem));
            return unknown(budgets, &why, now);
        }
        if self.window.back().is_none_or(|last| last.at != reading.at) {
            self.take(settings, reading);
        }
        if let Some(fault) = &self.fault {
            return unknown(budgets, fault, reading.at);
        }
        self.by_source(settings, budgets, reading)
    }

    /// Takes a new reading in, unless it cannot be one.
    fn take(&mut self, settings: &Settings, reading: &Reading) {
        self.fault = fault(settings, self.window.back(), reading);
        self.forgotten.clear();
        if self.fault.is_some() {
            // Nothing is measured against what came before a fault.
            self.window.clear();
        }
        if let Some(last) = self.window.back() {
            let forgotten = |table: &&Table| {
                let before = last.sample.tables.iter().find(|t| t.name == table.name);
                before.is_some_and(|before| was_reset(before, table))
            };
            let forgotten = reading.sample.tables.iter().filter(forgotten);
            self.forgotten = forgotten.map(|table| table.name.clone()).collect();
        }
        self.follow(reading);
        self.track_oldest(reading);
        self.window.push_back(reading.clone());
        while self.window.len() > 2
            && reading.at.saturating_duration_since(self.window[1].at) >= RATE_WINDOW
        {
            self.window.pop_front();
        }
    }

    fn follow(&mut self, reading: &Reading) {
        for replica in &reading.sample.replicas {
            let follower = self
                .replicas
                .entry(replica.name.clone())
                .or_insert(Follower {
                    seen: reading.at,
                    reply_s: replica.reply_s,
                    replied: reading.at,
                });
            follower.seen = reading.at;
            if follower.reply_s != replica.reply_s {
                follower.reply_s = replica.reply_s;
                follower.replied = reading.at;
            }
        }
        self.replicas
            .retain(|_, follower| reading.at.saturating_duration_since(follower.seen) < GONE_AFTER);
    }

    fn track_oldest(&mut self, reading: &Reading) {
        let Some(now) = &reading.sample.oldest else {
            self.oldest = None;
            return;
        };
        match &mut self.oldest {
            Some(held) if held.holder == now.holder && held.xmin == now.xmin => {
                held.rejuvenated = now.age_s < held.age_s;
                held.age_s = now.age_s;
            }
            other => {
                *other = Some(Held {
                    holder: now.holder.clone(),
                    xmin: now.xmin.clone(),
                    since: reading.at,
                    age_s: now.age_s,
                    rejuvenated: false,
                });
            }
        }
    }

    fn by_source(&self, settings: &Settings, budgets: &Budgets, reading: &Reading) -> Vec<Signal> {
        let sample = &reading.sample;
        let mut signals = Vec::new();
        let mut say = |source: String, judged: Judged| {
            if let Some((verdict, reason)) = judged {
                signals.push(Signal {
                    source,
                    verdict,
                    at: reading.at,
                    reason,
                });
            }
        };
        if budgets.wal.enabled
            && let (Some(first), Some(last)) = (self.window.front(), self.window.back())
        {
            say(WAL.to_owned(), graded::wal(budgets.wal, first, last));
        }
        if budgets.replica_lag.enabled {
            for replica in &sample.replicas {
                let follower = self.replicas.get(&replica.name);
                let silent = follower.map_or(Duration::ZERO, |follower| {
                    reading.at.saturating_duration_since(follower.replied)
                });
                let judged = graded::replica(budgets.replica_lag, sample, replica, silent);
                say(format!("{REPLICAS} of {}", replica.name), judged);
            }
            for (name, follower) in &self.replicas {
                if follower.seen < reading.at {
                    let gone = doubt("it is no longer connected");
                    say(format!("{REPLICAS} of {name}"), gone);
                }
            }
        }
        if budgets.dead_rows.enabled {
            for table in &sample.tables {
                let reset = self.forgotten.contains(&table.name);
                let judged = graded::dead_rows(budgets.dead_rows, table, reset);
                say(format!("{DEAD_ROWS} of {}", table.name), judged);
            }
        }
        if budgets.xmin_age.enabled {
            let held = self.oldest.as_ref();
            let judged = graded::oldest(budgets.xmin_age, sample, held, reading.at);
            say(OLDEST.to_owned(), judged);
        }
        if budgets.lock_waiters.enabled {
            let judged = graded::lock_waits(settings, budgets.lock_waiters, sample);
            say(LOCKS.to_owned(), judged);
        }
        signals
    }
}

/// Every source that has a budget, as Unknown.
fn unknown(budgets: &Budgets, why: &str, at: Instant) -> Vec<Signal> {
    [
        (budgets.wal, WAL),
        (budgets.replica_lag, REPLICAS),
        (budgets.dead_rows, DEAD_ROWS),
        (budgets.xmin_age, OLDEST),
        (budgets.lock_waiters, LOCKS),
    ]
    .into_iter()
    .filter(|(budget, _)| budget.enabled)
    .map(|(_, source)| Signal {
        source: source.to_owned(),
        verdict: Verdict::Unknown,
        at,
        reason: why.to_owned(),
    })
    .collect()
}
