//! The pace: a pure function of settings, signals and time.
//!
//! The engine works a share of the time, its *duty*. After a batch that took `t` it sleeps
//! `t · (1 − duty) / duty`. With every sample the worst verdict decides:
//!
//! | worst verdict | duty |
//! |---|---|
//! | idle | doubled: there is nobody to disturb |
//! | normal | raised, unless held: up to the *trusted* duty and the *limit*, fast far below it |
//! | unknown | halved every second; never raised |
//! | slow | multiplied by `EASE` |
//! | cut | a third, at most once per `SETTLE`, then held |
//! | stop | a third, nothing runs, the batch in flight is cancelled, then held |
//!
//! The trusted duty is what shoppers are known to bear ([`Trust`](crate::trust::Trust)); the pace
//! never exceeds it. The limit is the duty at which a budget was last overdrawn. It is unknown at
//! first, and being far below it teaches nothing, so the duty climbs fast
//! ([`climb_per_second`](crate::settings::PaceSettings::climb_per_second)) up to `NEAR` of it and then feels
//! its way ([`raise_per_second`](crate::settings::PaceSettings::raise_per_second)). This is TCP's slow start
//! and congestion avoidance (RFC 5681) for a duty instead of a window.
//!
//! Raising is slow and lowering is at once, because shoppers who were driven away do not come back
//! to raise the average.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cost::Cost;
use crate::rules::Cap;
use crate::settings::PaceSettings as Settings;
use crate::signal::{Signal, Verdict};

/// What a slow sample multiplies the duty by.
const EASE: f64 = 0.93;
/// What a cut divides the duty by.
const CUT: f64 = 3.0;
/// Share of the limit up to which the duty climbs fast.
const NEAR: f64 = 0.7;
/// Up to this duty it climbs fast wherever the limit is thought to be: one part in twenty cannot be
/// what makes shoppers suffer, so a limit this low was met by chance.
const HARMLESS: f64 = 0.05;
/// Time that the fast window needs to show what a cut has done; cutting again earlier would
/// punish the same requests twice.
const SETTLE: Duration = Duration::from_millis(300);
/// Share of the batch target that a batch takes at the least duty. A batch of 25 ms makes shoppers
/// queue for 25 ms; at a low duty shorter batches cost little and hurt less.
const SHORTEST_BATCH: f64 = 0.2;
/// What a duty next to nothing cannot exceed.
const LONGEST_REST: Duration = Duration::from_secs(3600);

/// What the runner does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Run batches at the duty.
    Work,
    /// Begin no batch; let the one in flight end.
    Wait,
    /// Cancel the batch in flight and begin none.
    Cancel,
}

/// A source that limits the pace, with its verdict and reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// What was measured.
    pub source: String,
    /// What it means.
    pub verdict: Verdict,
    /// The numbers, in words.
    pub reason: String,
}

/// The pace at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Pace {
    /// Share of the time that the engine works, within `(0, 1]`.
    pub duty: f64,
    /// What the runner does now.
    pub order: Order,
    /// Everything that limits the pace, worst first; empty when nothing does.
    pub causes: Vec<Cause>,
    #[serde(skip)]
    at: Instant,
    #[serde(skip)]
    held_until: Option<Instant>,
    #[serde(skip)]
    cut_at: Option<Instant>,
    /// The duty at which a budget was last overdrawn; `None` while that never happened.
    #[serde(skip)]
    limit: Option<f64>,
    /// The duty that shoppers are known to bear; `None` where there are none.
    pub trusted: Option<f64>,
    /// What the migration costs shoppers, as far as is known.
    pub costs: Vec<Cost>,
    /// Milliseconds at the 95th percentile that shoppers may pay, without allowances, once it is
    /// known how they are at rest.
    pub budget_ms: Option<f64>,
}

impl Pace {
    /// The pace before the first sample: as slow as possible, and nothing runs.
    pub fn initial(settings: &Settings, now: Instant) -> Self {
        Self {
            duty: settings.duty_min,
            order: Order::Wait,
            causes: Vec::new(),
            at: now,
            held_until: None,
            cut_at: None,
            limit: None,
            trusted: None,
            costs: Vec::new(),
            budget_ms: None,
        }
    }

    /// The same pace with another trusted duty.
    #[must_use]
    pub fn trusting(self, trusted: Option<f64>) -> Self {
        Self { trusted, ..self }
    }

    /// The share of the time that is worked now.
    pub fn worked(&self) -> f64 {
        match self.order {
            Order::Work => self.duty,
            Order::Wait | Order::Cancel => 0.0,
        }
    }

