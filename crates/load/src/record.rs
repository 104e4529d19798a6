//! What became of every request, kept raw so that any window can be asked about afterwards.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use pool::Class;
use serde::Serialize;

use crate::stats::ClassStats;

/// Records per block: large enough to be cheap, small enough that growing never copies much.
const BLOCK: usize = 1 << 16;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// 2xx or 3xx.
    Ok,
    /// 409: the shop answered properly that it cannot do this, as when something is sold out. Not a
    /// failure.
    Refused,
    /// No complete answer within the deadline.
    Timeout,
    /// No connection, or it broke before the answer was complete.
    Connection,
    /// 503: the shop said that it is overloaded.
    Unavailable,
    /// Another 5xx.
    ServerError,
    /// Any other status.
    Unexpected,
    /// Never sent: too many requests were under way.
    Dropped,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Outcome; 8] = [
        Outcome::Ok,
        Outcome::Refused,
        Outcome::Timeout,
        Outcome::Connection,
        Outcome::Unavailable,
        Outcome::ServerError,
        Outcome::Unexpected,
        Outcome::Dropped,
    ];

    /// Whether the shopper was left without a proper answer.
    pub const fn is_failure(self) -> bool {
        !matches!(self, Outcome::Ok | Outcome::Refused)
    }
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// When it was due, in microseconds since the start.
    pub start_us: u64,
    /// From then until its end, in microseconds.
    pub latency_us: u32,
    /// What it was for.
    pub class: Class,
    /// How it ended.
    pub outcome: Outcome,
}

/// Counts of one class since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LiveClass {
    /// Requests that were due, whether ended or not.
    pub sent: u64,
    /// Answered.
    pub ok: u64,
    /// Refused properly (409).
    pub refused: u64,
    /// Failed in any way.
    pub failed: u64,
}

/// Counts since the start, cheap enough to be read ten times a second. Subtract two readings for
/// what happened between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LiveCounters {
    classes: [LiveClass; Class::SHOPPERS.len()],
    /// Requests under way now.
    pub in_flight: usize,
}

impl LiveCounters {
    /// The counts of one class; zero for a class that is no shopper's.
    pub fn class(&self, class: Class) -> LiveClass {
        self.classes.get(class.index()).copied().unwrap_or_default()
    }
}

#[derive(Debug, Default)]
struct Counter {
    sent: AtomicU64,
    ok: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

#[derive(Debug, Default)]
struct Blocks {
    full: Vec<Vec<Record>>,
    current: Vec<Record>,
}

/// Collects records while requests are under way.
#[derive(Debug)]
pub(crate) struct Recorder {
    began: Instant,
    counters: [Counter; Class::SHOPPERS.len()],
    pub(crate) in_flight: AtomicUsize,
    blocks: Mutex<Blocks>,
}

impl Recorder {
    pub(crate) fn new(began: Instant) -> Self {
        Self {
            began,
            counters: Default::default(),
            in_flight: AtomicUsize::new(0),
            blocks: Mutex::default(),
        }
    }

    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    pub(crate) fn sent(&self, class: Class) {
        self.counters[class.index()]
            .sent
            .fetch_add(1, Ordering::Relaxed);
    }

