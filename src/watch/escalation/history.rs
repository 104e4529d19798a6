//! What an incident's events say about who was called and told.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::watch::event::{Event, Occasion, Severity, What};
use crate::watch::finding::{Cause, Finding};
use crate::watch::incident::{Incident, is_better};

/// Something that people are to know.
#[derive(Clone, Debug)]
pub(super) struct News {
    /// The event.
    pub(super) id: Uuid,
    pub(super) at: DateTime<Utc>,
    pub(super) occasion: Occasion,
    /// The level that it calls; `None` if it only tells whoever was called.
    pub(super) calls: Option<u32>,
    /// Whether it may wait until there is something else to say, or until `group_for` is over.
    pub(super) is_quiet: bool,
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
}

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
                let first = self.level == 0;
                self.level = *level;
                self.call(
                    event,
                    if first {
                        Occasion::Opened
                    } else {
                        Occasion::Escalated
                    },
                );
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
            What::Acted { .. } => self.tell(event, Occasion::Acted),
            What::Asked { .. } => self.tell(event, Occasion::Asked),
            What::Acknowledged { .. } => self.tell(event, Occasion::Acknowledged),
            What::Recovered => self.tell(event, Occasion::Recovered),
            What::Relapsed => self.tell(event, Occasion::Relapsed),
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
        self.news.push(News {
            is_quiet: !(names && is_new),
            ..news(event, Occasion::Updated)
        });
    }

    fn call(&mut self, event: &Event, occasion: Occasion) {
        self.calling_since = Some(event.at);
        if self.level > 0 {
            self.news.push(News {
                calls: Some(self.level),
                ..news(event, occasion)
            });
        }
    }

    fn tell(&mut self, event: &Event, occasion: Occasion) {
        self.news.push(news(event, occasion));
    }
}

fn news(event: &Event, occasion: Occasion) -> News {
    News {
        id: event.id,
        at: event.at,
        occasion,
        calls: None,
        is_quiet: false,
    }
}
