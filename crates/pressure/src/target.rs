//! How slow is too slow for another moment of it: a class's latency against its own baseline.
//!
//! Whether the migration makes shoppers *a little* slower is not told here but by a
//! [`Trial`](crate::trial::Trial).
//!
//! A shop's latency depends on its hardware, its data and the hour, so a fixed limit is wrong
//! somewhere. The target of a class is its 95th percentile with the migration at rest, measured
//! again and again in short pauses: a baseline measured under one's own load drifts with it. Fixed
//! limits remain at both ends: below the floor nothing is too slow, above the ceiling everything is,
//! whatever the baseline says.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pool::Class;

use crate::latency::LatencyReading;
use crate::settings::PaceSettings as Settings;
use crate::signal::{Signal, Verdict};
use crate::trial::{ENOUGH, SAMPLING_ERROR};

/// Rests whose median is the baseline: one odd rest does not move it. Their second largest is what
/// the shop reaches at rest by chance, and nothing below it is held against a migration.
const RESTS: usize = 15;

/// The baselines of the shoppers' classes.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    classes: [Known; 4],
    /// Milliseconds that an operator lets shoppers pay beyond the targets.
    extra_ms: f64,
}

/// What is known of a class at rest.
#[derive(Clone, Debug, Default)]
struct Known {
    rests: VecDeque<f64>,
    /// Rests with too few requests each, until together they have enough.
    few: Few,
    median: Option<f64>,
    /// The second largest: the largest may be an accident.
    by_chance: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Few {
    completed: u64,
    weighted_ms: f64,
}

impl Targets {
    /// Takes a reading made while the migration was at rest into the baseline of `class`. Readings
    /// of too few requests are averaged until they have enough.
    pub fn observe(&mut self, class: Class, at_rest: &LatencyReading) {
        let Some(p95) = at_rest.p95_ms.filter(|p95| p95.is_finite()) else {
            return;
        };
        let known = &mut self.classes[class.index()];
        let few = &mut known.few;
        few.completed += at_rest.completed;
        few.weighted_ms += p95 * at_rest.completed as f64;
        if few.completed < ENOUGH {
            return;
        }
        let few = std::mem::take(few);
        if known.rests.len() == RESTS {
            known.rests.pop_front();
        }
        known
            .rests
            .push_back(few.weighted_ms / few.completed as f64);
        let mut sorted: Vec<f64> = known.rests.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        known.median = sorted.get(sorted.len() / 2).copied();
        known.by_chance = sorted.into_iter().rev().nth(1).unwrap_or(0.0);
    }

    /// Lets shoppers pay so many milliseconds beyond the targets.
    pub fn allow(&mut self, extra_ms: f64) {
        self.extra_ms = extra_ms;
    }

    /// The 95th percentile of `class` at rest, in milliseconds; `None` before there were
    /// enough requests.
    pub fn baseline_ms(&self, class: Class) -> Option<f64> {
        self.classes[class.index()].median
    }

    /// Judges what `class` felt over the fast and the slow window.
    pub fn judge(
        &self,
        settings: &Settings,
        class: Class,
        fast: &LatencyReading,
        slow: &LatencyReading,
        at: Instant,
    ) -> Signal {
        let (verdict, reason) = self.verdict(settings, class, fast, slow);
        Signal {
            source: format!("{class} latency"),
            verdict,
            at,
            reason,
        }
    }

    /// Says so when requests of `class` failed in the fast window. For whatever reason: a shop that
    /// turns customers away does not get a migration to carry on top.
    pub fn failures(class: Class, fast: &LatencyReading, at: Instant) -> Option<Signal> {
        (fast.failed > 0).then(|| Signal {
            source: format!("{class} failures"),
            verdict: Verdict::Cut,
            at,
            reason: format!("{} of {} requests failed", fast.failed, fast.completed),
        })
    }

