//! When requests are due: a Poisson process whose rate can change at any moment.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use rand_distr::Exp1;

/// A Poisson process. Pure: the caller tells it the time, as an offset from the start.
///
/// It walks a process of rate one and stretches it by the rate in force, so a change of rate takes
/// effect in the middle of a gap without losing or doubling an arrival.
#[derive(Debug)]
pub struct Arrivals {
    rate: f64,
    /// The offset in seconds up to which `remaining` has been used up.
    at: f64,
    /// What is left of the current gap, at rate one.
    remaining: f64,
}

impl Arrivals {
    /// Arrivals at `rate` per second from offset zero on.
    pub fn new(rate: f64, rng: &mut StdRng) -> Self {
        Self {
            rate,
            at: 0.0,
            remaining: rng.sample(Exp1),
        }
    }

    /// When the next arrival is due; `None` while the rate is zero.
    pub fn next(&self) -> Option<Duration> {
        let due = self.at + self.remaining / self.rate;
        (self.rate > 0.0).then(|| Duration::try_from_secs_f64(due).unwrap_or(Duration::MAX))
    }

    /// Takes the next arrival if it is due at `now`.
    pub fn take_due(&mut self, now: Duration, rng: &mut StdRng) -> Option<Duration> {
        let due = self.next().filter(|due| *due <= now)?;
        self.at += self.remaining / self.rate;
        self.remaining = rng.sample(Exp1);
        Some(due)
    }

    /// Changes the rate from `now` on. Take every arrival that is due at `now` first.
    pub fn set_rate(&mut self, now: Duration, rate: f64) {
        let elapsed = (now.as_secs_f64() - self.at).max(0.0);
        self.remaining = (self.remaining - elapsed * self.rate).max(0.0);
        self.at += elapsed;
        self.rate = rate;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn take_until(arrivals: &mut Arrivals, rng: &mut StdRng, end: f64) -> Vec<f64> {
        let end = Duration::from_secs_f64(end);
        std::iter::from_fn(|| arrivals.take_due(end, rng))
            .map(|due| due.as_secs_f64())
            .collect()
    }

    #[test]
    fn gaps_have_the_mean_and_the_variance_of_a_poisson_process() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut arrivals = Arrivals::new(1000.0, &mut rng);
        let times = take_until(&mut arrivals, &mut rng, 100.0);
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let count = gaps.len() as f64;
        let mean = gaps.iter().sum::<f64>() / count;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / count;
        // For exponential gaps the standard deviation equals the mean.
        assert!((mean * 1000.0 - 1.0).abs() < 0.02, "mean {mean}");
        assert!(
            (variance.sqrt() / mean - 1.0).abs() < 0.02,
            "deviation {}",
            variance.sqrt()
        );
    }

    #[test]
    fn counts_per_second_vary_as_much_as_their_mean() {
        let mut rng = StdRng::seed_from_u64(2);
        let mut arrivals = Arrivals::new(200.0, &mut rng);
        let mut counts = [0.0_f64; 1000];
        for due in take_until(&mut arrivals, &mut rng, 1000.0) {
            counts[due as usize] += 1.0;
        }
        let mean = counts.iter().sum::<f64>() / 1000.0;
        let variance = counts.iter().map(|n| (n - mean).powi(2)).sum::<f64>() / 1000.0;
        assert!((variance / mean - 1.0).abs() < 0.2, "{variance} ÷ {mean}");
    }

    #[test]
    fn a_change_of_rate_takes_effect_at_once_and_loses_nothing() {
        let mut rng = StdRng::seed_from_u64(3);
        let mut arrivals = Arrivals::new(0.001, &mut rng);
        assert_eq!(take_until(&mut arrivals, &mut rng, 10.0).len(), 0);
        arrivals.set_rate(Duration::from_secs(10), 5000.0);
        let times = take_until(&mut arrivals, &mut rng, 11.0);
        assert!((4700..5300).contains(&times.len()), "{}", times.len());
        assert!(times[0] >= 10.0 && times.is_sorted());
        arrivals.set_rate(Duration::from_secs(11), 0.0);
        assert_eq!(arrivals.next(), None);
        arrivals.set_rate(Duration::from_secs(20), 1000.0);
        let first = arrivals.next().expect("the rate is not zero");
        assert!(first >= Duration::from_secs(20) && first < Duration::from_millis(20_100));
    }
}
