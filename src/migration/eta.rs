//! When a run will be done: two numbers, because one would claim to know.
//!
//! The recent past is cut into windows of equal length, and each has a rate. What is left takes at
//! the median rate as likely longer as shorter (P50). P90 is what it takes at the mean of the slowest
//! fifth of the windows: rates come in stretches (a peak, a lock, a backup), so averaging over all of
//! them would hide how long a slow stretch can be.

use serde::Serialize;
use utoipa::ToSchema;

/// The past that is looked at, in seconds.
pub const PAST_S: f64 = 300.0;
/// Windows that it is cut into.
pub const WINDOWS: usize = 20;
/// Share of the windows that stands for the slow stretches.
const SLOW: f64 = 0.2;

/// Seconds that the main phase still takes. The sweep only reads and is short.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct Eta {
    /// As likely shorter as longer.
    pub p50_s: Option<f64>,
    /// Nine times in ten it is shorter; absent when the run stood still for so long of late that
    /// nobody can tell.
    pub p90_s: Option<f64>,
}

/// The time that `left` rows take, given the `rates` of the recent windows in rows per second; `None`
/// without any.
pub fn predict(left: i64, rates: &[f64]) -> Option<Eta> {
    if rates.is_empty() {
        return None;
    }
    let mut rates = rates.to_vec();
    rates.sort_by(f64::total_cmp);
    let middle = (rates[(rates.len() - 1) / 2] + rates[rates.len() / 2]) / 2.0;
    let few = ((rates.len() as f64 * SLOW).ceil() as usize).clamp(1, rates.len());
    let slow = rates[..few].iter().sum::<f64>() / few as f64;
    let at = |rate: f64| (rate > 0.0).then(|| left.max(0) as f64 / rate);
    Some(Eta {
        p50_s: at(middle),
        // The slowest fifth is never faster than the median.
        p90_s: at(slow),
    })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn even_rates_leave_nothing_open_and_standing_still_leaves_all() {
        let even = predict(1000, &[100.0; 20]).expect("rates");
        assert_eq!((even.p50_s, even.p90_s), (Some(10.0), Some(10.0)));
        let mut stalled = vec![100.0; 15];
        stalled.extend([0.0; 5]);
        let eta = predict(1000, &stalled).expect("rates");
        assert_eq!((eta.p50_s, eta.p90_s), (Some(10.0), None));
        assert_eq!(predict(1000, &[]), None);
    }

    proptest! {
        #[test]
        fn p90_is_never_sooner_than_p50_and_less_to_do_is_never_later(
            rates in vec(0.1_f64..1e6, 1..40), left in 0_i64..1_000_000_000, done in 0_i64..1_000_000
        ) {
            let eta = predict(left, &rates).expect("rates");
            prop_assert!(eta.p50_s <= eta.p90_s.map(|s| s * (1.0 + 1e-9)));
            let later = predict((left - done).max(0), &rates).expect("rates");
            prop_assert!(later.p50_s <= eta.p50_s && later.p90_s <= eta.p90_s);
        }
    }
}
