//! Samples the signals and publishes the pace while a run is driven.
//!
//! Measuring is in `pressure`, deciding in [`Pace`] and, when to rest and what a cut means, here; the
//! runner acts. [`Governor::decide`] knows no clock, so a whole day can be played to it in a test.

mod senses;
mod slices;

use std::convert::Infallible;
use std::time::{Duration, Instant};

use pool::Class;
use pool::gate::GateReading;
use pressure::latency::{FAST, SLOW};
use pressure::pace::{Cause, Order, Pace};
use pressure::settings::PaceSettings as Settings;
use pressure::signal::{Signal, Verdict};
use pressure::trial::{Budget, Effect, Noise};
use pressure::trust::Trust;
use pressure::{Outlook, Surroundings, Targets, Windows};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;
use tracing::debug;

pub use self::senses::Sensors;
use self::slices::Slices;

/// The part of a rest in which the last batch and its queue drain, and the part of a slice of work
/// in which they build up.
const SETTLE: Duration = Duration::from_millis(100);
/// The first baseline has no predecessors to be averaged with, so it takes this long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// A rest is to have this many requests, if there are so many in a second.
const REQUESTS: f64 = 60.0;
/// When all that is left is to make sure that nothing has changed, slices of work are this many
/// times as long.
const SURE: u32 = 4;
/// So many trials without harm in a row, at full duty, make sure.
const IN_A_ROW: u32 = 3;

/// Why nothing is done during a rest.
const RESTING: &str = "measuring the shop at rest";

/// Why it rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// It is time, by the draw.
    Drawn,
    /// It is time, and for long enough to hear of the other processes.
    Fleet,
    /// Shoppers suffered.
    Cut,
}

/// What the governor is at.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The migration rests so that shoppers can be measured without it.
    Rest {
        since: Instant,
        until: Instant,
        why: Why,
    },
    /// The migration works at the pace.
    Work { until: Instant },
}

/// Turns samples into a pace, one tick at a time.
pub struct Governor {
    settings: Settings,
    targets: Targets,
    trust: Trust,
    stage: Stage,
    slices: Slices,
    noise: Noise,
    harmless: u32,
    effect: Option<Effect>,
    baseline_at: Instant,
    sampled_at: Instant,
    /// Shoppers have suffered during this rest.
    suffering: bool,
    gates: Option<[GateReading; 4]>,
    /// What is judged beside the shoppers of this process.
    outlook: Outlook,
    pace: Pace,
    random: StdRng,
}

