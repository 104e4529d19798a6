//! How a rule goes from calm to pending to firing and back.

use chrono::{DateTime, TimeDelta, Utc};

use super::firing::State;

/// How long what a rule says stays in force after its series became unknown. Then it is left to the
/// rules for missing data.
pub const UNKNOWN_HOLDS: TimeDelta = TimeDelta::minutes(5);

/// Whether a rule's condition holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It does, by these numbers.
    Holds(String),
    /// It does not.
    Not,
    /// Nobody knows.
    Unknown,
}

/// How long a rule's condition has to hold, and not to.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Before it fires.
    pub before: TimeDelta,
    /// Before it is resolved.
    pub after: TimeDelta,
}

/// A rule's way so far.
#[derive(Clone, Debug, Default)]
pub struct Track {
    stage: Stage,
    /// When it was last known whether the condition holds.
    known: Option<DateTime<Utc>>,
    detail: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Stage {
    #[default]
    Calm,
    Pending {
        since: DateTime<Utc>,
    },
    Firing {
        since: DateTime<Utc>,
        fired: DateTime<Utc>,
        /// Since when the condition has not held.
        calm: Option<DateTime<Utc>>,
    },
}

/// A change of state.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// To which.
    pub state: State,
    /// Since when the condition held.
    pub since: DateTime<Utc>,
    /// By which numbers.
    pub detail: String,
}

impl Track {
    /// Takes what is known at `at`.
    pub fn step(
        &mut self,
        at: DateTime<Utc>,
        verdict: Verdict,
        patience: Patience,
    ) -> Option<Change> {
        match verdict {
            Verdict::Holds(detail) => {
                self.known = Some(at);
                self.detail = detail;
                self.holds(at, patience)
            }
            Verdict::Not => {
                self.known = Some(at);
                self.not(at, patience)
            }
            Verdict::Unknown => self.unknown(at),
        }
    }

    /// What is pending or fires, and when that began.
    pub fn current(&self) -> Option<(State, DateTime<Utc>, DateTime<Utc>, &str)> {
        match self.stage {
            Stage::Calm => None,
            Stage::Pending { since } => Some((State::Pending, since, since, &self.detail)),
            Stage::Firing { since, fired, .. } => Some((State::Firing, since, fired, &self.detail)),
        }
    }

    /// Whether it fires and its condition held when it was last known.
    pub fn persists(&self) -> bool {
        matches!(self.stage, Stage::Firing { calm: None, .. })
    }

    fn holds(&mut self, at: DateTime<Utc>, patience: Patience) -> Option<Change> {
        let since = match &mut self.stage {
            Stage::Firing { calm, .. } => {
                *calm = None;
                return None;
            }
            Stage::Pending { since } => *since,
            Stage::Calm => at,
        };
        if at - since >= patience.before {
            self.stage = Stage::Firing {
                since,
                fired: at,
                calm: None,
            };
            return self.change(State::Firing, since);
        }
        let begins = self.stage == Stage::Calm;
        self.stage = Stage::Pending { since };
        begins.then(|| self.change(State::Pending, since)).flatten()
    }

    fn not(&mut self, at: DateTime<Utc>, patience: Patience) -> Option<Change> {
        match &mut self.stage {
            Stage::Calm => None,
            Stage::Pending { .. } => {
                self.stage = Stage::Calm;
                None
            }
            Stage::Firing { since, calm, .. } => {
                let (since, calm) = (*since, *calm.get_or_insert(at));
                if at - calm < patience.after {
                    return None;
                }
                self.stage = Stage::Calm;
                self.change(State::Resolved, since)
            }
        }
    }

    fn unknown(&mut self, at: DateTime<Utc>) -> Option<Change> {
        let known = self.known?;
        if at - known < UNKNOWN_HOLDS {
            return None;
        }
        let stage = std::mem::take(&mut self.stage);
        let Stage::Firing { since, .. } = stage else {
            return None;
        };
        self.detail = format!("unknown since {}", known.format("%H:%M:%S"));
        self.change(State::Resolved, since)
    }

    fn change(&self, state: State, since: DateTime<Utc>) -> Option<Change> {
        Some(Change {
            state,
            since,
            detail: self.detail.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        before: TimeDelta::seconds(60),
        after: TimeDelta::seconds(120),
    };

    /// Steps every 10 s: `+` holds, `-` does not, `?` is unknown. Returns what changed at which second.
    fn play(verdicts: &str) -> Vec<(i64, State)> {
        let mut track = Track::default();
        let mut changes = Vec::new();
        for (i, verdict) in verdicts.chars().enumerate() {
            let second = i as i64 * 10;
            let verdict = match verdict {
                '+' => Verdict::Holds(String::new()),
                '-' => Verdict::Not,
                _ => Verdict::Unknown,
            };
            let at = DateTime::from_timestamp(second, 0).unwrap();
            let change = track.step(at, verdict, PATIENCE);
            changes.extend(change.map(|change| (second, change.state)));
        }
        changes
    }

    #[test]
    fn it_fires_once_it_has_held_for_long_enough_and_not_before() {
        assert_eq!(play("+++++-"), [(0, State::Pending)]);
        let fired = [(0, State::Pending), (60, State::Firing)];
        assert_eq!(play("+++++++++"), fired);
        assert_eq!(play("+++-+++"), [(0, State::Pending), (40, State::Pending)]);
    }

    #[test]
    fn it_is_over_once_it_has_not_held_for_long_enough() {
        let held = "+".repeat(7);
        let short = format!("{held}{}+++", "-".repeat(11));
        assert_eq!(play(&short).len(), 2, "a short calm is no end");
        let over = format!("{held}{}", "-".repeat(13));
        assert_eq!(play(&over).last(), Some(&(190, State::Resolved)));
    }

    #[test]
    fn what_is_unknown_is_neither_an_end_nor_a_reason() {
        assert_eq!(play(&"?".repeat(100)), []);
        assert_eq!(
            play("+??????"),
            [(0, State::Pending)],
            "it fires on what is known alone"
        );
        assert_eq!(play("+??????+").last(), Some(&(70, State::Firing)));
        let unknown = format!("{}{}", "+".repeat(7), "?".repeat(29));
        assert_eq!(play(&unknown).len(), 2);
        let for_long = format!("{unknown}?");
        assert_eq!(play(&for_long).last(), Some(&(360, State::Resolved)));
    }
}
