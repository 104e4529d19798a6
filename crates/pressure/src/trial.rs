//! What the migration does to shoppers, told apart from what happens to them anyway.
//!
//! A shop gets slower for many reasons, and a latency above yesterday's says nothing of whose doing
//! it is. So the engine rests for a moment again and again, at times drawn at random, and a *trial*
//! compares a slice of work with the rests right before and right after it. What comes from outside
//! is in all three; what is left between them is caused by the work (a randomised paired comparison:
//! Fisher, The Design of Experiments, 1935).

use std::time::Duration;

use pool::Class;

use crate::latency::LatencyReading;

/// Fewer requests than this have no 95th percentile worth the name.
pub const ENOUGH: u64 = 20;
/// Relative standard error of a 95th percentile of one sample, where latencies are exponentially
/// distributed: √(q(1−q)) / f(x) / x with q = 0.95, density f = 0.05 and quantile x = 3. That of n
/// samples is smaller by √n.
pub const SAMPLING_ERROR: f64 = 1.45;
/// Standard errors that a single class is allowed beyond the budget before it counts for itself. With
/// three classes, one is off by so much by chance in one trial of fifty.
const CHANCE: f64 = 2.5;

/// How long a window is. Slices are compared by windows of the same length: a long window of a shop
/// that stutters mostly has a stutter in it and a short one mostly none, so their percentiles differ
/// although nothing else does.
pub const WINDOW: Duration = Duration::from_millis(200);

/// What every class of shoppers felt in a window.
pub type Window = [LatencyReading; Class::SHOPPERS.len()];
/// The windows of a slice of time.
pub type Slice = Vec<Window>;

/// A slice of work between two rests.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The last rests before.
    pub before: Slice,
    /// The work.
    pub work: Slice,
    /// The rest after.
    pub after: Slice,
}

/// How much two rests differ that nothing but time lies between. The number of requests says how
/// exactly a percentile is known of a steady shop; a shop that stutters is known less exactly, and by
/// how much its rests say.
#[derive(Clone, Debug, Default)]
pub struct Noise {
    /// Mean square of the difference, in logarithms: each class, and all together.
    squares: [Option<f64>; Class::SHOPPERS.len() + 1],
}

/// Share of the newest difference in the mean.
const NEWEST: f64 = 0.1;
/// A difference beyond this many times the mean one counts as that: one stall is not the weather.
const OUTLIER: f64 = 3.0;

impl Noise {
    /// Takes the rests of a trial into account.
    pub fn observe(&mut self, trial: &Trial) {
        let all = Class::SHOPPERS.len();
        let compare = |class: usize| between(class, &trial.before, &trial.after);
        let classes: Vec<_> = (0..all).map(compare).collect();
        let together = weighted(classes.iter().flatten().copied());
        for (squares, difference) in self
            .squares
            .iter_mut()
            .zip(classes.into_iter().chain([together]))
        {
            let Some((difference, variance)) = difference else {
                continue;
            };
            let known = squares.unwrap_or(variance);
            let square = difference.powi(2).min(known * OUTLIER.powi(2));
            *squares = Some(known + NEWEST * (square - known));
        }
    }

    /// The variance of an effect whose variance by the number of requests is `variance`. The mean of
    /// two rests has a quarter of the mean square of their difference, and a slice of work, which is
    /// longer than a rest, at most half of it.
    fn at_least(&self, class: Option<usize>, variance: f64) -> f64 {
        let squares = self.squares[class.unwrap_or(Class::SHOPPERS.len())];
        squares.map_or(variance, |squares| variance.max((0.25 + 0.5) * squares))
    }
}

