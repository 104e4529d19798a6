//! Alerts: what pages, what does not, and how the rules are looked after.

mod budget;
mod command;
mod history;
mod incidents;
mod prometheus;
mod quiet;
mod rules;
mod week;

use chrono::{DateTime, TimeDelta, Utc};
use evenkeel::watch::alerts::replay::{Fired, Replay};
use evenkeel::watch::alerts::{Evaluator, Reading, Rules};

use week::{Weeks, monday};

/// Weeks that hours of the week are learnt from.
const LEARNT: i64 = 4;
/// How often readings are taken in the weeks that are looked at.
const STEP: TimeDelta = TimeDelta::seconds(30);

/// An evaluator with the built-in rules that has seen four calm weeks, and the shop that it saw.
fn seasoned(seed: u64) -> (Evaluator, Weeks) {
    let mut evaluator = Evaluator::new(Rules::load(None).unwrap());
    let mut weeks = Weeks::new(seed);
    let step = TimeDelta::minutes(5);
    evaluator.restore(&weeks.readings(monday(0), monday(LEARNT), step, |_| 1.0));
    (evaluator, weeks)
}

fn replay(evaluator: &mut Evaluator, readings: &[Reading]) -> Replay {
    Replay::run(evaluator, readings, None).unwrap()
}

/// When `rule` fired first.
fn first<'a>(replay: &'a Replay, rule: &str) -> Option<&'a Fired> {
    replay.fired.iter().find(|fired| &*fired.rule == rule)
}

/// Thursday at 10 o'clock in the week after those that were learnt, when the shop is busy.
fn thursday_at_ten() -> DateTime<Utc> {
    monday(LEARNT) + TimeDelta::days(3) + TimeDelta::hours(10)
}
