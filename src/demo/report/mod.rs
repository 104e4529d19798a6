//! What the demo leaves behind: `demo.json`, `report.html`, `postmortem.md`.

mod charts;
mod page;
mod postmortem;
mod watched;

use std::fs;
use std::path::Path;

use super::DemoError;
use super::evidence::Evidence;
use super::guarded::Guarded;
use super::naive::Naive;
use super::screen::Screen;
use super::watched::Watched;

/// Everything that is reported.
#[derive(Debug)]
pub struct Story {
    /// The figures.
    pub evidence: Evidence,
    /// Act 1.
    pub naive: Naive,
    /// Act 2.
    pub watched: Watched,
    /// Act 3.
    pub guarded: Guarded,
}

/// Writes all parts into `directory`, which is created if need be.
///
/// # Errors
/// When a file cannot be written.
pub fn write(directory: &Path, story: &Story) -> Result<(), DemoError> {
    fs::create_dir_all(directory).map_err(DemoError::file("create", directory))?;
    let save = |name: &str, text: String| {
        let path = directory.join(name);
        fs::write(&path, text).map_err(DemoError::file("write", path))
    };
    save("demo.json", json(&story.evidence))?;
    save(
        "postmortem.md",
        postmortem::text(&story.evidence, &story.naive),
    )?;
    save("report.html", page::html(story))
}

/// The text of `demo.json`.
fn json(evidence: &Evidence) -> String {
    // Numbers, strings and booleans only: there is nothing that JSON could not hold.
    serde_json::to_string_pretty(evidence).unwrap_or_default() + "\n"
}

/// Prints what came out.
pub fn summary(screen: &Screen, directory: &Path, evidence: &Evidence) {
    let [naive, watched, guarded] = &evidence.acts;
    screen.heading("What came out");
    screen.say(&format!(
        "{:10}{:>28}{:>28}{:>28}",
        "", "June 20: sent, failed", "watched: sent, failed", "guarded: sent, failed"
    ));
    let acts = naive
        .classes
        .iter()
        .zip(watched.classes.iter())
        .zip(guarded.classes.iter());
    for (((class, before), (_, seen)), (_, after)) in acts {
        screen.say(&format!(
            "{:10}{:>18}{:>10}{:>18}{:>10}{:>18}{:>10}",
            class.name(),
            before.sent,
            before.failed,
            seen.sent,
            seen.failed,
            after.sent,
            after.failed
        ));
    }
    if let Some(outage) = naive.outage {
        let share = outage.failed_share;
        screen.say(&format!(
            "outage: {:.1} s after the script, for {:.1} s; of the requests due in it failed: browse \
             {:.1} %, account {:.1} %, checkout {:.1} %",
            outage.onset_s,
            outage.duration_s,
            share.browse * 100.0,
            share.account * 100.0,
            share.checkout * 100.0
        ));
    }
    if let Some(watch) = &watched.watch {
        screen.say(&format!(
            "watch: {} is named after {:.1} s ({}), stopped after {:.1} s, and service is normal \
             after {:.1} s; {:.1} % of browse was answered throughout",
            watch.culprit,
            watch.named_s,
            watch.verdict,
            watch.stopped_s,
            watch.normal_s,
            watch.browse_ok * 100.0
        ));
    }
    if let Some(migration) = guarded.migration {
        screen.say(&format!(
            "migration: {}; {:.0} rows/s at peak",
            migration.progress(),
            migration.rows_per_s
        ));
        screen.say(&format!(
            "p99 with it {:.1} ms, without {:.1} ms: ratio {:.2} (median of {} cycles; {:.2} in {} \
             cycles without any migration)",
            migration.p99_on_ms,
            migration.p99_off_ms,
            migration.p99_ratio_median,
            migration.cycles,
            migration.control_ratio_median,
            migration.control_cycles
        ));
    }
    let directory = directory.display();
    screen.say(&format!(
        "report: {directory}/report.html, {directory}/postmortem.md, {directory}/demo.json"
    ));
}
