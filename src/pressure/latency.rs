//! Latency per class over sliding windows, counted from arrival and including requests that have
//! not been answered yet.
//!
//! A percentile of completed requests is blind to the worst case: while a lock stalls everything,
//! nothing completes and the percentile stays as good as it was. So every request is also counted
//! in the cohort of the tick in which it arrived until it ends; the oldest open cohort says how long
//! somebody has been waiting, and requests older than a tick enter the percentiles with their age
//! so far, which is a lower bound of what they will be.
//!
//! The hot path is a handful of relaxed atomic additions, without locks. A slot of the ring is
//! cleared by the first request of a new lap; a sample recorded by another thread in the same
//! instant can be lost, which moves a percentile by nothing that matters.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::class::Class;

/// Resolution of the windows and of the age of requests in flight.
pub const TICK: Duration = Duration::from_millis(25);
/// The window that notices a change.
pub const FAST: Duration = Duration::from_millis(250);
/// The window that is steady enough to judge a level.
pub const SLOW: Duration = Duration::from_secs(1);

/// Ticks of history that are kept: the slow window and room for slow readers.
const SLOTS: usize = 64;
/// Ticks for which the age of an open request is known (25.6 s). Requests end earlier, because the
/// service's request timeout is far shorter.
const COHORTS: usize = 1024;
/// Buckets per doubling; neighbouring buckets differ by 4.4 %.
const PER_OCTAVE: f64 = 16.0;
/// Lower end of the first bucket, in microseconds.
const LOWEST_US: f64 = 32.0;
/// 20 octaves: 32 µs to 33 s.
const BUCKETS: usize = 320;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered, if only with a refusal that is the client's fault.
    Ok,
    /// Answered with a server error, or given up by the client before an answer.
    Failed,
}

struct Slot {
    tick: AtomicU64,
    failed: AtomicU32,
    buckets: Box<[AtomicU32]>,
}

struct ClassWindow {
    slots: Box<[Slot]>,
    open: Box<[AtomicI64]>,
    completed: AtomicU64,
    failed: AtomicU64,
}

/// Latencies of every class of this process. Cheap to clone.
#[derive(Clone)]
pub struct Latencies {
    classes: Arc<[ClassWindow; 4]>,
    origin: Instant,
}

/// A request that has arrived and not ended. Dropped without [`InFlight::finish`], it counts as
/// failed: the client gave up, or the handler was cancelled.
pub struct InFlight {
    latencies: Latencies,
    class: Class,
    arrived: Instant,
    finished: bool,
}

/// What one class felt over one window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyReading {
    /// Requests that ended within the window.
    pub completed: u64,
    /// Of these, how many failed.
    pub failed: u64,
    /// Requests under way now.
    pub in_flight: u64,
    /// Age of the oldest request under way in milliseconds, at least: to the resolution of [`TICK`].
    pub oldest_ms: f64,
    /// Median in milliseconds; `None` when nothing ended or waited within the window.
    pub p50_ms: Option<f64>,
    /// 95th percentile in milliseconds.
    pub p95_ms: Option<f64>,
    /// 99th percentile in milliseconds.
    pub p99_ms: Option<f64>,
}

/// Requests of one class since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Requests that ended.
    pub completed: u64,
    /// Of these, how many failed.
    pub failed: u64,
}

fn bucket(latency: Duration) -> usize {
    let us = latency.as_secs_f64() * 1e6;
    let position = (us / LOWEST_US).log2() * PER_OCTAVE;
    // A cast from f64 saturates, so that negative and huge values land in the end buckets.
    (position as usize).min(BUCKETS - 1)
}

/// The geometric middle of a bucket, in milliseconds.
fn bucket_ms(index: usize) -> f64 {
    LOWEST_US / 1e3 * ((index as f64 + 0.5) / PER_OCTAVE).exp2()
}

