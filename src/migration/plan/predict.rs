//! From samples to a duration, with what the samples' spread leaves open.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;

use super::Sample;

/// Draws of the bootstrap.
const DRAWS: usize = 1000;

/// A duration with its uncertainty, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quantiles {
    /// As likely shorter as longer.
    pub p50_s: f64,
    /// Nine times in ten it is shorter.
    pub p90_s: f64,
}

impl Quantiles {
    /// The same, longer by `factor`.
    pub fn slowed(self, factor: f64) -> Self {
        Self {
            p50_s: self.p50_s * factor,
            p90_s: self.p90_s * factor,
        }
    }
}

/// How long `rows` rows take at full duty, by a bootstrap over the samples: as many are drawn from
/// them with replacement, a thousand times, and every draw tells a time per row. `None` without
/// samples.
pub(super) fn duration(samples: &[Sample], rows: i64) -> Option<Quantiles> {
    if samples.is_empty() {
        return None;
    }
    // The same samples give the same answer.
    let mut random = StdRng::seed_from_u64(0);
    let mut totals: Vec<f64> = (0..DRAWS)
        .map(|_| {
            let (mut ms, mut seen) = (0.0, 0);
            for _ in samples {
                let sample = &samples[random.random_range(0..samples.len())];
                ms += sample.ms;
                seen += sample.rows;
            }
            ms / 1e3 / seen.max(1) as f64 * rows as f64
        })
        .collect();
    totals.sort_by(f64::total_cmp);
    Some(Quantiles {
        p50_s: totals[DRAWS / 2],
        p90_s: totals[DRAWS * 9 / 10],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(rows: i64, ms: f64) -> Sample {
        Sample {
            rows,
            changed: rows,
            ms,
            wal_bytes: 0,
        }
    }

    #[test]
    fn equal_samples_leave_nothing_open() {
        let samples = vec![sample(100, 25.0); 20];
        let takes = duration(&samples, 1_000_000).expect("samples");
        assert!((takes.p50_s - 250.0).abs() < 1e-6, "{takes:?}");
        assert!((takes.p90_s - 250.0).abs() < 1e-6, "{takes:?}");
        assert_eq!(duration(&[], 1_000_000), None);
    }

    #[test]
    fn the_more_samples_differ_the_further_p90_is_from_p50() {
        let spread = |slow: f64| {
            let mut samples = vec![sample(100, 10.0); 15];
            samples.extend(vec![sample(100, slow); 5]);
            let takes = duration(&samples, 1_000_000).expect("samples");
            takes.p90_s / takes.p50_s
        };
        assert!(spread(100.0) > spread(20.0));
        assert!(spread(20.0) > 1.0);
    }
}