/// The median over windows of the logarithm of a class's 95th percentile, because a stall is in few of
/// them; and the number of requests. `None` when these are too few.
fn median<'a>(class: usize, windows: impl IntoIterator<Item = &'a Window>) -> Option<(f64, f64)> {
    let mut logarithms = Vec::new();
    let mut n = 0;
    for window in windows {
        let reading = &window[class];
        let p95 = reading.p95_ms.filter(|p95| p95.is_finite() && *p95 > 0.0);
        logarithms.extend(p95.map(f64::ln));
        n += reading.completed;
    }
    logarithms.sort_by(f64::total_cmp);
    let middle = logarithms.len() / 2;
    let upper = logarithms.get(middle).filter(|_| n >= ENOUGH)?;
    let lower = logarithms[if logarithms.len() % 2 == 0 {
        middle - 1
    } else {
        middle
    }];
    Some(((lower + upper) / 2.0, n as f64))
}

/// The logarithm of how many times as large the 95th percentile of a class is in `these` windows as in
/// `those`, with its variance by the number of requests; `None` when they are too few.
fn between<'a>(
    class: usize,
    those: impl IntoIterator<Item = &'a Window>,
    these: impl IntoIterator<Item = &'a Window>,
) -> Option<(f64, f64)> {
    let ((those, n), (these, m)) = (median(class, those)?, median(class, these)?);
    Some((these - those, SAMPLING_ERROR.powi(2) * (1.0 / n + 1.0 / m)))
}

/// The mean of several effects by the weight of their evidence.
fn weighted(effects: impl Iterator<Item = (f64, f64)>) -> Option<(f64, f64)> {
    let (sum, weight) = effects.fold((0.0, 0.0), |(sum, weight), (effect, variance)| {
        (sum + effect / variance, weight + 1.0 / variance)
    });
    (weight > 0.0).then(|| (sum / weight, 1.0 / weight))
}

/// What a trial found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effect {
    /// The class that it is about; all together when `None`.
    pub class: Option<Class>,
    /// The 95th percentile at work as a multiple of that at rest.
    pub factor: f64,
    /// Its relative standard error, by the number of requests.
    pub error: f64,
    /// Standard errors by which it is within the budget; negative when it is beyond.
    pub margin: f64,
}

/// What shoppers may pay.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Up to this many times the 95th percentile at rest.
    pub factor: f64,
    /// And so many milliseconds beyond that.
    pub extra_ms: f64,
    /// And up to this many milliseconds in any case, because nobody feels them.
    pub floor_ms: f64,
}

impl Trial {
    /// The effect on one class; `None` when it has too few requests. In logarithms: the effect and
    /// its variance.
    fn on(&self, class: usize) -> Option<(f64, f64)> {
        between(class, self.before.iter().chain(&self.after), &self.work)
    }

