//! Everything that happens in an incident, as an event. Incidents are nothing but the fold of their
//! events: what is on a timeline, in a notification or in a postmortem is in here, or it did not happen.

use chrono::{DateTime, Utc};
use pool::Class;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::finding::{Finding, Suspect};

/// Something that happened in an incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Its own identity: the same event may come by the journal and by the database.
    pub id: Uuid,
    /// The incident.
    pub incident: Uuid,
    /// When, by the clock of whoever wrote it.
    pub at: DateTime<Utc>,
    /// Who: `watch`, a person, a channel.
    pub by: String,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

impl Event {
    /// An event that happens now.
    pub fn now(incident: Uuid, by: impl Into<String>, what: What) -> Self {
        Self {
            id: Uuid::now_v7(),
            incident,
            at: Utc::now(),
            by: by.into(),
            what,
        }
    }
}

/// How much an incident hurts.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    sqlx::Type,
    ToSchema,
)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum Severity {
    /// Worth a look during the day.
    Warning,
    /// Shoppers suffer; somebody is to be woken.
    Critical,
}

impl Severity {
    /// Its name in JSON and in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// The incident began.
    Opened {
        /// In a few words.
        title: String,
        /// How much it hurts.
        severity: Severity,
        /// Which open incident another report of the same thing belongs to.
        key: String,
    },
    /// The watch came to another finding than before.
    Found {
        /// What it says now.
        finding: Box<Finding>,
    },
    /// How shoppers are.
    Felt {
        /// Their classes.
        classes: Vec<Felt>,
    },
    /// Somebody changed something: a deploy, a job, a setting.
    Changed {
        /// In a few words.
        summary: String,
        /// Where that was reported from.
        source: String,
    },
    /// The watch did something to a session.
    Acted {
        /// What.
        act: Act,
        /// To whom.
        suspect: Box<Suspect>,
        /// Why the breaker may.
        policy: String,
        /// What came of it; `None` if it succeeded.
        problem: Option<String>,
        /// How it is undone.
        undo: String,
    },
    /// The watch would act, and a person has to decide.
    Asked {
        /// What it would do.
        act: Act,
        /// To whom.
        suspect: Box<Suspect>,
        /// Why it does not by itself.
        policy: String,
    },
    /// The incident was handed to the next level of people.
    Escalated {
        /// Counted from 1.
        level: u32,
        /// Why: nobody acknowledged, or a channel is dead.
        reason: String,
    },
    /// A channel was told.
    Notified {
        /// The level that it belongs to.
        level: u32,
        /// Its name.
        channel: String,
        /// Why it was told.
        occasion: Occasion,
        /// The events that the message was the first to tell it: none is told twice or forgotten,
        /// whatever the clocks do.
        news: Vec<Uuid>,
        /// Why it was not reached; `None` if it was.
        problem: Option<String>,
    },
    /// A person has allowed what the watch asked for.
    Permitted {
        /// The event that asked. It is permitted once, however many messages carried the link.
        ask: Uuid,
    },
    /// Somebody takes care.
    Acknowledged {
        /// By which way: `cli`, `http`, `link`.
        via: String,
    },
    /// It still goes on and whoever acknowledged has been silent for too long.
    AcknowledgementExpired,
    /// A person's words.
    Noted {
        /// The words.
        text: String,
    },
    /// Shoppers are well again.
    Recovered,
    /// It came back after it had been thought over.
    Relapsed,
    /// It is over.
    Resolved {
        /// What it has cost.
        impact: Box<Impact>,
    },
}

impl What {
    /// Its name in JSON and in the database.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Opened { .. } => "opened",
            Self::Found { .. } => "found",
            Self::Felt { .. } => "felt",
            Self::Changed { .. } => "changed",
            Self::Acted { .. } => "acted",
            Self::Asked { .. } => "asked",
            Self::Escalated { .. } => "escalated",
            Self::Notified { .. } => "notified",
            Self::Permitted { .. } => "permitted",
            Self::Acknowledged { .. } => "acknowledged",
            Self::AcknowledgementExpired => "acknowledgement_expired",
            Self::Noted { .. } => "noted",
            Self::Recovered => "recovered",
            Self::Relapsed => "relapsed",
            Self::Resolved { .. } => "resolved",
        }
    }

    /// Whether it decides how far an incident has come. These are few, however long it lasts.
    pub fn moves(&self) -> bool {
        matches!(
            self,
            Self::Opened { .. } | Self::Recovered | Self::Relapsed | Self::Resolved { .. }
        )
    }
}

/// Why a channel is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Occasion {
    /// There is an incident; the first level is called.
    Opened,
    /// Nobody took care, and the next level is called.
    Escalated,
    /// Nobody took care, and there is nobody else to call.
    Repeated,
    /// Whoever took care has been silent for too long.
    Expired,
    /// The watch knows better, or it has become worse.
    Updated,
    /// The watch did something to a session.
    Acted,
    /// A person has to decide.
    Asked,
    /// Somebody takes care.
    Acknowledged,
    /// Shoppers are well again.
    Recovered,
    /// They are not, after all.
    Relapsed,
    /// It is over.
    Resolved,
}

impl Occasion {
    /// Whether it calls somebody. All others only tell whoever was called.
    pub fn is_page(self) -> bool {
        matches!(
            self,
            Self::Opened | Self::Escalated | Self::Repeated | Self::Expired
        )
    }

    /// Its name in JSON and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Escalated => "escalated",
            Self::Repeated => "repeated",
            Self::Expired => "expired",
            Self::Updated => "updated",
            Self::Acted => "acted",
            Self::Asked => "asked",
            Self::Acknowledged => "acknowledged",
            Self::Recovered => "recovered",
            Self::Relapsed => "relapsed",
            Self::Resolved => "resolved",
        }
    }
}

/// How a class of shoppers is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Felt {
    /// The class.
    pub class: Class,
    /// Requests per second that arrived.
    pub arrivals_per_s: f64,
    /// Requests per second that failed.
    pub failed_per_s: f64,
    /// 95th percentile of the latency in milliseconds; requests still under way count with their age.
    pub p95_ms: Option<f64>,
}

/// What can be done to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Act {
    /// Its statement is cancelled.
    Cancel,
    /// Its connection is ended.
    Terminate,
}

impl Act {
    /// As an imperative.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Cancel => "Cancel the statement of",
            Self::Terminate => "End",
        }
    }
}

/// What an incident has cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Impact {
    /// Requests that failed, by class.
    pub failed: Vec<(Class, u64)>,
    /// Requests that arrived, by class.
    pub arrived: Vec<(Class, u64)>,
    /// Orders that would have been placed in the time, by the rate before.
    pub orders_lost: f64,
    /// Their value, in minor units of the shop's currency; `None` if no order is known.
    pub money_at_risk_minor: Option<i64>,
}
