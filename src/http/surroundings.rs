//! What a process last measured of the database and the fleet, in Prometheus' format.
//!
//! Written anew for every answer, beside the recorder: a replica that has gone, or a measurement that
//! has ended, must not keep its last number.

use std::fmt::Write;
use std::time::{Duration, Instant};

use pressure::surroundings::Seen;

/// A reading older than this says nothing about now.
const STALE: Duration = Duration::from_secs(5);

/// A metric: name, type, help, and its values by label.
struct Metric<'a> {
    name: &'a str,
    kind: &'a str,
    help: &'a str,
    label: &'a str,
    values: Vec<(&'a str, f64)>,
}

/// The metrics of what was `seen`; nothing of what is stale.
pub fn text(seen: &Seen, now: Instant) -> String {
    let fresh = |at: Instant| now.saturating_duration_since(at) < STALE;
    let mut text = String::new();
    let mut put = |name, kind, help, label, values| {
        let metric = Metric {
            name,
            kind,
            help,
            label,
            values,
        };
        metric.write(&mut text);
    };
    if let Some(database) = seen.database.as_ref().filter(|database| fresh(database.at)) {
        let sample = &database.sample;
        let one = |value: Option<f64>| value.map(|value| ("", value)).into_iter().collect();
        let count = |value: Option<i64>| one(value.map(|value| value as f64));
        put(
            "evenkeel_database_wal_bytes_total",
            "counter",
            "Position in the write-ahead log",
            "",
            count(sample.wal_bytes),
        );
        put(
            "evenkeel_database_checkpoints_requested_total",
            "counter",
            "Checkpoints that were requested before their time",
            "",
            count(sample.checkpoints_requested),
        );
        let replicas = &sample.replicas;
        let lag = replicas
            .iter()
            .filter_map(|r| Some((r.name.as_str(), r.lag_s?)));
        put(
            "evenkeel_database_replica_lag_seconds",
            "gauge",
            "How old the log is that a replica replays; absent when it has replayed all",
            "replica",
            lag.collect(),
        );
        let behind = replicas
            .iter()
            .filter_map(|r| Some((r.name.as_str(), r.behind_bytes? as f64)));
        put(
            "evenkeel_database_replica_behind_bytes",
            "gauge",
            "Log that a replica has not replayed",
            "replica",
            behind.collect(),
        );
        let tables = &sample.tables;
        let dead = tables
            .iter()
            .filter_map(|t| Some((t.name.as_str(), t.dead? as f64)));
        put(
            "evenkeel_database_dead_rows",
            "gauge",
            "Dead rows of a table that is migrated here",
            "table",
            dead.collect(),
        );
        let live = tables
            .iter()
            .filter_map(|t| Some((t.name.as_str(), t.live? as f64)));
        put(
            "evenkeel_database_live_rows",
            "gauge",
            "Live rows of a table that is migrated here",
            "table",
            live.collect(),
        );
        put(
            "evenkeel_database_oldest_transaction_seconds",
            "gauge",
            "Age of the transaction that vacuum waits for",
            "",
            one(sample.oldest.as_ref().and_then(|oldest| oldest.age_s)),
        );
        put(
            "evenkeel_migration_lock_waiters",
            "gauge",
            "Sessions that wait for a lock of a batch",
            "",
            count(sample.lock_waiters),
        );
    }
    if let Some(fleet) = seen.fleet.as_ref().filter(|fleet| fresh(fleet.at)) {
        let silent = fleet.members.iter();
        let silent = silent.map(|m| {
            let age = now.saturating_duration_since(m.at).as_secs_f64();
            (m.process.as_str(), age)
        });
        put(
            "evenkeel_fleet_report_age_seconds",
            "gauge",
            "How long ago another process last said what its shoppers feel",
            "process",
            silent.collect(),
        );
    }
    text
}

impl Metric<'_> {
    fn write(&self, text: &mut String) {
        if self.values.is_empty() {
            return;
        }
        let Self {
            name, kind, help, ..
        } = self;
        // Writing to a string does not fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (of, value) in &self.values {
            let _ = match self.label {
                "" => writeln!(text, "{name} {value}"),
                label => writeln!(text, "{name}{{{label}=\"{}\"}} {value}", escaped(of)),
            };
        }
    }
}

fn escaped(label: &str) -> String {
    label
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
