//! The postmortem of act 1, under the headings of the real one.

use std::fmt::Write;
use std::time::Duration;

use chrono::TimeDelta;

use crate::demo::evidence::Evidence;
use crate::demo::naive::{Naive, SCRIPT};

/// What each corrective task of June 2024 has come to.
const TASKS: &str = "\
1. **Audit and reschedule cron jobs**: the change of this script is now a declared background \
migration (`migrations/background/orders_placed_day.sql`), reviewed as code, queued with `evenkeel \
migrate start` and safe at any hour. Review of crontabs and windows off peak: not in Evenkeel yet.
2. **Upgrade monitoring**: the shop measures what shoppers feel per class (latency from arrival, \
requests in flight, the wait for a connection; `/metrics`, `/health/ready`), and a watch over the database \
names whoever holds what the shop waits for. Alerts on thresholds, burn rates and anomalies are rules in one \
file (`monitoring/alerts.toml`) that `evenkeel alert test` replays over history.
3. **Strengthen incident response**: the watch ends a culprit whose role is listed for maintenance, and asks a \
person about any other; people are told level by level until somebody takes care; the timeline and the \
postmortem write themselves (`evenkeel incident report`). Act 2 of this demo shows it.
4. **Regular load tests**: `evenkeel load --capacity` finds the capacity, and this demo runs a \
migration under peak load. A rehearsal of any script on a copy of the data: not in Evenkeel yet.
";

/// The whole document.
pub fn text(evidence: &Evidence, naive: &Naive) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_facts(&mut text, evidence, naive);
    let _ = write_timeline(&mut text, naive);
    let end = if naive.terminated {
        "The script was terminated; its transaction was rolled back, so the column was gone with it."
    } else {
        "The script ended by itself and committed; its column was dropped afterwards."
    };
    let _ = writeln!(
        text,
        "\nResolution: {end} The same change then went through during the same peak as a schema step \
         and a background migration.\n\nCorrective tasks:\n{TASKS}\nThe incident timeline is drawn in \
         [report.html](report.html)."
    );
    text
}

fn write_facts(text: &mut String, evidence: &Evidence, naive: &Naive) -> std::fmt::Result {
    let began = naive.footage.began;
    writeln!(
        text,
        "# The outage, reproduced\n\nThe facts of the reproduction ({}, UTC), written from what was \
         recorded.\n\n| | |\n|---|---|",
        began.format("%-d %B %Y")
    )?;
    let Some(outage) = naive.outage else {
        return writeln!(text, "| duration | there was no outage |");
    };
    let clock = |at| clock(naive, at);
    let share = naive.act.outage.unwrap_or_default().failed_share;
    writeln!(
        text,
        "| duration | {} to {}, {:.1} s |\n\
         | impact | {:.1} % of browsing, {:.1} % of account requests and {:.1} % of orders failed |\n\
         | cost | {} requests to place an order failed |\n\
         | root cause | `{SCRIPT}` ran a heavy data migration script at peak ({:.0} requests per \
         second, {:.0} % of capacity): one transaction held an AccessExclusiveLock on `orders` until \
         every connection of the shop waited for it |",
        clock(outage.from),
        clock(outage.to),
        (outage.to - outage.from).as_secs_f64(),
        share.browse * 100.0,
        share.account * 100.0,
        share.checkout * 100.0,
        naive.act.classes.checkout.failed,
        evidence.peak_rps,
        evidence.peak_rps / evidence.capacity_rps * 100.0,
    )
}

fn write_timeline(text: &mut String, naive: &Naive) -> std::fmt::Result {
    writeln!(text, "\n| time | what happened |\n|---|---|")?;
    for (at, what) in timeline(naive) {
        writeln!(text, "| {} | {what} |", clock(naive, at))?;
    }
    Ok(())
}

/// The recorded events, and those that only show in the recording, in order of time.
pub(super) fn timeline(naive: &Naive) -> Vec<(Duration, String)> {
    let events = naive.footage.events.iter();
    let mut rows: Vec<_> = events.map(|event| (event.at, event.what.clone())).collect();
    if let Some(outage) = naive.outage {
        rows.push((outage.from, "no class is served any more".to_owned()));
        rows.push((outage.to, "the first class is served again".to_owned()));
    }
    let named = naive.footage.samples.iter().find_map(|sample| {
        let blocker = sample.blocker.as_ref().filter(|b| b.waiting >= 3)?;
        let at = sample
            .at
            .saturating_duration_since(naive.footage.recording.began());
        Some((
            at,
            format!(
                "database sessions show pid {} ({}) holding {}; {} sessions wait",
                blocker.pid, blocker.application, blocker.holds, blocker.waiting
            ),
        ))
    });
    rows.extend(named);
    rows.sort_by_key(|(at, _)| *at);
    rows
}

fn clock(naive: &Naive, at: Duration) -> String {
    let at = naive.footage.began + TimeDelta::from_std(at).unwrap_or_default();
    at.format("%H:%M:%S%.3f").to_string()
}
