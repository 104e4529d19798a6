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
    /// Milliseconds at the 95th percentile that shoppers may pay beyond the pace's own budget. A rule
    /// that grants some caps nothing.
    pub extra_ms: f64,
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
        let applies = |rule: &&Rule| {
            let caps = rule.extra_ms == 0.0 && now < rule.ends;
            caps && rule.migration.as_deref() == migration
        };
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

    /// The rule that lets shoppers pay most beyond the pace's own budget at `now`, for one of the
    /// migrations that are `driven`.
    pub fn allowance(&self, driven: &[impl AsRef<str>], now: Instant) -> Option<&Rule> {
        let granted = self.rules.iter().filter(|rule| {
            let named = rule.migration.as_deref();
            let applies = named.is_none_or(|name| driven.iter().any(|d| d.as_ref() == name));
            rule.extra_ms.is_finite() && rule.extra_ms > 0.0 && now < rule.ends && applies
        });
        granted.max_by(|a, b| a.extra_ms.total_cmp(&b.extra_ms))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any moment will do")]
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
            extra_ms: 0.0,
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

    #[test]
    fn an_allowance_holds_for_its_migration_and_its_time_and_caps_nothing() {
        let now = Instant::now();
        let rule = |id, migration: &str, extra_ms, seconds| Rule {
            id,
            migration: Some(migration.to_owned()),
            duty: 1.0,
            extra_ms,
            actor: "ana".to_owned(),
            reason: "the deadline".to_owned(),
            until: Utc::now(),
            ends: now + Duration::from_secs(seconds),
        };
        let reading = Reading {
            at: now,
            rules: vec![
                rule(1, "m", 1.0, 10),
                rule(2, "m", 3.0, 5),
                rule(3, "other", 9.0, 10),
                rule(4, "m", f64::NAN, 10),
            ],
        };
        let granted = |driven: &[&str], seconds| {
            let at = now + Duration::from_secs(seconds);
            reading.allowance(driven, at).map(|rule| rule.id)
        };
        assert_eq!(granted(&["m"], 0), Some(2));
        assert_eq!(granted(&["m"], 5), Some(1));
        assert_eq!(granted(&["m", "other"], 5), Some(3));
        assert_eq!(granted(&["m"], 10), None);
        assert_eq!(granted(&[], 0), None);
        assert!(
            reading
                .caps(Some("m"), now)
                .iter()
                .all(|cap| cap.source == "throttle 4")
        );
    }
}
