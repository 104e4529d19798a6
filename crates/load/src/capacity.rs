//! How much a shop can take: the rate is raised until shoppers feel it.

use std::sync::Arc;
use std::time::Duration;

use pool::Class;
use serde::Serialize;

use crate::profile::Profile;
use crate::record::Recording;
use crate::sender::Load;
use crate::shop::Shop;
use crate::{ClassStats, LoadError};

/// A class with fewer requests in a step than this has no 99th percentile worth the name.
const ENOUGH: u64 = 100;

/// A rate that was not held is lowered by this factor, so many times at most.
const LOWERED: f64 = 1.15;
const HOLDS: u32 = 5;

/// How the capacity is looked for and what counts as sustained.
#[derive(Clone, Copy, Debug)]
pub struct CapacityLimits {
    /// Requests per second of the first step.
    pub start: f64,
    /// Each step is this many times the one before.
    pub factor: f64,
    /// The last step tried.
    pub max: f64,
    /// How long each step lasts.
    pub step: Duration,
    /// The beginning of a step that is not judged, while connections are opened.
    pub settle: Duration,
    /// The rest before a failed step is tried once more, and between steps of the refinement.
    pub rest: Duration,
    /// A sustained rate keeps the 99th percentile of every class below this.
    pub p99: Duration,
    /// A sustained rate has at least this share of its requests answered before the step ends.
    pub answered: f64,
    /// Bisections between the last good and the first bad rate.
    pub refinements: u32,
    /// How long the rate that was found has to be kept up with. The steps are short, and of two tries the
    /// better counts, so some of them are luck.
    pub hold: Duration,
}

impl Default for CapacityLimits {
    fn default() -> Self {
        Self {
            start: 200.0,
            factor: 1.3,
            max: 50_000.0,
            step: Duration::from_millis(1200),
            settle: Duration::from_millis(200),
            rest: Duration::from_millis(500),
            p99: Duration::from_millis(100),
            answered: 0.95,
            refinements: 3,
            hold: Duration::from_secs(4),
        }
    }
}

/// One rate that was tried.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CapacityStep {
    /// Requests per second that were offered.
    pub offered_rps: f64,
    /// Answers per second within the step.
    pub answered_rps: f64,
    /// The worst 99th percentile of any class with enough requests, in milliseconds.
    pub p99_ms: f64,
    /// Failed requests per request.
    pub failed_share: f64,
    /// Whether the shop kept up.
    pub sustained: bool,
}

/// What a shop can take.
#[derive(Clone, Debug, Serialize)]
pub struct Capacity {
    /// The highest rate that was sustained, in requests per second; 0 if none was. After five holds in vain
    /// it is a little below the last of them.
    pub rps: f64,
    /// Whether the search ended at a rate that failed, rather than at the highest rate tried.
    pub found: bool,
    /// Every rate that was tried, in order.
    pub steps: Vec<CapacityStep>,
}

/// Raises the rate in steps until one fails twice in a row, then bisects. On a noisy machine a
/// single bad step says little, so every failed step is confirmed by another. What is found is then held
/// for longer, and lowered until it can be.
///
/// # Errors
/// [`LoadError`] when no load can be sent.
pub async fn measure_capacity(
    shop: &Arc<Shop>,
    profile: &Profile,
    limits: &CapacityLimits,
) -> Result<Capacity, LoadError> {
    let mut steps = Vec::new();
    let (mut good, mut bad) = (0.0, None);
    let mut rate = limits.start;
    while rate <= limits.max && bad.is_none() {
        if sustains(shop, profile, limits, rate, &mut steps).await? {
            good = rate;
            rate *= limits.factor;
        } else {
            bad = Some(rate);
        }
    }
    if let Some(mut bad) = bad.filter(|_| good > 0.0) {
        for _ in 0..limits.refinements {
            let middle = f64::sqrt(good * bad);
            tokio::time::sleep(limits.rest).await;
            if sustains(shop, profile, limits, middle, &mut steps).await? {
                good = middle;
            } else {
                bad = middle;
            }
        }
    }
    for _ in 0..HOLDS {
        if good <= 0.0 {
            break;
        }
        tokio::time::sleep(limits.rest).await;
        let held = offer(shop, profile, limits, good, limits.hold).await?;
        steps.push(held);
        if held.sustained {
            break;
        }
        good /= LOWERED;
    }
    Ok(Capacity {
        rps: good,
        found: bad.is_some(),
        steps,
    })
}

async fn sustains(
    shop: &Arc<Shop>,
    profile: &Profile,
    limits: &CapacityLimits,
    rate: f64,
    steps: &mut Vec<CapacityStep>,
) -> Result<bool, LoadError> {
    for confirming in [false, true] {
        if confirming {
            tokio::time::sleep(limits.rest).await;
        }
        let step = offer(shop, profile, limits, rate, limits.step).await?;
        steps.push(step);
        if step.sustained {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn offer(
    shop: &Arc<Shop>,
    profile: &Profile,
    limits: &CapacityLimits,
    rate: f64,
    lasts: Duration,
) -> Result<CapacityStep, LoadError> {
    let load = Load::start(shop, profile, rate)?;
    tokio::time::sleep(lasts).await;
    Ok(judge(&load.stop().await, limits))
}

fn judge(recording: &Recording, limits: &CapacityLimits) -> CapacityStep {
    let (from, to) = (limits.settle, recording.lasted());
    let due = recording.between(from, to);
    let seconds = to.saturating_sub(from).as_secs_f64();
    let in_time = due.iter().filter(|record| {
        let ended = record.start_us + u64::from(record.latency_us);
        !record.outcome.is_failure() && u128::from(ended) <= (to + limits.p99).as_micros()
    });
    let answered = in_time.count() as f64;
    let offered = due.len() as f64;
    let all = ClassStats::of(due);
    let p99_ms = Class::SHOPPERS
        .map(|class| recording.window(class, from, to))
        .into_iter()
        .filter(|stats| stats.sent >= ENOUGH)
        .map(|stats| stats.p99_ms)
        .fold(all.p99_ms, f64::max);
    CapacityStep {
        offered_rps: offered / seconds,
        answered_rps: answered / seconds,
        p99_ms,
        failed_share: all.failed_share(),
        sustained: all.sent > 0
            && all.failed == 0
            && answered >= limits.answered * offered
            && p99_ms <= limits.p99.as_secs_f64() * 1000.0,
    }
}
