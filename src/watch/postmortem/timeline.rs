//! Every event of an incident, in a row of its own. Only readings of what shoppers felt that follow
//! each other share one, with their extremes.

use chrono::{DateTime, Utc};

use super::markdown;
use super::milestones::length;
use super::readings::{self, Reading};
use crate::watch::event::{Act, Event, What};
use crate::watch::incident::Incident;

/// A row of the timeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// When.
    pub from: DateTime<Utc>,
    /// Later than `from` where several readings share the row.
    pub to: DateTime<Utc>,
    /// Who.
    pub by: String,
    /// What happened.
    pub what: String,
}

/// How rows are written.
pub(super) struct Style {
    /// Makes other people's words harmless.
    pub(super) words: fn(&str) -> String,
    /// Around what matters most.
    pub(super) strong: &'static str,
}

/// For a document.
pub(super) const MARKDOWN: Style = Style {
    words: markdown::line,
    strong: "**",
};
/// For a terminal, whose owner makes it harmless.
const PLAIN: Style = Style {
    words: str::to_owned,
    strong: "",
};

/// Every event of `incident` in order of time, as plain text. Readings of what shoppers felt that
/// follow each other share a row.
pub fn timeline(incident: &Incident) -> Vec<Row> {
    rows(incident, &PLAIN)
}

/// What happened, as plain text; `None` for a reading of what shoppers felt.
pub fn words(event: &Event) -> Option<String> {
    (!matches!(event.what, What::Felt { .. })).then(|| describe(event, &PLAIN))
}

impl Row {
    /// The time of day, to the second; with the day where the incident goes over midnight.
    pub fn time(&self, with_day: bool) -> String {
        let format = if with_day {
            "%-d %b %H:%M:%S"
        } else {
            "%H:%M:%S"
        };
        let (from, to) = (self.from.format(format), self.to.format(format));
        if from.to_string() == to.to_string() {
            from.to_string()
        } else {
            format!("{from} – {to}")
        }
    }
}

/// The rows, in order of time.
pub(super) fn rows(incident: &Incident, style: &Style) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut felt: Vec<Reading> = Vec::new();
    for event in &incident.events {
        if let What::Felt { classes } = &event.what {
            felt.push(Reading::of(event.at, classes));
            continue;
        }
        rows.extend(readings_row(&std::mem::take(&mut felt)));
        rows.push(Row {
            from: event.at,
            to: event.at,
            by: (style.words)(&event.by),
            what: describe(event, style),
        });
    }
    rows.extend(readings_row(&felt));
    rows
}

fn readings_row(felt: &[Reading]) -> Option<Row> {
    let (first, last) = (felt.first()?, felt.last()?);
    Some(Row {
        from: first.at,
        to: last.at,
        by: "watch".to_owned(),
        what: format!("shoppers: {}", readings::extremes(felt)),
    })
}

/// What happened.
fn describe(event: &Event, style: &Style) -> String {
    let (line, strong) = (style.words, style.strong);
    let act = |act: &Act| match act {
        Act::Cancel => ("cancelled the statement of", "cancel the statement of"),
        Act::Terminate => ("ended the connection of", "end the connection of"),
    };
    match &event.what {
        What::Opened {
            title, severity, ..
        } => format!(
            "{strong}opened{strong} ({}): {}",
            severity.name(),
            line(title)
        ),
        What::Found { finding } => {
            format!(
                "{strong}found{strong} {}, {:.0} % sure: {}",
                finding.cause.name().replace('_', " "),
                finding.certainty * 100.0,
                line(&finding.sentence())
            )
        }
        What::Felt { .. } => String::new(),
        What::Changed { summary, source } => {
            format!("change: {} (told by {})", line(summary), line(source))
        }
        What::Acted {
            act: done,
            suspect,
            policy,
            problem,
            undo,
        } => {
            let who = line(&suspect.describe());
            match problem {
                None => format!(
                    "{strong}{}{strong} {who}, pid {}. Policy: {}. To undo: {}",
                    act(done).0,
                    suspect.pid,
                    line(policy),
                    line(undo)
                ),
                Some(problem) => {
                    format!(
                        "{strong}could not {}{strong} {who}: {}",
                        act(done).1,
                        line(problem)
                    )
                }
            }
        }
        What::Asked {
            act: wanted,
            suspect,
            policy,
        } => format!(
            "asks whether to {} {}. Policy: {}",
            act(wanted).1,
            line(&suspect.describe()),
            line(policy)
        ),
        What::Escalated { level, reason } => {
            format!(
                "{strong}escalated{strong} to level {level}: {}",
                line(reason)
            )
        }
        What::Notified {
            level,
            channel,
            occasion,
            problem: None,
            ..
        } => format!(
            "told {} (level {level}): {}",
            line(channel),
            occasion.name()
        ),
        What::Notified {
            level,
            channel,
            problem: Some(problem),
            ..
        } => format!(
            "could not reach {} (level {level}): {}",
            line(channel),
            line(problem)
        ),
        What::Permitted { .. } => "allowed what the watch asked for".to_owned(),
        What::Acknowledged { via } => format!("{strong}acknowledged{strong} (by {})", line(via)),
        What::AcknowledgementExpired => "the acknowledgement expired: it still goes on".to_owned(),
        What::Noted { text } => format!("note: {}", line(text)),
        What::Recovered => format!("{strong}recovered{strong}: shoppers are well again"),
        What::Relapsed => format!("{strong}relapsed{strong}"),
        What::Resolved { .. } => format!("{strong}resolved{strong}"),
    }
}

/// How long `incident` lasted, until shoppers were well or as far as is known.
pub(super) fn lasted(incident: &Incident) -> String {
    let end = incident.recovered_at.or(incident.resolved_at);
    match end {
        Some(end) => length(end - incident.opened_at),
        None => "it still goes on".to_owned(),
    }
}
