//! The whole text, under the headings of the postmortem of 20 June 2024.

use std::fmt::Write;

use chrono::{DateTime, Utc};
use pool::Class;

use super::markdown::{code, line, quote};
use super::milestones::{Milestones, length};
use super::{PICTURE, june, tasks, timeline};
use crate::watch::event::{Act, Event, Impact, What};
use crate::watch::incident::Incident;

/// The postmortem of `incident`, in Markdown.
pub fn document(incident: &Incident) -> String {
    let reached = Milestones::of(incident);
    let mut text = format!("# {}\n", line(&incident.title));
    let mut section = |heading: &str, body: &str| {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n## {heading}\n\n{}\n", body.trim_end());
    };
    section("Summary", &summary(incident, &reached));
    section("Impact", &impact(incident));
    section("Cause", &cause(incident));
    section("Timeline", &timeline_table(incident));
    section("Resolution", &resolution(incident, &reached));
    section(
        "Compared with the outage of 20 June 2024",
        &june::comparison(incident, &reached),
    );
    let tasks = tasks::tasks(incident);
    let tasks: Vec<_> = tasks.iter().map(|task| format!("- [ ] {task}")).collect();
    section("Corrective tasks", &tasks.join("\n"));
    section("Notes", &notes(incident));
    text
}

fn summary(incident: &Incident, reached: &Milestones) -> String {
    let found = match &incident.finding {
        Some(finding) => format!(
            "{}, {:.0} % sure",
            finding.cause.name().replace('_', " "),
            finding.certainty * 100.0
        ),
        None => "none was found".to_owned(),
    };
    let after = |at| {
        reached.after(at).map_or("never".to_owned(), |after| {
            format!("after {}", length(after))
        })
    };
    let end = reached.normal.map_or(String::new(), |end| {
        format!(" to {}", moment(end, Some(incident.opened_at)))
    });
    format!(
        "| | |\n|---|---|\n\
         | incident | {} ({}, {}) |\n\
         | duration | {}{end} UTC, {} |\n\
         | cause | {found} |\n\
         | named | {} |\n\
         | stopped | {} |\n\
         | shoppers well again | {} |\n\
         | resolved | {} |\n\
         | taken care of by | {} |",
        incident.id,
        incident.severity.name(),
        incident.stage.name(),
        moment(incident.opened_at, None),
        timeline::lasted(incident),
        after(reached.named),
        after(reached.stopped),
        after(reached.normal),
        after(reached.resolved),
        carers(incident),
    )
}

