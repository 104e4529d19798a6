//! From the database's readings to signals, by budget.
//!
//! What is within its budget says nothing: a database that is fine does not make an idle shop a busy
//! one. What cannot be trusted is Unknown, every source under its own name.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::doubt::{because, denied, doubt, fault, was_reset};
use super::graded::{Judged, graded};
use super::{Reading, Replica, Sample, Table};
use crate::config::{Budget, Budgets, Pace as Settings};
use crate::pressure::signal::{Signal, Verdict};

/// The WAL rate is taken over this long, so that one checkpoint's burst is not a trend.
const RATE_WINDOW: Duration = Duration::from_secs(1);
/// A replica that was there counts as Unknown for this long after it has vanished; then it has been
/// taken away.
const GONE_AFTER: Duration = Duration::from_secs(60);
/// A replica reports at least every `wal_receiver_status_interval`, 10 s unless set; three missed
/// reports are silence.
const REPLY_SILENCE: Duration = Duration::from_secs(30);
/// A table with fewer dead rows than this has no debt worth waiting for.
const FEW_ROWS: f64 = 10_000.0;
/// A replica this close behind, in bytes, is not behind although PostgreSQL has no time for it.
const CAUGHT_UP: i64 = 16 * 1024 * 1024;
const MIB: f64 = 1024.0 * 1024.0;

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
struct Held {
    holder: String,
    xmin: String,
    /// For what PostgreSQL keeps no time of, its age is counted from here.
    since: Instant,
    age_s: Option<f64>,
    /// It became younger, which nothing does.
    rejuvenated: bool,
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
        if budgets.wal.enabled {
            say(WAL.to_owned(), self.wal(budgets.wal));
        }
        if budgets.replica_lag.enabled {
            for replica in &sample.replicas {
                let judged = self.replica(budgets.replica_lag, sample, replica, reading.at);
                say(format!("{REPLICAS} of {}", replica.name), judged);
            }
            for (name, follower) in &self.replicas {
                if follower.seen < reading.at {
                    let why = "it is no longer connected".to_owned();
                    say(
                        format!("{REPLICAS} of {name}"),
                        Some((Verdict::Unknown, why)),
                    );
                }
            }
        }
        if budgets.dead_rows.enabled {
            for table in &sample.tables {
                let judged = self.dead_rows(budgets.dead_rows, table);
                say(format!("{DEAD_ROWS} of {}", table.name), judged);
            }
        }
        if budgets.xmin_age.enabled {
            say(
                OLDEST.to_owned(),
                self.oldest(budgets.xmin_age, sample, reading.at),
            );
        }
        if budgets.lock_waiters.enabled {
            say(
                LOCKS.to_owned(),
                lock_waits(settings, budgets.lock_waiters, sample),
            );
        }
        signals
    }

    fn wal(&self, budget: Budget) -> Judged {
        let (Some(first), Some(last)) = (self.window.front(), self.window.back()) else {
            return doubt("first sample");
        };
        let seconds = last.at.saturating_duration_since(first.at).as_secs_f64();
        let (Some(from), Some(to)) = (first.sample.wal_bytes, last.sample.wal_bytes) else {
            return doubt("the WAL position could not be read");
        };
        if self.window.len() < 2 || seconds <= 0.0 {
            return doubt("first sample");
        }
        if to < from {
            return doubt("the WAL position went back: this is another server, or an older state");
        }
        let rate = (to - from) as f64 / MIB / seconds;
        let mut judged = graded(budget, rate, "MiB/s of WAL");
        let requested = |sample: &Sample| sample.checkpoints_requested.unwrap_or(0);
        let checkpoints = requested(&last.sample) - requested(&first.sample);
        if let Some((_, reason)) = judged.as_mut().filter(|_| checkpoints > 0) {
            reason.push_str("; it forced a checkpoint");
        }
        judged
    }

    fn replica(&self, budget: Budget, sample: &Sample, replica: &Replica, at: Instant) -> Judged {
        let Some(state) = &replica.state else {
            return denied(sample, "replica_lag", "the state of replicas");
        };
        let silent = self.replicas.get(&replica.name);
        let silent = silent.map(|f| at.saturating_duration_since(f.replied));
        if let Some(silent) = silent.filter(|silent| *silent > REPLY_SILENCE) {
            return doubt(format!("it has not reported for {silent:.0?}"));
        }
        let Some(behind) = replica.behind_bytes else {
            return doubt(format!(
                "it is in state {state} and has no position to measure"
            ));
        };
        let behind_mib = behind as f64 / MIB;
        if state != "streaming" {
            return doubt(format!(
                "it is in state {state}, {behind_mib:.1} MiB behind"
            ));
        }
        match replica.lag_s {
            // A clock that was set back makes it negative, if only by a hair.
            Some(lag) if !lag.is_finite() || lag < -0.1 => doubt(format!("a lag of {lag} s")),
            Some(lag) => graded(budget, lag, "s behind").map(|(verdict, reason)| {
                (
                    verdict,
                    format!("{reason}; {behind_mib:.1} MiB to replay there"),
                )
            }),
            None if behind <= CAUGHT_UP => None,
            None => doubt(format!("{behind_mib:.1} MiB behind, but no time is known")),
        }
    }

    fn dead_rows(&self, budget: Budget, table: &Table) -> Judged {
        if self.forgotten.contains(&table.name) {
            return doubt("its statistics were reset");
        }
        let (Some(dead), Some(live)) = (table.dead, table.live) else {
            return doubt("PostgreSQL keeps no statistics of it (is track_counts off?)");
        };
        if dead < 0 || live < 0 {
            return doubt(format!("{dead} dead and {live} live rows"));
        }
        let (dead, live) = (dead as f64, live as f64);
        if dead < FEW_ROWS {
            return None;
        }
        graded(budget, dead / live.max(1.0), "dead rows per live row").map(|(verdict, reason)| {
            let reason = format!("{reason}; {dead:.0} of them wait for vacuum");
            (verdict, reason)
        })
    }

    fn oldest(&self, budget: Budget, sample: &Sample, at: Instant) -> Judged {
        if !sample.sees_all && sample.foreign_sessions > 0 {
            return denied(sample, "xmin_age", "other roles' transactions");
        }
        let (oldest, held) = (sample.oldest.as_ref()?, self.oldest.as_ref()?);
        if held.rejuvenated {
            return doubt(format!("{} became younger", oldest.holder));
        }
        let seen = at.saturating_duration_since(held.since).as_secs_f64();
        let age = oldest.age_s.unwrap_or(seen);
        if !age.is_finite() || age < -1.0 {
            return doubt(format!("{} is {age} s old", oldest.holder));
        }
        graded(budget, age, "s old").map(|(verdict, reason)| {
            let holder = &oldest.holder;
            (
                verdict,
                format!("vacuum waits for {holder}, which is {reason}"),
            )
        })
    }
}

fn lock_waits(settings: &Settings, budget: Budget, sample: &Sample) -> Judged {
    let Some(waiters) = sample.lock_waiters else {
        return doubt("the locks could not be read");
    };
    let longest = sample.longest_wait_s.unwrap_or(0.0);
    if !longest.is_finite() || longest < -1.0 || waiters < 0 {
        return doubt(format!("{waiters} wait for {longest} s"));
    }
    if (waiters as f64) < budget.soft {
        return None;
    }
    let critical = longest > settings.critical.as_secs_f64();
    let verdict = if critical || waiters as f64 >= budget.hard {
        Verdict::Stop
    } else {
        Verdict::Cut
    };
    let reason = format!(
        "{waiters} wait for a lock of the batch, the first for {:.0} ms; the limits are {:.0} and \
         {:.0} sessions",
        longest.max(0.0) * 1e3,
        budget.soft,
        budget.hard
    );
    Some((verdict, reason))
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
