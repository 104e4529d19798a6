//! What the migration does to shoppers, told apart from what happens to them anyway.
//!
//! A shop gets slower for many reasons, and a latency above yesterday's says nothing of whose doing
//! it is. So the engine rests for a moment again and again, at times drawn at random, and a *trial*
//! compares a slice of work with the rests right before and right after it. What comes from outside
//! is in all three; what is left between them is caused by the work (a randomised paired comparison:
//! Fisher, The Design of Experiments, 1935).

use super::latency::LatencyReading;
use crate::class::Class;

/// Fewer requests than this have no 95th percentile worth the name.
pub const ENOUGH: u64 = 20;
/// Relative standard error of a 95th percentile of one sample, where latencies are exponentially
/// distributed: √(q(1−q)) / f(x) / x with q = 0.95, density f = 0.05 and quantile x = 3. That of n
/// samples is smaller by √n.
pub const SAMPLING_ERROR: f64 = 1.45;
/// Standard errors by which a single class must be beyond the budget to count against the work. All
/// classes together count from the budget on: there, being wrong either way costs the same.
const SURE: f64 = 1.5;

/// What every class of shoppers felt in a slice of time.
pub type Slice = [LatencyReading; Class::SHOPPERS.len()];

/// A slice of work between two rests.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// The rest before.
    pub before: Slice,
    /// The work.
    pub work: Slice,
    /// The rest after.
    pub after: Slice,
}

/// What a trial found.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// Too few requests to compare.
    TooFew,
    /// The work raised no percentile by more than the budget.
    Harmless(Effect),
    /// It did, for all shoppers together or for one class beyond chance.
    Harmful(Effect, Option<Class>),
}

/// A difference between work and rest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effect {
    /// The 95th percentile at work as a multiple of that at rest.
    pub factor: f64,
    /// Its relative standard error, by the number of requests.
    pub error: f64,
}

impl Trial {
    /// The effect on one class; `None` when it has too few requests. In logarithms: the effect and
    /// its variance.
    fn on(&self, class: usize) -> Option<(f64, f64)> {
        let known = |reading: &LatencyReading| -> Option<(f64, f64)> {
            let p95 = reading.p95_ms.filter(|p95| p95.is_finite() && *p95 > 0.0)?;
            Some((p95.ln(), reading.completed as f64))
        };
        let work = known(&self.work[class]).filter(|(_, n)| *n >= ENOUGH as f64)?;
        let rests = [known(&self.before[class]), known(&self.after[class])];
        let rests: Vec<(f64, f64)> = rests.into_iter().flatten().collect();
        let n: f64 = rests.iter().map(|(_, n)| n).sum();
        if n < ENOUGH as f64 {
            return None;
        }
        let rest = rests.iter().map(|(p95, of)| p95 * of / n).sum::<f64>();
        let variance = SAMPLING_ERROR.powi(2) * (1.0 / work.1 + 1.0 / n);
        Some((work.0 - rest, variance))
    }

    /// The effect on all classes together, each by the weight of its evidence.
    fn overall(&self) -> Option<(f64, f64)> {
        let classes = (0..Class::SHOPPERS.len()).filter_map(|class| self.on(class));
        let (sum, weight) = classes.fold((0.0, 0.0), |(sum, weight), (effect, variance)| {
            (sum + effect / variance, weight + 1.0 / variance)
        });
        (weight > 0.0).then(|| (sum / weight, 1.0 / weight))
    }

    /// Whether the work raised a 95th percentile to more than `budget` times what it is at rest and
    /// above `floor_ms`.
    pub fn finding(&self, budget: f64, floor_ms: f64) -> Finding {
        let Some((effect, variance)) = self.overall() else {
            return Finding::TooFew;
        };
        let said = |effect: f64, variance: f64| Effect {
            factor: effect.exp(),
            error: variance.sqrt(),
        };
        let felt = |class: usize| self.work[class].p95_ms.is_some_and(|p95| p95 > floor_ms);
        for (i, class) in Class::SHOPPERS.into_iter().enumerate() {
            if let Some((effect, variance)) = self.on(i)
                && felt(i)
                && effect > budget.ln() + SURE * variance.sqrt()
            {
                return Finding::Harmful(said(effect, variance), Some(class));
            }
        }
        let any_felt = (0..Class::SHOPPERS.len()).any(felt);
        if any_felt && effect > budget.ln() {
            Finding::Harmful(said(effect, variance), None)
        } else {
            Finding::Harmless(said(effect, variance))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(completed: u64, p95_ms: f64) -> Slice {
        [LatencyReading {
            completed,
            failed: 0,
            in_flight: 0,
            oldest_ms: 0.0,
            p50_ms: Some(p95_ms / 3.0),
            p95_ms: Some(p95_ms),
            p99_ms: Some(p95_ms * 1.5),
        }; 3]
    }

    fn found(before: f64, work: f64, after: f64) -> Finding {
        let trial = Trial {
            before: slice(500, before),
            work: slice(500, work),
            after: slice(500, after),
        };
        trial.finding(1.15, 3.0)
    }

    #[test]
    fn what_comes_from_outside_is_not_the_works_doing() {
        assert!(matches!(found(10.0, 10.5, 10.0), Finding::Harmless(_)));
        // Twice as slow as before, and so it stays at rest: a drift.
        assert!(matches!(found(10.0, 15.0, 22.0), Finding::Harmless(_)));
        assert!(matches!(found(10.0, 13.0, 10.0), Finding::Harmful(_, _)));
    }

    #[test]
    fn what_nobody_feels_is_no_harm() {
        assert!(matches!(found(1.0, 2.0, 1.0), Finding::Harmless(_)));
    }

    #[test]
    fn a_small_class_counts_when_it_is_beyond_chance() {
        let mut trial = Trial {
            before: slice(500, 10.0),
            work: slice(500, 10.0),
            after: slice(500, 10.0),
        };
        trial.work[0].p95_ms = Some(25.0);
        for readings in [&mut trial.before, &mut trial.work, &mut trial.after] {
            readings[0].completed = 40;
        }
        let finding = trial.finding(1.15, 3.0);
        let Finding::Harmful(_, class) = finding else {
            panic!("{finding:?}");
        };
        assert_eq!(class, Some(Class::SHOPPERS[0]));
        trial.work[0].p95_ms = Some(11.6);
        assert!(matches!(trial.finding(1.15, 3.0), Finding::Harmless(_)));
    }

    #[test]
    fn few_requests_find_nothing() {
        let trial = Trial {
            before: slice(5, 10.0),
            work: slice(5, 50.0),
            after: slice(5, 10.0),
        };
        assert_eq!(trial.finding(1.15, 3.0), Finding::TooFew);
    }
}
