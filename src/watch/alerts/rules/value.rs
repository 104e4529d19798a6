//! Values in a file of rules: each is read or complained of.

use std::collections::HashMap;
use std::ops::{Range, RangeInclusive};

use chrono::TimeDelta;
use toml::Spanned;

use super::super::calendar::Calendar;
use super::super::series::Series;
use super::super::span::LONGEST;
use super::{Problem, file, human};

/// The finest resolution of what is kept.
const FINEST: TimeDelta = TimeDelta::seconds(10);

/// The file, and what was found wrong with it so far.
pub(super) struct Check<'a> {
    pub(super) text: &'a str,
    pub(super) problems: Vec<Problem>,
    /// Names that are taken, and in which line.
    pub(super) names: HashMap<String, usize>,
}

impl Check<'_> {
    pub(super) fn problem(&mut self, at: &Range<usize>, text: impl Into<String>) {
        self.problems.push(Problem {
            line: self.line(at),
            text: text.into(),
        });
    }

    pub(super) fn line(&self, at: &Range<usize>) -> usize {
        let before = self.text.as_bytes().iter().take(at.start);
        before.filter(|byte| **byte == b'\n').count() + 1
    }

    pub(super) fn name(&mut self, name: &Spanned<String>) {
        let (span, name) = (name.span(), name.get_ref());
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || !name.chars().all(is_plain) {
            self.problem(
                &span,
                format!(
                    "`{name}` is no name for a rule: use lower-case letters, digits and hyphens"
                ),
            );
        }
        let line = self.line(&span);
        if let Some(before) = self.names.insert(name.clone(), line) {
            self.problem(
                &span,
                format!(
                    "there is a rule `{name}` in line {before} already: name this one differently"
                ),
            );
        }
    }

    pub(super) fn series(&mut self, name: &Spanned<String>) -> Option<Series> {
        let series = Series::named(name.get_ref());
        if series.is_none() {
            self.problem(
                &name.span(),
                format!(
                    "nothing called `{}` is measured; write one of {}",
                    name.get_ref(),
                    Series::names()
                ),
            );
        }
        series
    }

    /// A series that a share can be made of.
    pub(super) fn rate_series(&mut self, name: &Spanned<String>) -> Option<Series> {
        let series = self.series(name)?;
        if series.counts_events() {
            return Some(series);
        }
        self.problem(
            &name.span(),
            format!("`{series}` does not count requests: use one whose name ends with `_per_s`"),
        );
        None
    }

    pub(super) fn objective(&mut self, percent: &Spanned<f64>) -> Option<f64> {
        let fits = *percent.get_ref() > 0.0 && *percent.get_ref() < 100.0;
        if !fits {
            self.problem(
                &percent.span(),
                "objective has to be a percentage above 0 and below 100, such as 99.9: at 100 there is no \
                 budget to use up",
            );
        }
        fits.then(|| percent.get_ref() / 100.0)
    }

    pub(super) fn burn(&mut self, rate: &Spanned<f64>, objective: Option<f64>) -> Option<f64> {
        let number = self.number(rate, "rate", 0.1..=100_000.0)?;
        let most = 1.0 / (1.0 - objective?);
        if number >= most {
            self.problem(
                &rate.span(),
                format!(
                    "rate = {number} can never be reached: when all requests fail the budget burns {most:.0} \
                     times as fast as it may; use a lower rate or a stricter objective"
                ),
            );
            return None;
        }
        Some(number)
    }

    pub(super) fn windows(&mut self, window: &file::Window) -> Option<(TimeDelta, TimeDelta)> {
        let (long, short) = (
            self.time(&window.long, "long"),
            self.time(&window.short, "short"),
        );
        let (long, short) = (long?, short?);
        if long > LONGEST {
            self.problem(
                &window.long.span(),
                format!("long may be at most {}: no more is kept", human(LONGEST)),
            );
            return None;
        }
        if short >= long || short < FINEST {
            self.problem(
                &window.short.span(),
                format!(
                    "short has to be at least {} and shorter than long; a twelfth of it is usual",
                    human(FINEST)
                ),
            );
            return None;
        }
        Some((long, short))
    }

    pub(super) fn time(&mut self, text: &Spanned<String>, key: &str) -> Option<TimeDelta> {
        let time = humantime::parse_duration(text.get_ref()).ok();
        let time = time.and_then(|time| TimeDelta::from_std(time).ok());
        let time = time.filter(|time| *time <= TimeDelta::days(30));
        if time.is_none() {
            self.problem(
                &text.span(),
                format!(
                    "{key} = \"{}\" is no length of time up to 30 days: write it like \"30s\", \"5m\" or \"2h 30m\"",
                    text.get_ref()
                ),
            );
        }
        time
    }

    pub(super) fn zone(&mut self, zone: &Spanned<String>) -> Option<Calendar> {
        let calendar = Calendar::named(zone.get_ref());
        if calendar.is_none() {
            self.problem(
                &zone.span(),
                format!(
                    "there is no time zone `{}`: use a name of the IANA database, such as Europe/London",
                    zone.get_ref()
                ),
            );
        }
        calendar
    }

    pub(super) fn weeks(
        &mut self,
        weeks: Option<&Spanned<usize>>,
        default: usize,
        range: RangeInclusive<usize>,
    ) -> Option<usize> {
        let Some(weeks) = weeks else {
            return Some(default);
        };
        let fits = range.contains(weeks.get_ref());
        if !fits {
            let (least, most) = range.into_inner();
            self.problem(
                &weeks.span(),
                format!("weeks of a baseline have to be from {least} to {most}"),
            );
        }
        fits.then(|| *weeks.get_ref())
    }

    pub(super) fn any_number(&mut self, number: &Spanned<f64>, key: &str) -> Option<f64> {
        self.number(number, key, f64::MIN..=f64::MAX)
    }

    pub(super) fn number(
        &mut self,
        number: &Spanned<f64>,
        key: &str,
        range: RangeInclusive<f64>,
    ) -> Option<f64> {
        // NaN is in no range.
        let fits = range.contains(number.get_ref());
        if !fits {
            let (least, most) = range.into_inner();
            let text = if (least, most) == (f64::MIN, f64::MAX) {
                format!("{key} has to be a number, not infinite")
            } else if most == f64::MAX {
                format!("{key} has to be at least {least}")
            } else {
                format!("{key} has to be from {least} to {most}")
            };
            self.problem(&number.span(), text);
        }
        fits.then(|| *number.get_ref())
    }
}
