//! When a reading cannot be believed, or cannot be had.

use super::graded::Judged;
use super::{Reading, Sample, Table};
use crate::settings::PaceSettings as Settings;
use crate::signal::Verdict;

/// Why a reading cannot be believed at all: one that repeats itself, or whose clock does not go as
/// ours does.
pub(super) fn fault(
    settings: &Settings,
    last: Option<&Reading>,
    reading: &Reading,
) -> Option<String> {
    let clock = reading.sample.clock_s;
    if !clock.is_finite() {
        return Some("the database's clock is not a number".to_owned());
    }
    let last = last?;
    if reading.at < last.at {
        return Some("it was measured before the last one".to_owned());
    }
    let here = reading.at.duration_since(last.at).as_secs_f64();
    let there = clock - last.sample.clock_s;
    if there == 0.0 {
        return Some("the reading is frozen: the database's clock stands still".to_owned());
    }
    // A reading that was under way for long is late by that; longer than this it would be stale.
    if (there - here).abs() > settings.stale_after.as_secs_f64() {
        return Some(format!(
            "the database's clock jumped by {:+.1} s",
            there - here
        ));
    }
    None
}

/// Whether the statistics of a table begin anew: counters went back, or all rows are gone at once.
pub(super) fn was_reset(before: &Table, now: &Table) -> bool {
    let emptied = before.live.unwrap_or(0) > 0 && now.live == Some(0) && now.dead == Some(0);
    now.vacuums < before.vacuums || emptied
}

pub(super) fn doubt(why: impl Into<String>) -> Judged {
    Some((Verdict::Unknown, why.into()))
}

/// The role lacks a right, and this is the way out.
pub(super) fn denied(sample: &Sample, budget: &str, what: &str) -> Judged {
    let role = &sample.role;
    doubt(format!(
        "the role {role} may not see {what}: GRANT pg_monitor TO {role}, or set \
         budgets.{budget}.enabled to false to go without"
    ))
}

pub(super) fn because(problem: Option<&str>) -> String {
    problem.map_or(String::new(), |problem| format!(": {problem}"))
}
