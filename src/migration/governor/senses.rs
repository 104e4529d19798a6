//! What the governor sees, and how it says so.

use std::time::Instant;

use pool::gate::GateReading;
use pool::{Class, Pool};
use pressure::latency::{FAST, SLOW};
use pressure::pace::{Cause, Pace};
use pressure::signal::{Signal, Verdict};
use pressure::{Latencies, Surroundings, Targets, Windows, saturation};

use super::Governor;

/// Where the governor looks.
#[derive(Clone)]
pub struct Sensors {
    /// What shoppers of this process feel; `None` where no shop runs in it.
    pub latencies: Option<Latencies>,
    /// The pool that is shared with them.
    pub pool: Pool,
    /// The database, the fleet and operators' rules; `None` where nothing watches them.
    pub surroundings: Option<Surroundings>,
}

impl Governor {
    /// Why the duty is not higher although nothing is wrong.
    pub(super) fn reserve(&self, pace: &Pace) -> Option<Cause> {
        let trusted = pace.trusted.filter(|t| *t < self.settings.duty_max)?;
        let last = self
            .effect
            .map_or("too few to measure it".to_owned(), |effect| {
                format!(
                    "in the last trial it changed {} p95 by {:+.0} %",
                    effect
                        .class
                        .map_or("their".to_owned(), |class| format!("{class}'s")),
                    (effect.factor - 1.0) * 100.0
                )
            });
        Some(Cause {
            source: "trust".to_owned(),
            verdict: Verdict::Normal,
            reason: format!(
                "shoppers are known to bear {:.0} % of the time; {last}",
                trusted * 100.0
            ),
        })
    }

    /// What an operator lets shoppers pay, and why.
    pub(super) fn allowed(&self, now: Instant) -> Option<Cause> {
        let rule = self.outlook.allowance(now)?;
        Some(Cause {
            source: format!("throttle {}", rule.id),
            verdict: Verdict::Normal,
            reason: format!(
                "{} lets shoppers pay {:.1} ms more until {}: {}",
                rule.actor,
                rule.extra_ms,
                rule.until.format("%Y-%m-%d %H:%M:%S UTC"),
                rule.reason
            ),
        })
    }

    /// Milliseconds at the 95th percentile that the slowest class may pay, without allowances.
    pub(super) fn budget_ms(&self) -> Option<f64> {
        let classes = Class::SHOPPERS.into_iter();
        let baselines = classes.filter_map(|class| self.targets.baseline_ms(class));
        let slowest = baselines.max_by(f64::total_cmp)?;
        Some(slowest * (self.settings.slow_factor - 1.0))
    }

    /// What shoppers of this process feel: their latencies and their waits for connections.
    pub(super) fn feel(
        &mut self,
        latencies: Option<&dyn Windows>,
        gates: &[GateReading; 4],
        now: Instant,
    ) -> Vec<Signal> {
        let mut signals = saturation::judge(self.gates.as_ref(), gates, now);
        self.gates = Some(*gates);
        let Some(latencies) = latencies else {
            signals.push(Signal {
                source: "shoppers".to_owned(),
                verdict: Verdict::Idle,
                at: now,
                reason: "no shop runs in this process".to_owned(),
            });
            return signals;
        };
        let extra_ms = self
            .outlook
            .allowance(now)
            .map_or(0.0, |rule| rule.extra_ms);
        self.targets.allow(extra_ms);
        let read = |class, window| latencies.read(class, window, now);
        signals.extend(Class::SHOPPERS.map(|class| {
            let (fast, slow) = (read(class, FAST), read(class, SLOW));
            self.targets.judge(&self.settings, class, &fast, &slow, now)
        }));
        signals
    }

    /// Everything else: failures, whatever their cause, and what is around the shop.
    pub(super) fn judge(
        &mut self,
        latencies: Option<&dyn Windows>,
        gates: &[GateReading; 4],
        now: Instant,
    ) -> Vec<Signal> {
        let mut signals = self.outlook.judge(&self.settings, latencies, gates, now);
        if let Some(latencies) = latencies {
            let failures = |class| Targets::failures(class, &latencies.read(class, FAST, now), now);
            signals.extend(Class::SHOPPERS.into_iter().filter_map(failures));
        }
        signals
    }
}
