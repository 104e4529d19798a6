//! What the watch blames: the cause, who it is, by which evidence, and what it is not.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why shoppers suffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A script, a job or a person's statement from outside the shop.
    Script,
    /// A session that holds a lock and does nothing, or only reads, behind which a statement waits
    /// that everybody else waits for.
    BlockedChain,
    /// A background migration of ours.
    OwnMigration,
    /// More shoppers than there are otherwise.
    TrafficSurge,
    /// A new version of the shop: statements that were not there before.
    BadDeploy,
    /// Somebody else's connections have used up what the server admits.
    ConnectionStorm,
    /// The database does not answer.
    DatabaseLost,
    /// The cause is gone, and what had queued up is being worked off.
    Recovery,
    /// Something, but none of these by the evidence.
    Unknown,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 9] = [
        Self::Script,
        Self::BlockedChain,
        Self::OwnMigration,
        Self::TrafficSurge,
        Self::BadDeploy,
        Self::ConnectionStorm,
        Self::DatabaseLost,
        Self::Recovery,
        Self::Unknown,
    ];

    /// Its name in JSON, metrics and rules.
    pub fn name(self) -> &'static str {
        match self {
            Self::Script => "script",
            Self::BlockedChain => "blocked_chain",
            Self::OwnMigration => "own_migration",
            Self::TrafficSurge => "traffic_surge",
            Self::BadDeploy => "bad_deploy",
            Self::ConnectionStorm => "connection_storm",
            Self::DatabaseLost => "database_lost",
            Self::Recovery => "recovery",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A session that is blamed. A process id alone is no identity: servers use it again, so it is
/// never used without `backend_start`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Suspect {
    /// Its process id on the server.
    pub pid: i32,
    /// When its connection was opened, by the server's clock.
    pub backend_start: Option<DateTime<Utc>>,
    /// Its role.
    pub role: String,
    /// How it calls itself; may be empty.
    pub application: String,
    /// The address that it comes from; `None` on the server's own machine.
    pub client: Option<String>,
    /// When its transaction began, by the server's clock.
    pub since: Option<DateTime<Utc>>,
    /// Its statement without literals, which may be somebody's data.
    pub statement: String,
    /// The job that it is known to be.
    pub job: Option<KnownJob>,
    /// What it holds that others wait for, such as `AccessExclusiveLock on orders`.
    pub holds: Vec<String>,
}

/// A job that somebody has entered with its owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KnownJob {
    /// Its name.
    pub name: String,
    /// Who answers for it.
    pub owner: String,
}

impl Suspect {
    /// Whether `other` is the same session, not only one with the same process id.
    pub fn is_same_session(&self, other: &Self) -> bool {
        (self.pid, self.backend_start) == (other.pid, other.backend_start)
    }

    /// Who it is, in a clause: "job `nightly-reprice` (role cron, 10.0.0.7, since 10:00:02)".
    pub fn describe(&self) -> String {
        let who = match (&self.job, self.application.as_str()) {
            (Some(job), _) => format!("job `{}` of {}", job.name, job.owner),
            (None, "") => format!("session {}", self.pid),
            (None, application) => format!("`{application}`"),
        };
        let client = self.client.as_deref().unwrap_or("on the server's machine");
        let since = self
            .since
            .map(|since| format!(", since {}", since.format("%H:%M:%S")))
            .unwrap_or_default();
        format!("{who} (role {}, {client}{since})", self.role)
    }
}

/// What the watch says at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// When, by this process's clock.
    pub at: DateTime<Utc>,
    /// Why shoppers suffer.
    pub cause: Cause,
    /// Who it is, where somebody is to blame. In a blocked chain this is its root.
    pub culprit: Option<Suspect>,
    /// In a blocked chain, the statement that waits for the root and that everybody waits for.
    pub first_victim: Option<Suspect>,
    /// Other sessions of the same client that stand in the way as the culprit does.
    #[serde(default)]
    pub accomplices: Vec<Suspect>,
    /// How sure this is, from 0 to 1: the share of the shop's trouble that the cause explains.
    pub certainty: f64,
    /// What speaks for it, each a clause with its numbers.
    pub evidence: Vec<String>,
    /// What it is not, and by which numbers.
    pub exclusions: Vec<String>,
}

impl Finding {
    /// Whether it says why shoppers suffer, rather than that nothing is known or left.
    pub fn is_of_a_cause(&self) -> bool {
        !matches!(self.cause, Cause::Unknown | Cause::Recovery)
    }

    /// All of it in one paragraph.
    pub fn sentence(&self) -> String {
        let mut text = match &self.culprit {
            Some(culprit) => culprit.describe(),
            None => self.cause.name().replace('_', " "),
        };
        if !self.evidence.is_empty() {
            text = format!("{text}: {}", self.evidence.join("; "));
        }
        text.push('.');
        for exclusion in &self.exclusions {
            text = format!("{text} {exclusion}.");
        }
        text
    }
}
