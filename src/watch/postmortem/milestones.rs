//! When what was reached in an incident.

use chrono::{DateTime, TimeDelta, Utc};

use crate::watch::event::What;
use crate::watch::finding::{Cause, Finding};
use crate::watch::incident::Incident;

/// When what was reached; each is absent if it never was.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Milestones {
    pub(super) opened: DateTime<Utc>,
    /// A person began to care.
    pub(super) acknowledged: Option<DateTime<Utc>>,
    /// It was handed to the next level.
    pub(super) escalated: Option<DateTime<Utc>>,
    /// The cause that the incident is about was first found.
    pub(super) named: Option<DateTime<Utc>>,
    /// The first session was stopped.
    pub(super) stopped: Option<DateTime<Utc>>,
    /// Shoppers were well again, for good.
    pub(super) normal: Option<DateTime<Utc>>,
    pub(super) resolved: Option<DateTime<Utc>>,
    /// Causes that were found before and given up.
    pub(super) false_trails: Vec<Cause>,
}

impl Milestones {
    pub(super) fn of(incident: &Incident) -> Self {
        let named = |finding: &Finding| is_named(incident, finding);
        Self {
            opened: incident.opened_at,
            acknowledged: incident.first(|what| matches!(what, What::Acknowledged { .. })),
            // The first level is who is told to begin with.
            escalated: incident
                .first(|what| matches!(what, What::Escalated { level, .. } if *level > 1)),
            named: incident.first(|what| matches!(what, What::Found { finding } if named(finding))),
            stopped: incident.first(|what| matches!(what, What::Acted { problem: None, .. })),
            normal: incident.recovered_at.or(incident.resolved_at),
            resolved: incident.resolved_at,
            false_trails: false_trails(incident),
        }
    }

    /// How long after the beginning.
    pub(super) fn after(&self, at: Option<DateTime<Utc>>) -> Option<TimeDelta> {
        at.map(|at| (at - self.opened).max(TimeDelta::zero()))
    }
}

/// Whether `finding` names the cause that the incident is about.
pub(super) fn is_named(incident: &Incident, finding: &Finding) -> bool {
    finding.is_of_a_cause()
        && incident
            .finding
            .as_ref()
            .is_some_and(|best| best.cause == finding.cause)
}

/// Only what came before the cause: what is found afterwards is of the aftermath.
fn false_trails(incident: &Incident) -> Vec<Cause> {
    let mut trails = Vec::new();
    for event in &incident.events {
        let What::Found { finding } = &event.what else {
            continue;
        };
        if is_named(incident, finding) {
            break;
        }
        if finding.is_of_a_cause() && !trails.contains(&finding.cause) {
            trails.push(finding.cause);
        }
    }
    trails
}

/// A length of time as people say it: `0.4 s`, `12 s`, `4 min 10 s`, `2 h 15 min`.
pub(super) fn length(length: TimeDelta) -> String {
    let ms = length.num_milliseconds().max(0);
    let (s, min, h) = (ms / 1000, ms / 60_000, ms / 3_600_000);
    match s {
        0..10 => format!("{:.1} s", ms as f64 / 1e3),
        10..60 => format!("{s} s"),
        60..3600 if s % 60 == 0 => format!("{min} min"),
        60..3600 => format!("{min} min {} s", s % 60),
        _ if min % 60 == 0 => format!("{h} h"),
        _ => format!("{h} h {} min", min % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_read_as_people_say_them() {
        let said = [400, 12_400, 250_000, 5_400_000, 8_100_000, 7_200_000];
        let said = said.map(|ms| length(TimeDelta::milliseconds(ms)));
        assert_eq!(
            said,
            [
                "0.4 s",
                "12 s",
                "4 min 10 s",
                "1 h 30 min",
                "2 h 15 min",
                "2 h"
            ]
        );
    }
}
