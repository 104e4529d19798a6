//! What the watch knows, as metrics. All of their names are here.
//!
//! A gauge that has become unknown is NaN, never its last number: no comparison holds for NaN, and
//! `x != x` finds it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use chrono::{DateTime, Utc};
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use parking_lot::Mutex;

use super::alerts::{Firing, Reading, Rules, Series, State};
use super::event::Severity;

const CONNECTIONS_USED: &str = "evenkeel_watch_connections_used_share";
const ACTIVE_SESSIONS: &str = "evenkeel_watch_active_sessions";
const LOCK_WAITERS: &str = "evenkeel_watch_lock_waiters";
const LONGEST_TRANSACTION: &str = "evenkeel_watch_longest_transaction_seconds";
const REPLICA_LAG: &str = "evenkeel_watch_replica_lag_seconds";
const ORDERS: &str = "evenkeel_watch_orders_per_second";
const READ_AT: &str = "evenkeel_watch_reading_timestamp_seconds";
const INCIDENTS_OPEN: &str = "evenkeel_watch_incidents_open";
const ALERT_FIRING: &str = "evenkeel_alert_firing";
const LOOKS: &str = "evenkeel_watch_looks_total";
const LOOK_S: &str = "evenkeel_watch_look_seconds_total";
const UNANSWERED: &str = "evenkeel_watch_unanswered_total";
const ACTS: &str = "evenkeel_watch_acts_total";

/// Readings that are gauges.
const GAUGES: [(&str, Series, Option<Unit>, &str); 6] = [
    (
        CONNECTIONS_USED,
        Series::CONNECTIONS_USED,
        None,
        "Share of the connections for ordinary roles that are taken",
    ),
    (
        ACTIVE_SESSIONS,
        Series::ACTIVE_SESSIONS,
        None,
        "Sessions of the database in a statement",
    ),
    (
        LOCK_WAITERS,
        Series::LOCK_WAITERS,
        None,
        "Sessions of the database that wait for a lock",
    ),
    (
        LONGEST_TRANSACTION,
        Series::LONGEST_TRANSACTION,
        Some(Unit::Seconds),
        "Age of the oldest transaction",
    ),
    (
        REPLICA_LAG,
        Series::REPLICA_LAG,
        Some(Unit::Seconds),
        "How far the farthest replica is behind",
    ),
    (ORDERS, Series::ORDERS, None, "Orders placed per second"),
];

/// What was last published. Cheap to clone; the watch writes it, whoever answers for metrics reads.
#[derive(Clone, Debug, Default)]
pub struct Board {
    posted: Arc<Mutex<Option<Posted>>>,
    work: Arc<Work>,
}

/// What the watch has done since the process began.
#[derive(Debug, Default)]
struct Work {
    looks: AtomicU64,
    look_us: AtomicU64,
    unanswered: AtomicU64,
    acts: AtomicU64,
}

#[derive(Clone, Debug)]
struct Posted {
    reading: Reading,
    rules: Vec<(Arc<str>, Severity)>,
    firing: Vec<Firing>,
    incidents: [(Severity, usize); 2],
}

impl Board {
    /// Replaces what was published before: the last reading, the rules with what is pending or fires
    /// of them, and how many open incidents there are of each severity.
    pub fn post(
        &self,
        reading: &Reading,
        rules: &Rules,
        firing: Vec<Firing>,
        incidents: impl IntoIterator<Item = Severity>,
    ) {
        let mut open = [(Severity::Warning, 0), (Severity::Critical, 0)];
        for severity in incidents {
            for (of, count) in &mut open {
                *count += usize::from(*of == severity);
            }
        }
        let rules = rules.iter().map(|rule| (rule.name.clone(), rule.severity));
        *self.posted.lock() = Some(Posted {
            reading: reading.clone(),
            rules: rules.collect(),
            firing,
            incidents: open,
        });
    }

    /// Counts a look at the database that took `took`.
    pub(super) fn looked(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.work.looks.fetch_add(1, Relaxed);
        self.work.look_us.fetch_add(us, Relaxed);
    }

    /// Counts a look that was not answered.
    pub(super) fn unanswered(&self) {
        self.work.unanswered.fetch_add(1, Relaxed);
    }

    /// Counts an act on a session.
    pub(super) fn acted(&self) {
        self.work.acts.fetch_add(1, Relaxed);
    }

    /// Writes what was posted to the metrics recorder that is in force. Nothing, before anything was.
    pub fn publish(&self) {
        let Some(posted) = self.posted.lock().clone() else {
            return;
        };
        self.work.publish();
        publish(&posted.reading);
        for (severity, open) in posted.incidents {
            gauge!(INCIDENTS_OPEN, "severity" => name(severity)).set(open as f64);
        }
        for (rule, severity) in &posted.rules {
            let fires = posted
                .firing
                .iter()
                .any(|firing| firing.rule == *rule && firing.state == State::Firing);
            gauge!(ALERT_FIRING, "rule" => rule.to_string(), "severity" => name(*severity))
                .set(f64::from(u8::from(fires)));
        }
    }
}

impl Work {
    fn publish(&self) {
        for (name, count, text) in [
            (LOOKS, &self.looks, "Looks of the watch at the database"),
            (UNANSWERED, &self.unanswered, "Looks that were not answered"),
            (ACTS, &self.acts, "Sessions that the watch has acted on"),
        ] {
            describe_counter!(name, text);
            counter!(name).absolute(count.load(Relaxed));
        }
        describe_gauge!(LOOK_S, Unit::Seconds, "Time that all looks have taken");
        gauge!(LOOK_S).set(self.look_us.load(Relaxed) as f64 / 1e6);
    }
}

fn publish(reading: &Reading) {
    for (name, series, unit, text) in GAUGES {
        match unit {
            Some(unit) => describe_gauge!(name, unit, text),
            None => describe_gauge!(name, text),
        }
        gauge!(name).set(reading.get(series).unwrap_or(f64::NAN));
    }
    describe_gauge!(
        READ_AT,
        Unit::Seconds,
        "When the watch last looked, since the epoch"
    );
    describe_gauge!(INCIDENTS_OPEN, "Incidents that are not resolved");
    describe_gauge!(ALERT_FIRING, "Whether a rule of the watch fires");
    gauge!(READ_AT).set(seconds(reading.at));
}

fn seconds(at: DateTime<Utc>) -> f64 {
    at.timestamp_millis() as f64 / 1e3
}

fn name(severity: Severity) -> &'static str {
    match severity {
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}
