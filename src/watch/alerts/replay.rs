//! What would have fired.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::evaluator::Evaluator;
use super::firing::{Firing, State};
use super::reading::Reading;
use crate::watch::event::Severity;

/// Seconds of a week.
const WEEK: f64 = 7.0 * 86_400.0;

/// One time that a rule would have fired.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fired {
    /// The rule's name.
    pub rule: Arc<str>,
    /// How much it hurts.
    pub severity: Severity,
    /// What it means.
    pub title: Arc<str>,
    /// Since when its condition held.
    pub since: DateTime<Utc>,
    /// When it fired.
    pub at: DateTime<Utc>,
    /// When it was over; `None` if it was not.
    pub resolved: Option<DateTime<Utc>>,
    /// By which numbers.
    pub detail: String,
}

/// What rules would have done over a history.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Replay {
    /// The first reading that counts.
    pub from: DateTime<Utc>,
    /// The last reading.
    pub to: DateTime<Utc>,
    /// What fired, in order.
    pub fired: Vec<Fired>,
    /// Pages a week that are borne.
    pub budget: f64,
}

impl Replay {
    /// Gives `readings` in the order of their time to `evaluator`. Those before `from` are learnt
    /// from, and what fires there is not counted. `None` when no reading counts.
    pub fn run(
        evaluator: &mut Evaluator,
        readings: &[Reading],
        from: Option<DateTime<Utc>>,
    ) -> Option<Self> {
        let counts = |at: DateTime<Utc>| from.is_none_or(|from| at >= from);
        let first = readings.iter().find(|reading| counts(reading.at))?.at;
        let mut replay = Self {
            from: first,
            to: readings.last()?.at,
            fired: Vec::new(),
            budget: evaluator.rules().pages_per_week,
        };
        for reading in readings {
            for firing in evaluator.observe(reading) {
                if counts(firing.at) {
                    replay.take(firing);
                }
            }
        }
        Some(replay)
    }

    fn take(&mut self, firing: Firing) {
        match firing.state {
            State::Pending => {}
            State::Firing => self.fired.push(Fired {
                rule: firing.rule,
                severity: firing.severity,
                title: firing.title,
                since: firing.since,
                at: firing.at,
                resolved: None,
                detail: firing.detail,
            }),
            State::Resolved => {
                let fired = self.fired.iter_mut().rev();
                let open = fired.filter(|fired| fired.resolved.is_none());
                if let Some(fired) = open.into_iter().find(|fired| fired.rule == firing.rule) {
                    fired.resolved = Some(firing.at);
                }
            }
        }
    }

    /// How often somebody would have been woken.
    pub fn pages(&self) -> usize {
        let pages = self.fired.iter();
        pages
            .filter(|fired| fired.severity == Severity::Critical)
            .count()
    }

    /// How long the history is.
    pub fn time(&self) -> TimeDelta {
        self.to - self.from
    }

    /// Pages a week. A history of less than a week counts as one: nobody knows its other days.
    pub fn pages_per_week(&self) -> f64 {
        let weeks = self.time().as_seconds_f64() / WEEK;
        self.pages() as f64 / weeks.max(1.0)
    }

    /// Whether that is more than the budget.
    pub fn is_above_budget(&self) -> bool {
        self.pages_per_week() > self.budget
    }
}
