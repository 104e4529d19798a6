//! Bounds of settings, each with a sentence that names the setting, its value and what is allowed.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;

use super::HumanTime;

/// No time limit is longer: it could not be added to a clock.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// PostgreSQL keeps its time limits as milliseconds in 32 bits.
pub(super) const LONGEST_IN_POSTGRES: Duration = Duration::from_millis(i32::MAX as u64);

/// Refuses a number outside of `allowed`, and what is no number.
pub(super) fn within<T>(name: &str, value: T, allowed: RangeInclusive<T>) -> Result<(), String>
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
pub(super) fn lasts(name: &str, value: Duration, least: Duration) -> Result<(), String> {
    lasts_within(name, value, least..=LONGEST)
}

/// Refuses a length of time of nothing, and one that no clock can count.
pub(super) fn above_zero(name: &str, value: Duration) -> Result<(), String> {
    lasts(name, value, Duration::from_millis(1))
}

/// Refuses a length of time outside of `allowed`.
pub(super) fn lasts_within(
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
pub(super) fn at_most<T: PartialOrd>(
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

/// Refuses what is no URL of a database. The sentence does not hold it, since a password may be in it.
pub(super) fn database_url(name: &str, url: Option<&str>) -> Result<(), String> {
    let Some(url) = url else {
        return Ok(());
    };
    let advice = "it should look like postgres://user@host/database";
    let known = ["postgres://", "postgresql://"];
    if !known.iter().any(|scheme| url.starts_with(scheme)) {
        return Err(format!("{name} cannot be used: {advice}"));
    }
    let (_, rest) = url.split_once("://").unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if !authority.contains('@') && path.contains('@') {
        return Err(format!(
            "{name} cannot be used: write / ? # and @ within a user's name or a password as %2F %3F %23 and \
             %40; {advice}"
        ));
    }
    match url.parse::<PgConnectOptions>() {
        Ok(_) => Ok(()),
        Err(err) => Err(format!("{name} cannot be used: {err}; {advice}")),
    }
}

/// A length of time in a sentence.
pub(super) fn time(value: &Duration) -> String {
    HumanTime::format(*value)
}
