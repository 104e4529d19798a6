//! Every event of an incident, in a row of its own. Only readings of what shoppers felt that follow
//! each other share one, with their extremes.

use chrono::{DateTime, Utc};

use super::markdown::line;
use super::milestones::length;
use super::readings::{self, Reading};
use crate::watch::event::{Act, Event, What};
use crate::watch::incident::Incident;

/// A row of the timeline.
pub(super) struct Row {
    pub(super) from: DateTime<Utc>,
    /// Later than `from` where several readings share the row.
    pub(super) to: DateTime<Utc>,
    /// In Markdown.
    pub(super) by: String,
    /// In Markdown.
    pub(super) what: String,
}

impl Row {
    /// The time of day, to the second; with the day where the incident goes over midnight.
    pub(super) fn time(&self, with_day: bool) -> String {
        let format = if with_day { "%-d %b %H:%M:%S" } else { "%H:%M:%S" };
        let (from, to) = (self.from.format(format), self.to.format(format));
        if from.to_string() == to.to_string() {
            from.to_string()
        } else {
            format!("{from} – {to}")
        }
    }
}

/// The rows, in order of time.
pub(super) fn rows(incident: &Incident) -> Vec<Row> {
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
            by: line(&event.by),
            what: describe(event),
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

/// What happened, in Markdown.
fn describe(event: &Event) -> String {
    let act = |act: &Act| match act {
        Act::Cancel => ("cancelled the statement of", "cancel the statement of"),
        Act::Terminate => ("ended the connection of", "end the connection of"),
    };
    match &event.what {
        What::Opened {
            title, severity, ..
        } => format!("**opened** ({}): {}", severity.name(), line(title)),
        What::Found { finding } => {
            format!(
                "**found** {}, {:.0} % sure: {}",
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
                    "**{}** {who}, pid {}. Policy: {}. To undo: {}",
                    act(done).0,
                    suspect.pid,
                    line(policy),
                    line(undo)
                ),
                Some(problem) => {
                    format!("**could not {}** {who}: {}", act(done).1, line(problem))
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
            format!("**escalated** to level {level}: {}", line(reason))
        }
        What::Notified {
            level,
            channel,
            problem: None,
        } => format!("told {} (level {level})", line(channel)),
        What::Notified {
            level,
            channel,
            problem: Some(problem),
        } => format!(
            "could not reach {} (level {level}): {}",
            line(channel),
            line(problem)
        ),
        What::Acknowledged { via } => format!("**acknowledged** (by {})", line(via)),
        What::AcknowledgementExpired => "the acknowledgement expired: it still goes on".to_owned(),
        What::Noted { text } => format!("note: {}", line(text)),
        What::Recovered => "**recovered**: shoppers are well again".to_owned(),
        What::Relapsed => "**relapsed**".to_owned(),
        What::Resolved { .. } => "**resolved**".to_owned(),
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
