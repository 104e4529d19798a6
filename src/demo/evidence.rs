//! The figures of `demo.json`, and whether they bear out what the demo claims.

use pool::Class;
use serde::Serialize;

use super::cases::Told;
use super::watched::WatchFigures;

use load::{ClassStats, Recording};

/// Least share of failed requests in every class that makes an outage total.
const TOTAL: f64 = 0.99;
/// Latest onset of the outage after the script's start, in seconds.
const ONSET_MAX_S: f64 = 3.0;
/// Latest that the watch names the script, stops it, and service is normal again, in seconds.
const NAMED_MAX_S: f64 = 1.0;
const STOPPED_MAX_S: f64 = 2.0;
const NORMAL_MAX_S: f64 = 5.0;
/// Least share of requests to look at products that are answered while orders are locked.
const BROWSE_MIN: f64 = 0.99;
/// Most that the guarded migration may raise the 99th percentile, as a factor.
const RATIO_MAX: f64 = 1.5;
/// Least cycles that the factor is the median of.
const CYCLES_MIN: usize = 10;

/// Everything that was measured, as `demo.json` has it.
#[derive(Clone, Debug, Serialize)]
pub struct Evidence {
    /// Requests per second that the shop sustains.
    pub capacity_rps: f64,
    /// Requests per second of the peak that all acts play at.
    pub peak_rps: f64,
    /// The naive, the watched and the guarded act, in this order.
    pub acts: [Act; 3],
    /// What the watch said of other causes, if they were played.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stories: Option<Vec<Told>>,
}

/// What was measured in one act.
#[derive(Clone, Debug, Serialize)]
pub struct Act {
    /// `naive`, `watched` or `guarded`.
    pub name: &'static str,
    /// Every request of the act, by class.
    pub classes: Classes,
    /// The outage, in the naive act.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outage: Option<OutageFigures>,
    /// How fast the watch was, in the watched act.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub watch: Option<WatchFigures>,
    /// The migration, in the guarded act.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migration: Option<MigrationFigures>,
}

/// One value for each class of shoppers.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct ByClass<T> {
    /// Looking at products.
    pub browse: T,
    /// Accounts and order history.
    pub account: T,
    /// Placing orders.
    pub checkout: T,
}

/// What became of the requests of every class.
pub type Classes = ByClass<ClassFigures>;

/// What became of the requests of one class.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct ClassFigures {
    /// Requests that were due.
    pub sent: u64,
    /// Answered properly.
    pub ok: u64,
    /// Left without a proper answer.
    pub failed: u64,
    /// Median latency from the moment when they were due, in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile of that latency, in milliseconds.
    pub p99_ms: f64,
}

/// An outage; see [`Outage`](super::outage::Outage) for its definition. All zero when there was none.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct OutageFigures {
    /// From the script's start to the outage's, in seconds.
    pub onset_s: f64,
    /// How long it lasted, in seconds.
    pub duration_s: f64,
    /// Failed requests per request due within it.
    pub failed_share: ByClass<f64>,
    /// Whether the script had to be terminated, rather than ending by itself.
    pub script_terminated: bool,
    /// How long the script ran, in seconds.
    pub script_s: f64,
}

/// The migration through the engine.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct MigrationFigures {
    /// Rows that were pending before it began.
    pub rows_total: i64,
    /// Rows that it changed.
    pub rows_changed: i64,
    /// Rows per second at peak, over the time that it was not paused.
    pub rows_per_s: f64,
    /// Median over the cycles of the 99th percentile with it, in milliseconds.
    pub p99_on_ms: f64,
    /// Median over the cycles of the 99th percentile without it, in milliseconds.
    pub p99_off_ms: f64,
    /// Median over the cycles of the ratio of the two.
    pub p99_ratio_median: f64,
    /// Cycles.
    pub cycles: usize,
    /// Whether nothing was pending at the end, by the engine's check and by an independent count.
    pub verified: bool,
    /// The same ratio over cycles in which no migration ran.
    pub control_ratio_median: f64,
    /// Cycles of the control.
    pub control_cycles: usize,
    /// 99th percentile while it ran without pauses at peak, in milliseconds; null when it did not.
    pub p99_sustained_ms: f64,
    /// Rows per second while it ran without pauses at peak; null when it did not.
    pub sustained_rows_per_s: f64,
    /// Rows changed after the peak was over.
    pub rows_after_peak: i64,
}

