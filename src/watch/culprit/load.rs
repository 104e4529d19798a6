//! Whose statements and connections fill the server, where no lock explains anything.

use std::collections::HashMap;

use super::who::{self, Side};
use super::{Evidence, own, reasons};
use crate::watch::finding::{Cause, Finding, Suspect};
use crate::watch::sessions::{Clients, Sample, Session};
use crate::watch::shoppers::Pain;

/// The share of the connections from which on they are about to run out.
const FULL: f64 = 0.9;
/// The share of them that one client has by no accident.
const CROWD: f64 = 0.5;
/// Sessions of a stranger that are at work and that can be what a server suffers by, as a share of all at work.
const HEAVY: f64 = 0.3;
/// Of fewer sessions at work a share says nothing.
const ENOUGH: usize = 4;
/// How long before shoppers began to suffer a statement may have begun to be the reason, in seconds.
const BEFORE_S: f64 = 5.0;
/// What a stranger who was there long before counts.
const ACCUSTOMED: f64 = 0.3;

/// Somebody else's connections have used up what the server admits.
pub(super) fn storm(evidence: &Evidence<'_>, sample: &Sample, pains: &[Pain]) -> Option<Finding> {
    let used = f64::from(sample.connections) / f64::from(sample.connections_max.max(1));
    let strangers = sample
        .clients
        .iter()
        .filter(|clients| evidence.shop.side(&named(clients)) == Side::Stranger);
    let crowd = strangers.max_by_key(|clients| clients.connections)?;
    let share = f64::from(crowd.connections) / f64::from(sample.connections.max(1));
    if used < FULL || share < CROWD {
        return None;
    }
    let said = [
        format!(
            "{} of {} connections are taken",
            sample.connections, sample.connections_max
        ),
        format!("{} of them are its", crowd.connections),
    ];
    // One of many: it is not the one that is to be ended, but it shows where they come from.
    let one = sample
        .sessions
        .iter()
        .find(|session| session.application == crowd.application && session.role == crowd.role);
    let nameless = named(crowd);
    let culprit = who::suspect(one.unwrap_or(&nameless), evidence.jobs);
    Some(Finding {
        at: evidence.now,
        cause: Cause::ConnectionStorm,
        culprit: Some(Suspect {
            pid: 0,
            backend_start: None,
            ..culprit
        }),
        first_victim: None,
        accomplices: Vec::new(),
        certainty: share.min(1.0),
        evidence: said.into_iter().chain(reasons(pains)).collect(),
        exclusions: own::exclusions(evidence),
    })
}

fn named(clients: &Clients) -> Session {
    Session {
        application: clients.application.clone(),
        role: clients.role.clone(),
        ..Session::default()
    }
}

/// The stranger whose statements do the most of what is done, if it began when the suffering did.
pub(super) fn stranger(
    evidence: &Evidence<'_>,
    sample: &Sample,
    pains: &[Pain],
) -> Option<Finding> {
    let suffering_s = evidence.suffering_s?;
    let working: Vec<&Session> = sample.sessions.iter().filter(|s| s.is_working()).collect();
    let mut groups: HashMap<(&str, &str), Vec<&Session>> = HashMap::new();
    for session in &working {
        let side = evidence.shop.side(session);
        if matches!(side, Side::Stranger | Side::Migration) {
            let key = (session.application.as_str(), session.role.as_str());
            groups.entry(key).or_default().push(session);
        }
    }
    let score = |group: &[&Session]| {
        let share = group.len() as f64 / working.len().max(ENOUGH) as f64;
        let is_new = |session: &&Session| {
            session
                .statement_s
                .is_some_and(|s| s <= suffering_s + BEFORE_S)
        };
        let new = group.iter().filter(|s| is_new(s)).count() as f64 / group.len() as f64;
        share * (ACCUSTOMED + (1.0 - ACCUSTOMED) * new)
    };
    let (group, score) = groups
        .into_values()
        .map(|group| {
            let score = score(&group);
            (group, score)
        })
        .max_by(|a, b| a.1.total_cmp(&b.1))?;
    if score < HEAVY {
        return None;
    }
    let newest = |a: &&&Session, b: &&&Session| {
        let s = |session: &Session| session.statement_s.unwrap_or(f64::MAX);
        s(a).total_cmp(&s(b))
    };
    let one = group.iter().min_by(newest)?;
    let cause = match evidence.shop.side(one) {
        Side::Migration => Cause::OwnMigration,
        _ => Cause::Script,
    };
    let said = format!(
        "{} of {} sessions at work are its, since {:.0} s",
        group.len(),
        working.len(),
        one.statement_s.unwrap_or(0.0)
    );
    Some(Finding {
        at: evidence.now,
        cause,
        culprit: Some(who::suspect(one, evidence.jobs)),
        first_victim: None,
        accomplices: Vec::new(),
        // Shares of what runs are a weaker witness than a lock.
        certainty: (score * 0.9).min(0.75),
        evidence: std::iter::once(said).chain(reasons(pains)).collect(),
        exclusions: own::exclusions(evidence),
    })
}

/// Who else is at work, for whoever has to find out what nobody could tell.
pub(super) fn bystanders(evidence: &Evidence<'_>, sample: &Sample) -> Vec<String> {
    const SHOWN: usize = 3;
    let mut strangers: Vec<&Session> = sample
        .sessions
        .iter()
        .filter(|s| s.is_working() && evidence.shop.side(s) == Side::Stranger)
        .collect();
    strangers.sort_by(|a, b| {
        let s = |session: &Session| session.statement_s.unwrap_or(0.0);
        s(b).total_cmp(&s(a))
    });
    let shown = strangers.into_iter().take(SHOWN);
    shown
        .map(|session| {
            let who = who::suspect(session, evidence.jobs).describe();
            format!("at work, and not blamed: {who}")
        })
        .collect()
}

/// That it is nobody else's statements, if it is not.
pub(super) fn exclusion(evidence: &Evidence<'_>, sample: &Sample) -> Option<String> {
    let working = sample.sessions.iter().filter(|s| s.is_working());
    let (strangers, all) = working.fold((0_u32, 0_u32), |(strangers, all), session| {
        let stranger = evidence.shop.side(session) == Side::Stranger;
        (strangers + u32::from(stranger), all + 1)
    });
    let share = f64::from(strangers) / f64::from(all.max(1));
    (share < HEAVY).then(|| {
        format!("Not a script: {strangers} of {all} sessions at work are not the shop's, and nobody waits for their locks")
    })
}
