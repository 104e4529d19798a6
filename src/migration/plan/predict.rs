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

/// How the engine sizes its batches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizing {
    /// Rows of the first batch.
    pub first: u32,
    /// Rows of any batch at least.
    pub min: u32,
    /// Rows of any batch at most.
    pub max: u32,
    /// How long a batch should take, in milliseconds.
    pub target_ms: f64,
}

/// What a batch costs, in milliseconds: something each, and something for every row.
#[derive(Clone, Copy, Debug)]
struct Cost {
    fixed: f64,
    per_row: f64,
}

impl Cost {
    /// The line that is closest to what the samples at each place tell of size, through the mean of
    /// all: that some places cost more than others is not taken for the size's doing. Neither part is
    /// negative; samples of one size tell of rows only.
    fn fit(places: &[&[Sample]]) -> Self {
        let all = mean(places.iter().copied().flatten());
        let (mut variance, mut covariance) = (0.0, 0.0);
        for place in places {
            let here = mean(place.iter());
            for sample in *place {
                let off = sample.rows as f64 - here.0;
                variance += off * off;
                covariance += off * (sample.ms - here.1);
            }
        }
        let (rows, ms) = all;
        let through_zero = Self {
            fixed: 0.0,
            per_row: ms / rows.max(1.0),
        };
        if variance < 1e-9 {
            return through_zero;
        }
        let per_row = (covariance / variance).max(0.0);
        let fixed = ms - per_row * rows;
        if fixed < 0.0 {
            through_zero
        } else {
            Self { fixed, per_row }
        }
    }

    /// How long `rows` rows take in batches sized as the engine does it.
    fn of(self, rows: i64, sizing: &Sizing) -> f64 {
        let per_row = self.per_row.max(1e-9);
        // It does not shrink from the first where most of the time is the batch's own.
        let hardly_shorter = (self.fixed / per_row).min(f64::from(sizing.first));
        let best = ((sizing.target_ms - self.fixed) / per_row).max(hardly_shorter);
        let (min, max) = (f64::from(sizing.min), f64::from(sizing.max));
        let best = best.clamp(min, max.max(min));
        let mut left = rows as f64;
        let mut size = f64::from(sizing.first);
        let mut batches = 0.0;
        // A batch is at most twice or half of the one before.
        while left > 0.0 && (size - best).abs() > 0.5 {
            left -= size;
            batches += 1.0;
            size = best.clamp(size / 2.0, size * 2.0);
        }
        batches += (left.max(0.0) / best).ceil();
        batches * self.fixed + rows as f64 * self.per_row
    }
}

/// Mean rows and mean milliseconds; there is at least one sample.
fn mean<'a>(samples: impl Iterator<Item = &'a Sample>) -> (f64, f64) {
    let (mut n, mut rows, mut ms) = (0.0, 0.0, 0.0);
    for sample in samples {
        n += 1.0;
        rows += sample.rows as f64;
        ms += sample.ms;
    }
    (rows / n, ms / n)
}

/// How long `rows` rows take at full duty, by a bootstrap over the places of the samples: as many are
/// drawn with replacement, a thousand times, and every draw tells what a batch costs. `None` without
/// samples.
pub(super) fn duration(samples: &[Sample], rows: i64, sizing: &Sizing) -> Option<Quantiles> {
    if samples.is_empty() {
        return None;
    }
    // The same samples give the same answer.
    let mut random = StdRng::seed_from_u64(0);
    let places: Vec<_> = samples.chunk_by(|a, b| a.place == b.place).collect();
    let mut totals: Vec<f64> = (0..DRAWS)
        .map(|_| {
            let draw = || places[random.random_range(0..places.len())];
            let drawn: Vec<_> = std::iter::repeat_with(draw).take(places.len()).collect();
            Cost::fit(&drawn).of(rows, sizing) / 1e3
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

    const SIZING: Sizing = Sizing {
        first: 100,
        min: 1,
        max: 10_000,
        target_ms: 25.0,
    };

    fn sample(rows: i64, ms: f64) -> Sample {
        Sample {
            rows,
            changed: rows,
            ms,
            ..Sample::default()
        }
    }

    /// Two samples at each place.
    fn paired(samples: impl Iterator<Item = Sample>) -> Vec<Sample> {
        let numbered = samples.enumerate();
        numbered
            .map(|(i, sample)| Sample {
                place: i / 2,
                ..sample
            })
            .collect()
    }

    #[test]
    fn batches_that_are_long_however_few_rows_they_have_are_those_of_the_first_size() {
        let cost = Cost {
            fixed: 40.0,
            per_row: 0.001,
        };
        let sizing = Sizing {
            first: 100,
            min: 1,
            max: 10_000,
            target_ms: 25.0,
        };
        assert!((cost.of(2_000, &sizing) - (20.0 * 40.0 + 2.0)).abs() < 1e-6);
    }

    #[test]
    fn equal_samples_leave_nothing_open() {
        let samples = paired(std::iter::repeat_n(sample(100, 25.0), 20));
        let takes = duration(&samples, 1_000_000, &SIZING).expect("samples");
        assert!((takes.p50_s - 250.0).abs() < 1e-6, "{takes:?}");
        assert!((takes.p90_s - 250.0).abs() < 1e-6, "{takes:?}");
        assert_eq!(duration(&[], 1_000_000, &SIZING), None);
    }

    #[test]
    fn what_every_batch_costs_is_not_taken_for_the_rows() {
        // Half a millisecond for each batch and a microsecond for each row.
        let sizes = [1, 3].into_iter().cycle().take(20);
        let samples = paired(sizes.map(|rows| sample(rows, 0.5 + rows as f64 * 0.001)));
        let takes = duration(&samples, 1_000_000, &SIZING).expect("samples");
        // A hundred batches of 10,000 rows, and a few smaller ones before.
        assert!((1.05..1.07).contains(&takes.p50_s), "{takes:?}");
        // A table that one batch would do.
        let takes = duration(&samples, 90, &SIZING).expect("samples");
        assert!((takes.p50_s - 0.000_59).abs() < 1e-5, "{takes:?}");
    }

    #[test]
    fn places_that_differ_do_not_tell_of_the_size() {
        // Every second place costs nothing but the batch, whatever sizes were tried there.
        let places = [(90, 1.0), (30, 1.0), (50, 11.0), (150, 31.0)];
        let samples = places.into_iter().cycle().take(40);
        let samples = paired(samples.map(|(rows, ms)| sample(rows, ms)));
        let takes = duration(&samples, 100_000, &SIZING).expect("samples");
        // 0.1 ms for a row in the mean, and a millisecond for each of 400 batches: 10.4 s; the places
        // alone would tell of a batch that costs less than nothing.
        assert!((8.0..14.0).contains(&takes.p50_s), "{takes:?}");
    }

    #[test]
    fn the_more_samples_differ_the_further_p90_is_from_p50() {
        let spread = |slow: f64| {
            let mut samples = vec![sample(100, 10.0); 15];
            samples.extend(vec![sample(100, slow); 5]);
            let samples = paired(samples.into_iter());
            let takes = duration(&samples, 1_000_000, &SIZING).expect("samples");
            takes.p90_s / takes.p50_s
        };
        assert!(spread(100.0) > spread(20.0));
        assert!(spread(20.0) > 1.0);
    }
}
