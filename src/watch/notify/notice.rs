//! What is said about an incident, the same by every channel.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::words;
use crate::watch::escalation::Tell;
use crate::watch::event::{Event, Occasion, Severity, What};
use crate::watch::finding::Cause;
use crate::watch::incident::{Incident, Stage};
use crate::watch::ticket::{Right, Tickets};

/// An incident as people are told of it. Texts that come from sessions or people are one line each.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Notice {
    /// The same for every try to send it, also after a crash, so that a receiver can tell a second
    /// copy.
    pub id: String,
    /// The incident.
    pub incident: Uuid,
    /// Which reports belong to it.
    pub key: String,
    /// Why somebody is told.
    pub occasion: Occasion,
    /// The level that is told, counted from 1.
    pub level: u32,
    /// How much it hurts.
    pub severity: Severity,
    /// How far it has come.
    pub stage: Stage,
    /// In a few words.
    pub title: String,
    /// When it began.
    pub opened_at: DateTime<Utc>,
    /// When it was over.
    pub resolved_at: Option<DateTime<Utc>>,
    /// When this was composed.
    pub at: DateTime<Utc>,
    /// The cause, once there is a finding.
    pub cause: Option<Cause>,
    /// What is wrong, in a sentence.
    pub what: String,
    /// Who is to blame.
    pub who: Option<String>,
    /// Its statement, without literals.
    pub statement: Option<String>,
    /// In a blocked chain, the statement that everybody waits for.
    pub first_victim: Option<String>,
    /// What speaks for it.
    pub evidence: Vec<String>,
    /// What it is not.
    pub exclusions: Vec<String>,
    /// How shoppers are, a line for each class.
    pub shoppers: Vec<String>,
    /// What the watch has done, and how it is undone.
    pub done: Vec<Done>,
    /// What a person has to decide.
    pub asks: Vec<Ask>,
    /// Who takes care.
    pub acknowledged_by: Option<String>,
    /// What it has cost.
    pub impact: Option<String>,
    /// The channels that could not be reached, and why.
    pub unreached: Vec<String>,
    /// Where the incident is shown.
    pub link: Option<String>,
    /// Where to say that one takes care.
    pub acknowledge_link: Option<String>,
}

/// Something that the watch has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Done {
    /// When.
    pub at: DateTime<Utc>,
    /// What, to whom, and what came of it.
    pub what: String,
    /// How it is undone.
    pub undo: String,
}

/// Something that a person has to decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ask {
    /// What the watch would do, to whom, and why it does not by itself.
    pub what: String,
    /// Where to allow it, once; `None` without `watch.public_url`.
    pub link: Option<String>,
}

/// What links in messages are made of.
#[derive(Clone, Debug)]
pub struct Links {
    /// How people reach the shop's port, without a slash at the end.
    pub public_url: Option<String>,
    /// How operators reach theirs.
    pub ops_url: Option<String>,
    /// What makes a link a right.
    pub tickets: Tickets,
}

impl Links {
    fn incident(&self, id: Uuid) -> Option<String> {
        Some(format!("{}/ops/incidents/{id}", self.ops_url.as_deref()?))
    }

    fn ticket(&self, incident: Uuid, right: Right, now: DateTime<Utc>) -> Option<String> {
        let public_url = self.public_url.as_deref()?;
        let ticket = self.tickets.issue(incident, right, now);
        Some(format!("{public_url}/tickets/{ticket}"))
    }
}

