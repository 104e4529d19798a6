//! Readings that stopped moving although there is work under way, or that nobody took for a while.
//!
//! A broken meter shows the same number for ever, and the number it shows is mostly a good one. Two
//! meters watch each other here: shoppers take connections at the gates, so neither the counts of
//! requests nor those of the gates can stand still while the other moves or somebody waits.

use std::time::Instant;

use pool::Class;
use pool::gate::GateReading;

use crate::latency::{LatencyReading, Totals};
use crate::settings::PaceSettings as Settings;
use crate::signal::{Signal, Verdict};

/// What one class's meters show.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Meters {
    /// Requests since the start.
    pub totals: Totals,
    /// The fast window.
    pub fast: LatencyReading,
    /// The class's gate.
    pub gate: GateReading,
}

/// Since when a meter has shown the same.
#[derive(Clone, Copy, Debug)]
struct Still<T> {
    shows: T,
    since: Instant,
    /// Connections that had been granted by then.
    granted: u64,
}

/// Remembers what the meters of every class last showed. It reads no clock.
#[derive(Clone, Debug, Default)]
pub struct Frozen {
    /// When every class was last judged, and what its totals were.
    last: [Option<(Instant, Totals)>; 4],
    latency: [Option<Still<(Totals, LatencyReading)>>; 4],
    gates: [Option<Still<GateReading>>; 4],
}

fn still<T: PartialEq + Copy>(
    slot: &mut Option<Still<T>>,
    shows: T,
    granted: u64,
    now: Instant,
) -> Still<T> {
    match slot {
        Some(still) if still.shows == shows && still.since <= now => *still,
        _ => *slot.insert(Still {
            shows,
            since: now,
            granted,
        }),
    }
}

/// What happened between two samples that are too far apart, or in the wrong order, is not known.
fn gap(settings: &Settings, last: Instant, now: Instant) -> Option<String> {
    let Some(passed) = now.checked_duration_since(last) else {
        return Some(format!("the clock went back by {:.1?}", last - now));
    };
    let long = passed > settings.stale_after;
    long.then(|| format!("nothing was measured for {passed:.1?}"))
}

impl Frozen {
    /// Takes what the meters of `class` show at `now`, and says which of them are frozen.
    pub fn judge(
        &mut self,
        settings: &Settings,
        class: Class,
        meters: &Meters,
        now: Instant,
    ) -> Vec<Signal> {
        let i = class.index();
        let Meters { totals, fast, gate } = *meters;
        let mut signals = Vec::new();
        let mut say = |what: &str, reason: String| {
            signals.push(Signal {
                source: format!("{class} {what}"),
                verdict: Verdict::Unknown,
                at: now,
                reason,
            });
        };
        if let Some((last, before)) = self.last[i].replace((now, totals)) {
            if let Some(reason) = gap(settings, last, now) {
                say("latency", reason.clone());
                say("connections", reason);
            }
            if totals.completed < before.completed || totals.failed < before.failed {
                say("latency", "the counters were reset".to_owned());
            }
        }
        let latency = still(&mut self.latency[i], (totals, fast), gate.granted, now);
        let stood = now.saturating_duration_since(latency.since);
        let granted = gate.granted.saturating_sub(latency.granted);
        // A request in flight grows older, and one that took a connection was counted.
        if stood > settings.stale_after && (fast.in_flight > 0 || granted > 0) {
            let reason = format!(
                "frozen: the same for {stood:.1?} with {} requests in flight and {granted} \
                 connections handed out",
                fast.in_flight
            );
            say("latency", reason);
        }
        let gate_still = still(&mut self.gates[i], gate, gate.granted, now);
        let stood = now.saturating_duration_since(gate_still.since);
        if stood > settings.stale_after && (gate.in_use > 0 || gate.waiting > 0) {
            let reason = format!(
                "frozen: the same for {stood:.1?} with {} connections in use and {} waiting",
                gate.in_use, gate.waiting
            );
            say("connections", reason);
        }
        signals
    }
}
