//! Who is beaten by whom, and how sure that is.
//!
//! Medians of ten ratios scatter. Whether another is gentler is told by the differences of the two in the
//! same rounds, resampled (Efron, 1979): the share of resamples in which their median says so.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// From this share of the resamples on it is no chance.
pub const SURE: f64 = 0.95;
const RESAMPLES: usize = 2_000;

/// The share of resamples of rounds in which `other` is gentler than `own`, by their ratios in the same
/// rounds.
pub fn gentler(other: &[f64], own: &[f64]) -> f64 {
    let rounds = other.iter().zip(own);
    let differences: Vec<f64> = rounds.map(|(other, own)| (other / own).ln()).collect();
    if differences.is_empty() {
        return 0.0;
    }
    let mut random = StdRng::seed_from_u64(1);
    let mut drawn = vec![0.0; differences.len()];
    let mut gentler = 0;
    for _ in 0..RESAMPLES {
        for value in &mut drawn {
            *value = differences[random.random_range(0..differences.len())];
        }
        drawn.sort_by(f64::total_cmp);
        let middle = drawn.len() / 2;
        let median = if drawn.len() % 2 == 1 {
            drawn[middle]
        } else {
            f64::midpoint(drawn[middle - 1], drawn[middle])
        };
        gentler += usize::from(median < 0.0);
    }
    gentler as f64 / RESAMPLES as f64
}