    /// The pace after a sample. `self` is the pace before it.
    pub fn next(&self, settings: &Settings, signals: &[Signal], now: Instant) -> Self {
        if !settings.adaptive {
            return Self {
                duty: settings.duty_max,
                order: Order::Work,
                at: now,
                ..Self::initial(settings, now)
            };
        }
        let mut causes: Vec<Cause> = signals
            .iter()
            .map(|signal| cause(settings, signal, now))
            .collect();
        if causes.is_empty() {
            causes.push(unknown("signals", "nothing is measured".to_owned()));
        }
        let worst = causes
            .iter()
            .map(|c| c.verdict)
            .max()
            .unwrap_or(Verdict::Unknown);
        causes.retain(|cause| cause.verdict > Verdict::Normal);
        causes.sort_by_key(|cause| std::cmp::Reverse(cause.verdict));

        // A sampler that was asleep, or a clock that jumped, earns no more than one sample's raise.
        let elapsed = now
            .saturating_duration_since(self.at)
            .min(settings.sample * 2);
        let elapsed = elapsed.as_secs_f64();
        let held = self.held_until.is_some_and(|until| now < until);
        let settled = self
            .cut_at
            .is_none_or(|at| now.saturating_duration_since(at) >= SETTLE);
        let mut next = Self {
            duty: self.duty,
            order: Order::Work,
            causes,
            at: now,
            held_until: self.held_until,
            cut_at: self.cut_at,
            limit: self.limit,
            trusted: self.trusted,
            costs: self.costs.clone(),
            budget_ms: self.budget_ms,
        };
        match worst {
            Verdict::Idle if !held => {
                next.duty *= 2.0;
                next.limit = None;
                next.trusted = None;
            }
            Verdict::Normal if !held => next.raise(settings, elapsed),
            Verdict::Idle | Verdict::Normal => {}
            Verdict::Unknown => next.duty *= 0.5_f64.powf(elapsed),
            Verdict::Slow => {
                next.duty *= EASE;
                next.learn(next.duty);
            }
            Verdict::Cut | Verdict::Stop => {
                if settled {
                    next.duty /= CUT;
                    next.cut_at = Some(now);
                }
                next.held_until = Some(now + settings.hold);
                if worst == Verdict::Stop {
                    next.order = Order::Cancel;
                }
            }
        }
        if next.duty.is_nan() {
            next.duty = settings.duty_min;
        }
        let most = next.trusted.unwrap_or(settings.duty_max);
        next.duty = next
            .duty
            .min(most)
            .clamp(settings.duty_min, settings.duty_max);
        next
    }

    /// A budget was overdrawn at `duty`. One bad moment at a low duty may not be the migration's
    /// fault, so the limit falls by half at most; if it is, the next moment tells.
    fn learn(&mut self, duty: f64) {
        self.limit = Some(self.limit.map_or(duty, |limit| duty.max(limit / 2.0)));
    }

    fn raise(&mut self, settings: &Settings, elapsed: f64) {
        let near = self
            .limit
            .map_or(settings.duty_max, |limit| (limit * NEAR).max(HARMLESS))
            .min(settings.duty_max);
        if self.duty < near {
            let climbed = self.duty * settings.climb_per_second.powf(elapsed);
            self.duty = climbed.min(near);
        } else {
            self.duty *= settings.raise_per_second.powf(elapsed);
        }
    }

    /// The same pace within what operators allow, each rule as a cause. A cap below the least duty
    /// holds; one of 0 stands still.
    pub fn capped(mut self, settings: &Settings, caps: &[Cap]) -> Self {
        for cap in caps {
            self.causes.push(Cause {
                source: cap.source.clone(),
                verdict: Verdict::Slow,
                reason: cap.reason.clone(),
            });
            if cap.duty > 0.0 {
                self.duty = self.duty.min(cap.duty);
                continue;
            }
            // Nothing is learnt while nothing runs, so it begins slowly afterwards.
            self.duty = self.duty.min(settings.duty_min);
            if self.order == Order::Work {
                self.order = Order::Wait;
            }
        }
        self.causes
            .sort_by_key(|cause| std::cmp::Reverse(cause.verdict));
        self
    }

    /// The same pace while the engine stands still for a reason of its own.
    pub fn waiting(&self, source: &str, reason: &str, now: Instant) -> Self {
        Self {
            order: Order::Wait,
            causes: vec![Cause {
                source: source.to_owned(),
                verdict: Verdict::Normal,
                reason: reason.to_owned(),
            }],
            at: now,
            ..self.clone()
        }
    }

    /// How long to sleep after a batch that took `took`; an hour at most.
    pub fn rest(&self, took: Duration) -> Duration {
        let seconds = took.as_secs_f64() * (1.0 - self.duty) / self.duty;
        Duration::try_from_secs_f64(seconds).map_or(LONGEST_REST, |rest| rest.min(LONGEST_REST))
    }

    /// How long a batch should take at this duty, where it takes `full` at full duty.
    pub fn batch_target(&self, full: Duration) -> Duration {
        full.mul_f64(SHORTEST_BATCH + (1.0 - SHORTEST_BATCH) * self.duty)
    }
}

/// A signal as a cause; one from the future or the distant past is Unknown.
fn cause(settings: &Settings, signal: &Signal, now: Instant) -> Cause {
    if signal.at > now {
        return unknown(&signal.source, "its time lies in the future".to_owned());
    }
    let age = now.duration_since(signal.at);
    if age > settings.stale_after {
        return unknown(&signal.source, format!("last measured {age:.1?} ago"));
    }
    Cause {
        source: signal.source.clone(),
        verdict: signal.verdict,
        reason: signal.reason.clone(),
    }
}

fn unknown(source: &str, reason: String) -> Cause {
    Cause {
        source: source.to_owned(),
        verdict: Verdict::Unknown,
        reason,
    }
}
