//! How the shoppers of this process are, against how they usually are.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pool::Class;
use pressure::Windows;
use pressure::latency::{SLOW, Totals};

use super::event::Felt;

/// Rates are taken over this time.
const RATES: Duration = Duration::from_secs(1);
/// What is usual is what has been so in calm, the past counting less and less: a third after this.
const MEMORY_S: f64 = 300.0;
/// Calm that has to be seen before anything is called usual.
const LEARNT_S: f64 = 5.0;
/// A request that is under way for longer is stuck, however slow the shop usually is.
const STUCK_MS: f64 = 250.0;
/// A 95th percentile below this is no suffering.
const SLOW_MS: f64 = 100.0;
/// The same while it is not known what is usual: a shop that has just started is slow.
const UNUSUAL_MS: f64 = 500.0;
/// Suffering is so many times what is usual.
const TIMES: f64 = 5.0;
/// Failing requests of a second that are no accident.
const FAILURES: f64 = 3.0;

/// One class of shoppers at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClassNow {
    /// Requests that arrived, per second.
    pub arrivals_per_s: f64,
    /// Requests that were answered properly, per second.
    pub served_per_s: f64,
    /// Requests that failed, per second.
    pub failed_per_s: f64,
    /// Age of the oldest request under way, in milliseconds.
    pub oldest_ms: f64,
    /// 95th percentile over the last second, in milliseconds.
    pub p95_ms: Option<f64>,
}

/// What is usual for one class.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usual {
    /// Arrivals per second.
    pub arrivals_per_s: f64,
    /// 95th percentile in milliseconds.
    pub p95_ms: f64,
    /// Seconds of calm that this was learnt from, the past counting less.
    pub learnt_s: f64,
}

/// All shoppers at one moment.
#[derive(Clone, Debug, Default)]
pub struct Shoppers {
    /// The classes, in the order of [`Class::SHOPPERS`].
    pub now: [ClassNow; 3],
    /// What is usual for them.
    pub usual: [Usual; 3],
}

/// Why a class suffers, with the numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Pain {
    /// The class.
    pub class: Class,
    /// Such as "checkout: the oldest request is 480 ms old".
    pub reason: String,
}

impl Shoppers {
    /// Every class that suffers.
    pub fn pains(&self) -> Vec<Pain> {
        let classes = Class::SHOPPERS.iter().zip(&self.now).zip(&self.usual);
        classes
            .filter_map(|((class, now), usual)| {
                let usual_ms = usual.p95_ms;
                let slow_ms = if usual.learnt_s >= LEARNT_S {
                    (TIMES * usual_ms).max(SLOW_MS)
                } else {
                    UNUSUAL_MS
                };
                let p95_ms = now.p95_ms.unwrap_or(0.0);
                let reason = if now.failed_per_s >= FAILURES {
                    format!(
                        "{:.0} of {:.0} requests a second fail",
                        now.failed_per_s, now.arrivals_per_s
                    )
                } else if now.oldest_ms >= slow_ms.max(STUCK_MS) {
                    format!("a request has been under way for {:.0} ms", now.oldest_ms)
                } else if p95_ms >= slow_ms {
                    format!("p95 is {p95_ms:.0} ms, usually {usual_ms:.0}")
                } else {
                    return None;
                };
                Some(Pain {
                    class: *class,
                    reason: format!("{class}: {reason}"),
                })
            })
            .collect()
    }

    /// Arrivals of all classes per second: now, and usually if that is known.
    pub fn arrivals(&self) -> (f64, Option<f64>) {
        let now = self.now.iter().map(|class| class.arrivals_per_s).sum();
        let learnt = self.usual.iter().all(|usual| usual.learnt_s >= LEARNT_S);
        let usual: f64 = self.usual.iter().map(|usual| usual.arrivals_per_s).sum();
        (now, (learnt && usual > 0.0).then_some(usual))
    }

