//! When the shop was down, from what became of every request.

use std::time::Duration;

use crate::class::Class;
use crate::rehearsal::load::{ClassStats, Record};

/// Width of the buckets that an outage is looked for in.
pub const BUCKET: Duration = Duration::from_millis(100);

/// A total outage: the time during which no class was served.
///
/// Requests are sorted into buckets of [`BUCKET`] by the moment when they were *due*, counted from
/// the cause on. A bucket is down when in every class that had requests due in it more than half of
/// them failed. The outage lasts from the beginning of the first such bucket to the end of the last,
/// and everything that was due in between counts, including whatever was served.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outage {
    /// When it began, as an offset into the recording.
    pub from: Duration,
    /// When it ended, as an offset into the recording.
    pub to: Duration,
    /// Failed requests per request due within it, in the order of [`Class::SHOPPERS`].
    pub failed_share: [f64; 3],
}

/// The outage after `cause`, an offset into the recording whose `records` are sorted by when they
/// were due; `None` when no bucket was down.
pub fn find(records: &[Record], cause: Duration) -> Option<Outage> {
    let after = &records[position(records, cause)..];
    let mut span: Option<(Duration, Duration)> = None;
    for bucket in after.chunk_by(|a, b| number(a, cause) == number(b, cause)) {
        let from = cause + BUCKET * number(bucket.first()?, cause);
        if is_down(bucket) {
            let first = span.map_or(from, |(first, _)| first);
            span = Some((first, from + BUCKET));
        }
    }
    let (from, to) = span?;
    let within = &records[position(records, from)..position(records, to)];
    let failed_share = Class::SHOPPERS
        .map(|class| ClassStats::of(within.iter().filter(|r| r.class == class)).failed_share());
    Some(Outage {
        from,
        to,
        failed_share,
    })
}

fn position(records: &[Record], at: Duration) -> usize {
    records.partition_point(|record| u128::from(record.start_us) < at.as_micros())
}

fn number(record: &Record, cause: Duration) -> u32 {
    let since = Duration::from_micros(record.start_us).saturating_sub(cause);
    u32::try_from(since.as_micros() / BUCKET.as_micros()).unwrap_or(u32::MAX)
}

fn is_down(bucket: &[Record]) -> bool {
    Class::SHOPPERS.into_iter().all(|class| {
        let of_class = || bucket.iter().filter(|record| record.class == class);
        let failed = of_class().filter(|r| r.outcome.is_failure()).count();
        failed * 2 > of_class().count() || of_class().next().is_none()
    })
}
