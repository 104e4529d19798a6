//! Samples the signals and publishes the pace while a run is driven.
//!
//! Measuring is in `pressure`, deciding in [`Pace`] and, when to rest for a baseline, here; the
//! runner acts. [`Governor::decide`] knows no clock, so a whole day can be played to it in a test.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::debug;

use super::pace::Pace;
use crate::class::Class;
use crate::config::Pace as Settings;
use crate::db::Pool;
use crate::db::gate::GateReading;
use crate::pressure::latency::{FAST, SLOW};
use crate::pressure::signal::{Signal, Verdict};
use crate::pressure::{Latencies, LatencyReading, Outlook, Surroundings, Targets, saturation};

/// The part of a baseline pause in which the last batch and its queue drain.
const SETTLE: Duration = Duration::from_millis(100);
/// The first baseline has no predecessors to be averaged with, so it takes this long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Shoppers have been off target for so long that the baseline may be out of date.
const DOUBT: Duration = Duration::from_secs(2);

/// Why nothing is done during a baseline pause.
const RESTING: &str = "measuring the shop at rest";

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

/// What the governor is at.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The migration rests so that shoppers can be measured without it.
    Baseline {
        since: Instant,
        until: Instant,
    },
    Working {
        since: Instant,
    },
}

/// Turns samples into a pace, one tick at a time.
pub struct Governor {
    settings: Settings,
    targets: Targets,
    stage: Stage,
    off_target_since: Option<Instant>,
    gates: Option<[GateReading; 4]>,
    /// What is judged beside the shoppers of this process.
    outlook: Outlook,
    pace: Pace,
}

impl Governor {
    /// A governor that begins by measuring the baseline.
    pub fn new(settings: Settings, now: Instant) -> Self {
        let pace = Pace::initial(&settings, now);
        Self {
            settings,
            targets: Targets::default(),
            stage: Stage::Baseline {
                since: now,
                until: now + FIRST_PAUSE,
            },
            off_target_since: None,
            gates: None,
            outlook: Outlook::default(),
            pace,
        }
    }

    /// Goes on after a break, with the baselines and the duty of before: shoppers do not become
    /// others within a minute. The first thing is a baseline pause, and not a long one.
    pub fn resume(&mut self, now: Instant) {
        self.stage = Stage::Baseline {
            since: now,
            until: now + self.settings.baseline_pause,
        };
        self.off_target_since = None;
        self.gates = None;
        self.pace = self.pace.waiting("baseline", RESTING, now);
    }

