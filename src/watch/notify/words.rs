//! Plain words for what is in an incident.

use std::fmt::Write;

use chrono::{DateTime, Utc};
use pool::Class;

use super::notice::Notice;
use crate::watch::event::{Act, Felt, Impact, Occasion, Severity};
use crate::watch::finding::{Cause, Finding, Suspect};
use crate::watch::incident::Stage;

/// Characters of a line at most: a session may call itself anything.
const LINE: usize = 500;

/// A text that somebody else chose, as one line without characters that a reader cannot see.
pub(super) fn line(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    let visible = text.replace(hidden, " ");
    let joined = visible.split_whitespace().collect::<Vec<_>>().join(" ");
    truncate(&joined, LINE)
}

/// The beginning of a text, of so many characters at most.
pub(super) fn truncate(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    let kept = text.chars().take(length.saturating_sub(1));
    kept.chain(['…']).collect()
}

pub(super) fn time(at: DateTime<Utc>) -> String {
    at.format("%H:%M:%S UTC").to_string()
}

pub(super) fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Warning => "Warning",
        Severity::Critical => "Critical",
    }
}

/// What is wrong, in a sentence.
pub(super) fn what(finding: Option<&Finding>) -> String {
    let Some(finding) = finding else {
        return "The cause is not known yet.".to_owned();
    };
    let sentence = match finding.cause {
        Cause::Script => {
            "A script, a job or a statement from outside the shop overloads the database"
        }
        Cause::BlockedChain => {
            "A session holds a lock, and everybody waits behind a statement that waits for it"
        }
        Cause::OwnMigration => "A background migration of Evenkeel slows shoppers down",
        Cause::TrafficSurge => "There are more shoppers than the database can serve",
        Cause::BadDeploy => "A new version of the shop sends statements that overload the database",
        Cause::ConnectionStorm => "Other programs use up the connections that the server admits",
        Cause::DatabaseLost => "The database does not answer",
        Cause::Recovery => "The cause is gone, and what had queued up is being worked off",
        Cause::Unknown => return "The cause is not known.".to_owned(),
    };
    let percent = (finding.certainty.clamp(0.0, 1.0) * 100.0).round();
    format!("{sentence} (certainty {percent} %).")
}

pub(super) fn who(suspect: &Suspect) -> String {
    let mut who = suspect.describe();
    if !suspect.holds.is_empty() {
        let _ = write!(who, ", holds {}", suspect.holds.join(", "));
    }
    line(&who)
}

pub(super) fn statement(suspect: &Suspect) -> Option<String> {
    let statement = line(&suspect.statement);
    (!statement.is_empty()).then_some(statement)
}

pub(super) fn shoppers(felt: &Felt) -> String {
    let class = felt.class;
    let mut text = format!(
        "{class}: {:.1} requests/s, {:.1}/s fail",
        felt.arrivals_per_s, felt.failed_per_s
    );
    if let Some(p95) = felt.p95_ms {
        let _ = write!(text, ", p95 {p95:.0} ms");
    }
    text
}

pub(super) fn acted(act: Act, suspect: &Suspect, policy: &str, problem: Option<&str>) -> String {
    let who = suspect.describe();
    let text = match (act, problem) {
        (Act::Cancel, None) => format!("cancelled the statement of {who} ({policy})"),
        (Act::Terminate, None) => format!("ended the connection of {who} ({policy})"),
        (Act::Cancel, Some(problem)) => {
            format!("could not cancel the statement of {who} ({policy}): {problem}")
        }
        (Act::Terminate, Some(problem)) => {
            format!("could not end the connection of {who} ({policy}): {problem}")
        }
    };
    line(&text)
}

pub(super) fn asked(act: Act, suspect: &Suspect, policy: &str) -> String {
    let who = suspect.describe();
    line(&match act {
        Act::Cancel => format!("Cancel the statement of {who}? ({policy})"),
        Act::Terminate => format!("End the connection of {who}? ({policy})"),
    })
}