impl MigrationFigures {
    /// How much of it was done when, and whether all of it was found done.
    pub fn progress(&self) -> String {
        let Self {
            rows_total,
            rows_changed,
            rows_after_peak,
            ..
        } = self;
        let when = match rows_after_peak {
            0 => "all of them at peak".to_owned(),
            after => format!(
                "{} of them at peak and {after} after it",
                rows_changed - after
            ),
        };
        let verified = if self.verified {
            "verified"
        } else {
            "NOT verified"
        };
        format!("{rows_changed} of {rows_total} rows changed, {when}; {verified}")
    }
}

impl<T> ByClass<T> {
    /// One value for each class.
    pub fn from_fn(mut of: impl FnMut(Class) -> T) -> Self {
        Self {
            browse: of(Class::Browse),
            account: of(Class::Account),
            checkout: of(Class::Checkout),
        }
    }

    /// The values with their classes.
    pub fn iter(&self) -> impl Iterator<Item = (Class, &T)> {
        [
            (Class::Browse, &self.browse),
            (Class::Account, &self.account),
            (Class::Checkout, &self.checkout),
        ]
        .into_iter()
    }
}

impl Classes {
    /// Sums a whole recording up.
    pub fn of(recording: &Recording) -> Self {
        Self::from_fn(|class| recording.total(class).into())
    }
}

impl From<ClassStats> for ClassFigures {
    fn from(stats: ClassStats) -> Self {
        Self {
            sent: stats.sent,
            // "Sold out" is a proper answer.
            ok: stats.ok + stats.refused,
            failed: stats.failed,
            p50_ms: stats.p50_ms,
            p99_ms: stats.p99_ms,
        }
    }
}

impl Evidence {
    /// Every claim that the figures do not bear out, as a sentence.
    pub fn broken_claims(&self) -> Vec<String> {
        let [naive, watched, guarded] = &self.acts;
        let mut broken = Vec::new();
        let mut claim = |holds: bool, otherwise: String| {
            if !holds {
                broken.push(otherwise);
            }
        };
        let outage = naive.outage.unwrap_or_default();
        for (class, share) in outage.failed_share.iter() {
            let percent = share * 100.0;
            claim(
                *share >= TOTAL,
                format!("act 1 was no total outage: {percent:.1} % of {class} failed"),
            );
        }
        let onset = outage.onset_s;
        claim(
            onset <= ONSET_MAX_S,
            format!("the outage of act 1 began only {onset:.1} s after the script"),
        );
        let watch = watched.watch.clone().unwrap_or_default();
        for (seconds, most, what) in [
            (watch.named_s, NAMED_MAX_S, "named"),
            (watch.stopped_s, STOPPED_MAX_S, "stopped"),
            (watch.normal_s, NORMAL_MAX_S, "over"),
        ] {
            claim(
                seconds <= most,
                format!(
                    "the script of act 2 was {what} {seconds:.1} s after its start, not {most} s"
                ),
            );
        }
        claim(
            watch.escalated_s.is_finite() && watch.acknowledged_s.is_finite(),
            "nobody of the second level took care in act 2".to_owned(),
        );
        let browse = watch.browse_ok * 100.0;
        claim(
            watch.browse_ok >= BROWSE_MIN,
            format!("only {browse:.1} % of browse was answered in act 2"),
        );
        for story in self.stories.iter().flatten() {
            claim(
                story.is_right() && story.innocents_ended == 0,
                format!("a {} was called {}", story.cause, story.verdict),
            );
        }
        for (class, figures) in guarded.classes.iter() {
            let ClassFigures { sent, failed, .. } = *figures;
            claim(
                sent > 0 && failed == 0,
                format!("{failed} of {sent} {class} requests failed in act 3"),
            );
        }
        let Some(migration) = guarded.migration else {
            claim(false, "act 3 had no migration".to_owned());
            return broken;
        };
        let ratio = migration.p99_ratio_median;
        // Periods without any migration differ too, by what else the machine does; that much cannot
        // be told from the migration's effect.
        let noise = migration.control_ratio_median.max(1.0);
        claim(
            ratio <= RATIO_MAX * noise,
            format!("the migration raised the p99 to {ratio:.2} times what it is without"),
        );
        let cycles = migration.cycles;
        claim(
            cycles >= CYCLES_MIN,
            format!("only {cycles} cycles were measured"),
        );
        let (changed, total) = (migration.rows_changed, migration.rows_total);
        claim(
            changed == total,
            format!("{changed} rows were changed, but {total} were pending"),
        );
        claim(
            migration.verified,
            "rows were still pending when the migration had completed".to_owned(),
        );
        broken
    }
}
