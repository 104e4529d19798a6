//! Bounds of settings, each with a sentence that names the setting, its value and what is allowed.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::HumanTime;

/// No time limit is longer: it could not be added to a clock.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// PostgreSQL keeps its time limits as milliseconds in 32 bits.
pub const LONGEST_IN_POSTGRES: Duration = Duration::from_millis(i32::MAX as u64);

/// Refuses a number outside of `allowed`, and what is no number.
pub fn within<T>(name: &str, value: T, allowed: RangeInclusive<T>) -> Result<(), String>
where
    T: PartialOrd + Display,
{
    if allowed.contains(&value) {
        return Ok(());
    }
    Err(format!(
        "{name} is {value}, but it must be between {} and {}",
        allowed.start(),
        allowed.end()
    ))
}

/// Refuses a length of time below `least`, and one that no clock can count.
pub fn lasts(name: &str, value: Duration, least: Duration) -> Result<(), String> {
    lasts_within(name, value, least..=LONGEST)
}

/// Refuses a length of time of nothing, and one that no clock can count.
pub fn above_zero(name: &str, value: Duration) -> Result<(), String> {
    lasts(name, value, Duration::from_millis(1))
}

/// Refuses a length of time outside of `allowed`.
pub fn lasts_within(
    name: &str,
    value: Duration,
    allowed: RangeInclusive<Duration>,
) -> Result<(), String> {
    if allowed.contains(&value) {
        return Ok(());
    }
    Err(format!(
        "{name} is {}, but it must be between {} and {}",
        time(&value),
        time(allowed.start()),
        time(allowed.end())
    ))
}

/// Refuses a value that is more than another one which has to enclose it.
pub fn at_most<T: PartialOrd>(
    (name, value): (&str, T),
    (limit_name, limit): (&str, T),
    print: impl Fn(&T) -> String,
    why: &str,
) -> Result<(), String> {
    if value <= limit {
        return Ok(());
    }
    Err(format!(
        "{name} is {}, but it must be at most {limit_name} ({}): {why}",
        print(&value),
        print(&limit)
    ))
}

/// A length of time in a sentence.
pub fn time(value: &Duration) -> String {
    HumanTime::format(*value)
}