    /// Answers of all classes per second.
    pub fn served(&self) -> f64 {
        self.now.iter().map(|class| class.served_per_s).sum()
    }

    /// The same for the record.
    pub fn felt(&self) -> Vec<Felt> {
        let classes = Class::SHOPPERS.iter().zip(&self.now);
        classes
            .map(|(class, now)| Felt {
                class: *class,
                arrivals_per_s: now.arrivals_per_s,
                failed_per_s: now.failed_per_s,
                p95_ms: now.p95_ms,
            })
            .collect()
    }
}

#[derive(Clone, Copy)]
struct Count {
    at: Instant,
    totals: [Totals; 3],
    in_flight: [u64; 3],
}

/// Watches the shoppers.
#[derive(Default)]
pub struct Gauge {
    counts: VecDeque<Count>,
    usual: [Usual; 3],
    sampled: Option<Instant>,
}

impl Gauge {
    /// How the shoppers are at `now`. While nobody suffers and no incident is open (`calm`), it
    /// learns what is usual.
    pub fn sample(&mut self, windows: &dyn Windows, calm: bool, now: Instant) -> Shoppers {
        let readings = Class::SHOPPERS.map(|class| windows.read(class, SLOW, now));
        let totals = Class::SHOPPERS.map(|class| windows.totals(class));
        self.counts.push_back(Count {
            at: now,
            totals,
            in_flight: readings.map(|reading| reading.in_flight),
        });
        // One that is old enough stays, to count from.
        while self
            .counts
            .get(1)
            .is_some_and(|second| now - second.at >= RATES)
        {
            self.counts.pop_front();
        }
        let mut shoppers = Shoppers {
            now: [ClassNow::default(); 3],
            usual: self.usual,
        };
        let (Some(first), Some(last)) = (self.counts.front(), self.counts.back()) else {
            return shoppers;
        };
        let seconds = (last.at - first.at).as_secs_f64();
        for (i, class) in shoppers.now.iter_mut().enumerate() {
            let since = |of: &dyn Fn(&Count) -> u64| of(last) as f64 - of(first) as f64;
            let completed = since(&|count| count.totals[i].completed);
            let failed = since(&|count| count.totals[i].failed);
            let rate = |n: f64| {
                if seconds > 0.0 {
                    n.max(0.0) / seconds
                } else {
                    0.0
                }
            };
            *class = ClassNow {
                arrivals_per_s: rate(completed + since(&|count| count.in_flight[i])),
                served_per_s: rate(completed - failed),
                failed_per_s: rate(failed),
                oldest_ms: readings[i].oldest_ms,
                p95_ms: readings[i].p95_ms,
            };
        }
        let elapsed = self
            .sampled
            .replace(now)
            .map_or(0.0, |at| (now - at).as_secs_f64());
        if calm && seconds >= RATES.as_secs_f64() && shoppers.pains().is_empty() {
            self.learn(&shoppers.now, elapsed);
        }
        shoppers
    }

    /// Requests that had ended a second before the last sample, by class.
    pub fn totals_before(&self) -> Option<[Totals; 3]> {
        Some(self.counts.front()?.totals)
    }

    fn learn(&mut self, now: &[ClassNow; 3], elapsed_s: f64) {
        for (usual, now) in self.usual.iter_mut().zip(now) {
            usual.learnt_s = usual.learnt_s * (-elapsed_s / MEMORY_S).exp() + elapsed_s;
            // At first the mean of what was seen, later one that forgets.
            let weight = (elapsed_s / usual.learnt_s.max(elapsed_s)).min(1.0);
            if weight.is_nan() {
                continue;
            }
            usual.arrivals_per_s += weight * (now.arrivals_per_s - usual.arrivals_per_s);
            if let Some(p95_ms) = now.p95_ms.filter(|p95| p95.is_finite()) {
                usual.p95_ms += weight * (p95_ms - usual.p95_ms);
            }
        }
    }
}
