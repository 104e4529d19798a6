//! What the shoppers of the other processes feel.
//!
//! Every process publishes its readings; whoever drives a migration judges each of the others by
//! baselines of its own, observed while the migration rests. So a process on slower hardware, or one
//! that serves other customers, is held to what it is at rest and not to what the driver's is.
//!
//! Readings arrive a few times a second, so only the longer rests show fast windows of a process that
//! are free of work.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pool::Class;
use pool::gate::GateReading;
use serde::{Deserialize, Serialize};

use crate::latency::{LatencyReading, Totals};
use crate::saturation;
use crate::settings::PaceSettings as Settings;
use crate::signal::{Signal, Verdict};
use crate::target::Targets;

/// What a process says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Requests of every class of shopper since the process began: what failed between two reports,
    /// or in one that was overwritten before anybody read it, shows here.
    pub totals: [Totals; 3],
    /// How far the fast windows reach back, in milliseconds: to the report before, at least.
    pub fast_window_ms: u64,
    /// The fast window of every class of shopper, in the order of [`Class::SHOPPERS`].
    pub fast: [LatencyReading; 3],
    /// The slow window.
    pub slow: [LatencyReading; 3],
    /// The gates of every class.
    pub gates: [GateReading; 4],
    /// Whether the process takes runs of migrations.
    #[serde(default)]
    pub takes_runs: bool,
}

/// The last report of one process.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name.
    pub process: String,
    /// Grows with every report.
    pub sequence: i64,
    /// When it was written, by this process's clock.
    pub at: Instant,
    /// The report, or why it cannot be read.
    pub report: Result<Report, String>,
}

/// The reports of all other processes at one moment.
#[derive(Clone, Debug)]
pub struct Reading {
    /// When they were read.
    pub at: Instant,
    /// One for each process that has not left.
    pub members: Vec<Member>,
}

/// What is remembered of a process.
#[derive(Clone, Debug)]
struct Known {
    sequence: i64,
    gates: Option<[GateReading; 4]>,
    totals: [Totals; 3],
    /// Requests of every class that failed since the report before.
    failed: [u64; 3],
    /// What the gates said the last time that they could be compared.
    connections: Vec<Signal>,
    targets: Targets,
    rest_sequence: i64,
    /// The counter went back: until the next report nobody knows who this is.
    reset: bool,
}

/// Judges the other processes' shoppers. It reads no clock.
#[derive(Clone, Debug, Default)]
pub struct Judge {
    known: BTreeMap<String, Known>,
}

fn unknown(source: String, reason: String, at: Instant) -> Signal {
    Signal {
        source,
        verdict: Verdict::Unknown,
        at,
        reason,
    }
}

impl Judge {
    /// Judges the last `reading`; `problem` says why there is no newer one.
    pub fn judge(
        &mut self,
        settings: &Settings,
        reading: Option<&Reading>,
        problem: Option<&str>,
        now: Instant,
    ) -> Vec<Signal> {
        let because = problem.map_or(String::new(), |problem| format!(": {problem}"));
        let Some(reading) = reading else {
            let why = format!("not read yet{because}");
            return vec![unknown("fleet".to_owned(), why, now)];
        };
        if reading.at > now {
            let why = "its time lies in the future".to_owned();
            return vec![unknown("fleet".to_owned(), why, now)];
        }
        let age = now.duration_since(reading.at);
        if age > settings.stale_after {
            let why = format!("last read {age:.1?} ago{because}");
            return vec![unknown("fleet".to_owned(), why, now)];
        }
        self.known
            .retain(|process, _| reading.members.iter().any(|m| m.process == *process));
        let members = reading.members.iter();
        members
            .flat_map(|member| self.member(settings, member, now))
            .collect()
    }

    fn member(&mut self, settings: &Settings, member: &Member, now: Instant) -> Vec<Signal> {
        let process = &member.process;
        let known = self.known.entry(process.clone()).or_insert(Known {
            sequence: member.sequence,
            gates: None,
            totals: member
                .report
                .as_ref()
                .map_or_else(|_| Default::default(), |r| r.totals),
            failed: [0; 3],
            connections: Vec::new(),
            targets: Targets::default(),
            rest_sequence: member.sequence,
            reset: false,
        });
        let source = format!("shoppers at {process}");
        if member.at > now {
            let why = "its time lies in the future".to_owned();
            return vec![unknown(source, why, now)];
        }
        let age = now.duration_since(member.at);
        if age > settings.stale_after {
            let why = format!("it has been silent for {age:.1?}");
            return vec![unknown(source, why, now)];
        }
        let report = match &member.report {
            Ok(report) => report,
            Err(err) => return vec![unknown(source, err.clone(), member.at)],
        };
        if member.sequence != known.sequence || known.gates.is_none() {
            let before = std::mem::replace(&mut known.totals, report.totals);
            let failed = |i: usize| report.totals[i].failed.checked_sub(before[i].failed);
            known.reset = member.sequence < known.sequence || (0..3).any(|i| failed(i).is_none());
            known.failed = std::array::from_fn(|i| failed(i).unwrap_or(0));
            known.sequence = member.sequence;
            let signals = saturation::judge(known.gates.as_ref(), &report.gates, member.at);
            known.gates = Some(report.gates);
            known.connections = signals;
            for signal in &mut known.connections {
                signal.source = format!("{} at {process}", signal.source);
            }
        }
        if known.reset {
            let why = "its counter went back".to_owned();
            return vec![unknown(source, why, member.at)];
        }
        let latency = Class::SHOPPERS.into_iter().enumerate().map(|(i, class)| {
            let (fast, slow) = (&report.fast[i], &report.slow[i]);
            let mut signal = known.targets.judge(settings, class, fast, slow, member.at);
            signal.source = format!("{} at {process}", signal.source);
            signal
        });
        let mut signals: Vec<_> = latency.collect();
        for (i, class) in Class::SHOPPERS.into_iter().enumerate() {
            let fast = LatencyReading {
                failed: report.fast[i].failed.max(known.failed[i]),
                ..report.fast[i]
            };
            let failures = Targets::failures(class, &fast, member.at);
            signals.extend(failures.map(|signal| Signal {
                source: format!("{} at {process}", signal.source),
                ..signal
            }));
        }
        signals.extend(known.connections.iter().cloned());
        signals
    }

    /// Takes reports into the baselines that were made after `rested`, when the last of the
    /// migration had drained, while it still rests.
    pub fn observe(&mut self, reading: Option<&Reading>, rested: Instant) {
        for member in reading.iter().flat_map(|reading| &reading.members) {
            let (Some(known), Ok(report)) = (self.known.get_mut(&member.process), &member.report)
            else {
                continue;
            };
            let window = Duration::from_millis(report.fast_window_ms);
            let began = member.at.checked_sub(window);
            if began.is_none_or(|began| began < rested) || member.sequence == known.rest_sequence {
                continue;
            }
            known.rest_sequence = member.sequence;
            for (i, class) in Class::SHOPPERS.into_iter().enumerate() {
                known.targets.observe(class, &report.fast[i]);
            }
        }
    }

    /// The 95th percentile of `class` at `process` at rest, in milliseconds.
    pub fn baseline_ms(&self, process: &str, class: Class) -> Option<f64> {
        self.known.get(process)?.targets.baseline_ms(class)
    }
}

/// How long a process that was alive counts as Unknown before it is declared gone.
pub const GONE_AFTER: Duration = Duration::from_secs(60);
