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

use pool::Class;

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
    /// Answered with a server error, or given up by a client that had waited for too long.
    Failed,
    /// Given up by a client that had not waited: it says nothing about the shop.
    Abandoned,
    /// Refused because its client has asked for too much: no work was done, so it says nothing about the
    /// shop either. Counted as served, a flood of these would hide that others fail.
    Refused,
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
    abandoned: AtomicU64,
}

/// Latencies of every class of this process. Cheap to clone.
#[derive(Clone)]
pub struct Latencies {
    classes: Arc<[ClassWindow; 4]>,
    origin: Instant,
}

/// A request that has arrived and not ended. Its age does not grow while it is paused. Dropped without
/// [`InFlight::finish`], it counts as failed.
pub struct InFlight {
    latencies: Latencies,
    class: Class,
    /// When it arrived, later by as long as it was paused.
    arrived: Instant,
    /// Since when it has been paused.
    paused: Option<Instant>,
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

/// Whatever can say what shoppers felt lately.
pub trait Windows {
    /// What `class` felt over the last `window`, at most [`SLOW`].
    fn read(&self, class: Class, window: Duration, now: Instant) -> LatencyReading;

    /// How many requests of `class` took how long over the last `window`; `None` where that is not
    /// known.
    fn counts(&self, _class: Class, _window: Duration, _now: Instant) -> Option<Counts> {
        None
    }

    /// Requests of `class` since the start.
    fn totals(&self, class: Class) -> Totals;
}

impl Windows for Latencies {
    fn read(&self, class: Class, window: Duration, now: Instant) -> LatencyReading {
        Latencies::read(self, class, window, now)
    }

    fn counts(&self, class: Class, window: Duration, now: Instant) -> Option<Counts> {
        Some(Latencies::counts(self, class, window, now))
    }

    fn totals(&self, class: Class) -> Totals {
        Latencies::totals(self, class)
    }
}

fn bucket(latency: Duration) -> usize {
    bucket_of_us(latency.as_secs_f64() * 1e6)
}

fn bucket_of_us(us: f64) -> usize {
    let position = (us / LOWEST_US).log2() * PER_OCTAVE;
    // A cast from f64 saturates, so that negative and huge values land in the end buckets.
    (position as usize).min(BUCKETS - 1)
}

/// The geometric middle of a bucket, in milliseconds.
fn bucket_ms(index: usize) -> f64 {
    LOWEST_US / 1e3 * ((index as f64 + 0.5) / PER_OCTAVE).exp2()
}

/// How many requests took how long, in buckets that differ by 4.4 %.
#[derive(Clone, Debug)]
pub struct Counts {
    buckets: Box<[u64; BUCKETS]>,
    total: u64,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            buckets: Box::new([0; BUCKETS]),
            total: 0,
        }
    }
}

impl Counts {
    /// Adds those of another time.
    pub fn add(&mut self, other: &Self) {
        for (sum, count) in self.buckets.iter_mut().zip(other.buckets.iter()) {
            *sum += count;
        }
        self.total += other.total;
    }

    /// Adds a request that took `ms` milliseconds.
    pub fn record(&mut self, ms: f64) {
        self.buckets[bucket_of_us(ms * 1e3)] += 1;
        self.total += 1;
    }

    /// Requests.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The quantile `q`, in milliseconds; `None` without requests. Its rank is `q·(n + 1)`, so that
    /// few requests give what many would on average (Weibull's plotting position).
    pub fn quantile_ms(&self, q: f64) -> Option<f64> {
        let rank = (q * (self.total + 1) as f64).ceil() as u64;
        let rank = rank.clamp(1, self.total.max(1));
        let mut seen = 0;
        self.buckets.iter().enumerate().find_map(|(i, count)| {
            seen += count;
            (seen >= rank).then(|| bucket_ms(i))
        })
    }
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
            abandoned: AtomicU64::new(0),
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

    /// What ended within the window, and how much of it failed.
    fn ended(&self, now_tick: u64, window_ticks: u64) -> (Counts, u64) {
        let mut counts = Counts::default();
        let mut failed = 0;
        let oldest_tick = now_tick.saturating_sub(window_ticks.min(SLOTS as u64 - 1));
        for slot in &self.slots {
            let tick = slot.tick.load(Relaxed);
            if tick == u64::MAX || tick < oldest_tick || tick > now_tick {
                continue;
            }
            failed += u64::from(slot.failed.load(Relaxed));
            for (sum, count) in counts.buckets.iter_mut().zip(&slot.buckets) {
                *sum += u64::from(count.load(Relaxed));
            }
        }
        counts.total = counts.buckets.iter().sum();
        (counts, failed)
    }