pub(super) fn impact(impact: &Impact) -> String {
    let sum = |counts: &[(Class, u64)]| counts.iter().map(|(_, count)| count).sum::<u64>();
    let mut text = format!(
        "{} of {} requests failed",
        sum(&impact.failed),
        sum(&impact.arrived)
    );
    let classes: Vec<String> = impact
        .failed
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(class, count)| format!("{class} {count}"))
        .collect();
    if !classes.is_empty() {
        let _ = write!(text, " ({})", classes.join(", "));
    }
    let _ = write!(
        text,
        "; about {:.0} orders were not placed",
        impact.orders_lost
    );
    if let Some(money) = impact.money_at_risk_minor {
        let _ = write!(text, ", worth {money} in the currency's smallest unit");
    }
    text
}

impl Notice {
    /// All of it in a line: a subject, a summary.
    pub fn headline(&self) -> String {
        let by = self.acknowledged_by.as_deref().unwrap_or("somebody");
        let why = match self.occasion {
            Occasion::Opened => "opened".to_owned(),
            Occasion::Escalated => format!("escalated to level {}", self.level),
            Occasion::Repeated => "not acknowledged yet".to_owned(),
            Occasion::Expired => "goes on, and the acknowledgement has expired".to_owned(),
            Occasion::Updated => "more is known".to_owned(),
            Occasion::Acted => "the watch has acted".to_owned(),
            Occasion::Asked => "a decision is needed".to_owned(),
            Occasion::Acknowledged => format!("{by} takes care"),
            Occasion::Recovered => "shoppers are well again".to_owned(),
            Occasion::Relapsed => "it came back".to_owned(),
            Occasion::Resolved => "resolved".to_owned(),
        };
        format!("{}: {} ({why})", severity(self.severity), self.title)
    }

    /// All of it as plain text.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n\n", self.headline());
        let seconds = std::time::Duration::from_secs(self.lasted().as_secs());
        let lasted = humantime::format_duration(seconds);
        let since = self.opened_at.format("%Y-%m-%d %H:%M:%S UTC");
        let stage = match self.stage {
            Stage::Open => format!("Open since {since} ({lasted})."),
            Stage::Recovered => format!("Opened {since}; shoppers are well again, being observed."),
            Stage::Resolved => format!("Opened {since}, over after {lasted}."),
        };
        let _ = writeln!(text, "{stage}\n{}", self.what);
        let mut field = |name: &str, value: Option<&String>| {
            if let Some(value) = value {
                let _ = writeln!(text, "{name}: {value}");
            }
        };
        field("Who", self.who.as_ref());
        field("Statement", self.statement.as_ref());
        field("Everybody waits for", self.first_victim.as_ref());
        field("Takes care", self.acknowledged_by.as_ref());
        field("Cost", self.impact.as_ref());
        for (name, lines) in self.lists() {
            let _ = writeln!(text, "\n{name}:");
            for line in lines {
                let _ = writeln!(text, "- {line}");
            }
        }
        text.push('\n');
        if let Some(link) = &self.acknowledge_link {
            let _ = writeln!(text, "Take care of it: {link}");
        }
        if let Some(link) = &self.link {
            let _ = writeln!(text, "Incident: {link}");
        }
        text
    }

    /// Its lists that hold something, each with a name.
    pub(super) fn lists(&self) -> Vec<(&'static str, Vec<String>)> {
        let done = self
            .done
            .iter()
            .map(|done| format!("{} {}. To undo: {}", time(done.at), done.what, done.undo));
        let asks = self.asks.iter().map(|ask| match &ask.link {
            Some(link) => format!("{} Allow it, once: {link}", ask.what),
            None => format!("{} Decide with `evenkeel incident`.", ask.what),
        });
        let lists = [
            ("To decide", asks.collect()),
            ("Evidence", self.evidence.clone()),
            ("Ruled out", self.exclusions.clone()),
            ("Shoppers", self.shoppers.clone()),
            ("Done", done.collect()),
            ("Channels that could not be reached", self.unreached.clone()),
        ];
        let filled = lists.into_iter().filter(|(_, lines)| !lines.is_empty());
        filled.collect()
    }
}
