//! What is logged of requests that the shop could not serve: a line when that begins and one when it is
//! over, with counts by kind. A line per request would fill the disk when it is needed most.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pool::PoolError;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::store::StoreError;

/// How long no request may fail before it is over.
const QUIET: Duration = Duration::from_secs(5);

/// Why the shop could not serve a request. Travels with the answer.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What is counted together.
    kind: Cow<'static, str>,
    /// This time, in words.
    why: String,
}

impl Fault {
    /// A fault of `kind`, a few of which there are.
    pub fn new(kind: &'static str, why: impl Display) -> Self {
        Self {
            kind: kind.into(),
            why: why.to_string(),
        }
    }

    /// What `err` is counted as.
    pub fn of(err: &StoreError) -> Self {
        let kind = match err {
            StoreError::Pool(PoolError::Saturated { class, .. }) => {
                format!("no connection for {class}").into()
            }
            StoreError::Pool(PoolError::TimedOut { class, .. }) => {
                format!("no answer for {class}").into()
            }
            StoreError::Pool(PoolError::Connect(_) | PoolError::Closed) => {
                "database unreachable".into()
            }
            StoreError::Pool(PoolError::Pooler(_)) => "unsuitable pooler".into(),
            StoreError::Sql(_) => err.code().map_or("connection lost".into(), |code| {
                if code == "57014" {
                    "statement cancelled or timed out".into()
                } else {
                    format!("SQLSTATE {code}").into()
                }
            }),
        };
        Self {
            kind,
            why: err.to_string(),
        }
    }
}

/// Requests that failed since it began.
#[derive(Debug, PartialEq, Eq)]
struct Outage {
    since: Instant,
    last: Instant,
    kinds: BTreeMap<Cow<'static, str>, u64>,
}

impl Display for Outage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (number, (kind, count)) in self.kinds.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{kind}: {count}")?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Inner {
    current: Mutex<Option<Outage>>,
    begun: Notify,
}

/// Counts the requests that fail, and tells when that begins and ends. Cheap to clone.
#[derive(Clone, Default)]
pub struct Outages(Arc<Inner>);

impl Outages {
    /// Counts a request that failed; the first one of an outage is told.
    pub fn failed(&self, fault: &Fault, now: Instant) {
        let begins = {
            let mut current = self.0.current.lock();
            let begins = current.is_none();
            let outage = current.get_or_insert_with(|| Outage {
                since: now,
                last: now,
                kinds: BTreeMap::new(),
            });
            outage.last = now;
            *outage.kinds.entry(fault.kind.clone()).or_default() += 1;
            begins
        };
        if begins {
            warn!(kind = %fault.kind, why = fault.why, "requests begin to fail");
            self.0.begun.notify_one();
        }
    }

    /// Takes the outage that is over, with `quiet` as the time without a failure that ends one.
    fn take_over(&self, quiet: Duration, now: Instant) -> Option<Outage> {
        let mut current = self.0.current.lock();
        current.take_if(|outage| now.saturating_duration_since(outage.last) >= quiet)
    }

    /// Tells what is over, until `stop`.
    pub async fn watch(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            tokio::select! {
                () = self.0.begun.notified() => {}
                () = stop.cancelled() => {}
            }
            loop {
                let ends = stop.is_cancelled();
                let quiet = if ends { Duration::ZERO } else { QUIET };
                if let Some(outage) = self.take_over(quiet, Instant::now()) {
                    let lasted = outage.last.duration_since(outage.since);
                    let failed: u64 = outage.kinds.values().sum();
                    info!(failed, ?lasted, kinds = %outage, "requests have stopped failing");
                    break;
                }
                if ends {
                    break;
                }
                let _ = tokio::time::timeout(QUIET / 5, stop.cancelled()).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_over_when_nothing_has_failed_for_a_while_and_counts_by_kind() {
        let outages = Outages::default();
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let (slow, full) = (Fault::new("slow", ""), Fault::new("full", ""));
        outages.failed(&slow, at(0));
        outages.failed(&full, at(3));
        outages.failed(&slow, at(6));
        assert_eq!(outages.take_over(QUIET, at(10)), None);
        let over = outages.take_over(QUIET, at(11)).expect("is over");
        assert_eq!(over.to_string(), "full: 1, slow: 2");
        assert_eq!(over.last - over.since, Duration::from_secs(6));
        assert_eq!(outages.take_over(QUIET, at(60)), None);
    }
}