    /// Samples for `migration` until the future is dropped, publishing every pace.
    pub async fn run(&mut self, sensors: &Sensors, migration: &str, publish: &watch::Sender<Pace>) {
        if let Some(surroundings) = &sensors.surroundings {
            // Until they are known nothing runs; without this wait that would cost a whole sample.
            let _ = tokio::time::timeout(self.settings.sample, surroundings.measured()).await;
        }
        let mut ticks = tokio::time::interval(self.settings.sample);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let gates = sensors.pool.gates();
            self.look(sensors.surroundings.as_ref(), migration);
            let pace = self.decide(sensors.latencies.as_ref(), &gates, Instant::now());
            publish.send_replace(pace);
        }
    }

    /// Takes what was last measured around `migration` into the next decision.
    pub fn look(&mut self, surroundings: Option<&Surroundings>, migration: &str) {
        self.outlook.look(surroundings, Some(migration));
    }

    /// The pace after a sample at `now`, given what shoppers felt and what the gates counted.
    pub fn decide(
        &mut self,
        latencies: Option<&Latencies>,
        gates: &[GateReading; 4],
        now: Instant,
    ) -> Pace {
        let signals = self.judge(latencies, gates, now);
        let worst = signals.iter().map(|s| s.verdict).max();
        let worst = worst.unwrap_or(Verdict::Unknown);
        match self.stage {
            Stage::Baseline { since, until } => {
                // With nobody in the shop there is nothing to measure and nobody to spare.
                let resting = now < until && worst != Verdict::Idle && self.settings.adaptive;
                // A batch may still be in flight from before; a critical signal cancels it.
                if resting && worst != Verdict::Stop {
                    if now.saturating_duration_since(since) >= SETTLE + FAST {
                        self.glance(latencies, now);
                        self.outlook.observe(since + SETTLE);
                    }
                    let resting = self.pace.waiting("baseline", RESTING, now);
                    self.pace = resting.clone();
                    return resting;
                }
                // What shoppers feel in an outage is not how they feel at rest.
                if worst != Verdict::Stop {
                    self.observe_baseline(latencies, now.saturating_duration_since(since), now);
                }
                self.stage = Stage::Working { since: now };
                self.off_target_since = None;
            }
            Stage::Working { since } => {
                let off_target = worst > Verdict::Normal;
                let doubted = self.doubted(off_target, now);
                let due = now.saturating_duration_since(since) >= self.settings.baseline_every;
                if worst != Verdict::Idle && (due || doubted) {
                    self.stage = Stage::Baseline {
                        since: now,
                        until: now + self.pause(latencies, now),
                    };
                }
            }
        }
        let next = self.pace.next(&self.settings, &signals, now);
        let next = next.capped(&self.settings, &self.outlook.caps(now));
        if next.duty < self.pace.duty {
            debug!(from = self.pace.duty, to = next.duty, causes = ?next.causes, "slowing down");
        }
        self.pace = next;
        self.pace.clone()
    }

    /// Whether shoppers have been off target for long enough to ask whether it is the shop that
    /// became slower, and not the migration that made it so.
    fn doubted(&mut self, off_target: bool, now: Instant) -> bool {
        if !off_target {
            self.off_target_since = None;
            return false;
        }
        let since = *self.off_target_since.get_or_insert(now);
        now.saturating_duration_since(since) >= DOUBT
    }

    /// How long the next baseline pause is to be: long, when there are shoppers whose first it is.
    fn pause(&self, latencies: Option<&Latencies>, now: Instant) -> Duration {
        let strangers = latencies.is_some_and(|latencies| {
            Class::SHOPPERS.into_iter().any(|class| {
                self.targets.baseline_ms(class).is_none()
                    && latencies.read(class, SLOW, now).completed > 0
            })
        });
        if strangers {
            FIRST_PAUSE.max(self.settings.baseline_pause)
        } else {
            self.settings.baseline_pause
        }
    }

    /// Reads the fast windows of a pause, too, because cuts are judged by them.
    fn glance(&mut self, latencies: Option<&Latencies>, now: Instant) {
        for class in Class::SHOPPERS {
            if let Some(latencies) = latencies {
                self.targets
                    .glance(class, &latencies.read(class, FAST, now));
            }
        }
    }

    fn observe_baseline(&mut self, latencies: Option<&Latencies>, pause: Duration, now: Instant) {
        let Some(latencies) = latencies else {
            return;
        };
        let window = pause.saturating_sub(SETTLE).min(SLOW);
        for class in Class::SHOPPERS {
            self.targets
                .observe(class, &latencies.read(class, window, now));
        }
    }

    fn judge(
        &mut self,
        latencies: Option<&Latencies>,
        gates: &[GateReading; 4],
        now: Instant,
    ) -> Vec<Signal> {
        let mut signals = saturation::judge(self.gates.as_ref(), gates, now);
        self.gates = Some(*gates);
        match latencies {
            Some(latencies) => {
                let read = |class, window| -> LatencyReading { latencies.read(class, window, now) };
                signals.extend(Class::SHOPPERS.map(|class| {
                    let (fast, slow) = (read(class, FAST), read(class, SLOW));
                    self.targets.judge(&self.settings, class, &fast, &slow, now)
                }));
            }
            None => signals.push(Signal {
                source: "shoppers".to_owned(),
                verdict: Verdict::Idle,
                at: now,
                reason: "no shop runs in this process".to_owned(),
            }),
        }
        signals.extend(self.outlook.judge(&self.settings, latencies, gates, now));
        signals
    }
}
