//! Incidents on the terminal.

use std::fmt::Write;

use serde::Serialize;
use uuid::Uuid;

use super::IncidentError;
use crate::watch::incident::{Incident, Summary};
use crate::watch::postmortem;

/// Enough of an id to tell it from others: its first 48 bits are the time in milliseconds.
pub(super) fn short(id: Uuid) -> String {
    id.to_string().chars().take(13).collect()
}

/// One line for a list.
pub(super) fn headline(incident: &Summary) -> String {
    format!(
        "{}  {}  {:<9} {:<8}  {}",
        short(incident.id),
        incident.opened_at.format("%Y-%m-%d %H:%M:%S"),
        incident.stage.name(),
        incident.severity.name(),
        printable(&incident.title)
    )
}

/// All of it.
pub(super) fn text(incident: &Incident) -> String {
    let mut text = format!("{}\n", headline(&incident.summary()));
    // Writing to a String cannot fail.
    let _ = match &incident.acknowledged {
        Some((by, at)) => writeln!(
            text,
            "{} takes care since {}",
            printable(by),
            at.format("%H:%M:%S")
        ),
        None if incident.is_open() => writeln!(
            text,
            "nobody takes care yet; `evenkeel incident ack {}` says that you do",
            short(incident.id)
        ),
        None => Ok(()),
    };
    if let Some(finding) = &incident.finding {
        let cause = finding.cause.name().replace('_', " ");
        let _ = writeln!(
            text,
            "{cause}, {:.0} % sure: {}",
            finding.certainty * 100.0,
            printable(&finding.sentence())
        );
    }
    if let Some(question) = question(incident) {
        let id = short(incident.id);
        let _ = writeln!(text, "{question}; `evenkeel incident allow {id}` allows it");
    }
    text.push('\n');
    for row in postmortem::timeline(incident) {
        let (by, what) = (printable(&row.by), printable(&row.what));
        let _ = writeln!(text, "{}  {by:<12}  {what}", row.time(false));
    }
    text
}

/// What the watch asks last that nobody has allowed.
pub(super) fn question(incident: &Incident) -> Option<String> {
    let asked = incident.questions().next_back()?;
    let words = postmortem::words(asked)?;
    Some(format!("the watch {}", printable(&words)))
}

/// Prints `value` as JSON.
pub(super) fn json(value: &impl Serialize) -> Result<(), IncidentError> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Without characters that would command the terminal.
fn printable(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).collect()
}
