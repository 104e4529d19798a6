//! What operators ask of the pace for a time.

use std::time::Instant;

use chrono::{DateTime, Utc};
use serde::Serialize;

/// A cap on the duty that ends by itself.
#[derive(Clone, Debug, Serialize)]
pub struct Rule {
    /// Its number.
    pub id: i64,
    /// The migration that it is for; `None` for all.
    pub migration: Option<String>,
    /// The most that the duty may be; 0 stands still.
    pub duty: f64,
    /// Who asked.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// Until when, by the database's clock.
    pub until: DateTime<Utc>,
    /// The same by this process's clock.
    #[serde(skip)]
    pub ends: Instant,
}

/// The rules in force at one moment.
#[derive(Clone, Debug)]
pub struct Reading {
    /// When they were read.
    pub at: Instant,
    /// Every one that had not expired.
    pub rules: Vec<Rule>,
}

/// A limit of the duty, with its reason.
#[derive(Clone, Debug, PartialEq)]
pub struct Cap {
    /// The most that the duty may be; 0 stands still.
    pub duty: f64,
    /// What limits it.
    pub source: String,
    /// Who, why and until when.
    pub reason: String,
}

impl Reading {
    /// The caps on `migration` alone, or (`None`) on all of them, at `now`. A rule that has expired
    /// since it was read is none.
    pub fn caps(&self, migration: Option<&str>, now: Instant) -> Vec<Cap> {
        let applies = |rule: &&Rule| now < rule.ends && rule.migration.as_deref() == migration;
        let cap = |rule: &Rule| Cap {
            // A duty that is not a number was not asked for by anybody; standing still is safe.
            duty: if rule.duty.is_finite() {
                rule.duty
            } else {
                0.0
            },
            source: format!("throttle {}", rule.id),
            reason: format!(
                "{} allows {:.0} % until {}: {}",
                rule.actor,
                rule.duty * 100.0,
                rule.until.format("%Y-%m-%d %H:%M:%S UTC"),
                rule.reason
            ),
        };
        self.rules.iter().filter(applies).map(cap).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_rule_applies_to_its_migration_until_it_ends() {
        let now = Instant::now();
        let rule = |id, migration: Option<&str>, seconds| Rule {
            id,
            migration: migration.map(str::to_owned),
            duty: 0.2,
            actor: "ana".to_owned(),
            reason: "sale".to_owned(),
            until: Utc::now(),
            ends: now + Duration::from_secs(seconds),
        };
        let reading = Reading {
            at: now,
            rules: vec![
                rule(1, None, 10),
                rule(2, Some("m"), 5),
                rule(3, Some("other"), 10),
            ],
        };
        let caps = |migration, seconds| {
            let caps = reading.caps(migration, now + Duration::from_secs(seconds));
            let sources = caps.into_iter().map(|cap| cap.source);
            sources.collect::<Vec<_>>().join(", ")
        };
        assert_eq!(caps(Some("m"), 0), "throttle 2");
        assert_eq!(caps(Some("m"), 5), "");
        assert_eq!(caps(None, 5), "throttle 1");
        assert_eq!(caps(None, 10), "");
    }
}
