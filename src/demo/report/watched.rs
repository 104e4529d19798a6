//! Act 2 in the report: how the watch did, beside what people did on June 20.

use std::fmt::Write;

use super::charts::{self, Band};
use super::page::{chart, escaped, write_classes, write_timeline};
use crate::demo::cases::Told;
use crate::demo::watched::Watched;

const SCRIPT_BAND: &str = "rgba(220, 38, 38, 0.12)";

/// A minute of June 20 (POSTMORTEM, UTC), what happened then, and when the same happened in the act.
type Compared = (&'static str, &'static str, Option<(f64, &'static str)>);

/// Writes the act's section.
pub(super) fn write(page: &mut String, watched: &Watched) -> std::fmt::Result {
    writeln!(
        page,
        "<h2>Act 2: the same script, watched</h2>\n<p>The same script at the same peak. The classes have \
         connections of their own, so whoever looks at products does not wait behind the lock on orders. \
         The watch sees who holds it, excludes what it is not, and ends the session, because the \
         settings list its role for maintenance.</p>"
    )?;
    if let Some(finding) = watched.incident.as_ref().and_then(|i| i.finding.as_ref()) {
        writeln!(
            page,
            "<blockquote>{}</blockquote>",
            escaped(&finding.sentence())
        )?;
    }
    let bands = [Band {
        period: watched.script,
        color: SCRIPT_BAND,
        label: "the script runs",
    }];
    write_classes(page, &watched.act.classes)?;
    let plots = [
        (
            "watched-throughput",
            "Requests",
            charts::throughput(&watched.footage, &bands),
        ),
        (
            "watched-failures",
            "Failed requests by class",
            charts::failures(&watched.footage, &bands),
        ),
        (
            "watched-latency",
            "Latency by class",
            charts::latency(&watched.footage, &bands),
        ),
        (
            "watched-pool",
            "The pool",
            charts::pool(&watched.footage, &bands),
        ),
    ];
    for (id, title, plot) in &plots {
        chart(page, id, title, plot)?;
    }
    compare(page, watched)?;
    let events = watched.footage.events.iter();
    write_timeline(
        page,
        events.map(|event| (event.at, event.what.clone())).collect(),
    )
}

/// Writes what the watch said of other causes.
pub(super) fn write_stories(page: &mut String, stories: &[Told]) -> std::fmt::Result {
    writeln!(
        page,
        "<h2>Other stories</h2>\n<p>What else makes a shop suffer, beside a job and an analyst who harm \
         nobody, and what the watch said.</p>\n<table><tr><th>cause</th><th>verdict</th>\
         <th>seconds</th><th>in its words</th></tr>"
    )?;
    for told in stories {
        writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{:.1}</td><td>{}</td></tr>",
            told.cause,
            told.verdict,
            told.named_s,
            escaped(&told.sentence)
        )?;
    }
    writeln!(page, "</table>")
}

/// What June 20 and this act have in common, one by the minute and the other by the second.
fn compare(page: &mut String, watched: &Watched) -> std::fmt::Result {
    let Some(watch) = &watched.act.watch else {
        return Ok(());
    };
    let named = watch.named_s;
    let finding = watched
        .incident
        .as_ref()
        .and_then(|incident| incident.finding.as_ref());
    let excluded = |what: &str| {
        let exclusions = finding.iter().flat_map(|finding| &finding.exclusions);
        let found = exclusions.into_iter().any(|said| said.starts_with(what));
        if found { named } else { f64::NAN }
    };
    let rows: [Compared; 9] = [
        (
            "10:00",
            "monitoring reports high response times",
            Some((named, "incident opened")),
        ),
        (
            "10:15",
            "first guess: a DDoS",
            Some((excluded("Not traffic"), "excluded by the rate of arrivals")),
        ),
        (
            "10:45",
            "false trail: a deployment",
            Some((excluded("Not a deploy"), "excluded: none was reported")),
        ),
        (
            "11:00",
            "escalated to the database administrators",
            Some((watch.escalated_s, "told, as nobody on call answered")),
        ),
        ("11:00", "", Some((watch.acknowledged_s, "they take care"))),
        (
            "11:15",
            "logs show a heavy script",
            Some((named, "session, role, job and lock are shown")),
        ),
        ("11:30", "the cron job is named", Some((named, "named"))),
        (
            "11:30",
            "the script is terminated",
            Some((watch.stopped_s, "ended by the watch")),
        ),
        (
            "12:15",
            "full function confirmed",
            Some((watch.normal_s, "normal service")),
        ),
    ];
    writeln!(
        page,
        "<h3>Beside June 20</h3>\n<table><tr><th>June 20</th><th>what happened</th><th>here</th>\
         <th>seconds after the script's start</th></tr>"
    )?;
    for (minute, then, here) in rows {
        let (seconds, here) = match here {
            Some((seconds, here)) if seconds.is_finite() => (format!("{seconds:.1}"), here),
            Some(_) => ("never".to_owned(), "did not happen"),
            None => (String::new(), "not needed"),
        };
        writeln!(
            page,
            "<tr><td>{minute}</td><td>{then}</td><td>{here}</td><td>{seconds}</td></tr>"
        )?;
    }
    writeln!(page, "</table>")
}