    fn read(&self, now_tick: u64, window_ticks: u64) -> LatencyReading {
        let (mut felt, failed) = self.ended(now_tick, window_ticks);
        let completed = felt.total;
        let (mut in_flight, mut oldest_ms) = (0, 0.0);
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
                felt.buckets[bucket(age)] += open;
                felt.total += open;
            }
        }
        LatencyReading {
            completed,
            failed,
            in_flight,
            oldest_ms,
            p50_ms: felt.quantile_ms(0.50),
            p95_ms: felt.quantile_ms(0.95),
            p99_ms: felt.quantile_ms(0.99),
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

    /// The count of the open requests of `class` that arrived in the tick of `arrived`.
    fn open(&self, class: Class, arrived: Instant) -> &AtomicI64 {
        let cohort = self.tick(arrived) as usize % COHORTS;
        &self.classes[class.index()].open[cohort]
    }

    /// Counts a request of `class` that arrives now.
    pub fn arrive(&self, class: Class, now: Instant) -> InFlight {
        self.open(class, now).fetch_add(1, Relaxed);
        InFlight {
            latencies: self.clone(),
            class,
            arrived: now,
            paused: None,
            finished: false,
        }
    }

    /// What `class` felt over the last `window` ([`FAST`] or [`SLOW`]).
    pub fn read(&self, class: Class, window: Duration, now: Instant) -> LatencyReading {
        let ticks = (window.as_micros() / TICK.as_micros()) as u64;
        self.classes[class.index()].read(self.tick(now), ticks)
    }

    /// How many requests of `class` took how long over the last `window` ([`SLOW`] at most).
    pub fn counts(&self, class: Class, window: Duration, now: Instant) -> Counts {
        let ticks = (window.as_micros() / TICK.as_micros()) as u64;
        self.classes[class.index()].ended(self.tick(now), ticks).0
    }

    /// Requests of `class` since the start that their clients gave up without having waited.
    pub fn abandoned(&self, class: Class) -> u64 {
        self.classes[class.index()].abandoned.load(Relaxed)
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

    /// Stops its age: from `now` on it waits for its client and not for the shop. It is not under way
    /// meanwhile.
    pub fn pause(&mut self, now: Instant) {
        if self.paused.is_none() && !self.finished {
            self.paused = Some(now);
            self.open().fetch_sub(1, Relaxed);
        }
    }

    /// Lets its age grow again.
    pub fn resume(&mut self, now: Instant) {
        if let Some(paused) = self.paused.take() {
            self.arrived += now.saturating_duration_since(paused);
            self.open().fetch_add(1, Relaxed);
        }
    }

    /// How long it has waited for the shop.
    pub fn age(&self, now: Instant) -> Duration {
        let until = self.paused.unwrap_or(now);
        until.saturating_duration_since(self.arrived)
    }

    fn open(&self) -> &AtomicI64 {
        self.latencies.open(self.class, self.arrived)
    }

    fn end(&mut self, outcome: Outcome, now: Instant) {
        if self.finished {
            return;
        }
        self.resume(now);
        self.finished = true;
        self.open().fetch_sub(1, Relaxed);
        let window = &self.latencies.classes[self.class.index()];
        match outcome {
            Outcome::Abandoned => {
                window.abandoned.fetch_add(1, Relaxed);
            }
            Outcome::Refused => {}
            Outcome::Ok | Outcome::Failed => {
                window.record(self.latencies.tick(now), self.age(now), outcome)
            }
        }
    }
}

impl Drop for InFlight {
    #[expect(
        clippy::disallowed_methods,
        reason = "whoever drops it has no way to say when"
    )]
    fn drop(&mut self) {
        self.end(Outcome::Failed, Instant::now());
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any moment will do")]
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
    fn a_request_does_not_age_and_is_not_under_way_while_it_is_paused() {
        let start = Instant::now();
        let latencies = Latencies::new(start);
        let mut request = latencies.arrive(CLASS, start);
        request.pause(start + ms(50));
        let meanwhile = latencies.read(CLASS, SLOW, start + ms(900));
        assert_eq!((meanwhile.in_flight, meanwhile.oldest_ms), (0, 0.0));
        assert_eq!(request.age(start + ms(900)), ms(50));
        request.resume(start + ms(1_000));
        let later = latencies.read(CLASS, SLOW, start + ms(1_100));
        assert_eq!(later.in_flight, 1);
        assert!((100.0..=150.0).contains(&later.oldest_ms), "{later:?}");
        request.finish(Outcome::Ok, start + ms(1_150));
        let ended = latencies.read(CLASS, SLOW, start + ms(1_200));
        assert_eq!((ended.in_flight, ended.completed), (0, 1));
        let took = ended.p50_ms.expect("a sample");
        assert!((190.0..=210.0).contains(&took), "{took}");
    }

    #[test]
    fn a_request_that_its_client_abandons_counts_neither_as_served_nor_as_failed() {
        let start = Instant::now();
        let latencies = Latencies::new(start);
        let mut request = latencies.arrive(CLASS, start);
        request.pause(start);
        request.finish(Outcome::Abandoned, start + ms(700));
        let reading = latencies.read(CLASS, SLOW, start + ms(700));
        let counted = (reading.completed, reading.failed, reading.in_flight);
        assert_eq!(counted, (0, 0, 0));
        assert_eq!(latencies.totals(CLASS), Totals::default());
        assert_eq!(latencies.abandoned(CLASS), 1);
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
