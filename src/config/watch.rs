//! Settings of the watch.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use settings::bounds::{above_zero, at_most, lasts, time, within};

use super::database::database_url;
use super::notify::{Notify, Secret};

/// The watch: who overloads the database.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Watch {
    /// Whether this process watches.
    pub enabled: bool,
    /// How the watch connects, if not as the shop does: as a role that may see and end other
    /// roles' sessions, and that gets in when all ordinary connections are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_url: Option<Secret>,
    /// Where incidents are kept beside the database, which may be what is down; without one the
    /// user's state directory is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal: Option<PathBuf>,
    /// How often the sessions are looked at while all is well.
    #[serde(with = "settings::HumanTime")]
    pub calm: Duration,
    /// How often they are looked at while shoppers suffer.
    #[serde(with = "settings::HumanTime")]
    pub trouble: Duration,
    /// How long shoppers have to be well before an incident is over.
    #[serde(with = "settings::HumanTime")]
    pub resolve_after: Duration,
    /// What the watch may do to sessions.
    pub breaker: Breaker,
    /// What is worth a person's time.
    pub alerts: Alerts,
    /// Jobs that are known, with their owners.
    pub jobs: Vec<Job>,
    /// How people reach `http.listen`, such as `https://shop.example`: messages link to what they may
    /// do there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_url: Option<String>,
    /// How operators reach `ops.listen`, such as `https://operations.example`: messages link to the
    /// record of an incident there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ops_url: Option<String>,
    /// Who is told of an incident.
    pub notify: Notify,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            enabled: true,
            database_url: None,
            journal: None,
            calm: Duration::from_secs(1),
            trouble: Duration::from_millis(200),
            resolve_after: Duration::from_secs(30),
            breaker: Breaker::default(),
            alerts: Alerts::default(),
            jobs: Vec::new(),
            public_url: None,
            ops_url: None,
            notify: Notify::default(),
        }
    }
}

impl Watch {
    /// Checks what types cannot express.
    ///
    /// # Errors
    /// A sentence that names the setting.
    pub(super) fn validate(&self) -> Result<(), String> {
        database_url(
            "watch.database_url",
            self.database_url.as_ref().map(Secret::expose),
        )?;
        above_zero("watch.calm", self.calm)?;
        above_zero("watch.trouble", self.trouble)?;
        above_zero("watch.resolve_after", self.resolve_after)?;
        at_most(
            ("watch.trouble", self.trouble),
            ("watch.calm", self.calm),
            time,
            "who suffers is looked after more often",
        )?;
        // Below a half the other findings together are more likely.
        within("watch.breaker.certainty", self.breaker.certainty, 0.5..=1.0)?;
        lasts("watch.breaker.grace", self.breaker.grace, Duration::ZERO)?;
        for (rule, number) in self.breaker.rules.iter().zip(1..) {
            let given = |name: &Option<String>| name.as_ref().is_some_and(|name| !name.is_empty());
            if !given(&rule.role) && !given(&rule.application) {
                return Err(format!(
                    "watch.breaker.rules: rule {number} has neither role nor application, so it would \
                     hold for everybody's sessions; give one of them"
                ));
            }
            if let Some(grace) = rule.grace {
                lasts(
                    &format!("grace of rule {number} in watch.breaker.rules"),
                    grace,
                    Duration::ZERO,
                )?;
            }
        }
        self.notify.validate()
    }
}

/// What is worth a person's time.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Alerts {
    /// A file of rules, in the form of `monitoring/alerts.toml`; without one, those are used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<PathBuf>,
}

/// What the watch may do to sessions that it blames. Without any rule it asks.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// Roles that run maintenance only. Their sessions may be ended.
    pub maintenance_roles: Vec<String>,
    /// Rules for roles and applications; the first that fits counts, before the list above.
    pub rules: Vec<BreakerRule>,
    /// How sure the watch has to be, from 0.5 to 1.
    pub certainty: f64,
    /// How long a culprit may go on after it was named.
    #[serde(with = "settings::HumanTime")]
    pub grace: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            maintenance_roles: Vec::new(),
            rules: Vec::new(),
            certainty: 0.8,
            grace: Duration::from_millis(100),
        }
    }
}

/// What may be done to sessions of a role or an application.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BreakerRule {
    /// The role; every role if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The application name, or its beginning followed by `*`; every one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<String>,
    /// What may be done.
    pub policy: Policy,
    /// How long they may go on, if not as long as everybody else.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "settings::HumanTime"
    )]
    pub grace: Option<Duration>,
}

/// What may be done to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Nothing, whatever it does.
    Never,
    /// What a person decides.
    Ask,
    /// Its statement may be cancelled.
    Cancel,
    /// Its connection may be ended.
    Terminate,
}

/// A job that somebody answers for. A session is that job when all that is given here fits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Its name; also what a session's SQL comments may call it.
    pub name: String,
    /// Who answers for it.
    pub owner: String,
    /// The role that it runs as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// How it calls itself, or the beginning of that followed by `*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<String>,
}
