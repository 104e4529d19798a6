//! What an incident's events say about who was called and told.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::watch::event::{Act, Event, Occasion, Severity, What};
use crate::watch::finding::{Cause, Finding, Suspect};
use crate::watch::incident::{Incident, is_better};

/// How long shoppers have to stay well, or unwell again, before that is news.
const STEADY: TimeDelta = TimeDelta::seconds(10);

/// Something that people are to know.
#[derive(Clone, Debug)]
pub(super) struct News {
    /// The event.
    pub(super) id: Uuid,
    /// From when on it is news.
    pub(super) at: DateTime<Utc>,
    pub(super) occasion: Occasion,
    pub(super) urgency: Urgency,
}

impl News {
    /// Whether it says how shoppers are from then on.
    pub(super) fn is_turn(&self) -> bool {
        matches!(self.occasion, Occasion::Recovered | Occasion::Relapsed)
    }
}

/// Whether a message is sent for a piece of news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// One that calls the people of this level.
    Calls(u32),
    /// One to whoever was called.
    Tells,
    /// When `group_for` is over, or with the next.
    CanWait,
    /// Only with the next.
    Rides,
}

/// A message that was sent, or could not be.
#[derive(Clone, Debug)]
pub(super) struct Told<'a> {
    pub(super) at: DateTime<Utc>,
    pub(super) level: u32,
    pub(super) occasion: Occasion,
    pub(super) news: &'a [Uuid],
    pub(super) failed: bool,
    channel: &'a str,
}

/// One pass over the events.
#[derive(Debug, Default)]
pub(super) struct History<'a> {
    pub(super) news: Vec<News>,
    told: Vec<Told<'a>>,
    /// Since when the present level has been called.
    pub(super) calling_since: Option<DateTime<Utc>>,
    /// When somebody last wrote a note.
    pub(super) noted: Option<DateTime<Utc>>,
    /// Whether a cause has been named.
    pub(super) is_named: bool,
    level: u32,
    severity: Option<Severity>,
    finding: Option<&'a Finding>,
    causes: HashSet<Cause>,
    /// To whom what was done or asked, and whether that succeeded.
    acts: HashSet<Deed>,
}

type Deed = (i32, Option<DateTime<Utc>>, Act, Occasion, bool);

impl<'a> History<'a> {
    pub(super) fn of(incident: &'a Incident) -> Self {
        let mut history = Self::default();
        for event in &incident.events {
            history.take(event);
        }
        history
    }

    /// What the channel was told, oldest first.
    pub(super) fn told_to(&self, channel: &str) -> impl DoubleEndedIterator<Item = &Told<'a>> {
        let told = self.told.iter();
        told.filter(move |told| told.channel == channel)
    }

    fn take(&mut self, event: &'a Event) {
        match &event.what {
            What::Opened { severity, .. } => self.opened(event, *severity),
            What::Found { finding } => self.found(event, finding),
            What::Escalated { level, .. } if *level > self.level => {
                let occasion = match self.level {
                    0 => Occasion::Opened,
                    _ => Occasion::Escalated,
                };
                self.level = *level;
                self.call(event, occasion);
            }
            What::AcknowledgementExpired => self.call(event, Occasion::Expired),
            What::Notified {
                level,
                channel,
                occasion,
                news,
                problem,
            } => self.told.push(Told {
                at: event.at,
                level: *level,
                channel,
                occasion: *occasion,
                news,
                failed: problem.is_some(),
            }),
            What::Acted {
                act,
                suspect,
                problem,
                ..
            } => self.acted(event, Occasion::Acted, *act, suspect, problem.is_none()),
            What::Asked { act, suspect, .. } => {
                self.acted(event, Occasion::Asked, *act, suspect, true);
            }
            What::Acknowledged { .. } => self.tell(event, Occasion::Acknowledged),
            What::Recovered => self.turn(event, Occasion::Recovered),
            What::Relapsed => self.turn(event, Occasion::Relapsed),
            What::Resolved { .. } => self.tell(event, Occasion::Resolved),
            What::Noted { .. } => self.noted = Some(event.at),
            What::Escalated { .. }
            | What::Felt { .. }
            | What::Changed { .. }
            | What::Permitted { .. } => {}
        }
    }

    fn opened(&mut self, event: &Event, severity: Severity) {
        if self.severity.is_some_and(|before| severity > before) {
            // Whoever was only warned has had no time yet to take care of what it is now.
            self.calling_since = Some(event.at);
            self.tell(event, Occasion::Updated);
        }
        self.severity = self.severity.max(Some(severity));
    }

    /// A cause that nobody has heard of is told at once, more about a known one is not.
    fn found(&mut self, event: &Event, finding: &'a Finding) {
        if !is_better(finding, self.finding) {
            return;
        }
        self.finding = Some(finding);
        let names = finding.is_of_a_cause();
        let is_new = self.causes.insert(finding.cause);
        self.is_named |= names;
        let urgency = if names && is_new {
            Urgency::Tells
        } else {
            Urgency::CanWait
        };
        self.push(event, Occasion::Updated, urgency);
    }

    /// What is done to the same session again, with the same outcome, is no news.
    fn acted(&mut self, event: &Event, why: Occasion, act: Act, suspect: &Suspect, ok: bool) {
        let deed = (suspect.pid, suspect.backend_start, act, why, ok);
        let urgency = if self.acts.insert(deed) {
            Urgency::Tells
        } else {
            Urgency::Rides
        };
        self.push(event, why, urgency);
    }

    /// Shoppers are well, or are not after all. What does not last is not told.
    fn turn(&mut self, event: &Event, occasion: Occasion) {
        if let Some(before) = self.news.iter_mut().rfind(|news| news.is_turn()) {
            before.urgency = Urgency::Rides;
        }
        self.push(event, occasion, Urgency::Tells);
        if let Some(turn) = self.news.last_mut() {
            turn.at = turn.at.checked_add_signed(STEADY).unwrap_or(turn.at);
        }
    }

    fn call(&mut self, event: &Event, occasion: Occasion) {
        self.calling_since = Some(event.at);
        if self.level > 0 {
            self.push(event, occasion, Urgency::Calls(self.level));
        }
    }

    fn tell(&mut self, event: &Event, occasion: Occasion) {
        self.push(event, occasion, Urgency::Tells);
    }

    fn push(&mut self, event: &Event, occasion: Occasion, urgency: Urgency) {
        self.news.push(News {
            id: event.id,
            at: event.at,
            occasion,
            urgency,
        });
    }
}
