//! `report.html`: one file that needs nothing else.

use std::fmt::Write;
use std::time::Duration;

use plotly::Plot;

use super::Story;
use super::charts::{self, Band};
use super::{postmortem, watched};
use crate::demo::evidence::Classes;
use crate::demo::guarded::Guarded;

const STYLE: &str = include_str!("page.css");
/// The script whose interval is marked, and the outage.
const SCRIPT_BAND: &str = "rgba(220, 38, 38, 0.12)";
/// A timeline of more rows is folded.
const SHORT: usize = 16;
const ON_BAND: &str = "rgba(13, 148, 136, 0.14)";

/// The whole page.
pub fn html(story: &Story) -> String {
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = write_page(&mut page, story);
    page
}

fn write_page(page: &mut String, story: &Story) -> std::fmt::Result {
    let evidence = &story.evidence;
    writeln!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>Evenkeel: the outage and the same change without one</title>\n\
         <style>\n{STYLE}</style>\n{}\n</head>\n<body>\n<main>",
        plotly_script()
    )?;
    writeln!(
        page,
        "<h1>The outage of June 20, and the same change without one</h1>\n\
         <p class=\"lead\">One shop, one database, the same peak of {:.0} requests per second \
         ({:.0} % of the {:.0} that it sustains), played three times on {}. Requests arrive at random \
         whether or not the shop answers, and every one counts from the moment when it was due. The charts \
         run in seconds since the beginning of the act.</p>",
        evidence.peak_rps,
        evidence.peak_rps / evidence.capacity_rps * 100.0,
        evidence.capacity_rps,
        story.naive.footage.began.format("%-d %B %Y, %H:%M UTC")
    )?;
    write_tiles(page, story)?;
    write_naive(page, story)?;
    watched::write(page, &story.watched)?;
    write_guarded(page, story)?;
    if let Some(stories) = &evidence.stories {
        watched::write_stories(page, stories)?;
    }
    writeln!(page, "</main>\n</body>\n</html>")
}

fn write_tiles(page: &mut String, story: &Story) -> std::fmt::Result {
    let outage = story.naive.act.outage.unwrap_or_default();
    let share = outage.failed_share;
    let least = share.browse.min(share.account).min(share.checkout) * 100.0;
    let guarded = &story.guarded.act;
    let failed: u64 = guarded.classes.iter().map(|(_, c)| c.failed).sum();
    let sent: u64 = guarded.classes.iter().map(|(_, c)| c.sent).sum();
    page.push_str("<div class=\"tiles\">\n");
    let mut tile = |kind: &str, value: String, text: String| {
        writeln!(
            page,
            "<div class=\"tile {kind}\"><b>{value}</b><span>{text}</span></div>"
        )
    };
    tile(
        "bad",
        format!("{least:.1} %"),
        format!(
            "of every class failed during the script: {:.1} s of outage, {:.1} s after its start",
            outage.duration_s, outage.onset_s
        ),
    )?;
    tile(
        "good",
        format!("{failed}"),
        format!("of {sent} requests failed in the guarded act, at the same peak"),
    )?;
    if let Some(watch) = &story.watched.act.watch {
        tile(
            "good",
            format!("{:.1} s", watch.stopped_s),
            format!(
                "until the watch has ended the same script: named after {:.1} s, normal service after {:.1} s, \
                 {:.1} % of browse answered throughout",
                watch.named_s,
                watch.normal_s,
                watch.browse_ok * 100.0
            ),
        )?;
    }
    if let Some(migration) = guarded.migration {
        tile(
            "good",
            format!("{:.2} ×", migration.p99_ratio_median),
            format!(
                "the 99th percentile with the migration by the one without, median of {} cycles \
                 ({:.2} × between periods without any migration)",
                migration.cycles, migration.control_ratio_median
            ),
        )?;
        tile(
            "good",
            format!("{:.0}/s", migration.rows_per_s),
            format!("rows at peak; {}", migration.progress()),
        )?;
    }
    writeln!(page, "</div>")
}

fn write_naive(page: &mut String, story: &Story) -> std::fmt::Result {
    let naive = &story.naive;
    writeln!(
        page,
        "<h2>Act 1: June 20</h2>\n<p>The shop as it was then: one pool without classes. A cron job \
         runs <code>BEGIN; ALTER TABLE orders ADD COLUMN …; UPDATE orders …; SELECT …; COMMIT</code> straight \
         against the database (red). The lock that ALTER takes is held until the end; every session \
         that touches orders waits for it, then every connection of the pool is such a session, and \
         nobody can even look at a product.</p>"
    )?;
    let bands = [Band {
        period: naive.script,
        color: SCRIPT_BAND,
        label: "the script runs",
    }];
    write_classes(page, &naive.act.classes)?;
    chart(
        page,
        "naive-throughput",
        "Requests",
        &charts::throughput(&naive.footage, &bands),
    )?;
    chart(
        page,
        "naive-failures",
        "Failed requests by class",
        &charts::failures(&naive.footage, &bands),
    )?;
    chart(
        page,
        "naive-latency",
        "Latency by class",
        &charts::latency(&naive.footage, &bands),
    )?;
    chart(
        page,
        "naive-pool",
        "The pool",
        &charts::pool(&naive.footage, &bands),
    )?;
    write_timeline(page, postmortem::timeline(naive))
}