/// Everybody who has acknowledged it, in order.
fn carers(incident: &Incident) -> String {
    let mut names: Vec<String> = Vec::new();
    for event in &incident.events {
        let name = line(&event.by);
        if matches!(event.what, What::Acknowledged { .. }) && !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() {
        "nobody".to_owned()
    } else {
        names.join(", ")
    }
}

fn impact(incident: &Incident) -> String {
    let lasted = timeline::lasted(incident);
    let Some(impact) = &incident.impact else {
        return format!("Duration: {lasted}. What it has cost is counted when it is resolved.");
    };
    let mut text = format!(
        "Duration: {lasted}.\n\n| class | requests | failed | share |\n|---|---:|---:|---:|\n"
    );
    let (mut all_arrived, mut all_failed) = (0, 0);
    for class in Class::ALL {
        let of = |counts: &[(Class, u64)]| {
            counts
                .iter()
                .filter(|c| c.0 == class)
                .map(|c| c.1)
                .sum::<u64>()
        };
        let (arrived, failed) = (of(&impact.arrived), of(&impact.failed));
        if arrived + failed > 0 {
            let _ = writeln!(text, "{}", impact_row(class.name(), arrived, failed));
        }
        all_arrived += arrived;
        all_failed += failed;
    }
    let _ = writeln!(text, "{}", impact_row("all", all_arrived, all_failed));
    let _ = write!(
        text,
        "\n- Orders lost: about {:.0}, by the rate at which they are placed otherwise.\n- Money at risk: {}.",
        impact.orders_lost,
        money(impact)
    );
    text
}

fn impact_row(name: &str, arrived: u64, failed: u64) -> String {
    // What fails may have arrived before.
    let share = failed as f64 / arrived.max(failed).max(1) as f64;
    format!("| {name} | {arrived} | {failed} | {:.1} % |", share * 100.0)
}

fn money(impact: &Impact) -> String {
    match impact.money_at_risk_minor {
        Some(minor) => format!(
            "about {minor} in minor units of the shop's currency ({:.2} where a unit has a hundred)",
            minor as f64 / 100.0
        ),
        None => "not known: no order before the incident has a value".to_owned(),
    }
}

fn cause(incident: &Incident) -> String {
    let Some(finding) = &incident.finding else {
        return "The watch has found no cause.".to_owned();
    };
    let name = finding.cause.name().replace('_', " ");
    let mut text = match &finding.culprit {
        Some(culprit) => format!("**{name}**: {}.", line(&culprit.describe())),
        None => format!("**{name}**."),
    };
    let _ = write!(
        text,
        " Found at {}, {:.0} % sure.",
        finding.at.format("%H:%M:%S"),
        finding.certainty * 100.0
    );
    for (role, suspect) in [
        ("", &finding.culprit),
        (
            "The first that waited behind it was ",
            &finding.first_victim,
        ),
    ] {
        let Some(suspect) = suspect else { continue };
        if !role.is_empty() {
            let _ = write!(text, "\n\n{role}{}.", line(&suspect.describe()));
        }
        if !suspect.holds.is_empty() {
            let _ = write!(text, " It held {}.", line(&suspect.holds.join(", ")));
        }
        if !suspect.statement.trim().is_empty() {
            let _ = write!(
                text,
                " Its statement, without literals:\n\n{}",
                code("sql", &suspect.statement)
            );
        }
    }
    list(&mut text, "Evidence", &finding.evidence);
    list(&mut text, "What it was not", &finding.exclusions);
    text
}

fn list(text: &mut String, heading: &str, items: &[String]) {
    if !items.is_empty() {
        let items: Vec<_> = items
            .iter()
            .map(|item| format!("- {}", line(item)))
            .collect();
        let _ = write!(text, "\n\n{heading}:\n\n{}", items.join("\n"));
    }
}

fn timeline_table(incident: &Incident) -> String {
    let rows = timeline::rows(incident, &timeline::MARKDOWN);
    let days = |at: DateTime<Utc>| at.date_naive();
    let with_day = rows
        .last()
        .is_some_and(|last| days(last.to) != days(incident.opened_at));
    let mut text = format!(
        "All times are of {} in UTC, ± 1 s.\n\n![What shoppers felt, and what happened when]({PICTURE})\n\n\
         | time | who | what happened |\n|---|---|---|\n",
        incident.opened_at.format("%-d %B %Y")
    );
    for row in rows {
        let _ = writeln!(
            text,
            "| {} | {} | {} |",
            row.time(with_day),
            row.by,
            row.what
        );
    }
    text
}

fn resolution(incident: &Incident, reached: &Milestones) -> String {
    let mut sentences: Vec<String> = Vec::new();
    let stopped: Vec<&Event> = incident
        .events
        .iter()
        .filter(|event| matches!(event.what, What::Acted { problem: None, .. }))
        .collect();
    for event in stopped.iter().take(5) {
        if let What::Acted {
            act,
            suspect,
            policy,
            undo,
            ..
        } = &event.what
        {
            let done = match act {
                Act::Cancel => "cancelled the statement of",
                Act::Terminate => "ended the connection of",
            };
            sentences.push(format!(
                "At {} {} {done} {}, because: {}. To undo it: {}.",
                event.at.format("%H:%M:%S"),
                line(&event.by),
                line(&suspect.describe()),
                line(policy),
                line(undo)
            ));
        }
    }
    if stopped.len() > 5 {
        sentences.push(format!(
            "{} more sessions were stopped likewise.",
            stopped.len() - 5
        ));
    }
    if stopped.is_empty() {
        sentences.push("The watch has stopped no session.".to_owned());
    }
    sentences.push(match reached.after(reached.normal) {
        Some(after) => format!(
            "Shoppers were well again {} after the beginning.",
            length(after)
        ),
        None => "Shoppers are not well yet.".to_owned(),
    });
    let resolved = incident.events.iter().rev();
    let mut resolved = resolved.filter(|event| matches!(event.what, What::Resolved { .. }));
    if let Some(event) = resolved.next() {
        sentences.push(format!(
            "It was declared over at {} by {}.",
            event.at.format("%H:%M:%S"),
            line(&event.by)
        ));
    }
    sentences.join(" ")
}

fn notes(incident: &Incident) -> String {
    let notes = incident
        .events
        .iter()
        .filter_map(|event| match &event.what {
            What::Noted { text } => Some(format!(
                "{}, {}:\n\n{}",
                line(&event.by),
                moment(event.at, Some(incident.opened_at)),
                quote(text)
            )),
            _ => None,
        });
    let notes: Vec<_> = notes.collect();
    if notes.is_empty() {
        return "Nobody has left a note. `evenkeel incident note` adds one.".to_owned();
    }
    notes.join("\n\n")
}

/// A moment, with its day unless that is the day of `beside`.
fn moment(at: DateTime<Utc>, beside: Option<DateTime<Utc>>) -> String {
    let same = beside.is_some_and(|beside| beside.date_naive() == at.date_naive());
    let format = if same {
        "%H:%M:%S"
    } else {
        "%-d %B %Y %H:%M:%S"
    };
    at.format(format).to_string()
}
