//! What is left for people after an incident, as far as its events tell.

use super::markdown::line;
use crate::watch::event::What;
use crate::watch::finding::{Cause, Finding};
use crate::watch::incident::Incident;

/// The tasks, in Markdown.
pub(super) fn tasks(incident: &Incident) -> Vec<String> {
    let mut tasks = match &incident.finding {
        Some(finding) => of_cause(finding),
        None => vec!["Find out what it was: the watch has found no cause.".to_owned()],
    };
    let mut add = |task: String| {
        if !tasks.contains(&task) {
            tasks.push(task);
        }
    };
    for event in &incident.events {
        match &event.what {
            What::Asked { suspect, .. } => add(format!(
                "Decide what the breaker may do to {} without asking (`watch.breaker.rules`).",
                line(&suspect.role)
            )),
            What::Acted {
                problem: Some(problem),
                ..
            } => add(format!(
                "Let the watch stop what it may stop: {}.",
                line(problem)
            )),
            What::Notified {
                channel,
                problem: Some(problem),
                ..
            } => add(format!(
                "Mend the channel {}: {}.",
                line(channel),
                line(problem)
            )),
            What::AcknowledgementExpired => {
                add("Look at why it still went on after it had been acknowledged.".to_owned())
            }
            What::Relapsed => add("Find out why it came back.".to_owned()),
            _ => {}
        }
    }
    let acknowledged = |what: &What| matches!(what, What::Acknowledged { .. });
    if !incident
        .events
        .iter()
        .any(|event| acknowledged(&event.what))
    {
        add("Nobody has acknowledged it: check who is told, and how.".to_owned());
    }
    tasks
}

fn of_cause(finding: &Finding) -> Vec<String> {
    let who = finding.culprit.as_ref().map_or("it".to_owned(), |culprit| {
        let name = culprit
            .job
            .as_ref()
            .map_or(&culprit.application, |job| &job.name);
        line(if name.is_empty() { &culprit.role } else { name })
    });
    let owner = finding.culprit.as_ref().and_then(|c| c.job.as_ref());
    let owner = owner.map_or(String::new(), |job| {
        format!(" (owner: {})", line(&job.owner))
    });
    let tasks: &[&str] = match finding.cause {
        Cause::Script => &[
            "Make the change of {who} a background migration (`evenkeel migrate new`), or move it off \
             peak{owner}.",
            "Have the schedule of {who} reviewed by a second person.",
            "Rehearse it under peak load before it runs again.",
        ],
        Cause::BlockedChain => &[
            "Have {who} end its transactions, or give its role an \
             `idle_in_transaction_session_timeout`{owner}.",
            "Give the statement that waited behind it a `lock_timeout`, so that it gives up before \
             shoppers queue.",
        ],
        Cause::OwnMigration => &[
            "Look at the budgets and the pace of {who}: the engine should have yielded by itself.",
        ],
        Cause::TrafficSurge => &[
            "Compare the peak with the measured capacity (`evenkeel load --capacity`), and plan for it.",
        ],
        Cause::BadDeploy => &[
            "Roll the version back, or mend the statement that it brought.",
            "Rehearse the mended version under peak load before it is deployed.",
        ],
        Cause::ConnectionStorm => &[
            "Limit the connections of {who} (`ALTER ROLE … CONNECTION LIMIT`, or a pooler){owner}.",
        ],
        Cause::DatabaseLost => &["Find out from the server's log why the database was lost."],
        Cause::Recovery | Cause::Unknown => {
            &["Find out what it was: the evidence fits none of the known causes."]
        }
    };
    let fill = |task: &&str| task.replace("{who}", &who).replace("{owner}", &owner);
    tasks.iter().map(fill).collect()
}