    /// Notes the end of a request that was due `start` after the beginning.
    pub(crate) fn ended(&self, class: Class, start: Duration, latency: Duration, outcome: Outcome) {
        let counter = &self.counters[class.index()];
        let counter = match outcome {
            Outcome::Ok => &counter.ok,
            Outcome::Refused => &counter.refused,
            _ => &counter.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let record = Record {
            start_us: start.as_micros().try_into().unwrap_or(u64::MAX),
            latency_us: latency.as_micros().try_into().unwrap_or(u32::MAX),
            class,
            outcome,
        };
        let mut blocks = self.blocks.lock();
        if blocks.current.len() == blocks.current.capacity() {
            let full = std::mem::replace(&mut blocks.current, Vec::with_capacity(BLOCK));
            blocks.full.push(full);
        }
        blocks.current.push(record);
    }

    pub(crate) fn live(&self) -> LiveCounters {
        LiveCounters {
            classes: std::array::from_fn(|i| {
                let counter = &self.counters[i];
                LiveClass {
                    sent: counter.sent.load(Ordering::Relaxed),
                    ok: counter.ok.load(Ordering::Relaxed),
                    refused: counter.refused.load(Ordering::Relaxed),
                    failed: counter.failed.load(Ordering::Relaxed),
                }
            }),
            in_flight: self.in_flight.load(Ordering::Relaxed),
        }
    }

    /// Hands over what was recorded. Call when nothing is under way.
    pub(crate) fn finish(&self, lag: Lag, lasted: Duration) -> Recording {
        let blocks = std::mem::take(&mut *self.blocks.lock());
        let mut records = blocks.full.concat();
        records.extend(blocks.current);
        Recording::new(self.began, lasted, records, lag)
    }
}

/// How late requests were sent, because this process got no processor in time. It is part of every
/// latency; a large one says that the machine, not the shop, was measured.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Lag {
    /// Median, in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile, in milliseconds.
    pub p99_ms: f64,
    /// The worst, in milliseconds.
    pub max_ms: f64,
}

impl Lag {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let ms = |us: u64| us as f64 / 1000.0;
        Self {
            p50_ms: ms(histogram.value_at_quantile(0.5)),
            p99_ms: ms(histogram.value_at_quantile(0.99)),
            max_ms: ms(histogram.max()),
        }
    }
}

/// Everything that a load did. Times are offsets from [`Recording::began`]; a request belongs to
/// the window in which it was *due*, not to that in which it ended.
#[derive(Clone, Debug)]
pub struct Recording {
    began: Instant,
    lasted: Duration,
    records: Vec<Record>,
    /// How late the requests were sent.
    pub lag: Lag,
}

impl Recording {
    pub(crate) fn new(
        began: Instant,
        lasted: Duration,
        mut records: Vec<Record>,
        lag: Lag,
    ) -> Self {
        records.sort_unstable_by_key(|record| record.start_us);
        Self {
            began,
            lasted,
            records,
            lag,
        }
    }

    /// Offset zero, to line the recording up with other events.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// For how long requests were sent.
    pub fn lasted(&self) -> Duration {
        self.lasted
    }

    /// Every request, by the time it was due.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The requests that were due from `from` until before `to`.
    pub fn between(&self, from: Duration, to: Duration) -> &[Record] {
        let position = |at: Duration| {
            self.records
                .partition_point(|record| u128::from(record.start_us) < at.as_micros())
        };
        let end = position(to);
        &self.records[position(from).min(end)..end]
    }

    /// What became of the requests of `class` that were due from `from` until before `to`.
    pub fn window(&self, class: Class, from: Duration, to: Duration) -> ClassStats {
        ClassStats::of(self.between(from, to).iter().filter(|r| r.class == class))
    }

    /// What became of all requests of `class`.
    pub fn total(&self, class: Class) -> ClassStats {
        self.window(class, Duration::ZERO, Duration::MAX)
    }

    /// What became of all requests of all classes that were due in the window.
    pub fn all_classes(&self, from: Duration, to: Duration) -> ClassStats {
        ClassStats::of(self.between(from, to))
    }

    /// One entry per `bucket` of time (100 ms is usual) over the whole recording.
    pub fn series(&self, class: Class, bucket: Duration) -> Vec<ClassStats> {
        let bucket = bucket.max(Duration::from_millis(1));
        let count = self.lasted.as_nanos().div_ceil(bucket.as_nanos());
        (0..u32::try_from(count).unwrap_or(u32::MAX))
            .map(|i| self.window(class, bucket * i, bucket * (i + 1)))
            .collect()
    }
}
