//! What an evaluator says of a rule.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::watch::event::Severity;

/// How far a rule has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its condition holds, not yet for as long as it says.
    Pending,
    /// It fires.
    Firing,
    /// It has fired, and its condition does not hold any more.
    Resolved,
}

/// That a rule has come to another state.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Firing {
    /// The rule's name.
    pub rule: Arc<str>,
    /// How much it hurts; only what is critical is a page.
    pub severity: Severity,
    /// What it means, in a few words.
    pub title: Arc<str>,
    /// How far it has come.
    pub state: State,
    /// Since when its condition has held.
    pub since: DateTime<Utc>,
    /// When it came to this state.
    pub at: DateTime<Utc>,
    /// By which numbers.
    pub detail: String,
}

impl Firing {
    /// Whether it is to wake somebody.
    pub fn is_page(&self) -> bool {
        self.state == State::Firing && self.severity == Severity::Critical
    }

    /// Whether it is over.
    pub fn is_resolved(&self) -> bool {
        self.state == State::Resolved
    }
}

impl fmt::Display for Firing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rule,
            title,
            detail,
            ..
        } = self;
        write!(f, "{title} ({rule}: {detail})")
    }
}
