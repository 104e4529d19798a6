//! How fast an error budget is used up: multiwindow, multi-burn-rate alerts as in chapter 5 of
//! Google's Site Reliability Workbook.
//!
//! A burn rate of 1 uses up the budget exactly over the objective's period. The long window says that
//! enough was lost to matter, the short one that it is still being lost.

use chrono::TimeDelta;

use super::series::Series;
use super::span::Spans;
use super::track::Verdict;

/// One pair of windows of an objective.
#[derive(Clone, Debug)]
pub struct Burn {
    /// Requests per second that were bad.
    pub bad: Series,
    /// All requests per second.
    pub all: Series,
    /// Share of the requests that is to be good, below 1.
    pub objective: f64,
    /// Burn rate from which on it counts.
    pub rate: f64,
    /// Says that it matters.
    pub long: TimeDelta,
    /// Says that it goes on.
    pub short: TimeDelta,
    /// Bad requests in the long window below which nothing is said: where hardly anybody asks, one
    /// bad request is a large share.
    pub at_least: f64,
}

impl Burn {
    /// Whether the budget is used up too fast in both windows.
    pub fn judge(&self, spans: &Spans) -> Verdict {
        let windows = (self.burns(spans, self.long), self.burns(spans, self.short));
        let (Some((long, bad)), Some((short, _))) = windows else {
            return Verdict::Unknown;
        };
        if long < self.rate || short < self.rate || bad < self.at_least {
            return Verdict::Not;
        }
        Verdict::Holds(format!(
            "{bad:.0} of {} in {}: {long:.1} times the budget's rate, {short:.1} times in the last {}",
            self.bad,
            humantime::format_duration(self.long.to_std().unwrap_or_default()),
            humantime::format_duration(self.short.to_std().unwrap_or_default()),
        ))
    }

    /// The burn rate over a window and how many requests were bad. What is not known of the window
    /// counts as flawless with the traffic of the rest: a burn that is shown to be as fast at least.
    fn burns(&self, spans: &Spans, window: TimeDelta) -> Option<(f64, f64)> {
        let (bad, all) = (
            spans.total(self.bad, window)?,
            spans.total(self.all, window)?,
        );
        let share = if bad.mean <= 0.0 {
            0.0
        } else {
            // Requests fail later than they arrive.
            (bad.mean / all.mean).min(1.0)
        };
        let known = bad.known.min(all.known);
        let seconds = window.num_seconds() as f64;
        Some((
            share * known / (1.0 - self.objective),
            bad.mean * bad.known * seconds,
        ))
    }
}