    fn verdict(
        &self,
        settings: &Settings,
        class: Class,
        fast: &LatencyReading,
        slow: &LatencyReading,
    ) -> (Verdict, String) {
        let not_a_number = |reading: &LatencyReading| {
            !reading.oldest_ms.is_finite() || reading.p95_ms.is_some_and(|p95| !p95.is_finite())
        };
        if not_a_number(fast) || not_a_number(slow) {
            return (Verdict::Unknown, "the reading is not a number".to_owned());
        }
        let missing = |reading: &LatencyReading| reading.completed > 0 && reading.p95_ms.is_none();
        if missing(fast) || missing(slow) {
            return (Verdict::Unknown, "the reading has no percentile".to_owned());
        }
        // Whoever has just come may hang up at once, and is nobody then.
        if slow.completed == 0 && slow.oldest_ms == 0.0 {
            return (Verdict::Idle, "no requests".to_owned());
        }
        let p95 = |reading: &LatencyReading| {
            reading
                .p95_ms
                .filter(|_| reading.completed + reading.in_flight >= ENOUGH)
        };
        let critical = ms(settings.critical);
        let worst = fast.oldest_ms.max(p95(fast).unwrap_or(0.0));
        if worst > critical {
            let reason =
                format!("a request has waited or taken {worst:.0} ms; critical is {critical:.0}");
            return (Verdict::Stop, reason);
        }
        let floor = ms(settings.slow_floor);
        let ceiling = ms(settings.ceiling).max(floor);
        // A class with few requests jumps about its true percentile. Without an allowance for that,
        // a healthy shop would look slow in one class or another most of the time.
        // A small class has too few requests in the fast window and is judged by the slow one.
        let judged = if p95(fast).is_some() { fast } else { slow };
        let allowance = || {
            let requests = (judged.completed + judged.in_flight).max(1) as f64;
            1.0 + SAMPLING_ERROR / requests.sqrt()
        };
        let baseline = self.baseline_ms(class);
        let cut = baseline.map_or(ceiling, |baseline| {
            let limit = baseline * settings.cut_factor * allowance() + self.extra_ms;
            limit.max(self.classes[class.index()].by_chance).max(floor)
        });
        let at_rest = baseline.map_or("not known yet".to_owned(), |ms| format!("{ms:.1}"));
        let said = |p95: f64, limit: f64| {
            format!("p95 is {p95:.1} ms; the target is {limit:.1} (at rest {at_rest})")
        };
        if let Some(p95) = p95(judged).filter(|p95| *p95 > cut) {
            return (Verdict::Cut, said(p95, cut));
        }
        match p95(slow) {
            Some(p95) if p95 > ceiling => (Verdict::Slow, said(p95, ceiling)),
            Some(p95) if baseline.is_none() && p95 > floor => {
                (Verdict::Unknown, said(p95, ceiling))
            }
            Some(p95) => (Verdict::Normal, said(p95, ceiling)),
            None => (
                Verdict::Normal,
                format!("{} requests, too few to judge", slow.completed),
            ),
        }
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any moment will do")]
mod tests {
    use super::*;

    fn reading(p95_ms: f64) -> LatencyReading {
        LatencyReading {
            completed: 1000,
            failed: 0,
            in_flight: 1,
            oldest_ms: 0.0,
            p50_ms: Some(p95_ms / 2.0),
            p95_ms: Some(p95_ms),
            p99_ms: Some(p95_ms * 1.5),
        }
    }

    fn verdict(fast: LatencyReading, slow: LatencyReading) -> Verdict {
        let mut targets = Targets::default();
        for _ in 0..3 {
            targets.observe(Class::Browse, &reading(10.0));
        }
        let settings = Settings::default();
        let now = Instant::now();
        targets
            .judge(&settings, Class::Browse, &fast, &slow, now)
            .verdict
    }

    #[test]
    fn the_verdict_grows_with_the_distance_from_the_baseline() {
        assert_eq!(verdict(reading(10.0), reading(10.0)), Verdict::Normal);
        assert_eq!(verdict(reading(14.0), reading(14.0)), Verdict::Normal);
        assert_eq!(verdict(reading(14.0), reading(120.0)), Verdict::Slow);
        assert_eq!(verdict(reading(25.0), reading(14.0)), Verdict::Cut);
        assert_eq!(verdict(reading(300.0), reading(14.0)), Verdict::Stop);
    }

    #[test]
    fn what_happens_at_rest_too_is_not_blamed_on_the_migration() {
        let mut targets = Targets::default();
        let settings = Settings::default();
        let now = Instant::now();
        let judged = |targets: &Targets| {
            let (fast, slow) = (reading(40.0), reading(10.0));
            targets
                .judge(&settings, Class::Browse, &fast, &slow, now)
                .verdict
        };
        for _ in 0..5 {
            targets.observe(Class::Browse, &reading(10.0));
        }
        for rest in 1..=2 {
            assert_eq!(judged(&targets), Verdict::Cut, "before rest {rest}");
            targets.observe(Class::Browse, &reading(45.0));
        }
        assert_eq!(judged(&targets), Verdict::Normal);
    }

    #[test]
    fn requests_that_hang_stop_the_migration_though_none_completes() {
        let hanging = LatencyReading {
            completed: 0,
            oldest_ms: 400.0,
            in_flight: 3,
            p95_ms: None,
            ..reading(1.0)
        };
        assert_eq!(verdict(hanging, hanging), Verdict::Stop);
    }

    #[test]
    fn a_failed_request_cuts_and_no_requests_are_idle() {
        let failed = LatencyReading {
            failed: 1,
            ..reading(10.0)
        };
        let told = Targets::failures(Class::Browse, &failed, Instant::now());
        assert_eq!(told.map(|signal| signal.verdict), Some(Verdict::Cut));
        assert!(Targets::failures(Class::Browse, &reading(10.0), Instant::now()).is_none());
        let none = LatencyReading {
            completed: 0,
            in_flight: 0,
            p95_ms: None,
            ..reading(1.0)
        };
        assert_eq!(verdict(none, none), Verdict::Idle);
    }

    #[test]
    fn what_is_not_a_number_is_unknown_and_never_becomes_a_baseline() {
        assert_eq!(verdict(reading(f64::NAN), reading(10.0)), Verdict::Unknown);
        let mut targets = Targets::default();
        targets.observe(Class::Browse, &reading(f64::NAN));
        assert_eq!(targets.baseline_ms(Class::Browse), None);
    }
}