impl Governor {
    /// A governor that begins by measuring the baseline. `seed` draws the times of its rests.
    pub fn new(settings: Settings, seed: u64, now: Instant) -> Self {
        let pace = Pace::initial(&settings, now);
        let mut slices = Slices::default();
        slices.begin(now);
        Self {
            settings,
            targets: Targets::default(),
            trust: Trust::default(),
            stage: Stage::Rest {
                since: now,
                until: now + FIRST_PAUSE,
                why: Why::Fleet,
            },
            slices,
            noise: Noise::default(),
            harmless: 0,
            effect: None,
            baseline_at: now,
            sampled_at: now,
            suffering: false,
            gates: None,
            outlook: Outlook::default(),
            pace,
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// Goes on after a break, with the baselines and the trust of before: shoppers do not become
    /// others within a minute. The first thing is a baseline pause, and not a long one.
    pub fn resume(&mut self, now: Instant) {
        self.begin_rest(self.settings.baseline_pause, Why::Fleet, now);
        self.slices.forget();
        self.gates = None;
        self.sampled_at = now;
        self.pace = self.pace.waiting("baseline", RESTING, now);
    }

    /// Samples until the future is dropped, publishing every pace.
    pub async fn run(&mut self, sensors: &Sensors, publish: &watch::Sender<Pace>) -> Infallible {
        if let Some(surroundings) = &sensors.surroundings {
            // Until they are known nothing runs; without this wait that would cost a whole sample.
            let _ = tokio::time::timeout(self.settings.sample, surroundings.measured()).await;
        }
        let mut ticks = tokio::time::interval(self.settings.sample);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let gates = sensors.pool.gates();
            self.look(sensors.surroundings.as_ref());
            let latencies = sensors.latencies.as_ref().map(|felt| felt as &dyn Windows);
            let pace = self.decide(latencies, &gates, Instant::now());
            publish.send_replace(pace);
        }
    }

    /// Takes what was last measured around the shop into the next decision.
    pub fn look(&mut self, surroundings: Option<&Surroundings>) {
        self.outlook.look(surroundings);
    }

    /// The pace after a sample at `now`, given what shoppers felt and what the gates counted.
    pub fn decide(
        &mut self,
        latencies: Option<&dyn Windows>,
        gates: &[GateReading; 4],
        now: Instant,
    ) -> Pace {
        let mut felt = self.feel(latencies, gates, now);
        let others = self.judge(latencies, gates, now);
        let worst = felt.iter().chain(&others).map(|s| s.verdict).max();
        let worst = worst.unwrap_or(Verdict::Unknown);
        let stage = self.stage;
        if let Some(latencies) = latencies {
            let (duty, broken) = match stage {
                Stage::Rest { why, .. } => (None, why == Why::Cut),
                Stage::Work { .. } => (Some(self.pace.worked()), false),
            };
            self.slices.sample(latencies, duty, broken, now);
        }
        let excused = self.heed(latencies, &mut felt, worst, now);
        match stage {
            Stage::Rest { since, until, why } => {
                // With nobody in the shop there is nothing to measure and nobody to spare.
                let resting = now < until && worst != Verdict::Idle && self.settings.adaptive;
                // A batch may still be in flight from before; a critical signal cancels it.
                if resting && worst != Verdict::Stop {
                    if why == Why::Fleet && now.saturating_duration_since(since) >= SETTLE + FAST {
                        self.outlook.observe(since + SETTLE);
                    }
                    let resting = self.pace.waiting("rest", RESTING, now);
                    self.pace = resting.clone();
                    return resting;
                }
                // What shoppers feel in an outage is not how they feel at rest.
                if worst < Verdict::Stop {
                    self.rested(why, now);
                }
                self.work(now);
            }
            Stage::Work { until } => {
                let rests = matches!(self.stage, Stage::Rest { .. });
                if worst != Verdict::Idle && now >= until && !rests {
                    self.rest(latencies, now);
                }
            }
        }
        let trusting = self.pace.clone().trusting(self.trust.duty());
        let signals = [felt, others].concat();
        let next = trusting.next(&self.settings, &signals, now);
        let mut next = next.capped(&self.settings, &self.outlook.caps(now));
        if next.duty < self.pace.duty {
            debug!(from = self.pace.duty, to = next.duty, causes = ?next.causes, "slowing down");
        }
        // Whoever suffers by another's doing does not need ours on top.
        let spared = !excused.is_empty() || matches!(self.stage, Stage::Rest { .. });
        if spared && next.order == Order::Work {
            next.order = Order::Wait;
        }
        next.causes.extend(excused);
        next.costs = self.slices.costs().to_vec();
        next.causes.extend(self.reserve(&next));
        next.causes.extend(self.allowed(now));
        next.budget_ms = self.budget_ms();
        self.pace = next;
        self.pace.clone()
    }

    /// Takes a sample to heart: who is there, and how they fare. Where they fare no better while the
    /// engine rests, what they felt is no reason to cut.
    fn heed(
        &mut self,
        latencies: Option<&dyn Windows>,
        felt: &mut [Signal],
        worst: Verdict,
        now: Instant,
    ) -> Vec<Cause> {
        let elapsed = now.saturating_duration_since(self.sampled_at).as_secs_f64();
        self.sampled_at = now;
        if worst == Verdict::Idle {
            self.trust.nobody();
            self.slices.forget();
            return Vec::new();
        }
        self.trust.somebody(&self.settings);
        let suffering = felt.iter().any(|s| s.verdict >= Verdict::Cut);
        match self.stage {
            Stage::Rest { since, .. } => {
                // The fast window must have left the work behind.
                if now.saturating_duration_since(since) >= FAST {
                    self.trust.sampled(false, suffering, elapsed);
                    self.suffering |= suffering;
                }
                excuse(felt)
            }
            Stage::Work { .. } => {
                self.trust.sampled(true, suffering, elapsed);
                if self.trust.innocent() {
                    return excuse(felt);
                }
                if suffering {
                    self.trust.suffered(&self.settings, self.pace.duty);
                    debug!(duty = self.pace.duty, trust = ?self.trust, "shoppers suffer");
                    if let Some(latencies) = latencies {
                        self.slices.end_work(latencies, true, now);
                    }
                    self.begin_rest(self.settings.hold, Why::Cut, now);
                }
                Vec::new()
            }
        }
    }

    fn begin_rest(&mut self, length: Duration, why: Why, now: Instant) {
        self.suffering = false;
        self.slices.begin(now);
        self.stage = Stage::Rest {
            since: now,
            until: now + length,
            why,
        };
    }

    /// Ends a slice of work.
    fn rest(&mut self, latencies: Option<&dyn Windows>, now: Instant) {
        let rate = latencies.map_or(0.0, |latencies| self.slices.end_work(latencies, false, now));
        let due = now.saturating_duration_since(self.baseline_at) >= self.settings.baseline_every;
        let (length, why) = if due {
            (self.settings.baseline_pause, Why::Fleet)
        } else {
            (self.settings.rest, Why::Drawn)
        };
        let wanted = Duration::try_from_secs_f64(REQUESTS / rate).unwrap_or(SLOW);
        self.begin_rest(length.max((SETTLE + wanted).min(SLOW)), why, now);
    }

    /// Ends a rest: judges the slice of work before it.
    fn rested(&mut self, why: Why, now: Instant) {
        if std::mem::take(&mut self.suffering) {
            self.trust.suffered_at_rest();
        }
        if why == Why::Fleet {
            self.baseline_at = now;
        }
        let broken = why == Why::Cut;
        let (rest, trial) = self.slices.end_rest(broken);
        for window in &rest {
            for (class, reading) in Class::SHOPPERS.into_iter().zip(window) {
                self.targets.observe(class, reading);
            }
        }
        if let Some((trial, duty)) = trial {
            let budget = Budget {
                factor: self.settings.slow_factor,
                extra_ms: self
                    .outlook
                    .allowance(now)
                    .map_or(0.0, |rule| rule.extra_ms),
                floor_ms: self.settings.slow_floor.as_secs_f64() * 1e3,
            };
            let effect = trial.effect(&self.noise, &budget);
            self.noise.observe(&trial);
            self.trust.tried(&self.settings, effect.as_ref(), duty);
            debug!(?effect, duty, trusted = ?self.trust.duty(), "trial");
            self.harmless = match effect {
                Some(effect) if effect.margin < 0.0 => 0,
                _ => self.harmless + 1,
            };
            self.effect = effect;
        }
    }

    /// Begins a slice of work.
    fn work(&mut self, now: Instant) {
        let trusted = self.trust.duty();
        let full = trusted.is_some_and(|duty| duty >= self.settings.duty_max);
        let sure = full && self.harmless >= IN_A_ROW;
        let times = if sure { SURE } else { 1 };
        let drawn = self.random.random_range(0.5..1.5);
        self.slices.begin(now);
        self.stage = Stage::Work {
            until: now + self.settings.work.mul_f64(drawn) * times,
        };
    }
}

/// Takes what is no reason to cut out of the signals.
fn excuse(felt: &mut [Signal]) -> Vec<Cause> {
    let mut excused = Vec::new();
    for signal in felt.iter_mut().filter(|s| s.verdict == Verdict::Cut) {
        signal.verdict = Verdict::Normal;
        excused.push(Cause {
            source: signal.source.clone(),
            verdict: Verdict::Normal,
            reason: format!("{}; as often while the migration rests", signal.reason),
        });
    }
    excused
}