    /// The effect that counts, where a 95th percentile may rise as far as `budget` says: that on all shoppers, or on one class that suffers more than
    /// they do and beyond chance. `None` when there are too few requests.
    pub fn effect(&self, noise: &Noise, budget: &Budget) -> Option<Effect> {
        let allowed = |class: usize| {
            let rest = median(class, self.before.iter().chain(&self.after));
            let extra = rest.map_or(0.0, |(p95, _)| budget.extra_ms / p95.exp());
            (budget.factor + extra).ln()
        };
        let said = |class: Option<usize>, (effect, variance): (f64, f64), felt: bool, most: f64| {
            let error = noise.at_least(class, variance).sqrt();
            let margin = (most - effect) / error;
            Effect {
                class: class.map(|i| Class::SHOPPERS[i]),
                factor: effect.exp(),
                error,
                // What nobody feels is within the budget, whatever the ratio.
                margin: if felt { margin } else { margin.max(CHANCE) },
            }
        };
        let felt =
            |i: usize| median(i, &self.work).is_some_and(|(p95, _)| p95.exp() > budget.floor_ms);
        let any_felt = (0..Class::SHOPPERS.len()).any(felt);
        let classes = 0..Class::SHOPPERS.len();
        let together = weighted(classes.clone().filter_map(|i| self.on(i)));
        let most = weighted(
            classes
                .clone()
                .filter_map(|i| Some((allowed(i), self.on(i)?.1))),
        );
        let together = said(None, together?, any_felt, most?.0);
        let single = classes.filter_map(|i| {
            let effect = said(Some(i), self.on(i)?, felt(i), allowed(i));
            Some(Effect {
                margin: effect.margin + CHANCE,
                ..effect
            })
        });
        single
            .chain([together])
            .min_by(|a, b| a.margin.total_cmp(&b.margin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget {
        factor: 1.15,
        extra_ms: 0.0,
        floor_ms: 3.0,
    };

    fn slice(completed: u64, p95_ms: f64) -> Slice {
        vec![
            [LatencyReading {
                completed,
                failed: 0,
                in_flight: 0,
                oldest_ms: 0.0,
                p50_ms: Some(p95_ms / 3.0),
                p95_ms: Some(p95_ms),
                p99_ms: Some(p95_ms * 1.5),
            }; 3],
        ]
    }

    fn margin(before: f64, work: f64, after: f64) -> f64 {
        let trial = Trial {
            before: slice(500, before),
            work: slice(500, work),
            after: slice(500, after),
        };
        trial
            .effect(&Noise::default(), &BUDGET)
            .expect("enough requests")
            .margin
    }

    #[test]
    fn what_comes_from_outside_is_not_the_works_doing() {
        assert!(margin(10.0, 10.5, 10.0) > 1.0);
        // Twice as slow as before, and so it stays at rest: a drift.
        assert!(margin(10.0, 15.0, 22.0) > 1.0);
        assert!(margin(10.0, 13.0, 10.0) < -1.0);
    }

    #[test]
    fn what_an_operator_lets_shoppers_pay_is_within_the_budget() {
        let trial = Trial {
            before: slice(500, 10.0),
            work: slice(500, 13.0),
            after: slice(500, 10.0),
        };
        let margin = |extra_ms| {
            let budget = Budget { extra_ms, ..BUDGET };
            let effect = trial.effect(&Noise::default(), &budget);
            effect.expect("enough requests").margin
        };
        assert!(margin(0.0) < 0.0 && margin(2.0) > 0.0);
    }

    #[test]
    fn what_nobody_feels_is_no_harm() {
        assert!(margin(1.0, 2.0, 1.0) > 1.0);
    }

    #[test]
    fn a_small_class_counts_when_it_is_beyond_chance() {
        let mut trial = Trial {
            before: slice(500, 10.0),
            work: slice(500, 10.0),
            after: slice(500, 10.0),
        };
        for readings in [&mut trial.before, &mut trial.work, &mut trial.after] {
            readings[0][0].completed = 40;
        }
        trial.work[0][0].p95_ms = Some(35.0);
        let effect = trial
            .effect(&Noise::default(), &BUDGET)
            .expect("enough requests");
        assert_eq!(effect.class, Some(Class::SHOPPERS[0]));
        assert!(effect.margin < 0.0, "{effect:?}");
        trial.work[0][0].p95_ms = Some(12.0);
        let effect = trial
            .effect(&Noise::default(), &BUDGET)
            .expect("enough requests");
        assert!(effect.margin > 0.0, "{effect:?}");
    }

    #[test]
    fn a_shop_that_stutters_is_known_less_exactly() {
        let trial = |before, after| Trial {
            before: slice(500, before),
            work: slice(500, 12.0),
            after: slice(500, after),
        };
        let mut noise = Noise::default();
        let error = |noise: &Noise| {
            let effect = trial(10.0, 10.0).effect(noise, &BUDGET);
            effect.expect("enough requests").error
        };
        let steady = error(&noise);
        for i in 0..50 {
            let stutter = if i % 2 == 0 { 2.0 } else { 0.5 };
            noise.observe(&trial(10.0, 10.0 * stutter));
        }
        assert!(error(&noise) > 0.4 && steady < 0.1, "{steady}");
        // One stall is not the weather.
        let mut noise = Noise::default();
        noise.observe(&trial(10.0, 1000.0));
        assert!(error(&noise) < 2.0 * steady);
    }

    #[test]
    fn few_requests_find_nothing() {
        let trial = Trial {
            before: slice(5, 10.0),
            work: slice(5, 50.0),
            after: slice(5, 10.0),
        };
        assert_eq!(trial.effect(&Noise::default(), &BUDGET), None);
    }
}