fn write_guarded(page: &mut String, story: &Story) -> std::fmt::Result {
    let guarded = &story.guarded;
    writeln!(
        page,
        "<h2>Act 3: guarded</h2>\n<p>The same peak. The column is added by a schema step that takes \
         its lock for milliseconds and gives up rather than queue; the rows are filled by the engine \
         in short batches, at a pace set by what shoppers feel. The migration is switched on (green) \
         and off in turns, because only neighbours in time can be compared on a machine that \
         drifts; then it runs without pauses. What is left when the \
         peak ends is done afterwards, which the charts no longer show: {}.</p>",
        guarded
            .act
            .migration
            .map(|migration| migration.progress())
            .unwrap_or_default()
    )?;
    let on = guarded.cycles.iter().map(|cycle| (cycle.on, ""));
    let sustained = guarded.sustained.map(|period| (period, "without pauses"));
    let bands: Vec<Band> = on
        .chain(sustained)
        .map(|(period, label)| Band {
            period,
            color: ON_BAND,
            label,
        })
        .collect();
    write_classes(page, &guarded.act.classes)?;
    chart(
        page,
        "guarded-throughput",
        "Requests",
        &charts::throughput(&guarded.footage, &bands),
    )?;
    chart(
        page,
        "guarded-latency",
        "Latency by class",
        &charts::latency(&guarded.footage, &bands),
    )?;
    chart(
        page,
        "guarded-migration",
        "The migration",
        &charts::migration(&guarded.footage, &bands),
    )?;
    chart(
        page,
        "guarded-pool",
        "The pool",
        &charts::pool(&guarded.footage, &bands),
    )?;
    chart(
        page,
        "guarded-cycles",
        "99th percentile over all classes, with and without",
        &charts::cycles(&guarded.felt),
    )?;
    let ratios: Vec<String> = guarded
        .control
        .iter()
        .map(|felt| format!("{:.2}", felt.ratio))
        .collect();
    writeln!(
        page,
        "<p>Ratios of the control, cycles in which no migration ran at all: {}. What they scatter by \
         is the noise of this machine.</p>",
        ratios.join(", ")
    )?;
    write_costs(page, guarded)?;
    let events = guarded.footage.events.iter();
    write_timeline(
        page,
        events.map(|event| (event.at, event.what.clone())).collect(),
    )
}

/// What the engine itself found out, which is the last that it said at peak.
fn write_costs(page: &mut String, guarded: &Guarded) -> std::fmt::Result {
    let samples = guarded.footage.samples.iter().rev();
    let costs = samples
        .filter_map(|sample| sample.migration.as_ref())
        .map(|progress| progress.costs())
        .find(|costs| !costs.is_empty());
    let Some(costs) = costs else {
        return writeln!(
            page,
            "<p>The engine had too few requests to compare to know its own effect on shoppers.</p>"
        );
    };
    writeln!(
        page,
        "<h3>The migration's cost, by the engine's own trials</h3>\
         <p>What it adds to the 99th percentile while it works, against its short rests at times drawn \
         at random.</p>\
         <table><tr><th>class</th><th>effect, ms</th><th>95 % confidence, ms</th>\
         <th>requests at work</th><th>at rest</th></tr>"
    )?;
    for cost in costs {
        writeln!(
            page,
            "<tr><td>{}</td><td>{:+.1}</td><td>{:+.1} to {:+.1}</td><td>{}</td><td>{}</td></tr>",
            cost.class, cost.p99_ms, cost.low_ms, cost.high_ms, cost.at_work, cost.at_rest
        )?;
    }
    writeln!(page, "</table>")
}

pub(super) fn write_classes(page: &mut String, classes: &Classes) -> std::fmt::Result {
    writeln!(
        page,
        "<table><tr><th>class</th><th>sent</th><th>answered</th><th>failed</th><th>p50, ms</th>\
         <th>p99, ms</th></tr>"
    )?;
    for (class, figures) in classes.iter() {
        writeln!(
            page,
            "<tr><td>{class}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.1}</td><td>{:.1}</td></tr>",
            figures.sent, figures.ok, figures.failed, figures.p50_ms, figures.p99_ms
        )?;
    }
    writeln!(page, "</table>")
}

pub(super) fn write_timeline(page: &mut String, rows: Vec<(Duration, String)>) -> std::fmt::Result {
    let open = if rows.len() <= SHORT { " open" } else { "" };
    writeln!(
        page,
        "<details{open}><summary>Timeline</summary><table class=\"timeline\">\
         <tr><th>second</th><th>what happened</th></tr>"
    )?;
    for (at, what) in rows {
        writeln!(
            page,
            "<tr><td>{:.1}</td><td>{}</td></tr>",
            at.as_secs_f64(),
            escaped(&what)
        )?;
    }
    writeln!(page, "</table></details>")
}

pub(super) fn chart(page: &mut String, id: &str, title: &str, plot: &Plot) -> std::fmt::Result {
    writeln!(
        page,
        "<figure><figcaption>{title}</figcaption>{}</figure>",
        plot.to_inline_html(Some(id))
    )
}

/// Names of sessions come from the database.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Plotly's script alone: the crate's sources end with another, for mathematical formulas.
fn plotly_script() -> String {
    let mut scripts = Plot::offline_js_sources();
    if let Some(second) = scripts.rfind("<script") {
        scripts.truncate(second);
    }
    scripts
}