fn quantile_ms(buckets: &[u64; BUCKETS], total: u64, q: f64) -> Option<f64> {
    let rank = (q * total as f64).ceil().max(1.0) as u64;
    let mut seen = 0;
    buckets.iter().enumerate().find_map(|(i, count)| {
        seen += count;
        (seen >= rank).then(|| bucket_ms(i))
    })
}

impl ClassWindow {
    fn new() -> Self {
        let counters = |n| (0..n).map(|_| AtomicU32::new(0)).collect();
        Self {
            slots: (0..SLOTS)
                .map(|_| Slot {
                    tick: AtomicU64::new(u64::MAX),
                    failed: AtomicU32::new(0),
                    buckets: counters(BUCKETS),
                })
                .collect(),
            open: (0..COHORTS).map(|_| AtomicI64::new(0)).collect(),
            completed: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    fn record(&self, tick: u64, latency: Duration, outcome: Outcome) {
        let slot = &self.slots[tick as usize % SLOTS];
        let seen = slot.tick.load(Relaxed);
        if seen != tick
            && slot
                .tick
                .compare_exchange(seen, tick, Relaxed, Relaxed)
                .is_ok()
        {
            slot.failed.store(0, Relaxed);
            slot.buckets
                .iter()
                .for_each(|count| count.store(0, Relaxed));
        }
        slot.buckets[bucket(latency)].fetch_add(1, Relaxed);
        self.completed.fetch_add(1, Relaxed);
        if outcome == Outcome::Failed {
            slot.failed.fetch_add(1, Relaxed);
            self.failed.fetch_add(1, Relaxed);
        }
    }

    fn read(&self, now_tick: u64, window_ticks: u64) -> LatencyReading {
        let mut buckets = [0u64; BUCKETS];
        let (mut completed, mut failed) = (0, 0);
        let oldest_tick = now_tick.saturating_sub(window_ticks.min(SLOTS as u64 - 1));
        for slot in &self.slots {
            let tick = slot.tick.load(Relaxed);
            if tick == u64::MAX || tick < oldest_tick || tick > now_tick {
                continue;
            }
            failed += u64::from(slot.failed.load(Relaxed));
            for (sum, count) in buckets.iter_mut().zip(&slot.buckets) {
                let count = u64::from(count.load(Relaxed));
                *sum += count;
                completed += count;
            }
        }
        let (mut in_flight, mut oldest_ms, mut total) = (0, 0.0, completed);
        let reach = (COHORTS as u64 - 1).min(now_tick);
        for age in 0..=reach {
            let open = self.open[(now_tick - age) as usize % COHORTS].load(Relaxed);
            let Ok(open) = u64::try_from(open) else {
                continue;
            };
            if open == 0 {
                continue;
            }
            in_flight += open;
            // A request of the cohort `age` ticks ago is between `age - 1` and `age + 1` ticks old.
            if age > 1 {
                let age = TICK * (age - 1) as u32;
                oldest_ms = age.as_secs_f64() * 1e3;
                buckets[bucket(age)] += open;
                total += open;
            }
        }
        let quantile = |q| quantile_ms(&buckets, total, q);
        LatencyReading {
            completed,
            failed,
            in_flight,
            oldest_ms,
            p50_ms: quantile(0.50),
            p95_ms: quantile(0.95),
            p99_ms: quantile(0.99),
        }
    }
}

impl Latencies {
    /// Empty windows that begin at `origin`.
    pub fn new(origin: Instant) -> Self {
        Self {
            classes: Arc::new(std::array::from_fn(|_| ClassWindow::new())),
            origin,
        }
    }

    fn tick(&self, at: Instant) -> u64 {
        (at.saturating_duration_since(self.origin).as_micros() / TICK.as_micros()) as u64
    }

    /// Counts a request of `class` that arrives now.
    pub fn arrive(&self, class: Class, now: Instant) -> InFlight {
        let cohort = self.tick(now) as usize % COHORTS;
        self.classes[class.index()].open[cohort].fetch_add(1, Relaxed);
        InFlight {
            latencies: self.clone(),
            class,
            arrived: now,
            finished: false,
        }
    }

    /// What `class` felt over the last `window` ([`FAST`] or [`SLOW`]).
    pub fn read(&self, class: Class, window: Duration, now: Instant) -> LatencyReading {
        let ticks = (window.as_micros() / TICK.as_micros()) as u64;
        self.classes[class.index()].read(self.tick(now), ticks)
    }

    /// Requests of `class` since the start.
    pub fn totals(&self, class: Class) -> Totals {
        let window = &self.classes[class.index()];
        Totals {
            completed: window.completed.load(Relaxed),
            failed: window.failed.load(Relaxed),
        }
    }
}

impl InFlight {
    /// Counts the request as ended.
    pub fn finish(mut self, outcome: Outcome, now: Instant) {
        self.end(outcome, now);
    }

    fn end(&mut self, outcome: Outcome, now: Instant) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        let window = &self.latencies.classes[self.class.index()];
        let cohort = self.latencies.tick(self.arrived) as usize % COHORTS;
        window.open[cohort].fetch_sub(1, Relaxed);
        let latency = now.saturating_duration_since(self.arrived);
        window.record(self.latencies.tick(now), latency, outcome);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.end(Outcome::Failed, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASS: Class = Class::Checkout;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_percentile_is_within_five_percent_of_the_truth() {
        let start = Instant::now();
        let latencies = Latencies::new(start);
        for i in 1..=1000u64 {
            let arrived = start + ms(500);
            let took = Duration::from_micros(i * 100);
            latencies
                .arrive(CLASS, arrived)
                .finish(Outcome::Ok, arrived + took);
        }
        let reading = latencies.read(CLASS, SLOW, start + ms(610));
        for (measured, truth) in [
            (reading.p50_ms, 50.0),
            (reading.p95_ms, 95.0),
            (reading.p99_ms, 99.0),
        ] {
            let measured = measured.expect("there are samples");
            assert!(
                (measured / truth - 1.0).abs() < 0.05,
                "{measured} for {truth}"
            );
        }
    }

    #[test]
    fn requests_that_do_not_complete_are_seen() {
        let start = Instant::now();
        let latencies = Latencies::new(start);
        for _ in 0..100 {
            latencies
                .arrive(CLASS, start)
                .finish(Outcome::Ok, start + ms(2));
        }
        let _stuck: Vec<_> = (0..100)
            .map(|_| latencies.arrive(CLASS, start + ms(10)))
            .collect();
        let reading = latencies.read(CLASS, SLOW, start + ms(800));
        assert_eq!(reading.in_flight, 100);
        assert!(reading.oldest_ms >= 775.0, "{}", reading.oldest_ms);
        assert!(reading.p95_ms.expect("samples") > 700.0);
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let start = Instant::now();
        let latencies = Latencies::new(start);
        latencies
            .arrive(CLASS, start)
            .finish(Outcome::Failed, start + ms(400));
        assert_eq!(latencies.read(CLASS, FAST, start + ms(500)).failed, 1);
        let later = latencies.read(CLASS, FAST, start + ms(2500));
        assert_eq!((later.completed, later.p95_ms), (0, None));
        // A full lap of the ring later the same slot must not count twice.
        let lap = TICK * SLOTS as u32;
        latencies
            .arrive(CLASS, start + lap)
            .finish(Outcome::Ok, start + lap + ms(400));
        let again = latencies.read(CLASS, FAST, start + lap + ms(400));
        assert_eq!((again.completed, again.failed), (1, 0));
    }

    #[test]
    fn a_request_that_is_given_up_counts_as_failed() {
        let start = Instant::now();
        let latencies = Latencies::new(start);
        drop(latencies.arrive(CLASS, start));
        let reading = latencies.read(CLASS, SLOW, Instant::now());
        assert_eq!((reading.in_flight, reading.failed), (0, 1));
    }
}
