//! An incident: the fold of its events.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::FromRow;
use utoipa::ToSchema;
use uuid::Uuid;

use super::event::{Event, Impact, Severity, What};
use super::finding::{Finding, Suspect};

/// What the keys of incidents begin with that a rule has opened; its name follows.
pub const OF_A_RULE: &str = "alert/";

/// The rule of the alerts that has opened the incident with this key, if it was one.
pub fn rule_of(key: &str) -> Option<&str> {
    key.strip_prefix(OF_A_RULE)
}

/// How far an incident has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum Stage {
    /// Shoppers suffer.
    Open,
    /// They do not any more, and it is waited whether that lasts.
    Recovered,
    /// It is over.
    Resolved,
}

impl Stage {
    /// Its name in JSON and in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Recovered => "recovered",
            Self::Resolved => "resolved",
        }
    }
}

/// An incident in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, FromRow, ToSchema)]
pub struct Summary {
    /// Its identity.
    pub id: Uuid,
    /// When it began.
    pub opened_at: DateTime<Utc>,
    /// In a few words.
    pub title: String,
    /// How much it hurts.
    pub severity: Severity,
    /// How far it has come.
    pub stage: Stage,
    /// Which reports belong to it.
    pub key: String,
}

/// An incident as it stands after its events.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Incident {
    /// Its identity.
    pub id: Uuid,
    /// In a few words.
    pub title: String,
    /// How much it hurts.
    pub severity: Severity,
    /// Which reports belong to it.
    pub key: String,
    /// How far it has come.
    pub stage: Stage,
    /// When it began.
    pub opened_at: DateTime<Utc>,
    /// When shoppers were well again.
    pub recovered_at: Option<DateTime<Utc>>,
    /// When it was over.
    pub resolved_at: Option<DateTime<Utc>>,
    /// Who takes care, and since when.
    pub acknowledged: Option<(String, DateTime<Utc>)>,
    /// The level of people that it has come to, counted from 1; 0 before anybody was told.
    pub level: u32,
    /// The best finding so far: the surest that names a cause, or else the latest.
    pub finding: Option<Finding>,
    /// What it has cost, once it is over.
    pub impact: Option<Impact>,
    /// All of it, in order.
    pub events: Vec<Event>,
}

impl Incident {
    /// The incident that `events` make, in whatever order they are given and however often each;
    /// `None` when its beginning is not among them.
    pub fn fold(mut events: Vec<Event>) -> Option<Self> {
        events.sort_by_key(|event| (event.at, event.id));
        let mut seen = std::collections::HashSet::new();
        events.retain(|event| seen.insert(event.id));
        let mut incident = events.iter().find_map(Self::begin)?;
        for event in &events {
            incident.take(event);
        }
        incident.events = events;
        Some(incident)
    }

    /// When something of the kind that is `wanted` first happened in it.
    pub fn first(&self, wanted: impl Fn(&What) -> bool) -> Option<DateTime<Utc>> {
        let event = self.events.iter().find(|event| wanted(&event.what))?;
        Some(event.at)
    }

    /// Whether what the event `ask` asked for has been allowed.
    pub fn is_permitted(&self, ask: Uuid) -> bool {
        self.first(|what| matches!(what, What::Permitted { ask: of } if *of == ask))
            .is_some()
    }

    /// The questions of the watch that are still open, oldest first: nobody has allowed what it asks,
    /// the session is there, and it has not been asked again.
    pub fn questions(&self) -> impl DoubleEndedIterator<Item = &Event> {
        let open = |event: &&Event| match &event.what {
            What::Asked { suspect, .. } => {
                !self.is_permitted(event.id) && !self.is_settled(event, suspect)
            }
            _ => false,
        };
        self.events.iter().filter(open)
    }

    /// Whether the session that `question` is about has gone, or is asked about again.
    fn is_settled(&self, question: &Event, suspect: &Suspect) -> bool {
        self.events.iter().any(|event| match &event.what {
            What::Acted {
                suspect: of,
                problem: None,
                ..
            } => of.is_same_session(suspect),
            What::Asked { suspect: of, .. } => {
                (event.at, event.id) > (question.at, question.id) && of.is_same_session(suspect)
            }
            _ => false,
        })
    }

    /// The incident as lists show it.
    pub fn summary(&self) -> Summary {
        Summary {
            id: self.id,
            opened_at: self.opened_at,
            title: self.title.clone(),
            severity: self.severity,
            stage: self.stage,
            key: self.key.clone(),
        }
    }

    /// Whether anybody still has to care.
    pub fn is_open(&self) -> bool {
        self.stage != Stage::Resolved
    }

    fn begin(event: &Event) -> Option<Self> {
        let What::Opened {
            title,
            severity,
            key,
        } = &event.what
        else {
            return None;
        };
        Some(Self {
            id: event.incident,
            title: title.clone(),
            severity: *severity,
            key: key.clone(),
            stage: Stage::Open,
            opened_at: event.at,
            recovered_at: None,
            resolved_at: None,
            acknowledged: None,
            level: 0,
            finding: None,
            impact: None,
            events: Vec::new(),
        })
    }

    fn take(&mut self, event: &Event) {
        match &event.what {
            What::Found { finding } => self.found(finding),
            What::Escalated { level, .. } => self.level = self.level.max(*level),
            What::Acknowledged { .. } => self.acknowledged = Some((event.by.clone(), event.at)),
            What::AcknowledgementExpired => self.acknowledged = None,
            // What is over stays over, whatever a slower process still reports.
            What::Recovered if self.stage == Stage::Resolved => {}
            What::Recovered => {
                self.stage = Stage::Recovered;
                self.recovered_at = Some(event.at);
            }
            What::Relapsed => {
                self.stage = Stage::Open;
                self.recovered_at = None;
                self.resolved_at = None;
                self.impact = None;
            }
            What::Resolved { impact } => {
                self.stage = Stage::Resolved;
                self.resolved_at = Some(event.at);
                self.impact = Some((**impact).clone());
            }
            // Another report of the same thing can only make it worse.
            What::Opened { severity, .. } => self.severity = self.severity.max(*severity),
            What::Felt { .. }
            | What::Changed { .. }
            | What::Acted { .. }
            | What::Asked { .. }
            | What::Notified { .. }
            | What::Permitted { .. }
            | What::Noted { .. } => {}
        }
    }

    fn found(&mut self, finding: &Finding) {
        if is_better(finding, self.finding.as_ref()) {
            self.finding = Some(finding.clone());
        }
    }
}

/// Whether a finding is to stand instead of the one before. Later findings may be of the aftermath,
/// so one that names a cause stays until a surer one.
pub(super) fn is_better(finding: &Finding, before: Option<&Finding>) -> bool {
    before.is_none_or(|before| {
        (finding.is_of_a_cause(), finding.certainty) >= (before.is_of_a_cause(), before.certainty)
    })
}
