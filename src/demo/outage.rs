//! When the shop was down, from what became of every request.

use std::time::Duration;

use load::{ClassStats, Record};
use pool::Class;

use super::cycles::Period;

/// Width of the buckets that an outage is looked for in.
pub const BUCKET: Duration = Duration::from_millis(100);

/// A total outage: the time during which no class was served.
///
/// Requests are sorted into buckets of [`BUCKET`] by the moment when they were *due*, counted from
/// the start of the cause. The outage begins with the first bucket in which every request failed,
/// and ends with the last in which more than half of the requests of every class did; classes
/// without a request in a bucket have no say in it.
///
/// Its shares count every request that was due within it, whatever became of it, up to the moment
/// from which on a shopper could outwait the cause: one who came less than a shopper's deadline
/// before the cause's end may be served late, by the recovery. An outage that is shorter than that is
/// counted as a whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outage {
    /// When it began, as an offset into the recording.
    pub from: Duration,
    /// When it ended, as an offset into the recording.
    pub to: Duration,
    /// Failed requests per request due within it, in the order of [`Class::SHOPPERS`].
    pub failed_share: [f64; 3],
}

/// The outage by `cause`, a period of the recording whose `records` are sorted by when they were due,
/// of shoppers who wait for `deadline`; `None` when there was no bucket in which every request failed.
pub fn find(records: &[Record], cause: Period, deadline: Duration) -> Option<Outage> {
    let after = &records[position(records, cause.from)..];
    let mut span: Option<(Duration, Duration)> = None;
    for bucket in after.chunk_by(|a, b| number(a, cause.from) == number(b, cause.from)) {
        let from = cause.from + BUCKET * number(bucket.first()?, cause.from);
        let all_failed = bucket.iter().all(|record| record.outcome.is_failure());
        span = match span {
            None if all_failed => Some((from, from + BUCKET)),
            Some((first, _)) if is_down(bucket) => Some((first, from + BUCKET)),
            other => other,
        };
    }
    let (from, to) = span?;
    let outwaited = cause.to.saturating_sub(deadline);
    let counted = if outwaited > from {
        to.min(outwaited)
    } else {
        to
    };
    let within = &records[position(records, from)..position(records, counted)];
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
