//! The pool and its gates as signals: a queue for connections is felt before latency shows it.

use std::time::Instant;

use pool::Class;
use pool::gate::GateReading;

use crate::signal::{Signal, Verdict};

/// A request that has waited this long for a connection is in a queue, not in a coincidence.
const QUEUED_MS: f64 = 5.0;
/// Mean wait between two samples that counts as a queue, in microseconds.
const MEAN_WAIT_US: f64 = 2_000.0;

/// Judges what happened at the gates between two readings, one signal per class of shopper.
/// `before` is `None` at the first sample.
pub fn judge(
    before: Option<&[GateReading; 4]>,
    after: &[GateReading; 4],
    at: Instant,
) -> Vec<Signal> {
    Class::SHOPPERS
        .into_iter()
        .map(|class| {
            let i = class.index();
            let (verdict, reason) = verdict(before.map(|b| &b[i]), &after[i]);
            Signal {
                source: format!("{class} connections"),
                verdict,
                at,
                reason,
            }
        })
        .collect()
}

fn verdict(before: Option<&GateReading>, after: &GateReading) -> (Verdict, String) {
    let Some(before) = before else {
        return (Verdict::Unknown, "first sample".to_owned());
    };
    let since = |f: fn(&GateReading) -> u64| f(after).checked_sub(f(before));
    let (Some(granted), Some(timed_out), Some(waited)) = (
        since(|g| g.granted),
        since(|g| g.timed_out),
        since(|g| g.waited_us),
    ) else {
        return (Verdict::Unknown, "the counters were reset".to_owned());
    };
    if timed_out > 0 {
        return (
            Verdict::Stop,
            format!("{timed_out} requests got no connection"),
        );
    }
    if !after.oldest_wait_ms.is_finite() {
        return (Verdict::Unknown, "the reading is not a number".to_owned());
    }
    if after.oldest_wait_ms > QUEUED_MS {
        let reason = format!(
            "{} wait for a connection, the first for {:.0} ms",
            after.waiting, after.oldest_wait_ms
        );
        return (Verdict::Cut, reason);
    }
    let mean_us = waited as f64 / granted.max(1) as f64;
    if mean_us > MEAN_WAIT_US {
        return (
            Verdict::Cut,
            format!("a connection takes {:.1} ms to get", mean_us / 1e3),
        );
    }
    if granted == 0 && after.in_use == 0 && after.waiting == 0 {
        return (Verdict::Idle, "no connection in use".to_owned());
    }
    (
        Verdict::Normal,
        format!("{} of {} connections in use", after.in_use, after.max),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: GateReading = GateReading {
        in_use: 1,
        max: 6,
        waiting: 0,
        oldest_wait_ms: 0.0,
        granted: 100,
        timed_out: 0,
        waited_us: 0,
    };

    #[test]
    fn a_queue_cuts_and_a_timeout_stops() {
        let busy = GateReading {
            granted: 200,
            ..QUIET
        };
        assert_eq!(verdict(Some(&QUIET), &busy).0, Verdict::Normal);
        let queued = GateReading {
            waiting: 3,
            oldest_wait_ms: 20.0,
            ..busy
        };
        assert_eq!(verdict(Some(&QUIET), &queued).0, Verdict::Cut);
        let slow = GateReading {
            waited_us: 900_000,
            ..busy
        };
        assert_eq!(verdict(Some(&QUIET), &slow).0, Verdict::Cut);
        let refused = GateReading {
            timed_out: 1,
            ..busy
        };
        assert_eq!(verdict(Some(&QUIET), &refused).0, Verdict::Stop);
    }

    #[test]
    fn a_first_sample_and_a_reset_counter_are_unknown() {
        assert_eq!(verdict(None, &QUIET).0, Verdict::Unknown);
        let reset = GateReading {
            granted: 1,
            ..QUIET
        };
        assert_eq!(verdict(Some(&QUIET), &reset).0, Verdict::Unknown);
    }
}