impl Notice {
    /// What the channel of `tell` is to be told of the incident.
    pub fn of(incident: &Incident, tell: &Tell, links: &Links, now: DateTime<Utc>) -> Self {
        let finding = incident.finding.as_ref();
        let culprit = finding.and_then(|finding| finding.culprit.as_ref());
        let victim = finding.and_then(|finding| finding.first_victim.as_ref());
        let lines = |texts: &[String]| texts.iter().map(|text| words::line(text)).collect();
        let is_taken_care_of = incident.acknowledged.is_some() || !incident.is_open();
        let acknowledge = Right::Acknowledge {
            channel: tell.channel.clone(),
        };
        Self {
            id: identity(incident, tell),
            incident: incident.id,
            key: incident.key.clone(),
            occasion: tell.occasion,
            level: tell.level,
            severity: incident.severity,
            stage: incident.stage,
            title: words::line(&incident.title),
            opened_at: incident.opened_at,
            resolved_at: incident.resolved_at,
            at: now,
            cause: finding.map(|finding| finding.cause),
            what: words::what(finding),
            who: culprit.map(words::who),
            statement: culprit.and_then(words::statement),
            first_victim: victim.map(words::who),
            evidence: finding.map_or_else(Vec::new, |finding| lines(&finding.evidence)),
            exclusions: finding.map_or_else(Vec::new, |finding| lines(&finding.exclusions)),
            shoppers: shoppers(incident),
            done: incident.events.iter().filter_map(done).collect(),
            asks: asks(incident, links, now),
            acknowledged_by: incident
                .acknowledged
                .as_ref()
                .map(|(by, _)| words::line(by)),
            impact: incident.impact.as_ref().map(words::impact),
            unreached: unreached(incident),
            link: links.incident(incident.id),
            acknowledge_link: (!is_taken_care_of)
                .then(|| links.ticket(incident.id, acknowledge, now))
                .flatten(),
        }
    }

    /// How long the incident lasted, or has lasted so far.
    pub fn lasted(&self) -> Duration {
        let end = self.resolved_at.unwrap_or(self.at);
        (end - self.opened_at).to_std().unwrap_or_default()
    }
}

/// What makes a message another one: whom it is for, why, and what it is the first to tell. Of a
/// repetition, how many there were before.
fn identity(incident: &Incident, tell: &Tell) -> String {
    let told = |event: &&Event| matches!(&event.what, What::Notified { channel, problem: None, .. } if *channel == tell.channel);
    let before = incident.events.iter().filter(told).count();
    let mut hash = Sha256::new();
    hash.update(incident.id.as_bytes());
    hash.update(tell.channel.as_bytes());
    hash.update([0]);
    hash.update(tell.occasion.name().as_bytes());
    hash.update(before.to_le_bytes());
    let hash = hash.finalize();
    let hex: String = hash
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("msg_{hex}")
}

fn shoppers(incident: &Incident) -> Vec<String> {
    let felt = incident
        .events
        .iter()
        .rev()
        .find_map(|event| match &event.what {
            What::Felt { classes } => Some(classes),
            _ => None,
        });
    felt.map_or_else(Vec::new, |classes| {
        classes.iter().map(words::shoppers).collect()
    })
}

fn done(event: &Event) -> Option<Done> {
    let What::Acted {
        act,
        suspect,
        policy,
        problem,
        undo,
    } = &event.what
    else {
        return None;
    };
    Some(Done {
        at: event.at,
        what: words::acted(*act, suspect, policy, problem.as_deref()),
        undo: words::line(undo),
    })
}

/// What was asked and neither permitted nor done by other means.
fn asks(incident: &Incident, links: &Links, now: DateTime<Utc>) -> Vec<Ask> {
    if !incident.is_open() {
        return Vec::new();
    }
    let open = incident.questions().filter_map(|question| {
        let What::Asked {
            act,
            suspect,
            policy,
        } = &question.what
        else {
            return None;
        };
        let right = Right::Act {
            ask: question.id,
            act: *act,
            pid: suspect.pid,
            backend_start: suspect.backend_start,
        };
        Some(Ask {
            what: words::asked(*act, suspect, policy),
            link: links.ticket(incident.id, right, now),
        })
    });
    open.collect()
}

/// The channels whose last message did not arrive.
fn unreached(incident: &Incident) -> Vec<String> {
    let mut unreached: Vec<(&str, String)> = Vec::new();
    for event in &incident.events {
        if let What::Notified {
            channel, problem, ..
        } = &event.what
        {
            unreached.retain(|(name, _)| name != channel);
            if let Some(problem) = problem {
                let at = words::time(event.at);
                let text = format!("{channel} at {at}: {}", words::line(problem));
                unreached.push((channel, text));
            }
        }
    }
    unreached.into_iter().map(|(_, text)| text).collect()
}
