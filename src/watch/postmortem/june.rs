//! The outage of 20 June 2024, which this project exists for, beside another incident.

use std::fmt::Write;

use chrono::TimeDelta;

use super::milestones::{Milestones, length};
use crate::watch::incident::Incident;

/// What happened that day, in minutes after its beginning at 10:00 UTC.
const MINUTES: [(i64, &str); 11] = [
    (
        0,
        "automated monitoring reports high database response times",
    ),
    (5, "operations begin to look at database performance"),
    (15, "first guess: a DDoS attack"),
    (30, "traffic shows no attack; the look turns inwards"),
    (45, "false trail: a recent application deployment"),
    (60, "escalated to the database administrators"),
    (
        75,
        "database logs show a heavy data migration script running",
    ),
    (
        90,
        "the cron job is named as the culprit; the script is terminated",
    ),
    (105, "the database begins to stabilise"),
    (120, "services come back one by one"),
    (135, "full function confirmed, outage over"),
];
const LOOKED: i64 = 5;
const ESCALATED: i64 = 60;
const NAMED: i64 = 90;
const STOPPED: i64 = 90;
const NORMAL: i64 = 135;

/// Both side by side, and then minute by minute.
pub(super) fn comparison(incident: &Incident, reached: &Milestones) -> String {
    let mut text = String::from("| | 20 June 2024 | this incident |\n|---|---|---|\n");
    let trails = reached.false_trails.iter();
    let trails: Vec<_> = trails.map(|cause| cause.name().replace('_', " ")).collect();
    let trails = if trails.is_empty() {
        "none".to_owned()
    } else {
        trails.join(", ")
    };
    let rows = [
        ("somebody takes care after", LOOKED, reached.acknowledged),
        ("escalated after", ESCALATED, reached.escalated),
        ("named after", NAMED, reached.named),
        ("stopped after", STOPPED, reached.stopped),
        ("normal after", NORMAL, reached.normal),
    ];
    for (what, minutes, at) in rows {
        let here = reached.after(at).map_or("never".to_owned(), length);
        let june = length(TimeDelta::minutes(minutes));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {what} | {june} | {here} |");
    }
    let _ = writeln!(
        text,
        "| false trails | traffic (DDoS), deployment | {trails} |"
    );
    text.push_str("\n| minute | on 20 June 2024 | in this incident by then |\n|---|---|---|\n");
    for (minutes, june) in MINUTES {
        let here = by_then(incident, reached, TimeDelta::minutes(minutes));
        let _ = writeln!(text, "| {minutes} | {june} | {here} |");
    }
    text
}

/// How far the incident had come `after` its beginning.
fn by_then(incident: &Incident, reached: &Milestones, after: TimeDelta) -> String {
    let done = |at| reached.after(at).is_some_and(|reached| reached <= after);
    if let Some(normal) = reached
        .after(reached.normal)
        .filter(|normal| *normal <= after)
    {
        return format!("normal since {}", length(after - normal));
    }
    let steps = [
        ("stopped", reached.stopped),
        ("named", reached.named),
        ("escalated", reached.escalated),
        ("acknowledged", reached.acknowledged),
    ];
    let steps: Vec<_> = steps
        .into_iter()
        .filter(|(_, at)| done(*at))
        .map(|(what, _)| what)
        .collect();
    let last = incident.events.last().map(|event| event.at);
    if reached.after(last).is_some_and(|last| last < after) {
        return "not recorded".to_owned();
    }
    if steps.is_empty() {
        return "opened".to_owned();
    }
    steps.join(", ")
}
