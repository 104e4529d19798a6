//! From the file to the rules, with a sentence for everything that cannot be.

use std::collections::HashMap;
use std::ops::Range;

use chrono::TimeDelta;
use toml::Spanned;

use super::super::anomaly::Anomaly;
use super::super::burn::Burn;
use super::super::calendar::Calendar;
use super::super::series::Series;
use super::super::shift::Shift;
use super::super::span::LONGEST;
use super::super::track::Patience;
use super::{Bound, Kind, Problem, Rule, Rules, file, human};
use crate::watch::event::Severity;

/// Weeks that hours of the week are learnt from, unless the file says otherwise.
const WEEKS: usize = 8;
const LEAST_WEEKS: usize = 3;
/// More would neither fit into the memory that is promised nor say anything of today.
const MOST_WEEKS: usize = 26;
/// A rule that has fired is not resolved before its condition has not held for this long, unless it
/// says otherwise: an alert that comes and goes is one alert.
const KEEP: TimeDelta = TimeDelta::minutes(5);
/// Bad requests in a long window that a burn rate needs, unless the rule says otherwise.
const LEAST_BAD: f64 = 10.0;
/// The finest resolution of what is kept.
const FINEST: TimeDelta = TimeDelta::seconds(10);

/// The rules that `text` says.
pub(super) fn rules(text: &str) -> Result<Rules, Vec<Problem>> {
    let mut check = Check {
        text,
        problems: Vec::new(),
        names: HashMap::new(),
    };
    let rules = match toml::from_str::<file::File>(text) {
        Ok(file) => check.all(&file),
        Err(err) => {
            let at = err.span().unwrap_or_default();
            let message = err.message().trim_end_matches('.');
            check.problem(&at, format!("{message}; correct that and try again"));
            None
        }
    };
    match rules {
        Some(rules) if check.problems.is_empty() => Ok(rules),
        _ => {
            check.problems.sort_by_key(|problem| problem.line);
            Err(check.problems)
        }
    }
}

struct Check<'a> {
    text: &'a str,
    problems: Vec<Problem>,
    /// Names that are taken, and in which line.
    names: HashMap<String, usize>,
}

/// What all kinds of rules have.
struct Head<'a> {
    name: &'a Spanned<String>,
    title: &'a str,
    severity: Severity,
    before: Option<&'a Spanned<String>>,
    after: Option<&'a Spanned<String>>,
}

impl Check<'_> {
    fn problem(&mut self, at: &Range<usize>, text: impl Into<String>) {
        self.problems.push(Problem {
            line: self.line(at),
            text: text.into(),
        });
    }

    fn line(&self, at: &Range<usize>) -> usize {
        let before = self.text.as_bytes().iter().take(at.start);
        before.filter(|byte| **byte == b'\n').count() + 1
    }

    fn all(&mut self, file: &file::File) -> Option<Rules> {
        let pages_per_week = self.number(&file.pages_per_week, "pages_per_week", 0.0..=1000.0);
        let calendar = match &file.timezone {
            None => Some(Calendar::default()),
            Some(zone) => self.zone(zone),
        };
        let weeks = self.weeks(file.baseline_weeks.as_ref(), WEEKS, 1..=MOST_WEEKS);
        let most = weeks.unwrap_or(MOST_WEEKS);
        let least = self.weeks(file.baseline_least_weeks.as_ref(), LEAST_WEEKS.min(most), 1..=most);
        let mut rules: Vec<Option<Rule>> = Vec::new();
        rules.extend(file.threshold.iter().map(|rule| self.threshold(rule)));
        rules.extend(file.no_data.iter().map(|rule| self.no_data(rule)));
        for rule in &file.burn_rate {
            rules.extend(self.burn_rate(rule));
        }
        rules.extend(file.anomaly.iter().map(|rule| self.anomaly(rule)));
        rules.extend(file.shift.iter().map(|rule| self.shift(rule)));
        if rules.is_empty() {
            self.problem(&(0..0), "there is no rule; write one, such as [[threshold]]");
        }
        Some(Rules {
            pages_per_week: pages_per_week?,
            calendar: calendar?,
            weeks: weeks?,
            least_weeks: least?,
            rules: rules.into_iter().collect::<Option<Vec<_>>>()?,
        })
    }

    fn threshold(&mut self, rule: &file::Threshold) -> Option<Rule> {
        let bound = match (&rule.above, &rule.below) {
            (Some(above), None) => self.any_number(above, "above").map(Bound::Above),
            (None, Some(below)) => self.any_number(below, "below").map(Bound::Below),
            _ => {
                self.problem(
                    &rule.name.span(),
                    format!(
                        "threshold `{}` needs one of `above` and `below`, and not both",
                        rule.name.get_ref()
                    ),
                );
                None
            }
        };
        let series = self.series(&rule.series);
        let head = Head {
            name: &rule.name,
            title: &rule.title,
            severity: rule.severity,
            before: rule.r#for.as_ref(),
            after: rule.keep.as_ref(),
        };
        let kind = series.zip(bound).map(|(series, bound)| Kind::Threshold { series, bound });
        self.rule(&head, kind)
    }

    fn no_data(&mut self, rule: &file::NoData) -> Option<Rule> {
        let kind = self.series(&rule.series).map(|series| Kind::NoData { series });
        let head = Head {
            name: &rule.name,
            title: &rule.title,
            severity: rule.severity,
            before: Some(&rule.r#for),
            after: rule.keep.as_ref(),
        };
        self.rule(&head, kind)
    }

    fn burn_rate(&mut self, rule: &file::BurnRate) -> Vec<Option<Rule>> {
        let (bad, all) = (self.rate_series(&rule.bad), self.rate_series(&rule.all));
        let objective = self.objective(&rule.objective);
        let at_least = match &rule.at_least {
            Some(at_least) => self.number(at_least, "at_least", 0.0..=1e12),
            None => Some(LEAST_BAD),
        };
        if rule.windows.is_empty() {
            let name = rule.name.get_ref();
            let text = format!(
                "burn rate `{name}` needs at least one window, such as {{ rate = 14.4, long = \"1h\", \
                 short = \"5m\", severity = \"critical\" }}"
            );
            self.problem(&rule.name.span(), text);
        }
        let mut rules = Vec::new();
        for window in &rule.windows {
            let times = self.windows(window);
            let rate = self.burn(&window.rate, objective);
            let name = format!("{}-{}", rule.name.get_ref(), window.long.get_ref());
            let name = Spanned::new(rule.name.span(), name);
            let head = Head {
                name: &name,
                title: &rule.title,
                severity: window.severity,
                before: None,
                after: rule.keep.as_ref(),
            };
            let kind = (|| {
                let (long, short) = times?;
                Some(Kind::Burn(Burn {
                    bad: bad?,
                    all: all?,
                    objective: objective?,
                    rate: rate?,
                    long,
                    short,
                    at_least: at_least?,
                }))
            })();
            rules.push(self.rule(&head, kind));
        }
        rules
    }

    fn anomaly(&mut self, rule: &file::Anomaly) -> Option<Rule> {
        let series = self.series(&rule.series);
        let z = self.number(&rule.z, "z", 1.0..=1000.0);
        let change = self.number(&rule.change, "change", 0.0..=1000.0);
        let at_least = match &rule.at_least {
            Some(at_least) => self.number(at_least, "at_least", 0.0..=f64::MAX),
            None => Some(0.0),
        };
        let window = self.time(&rule.window, "window").filter(|window| {
            let fits = (TimeDelta::minutes(1)..=TimeDelta::hours(1)).contains(window);
            if !fits {
                self.problem(
                    &rule.window.span(),
                    "window has to be from 1m to 1h: a baseline is of hours",
                );
            }
            fits
        });
        let head = Head {
            name: &rule.name,
            title: &rule.title,
            severity: rule.severity,
            before: rule.r#for.as_ref(),
            after: rule.keep.as_ref(),
        };
        let kind = (|| {
            Some(Kind::Anomaly(Anomaly {
                series: series?,
                direction: rule.direction,
                z: z?,
                change: change?,
                at_least: at_least?,
                window: window?,
            }))
        })();
        self.rule(&head, kind)
    }

    fn shift(&mut self, rule: &file::Shift) -> Option<Rule> {
        let series = self.series(&rule.series);
        let change = self.number(&rule.change, "change", 0.05..=10.0);
        let decision = self.number(&rule.decision, "decision", 3.0..=1000.0);
        let head = Head {
            name: &rule.name,
            title: &rule.title,
            severity: rule.severity,
            before: None,
            after: rule.keep.as_ref(),
        };
        let kind = (|| {
            Some(Kind::Shift(Shift {
                series: series?,
                direction: rule.direction,
                change: change?,
                decision: decision?,
            }))
        })();
        self.rule(&head, kind)
    }

    fn rule(&mut self, head: &Head<'_>, kind: Option<Kind>) -> Option<Rule> {
        self.name(head.name);
        if head.title.trim().is_empty() {
            self.problem(
                &head.name.span(),
                format!("`{}` needs a title that tells whoever is woken what it means", head.name.get_ref()),
            );
        }
        let before = match head.before {
            Some(before) => self.time(before, "for"),
            None => Some(TimeDelta::zero()),
        };
        let after = match head.after {
            Some(after) => self.time(after, "keep"),
            None => Some(KEEP),
        };
        Some(Rule {
            name: head.name.get_ref().as_str().into(),
            title: head.title.into(),
            severity: head.severity,
            patience: Patience {
                before: before?,
                after: after?,
            },
            kind: kind?,
        })
    }

    fn name(&mut self, name: &Spanned<String>) {
        let (span, name) = (name.span(), name.get_ref());
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || !name.chars().all(is_plain) {
            self.problem(
                &span,
                format!("`{name}` is no name for a rule: use lower-case letters, digits and hyphens"),
            );
        }
        let line = self.line(&span);
        if let Some(before) = self.names.insert(name.clone(), line) {
            self.problem(
                &span,
                format!("there is a rule `{name}` in line {before} already: name this one differently"),
            );
        }
    }

    fn series(&mut self, name: &Spanned<String>) -> Option<Series> {
        let series = Series::named(name.get_ref());
        if series.is_none() {
            self.problem(
                &name.span(),
                format!(
                    "nothing called `{}` is measured; there are {}",
                    name.get_ref(),
                    Series::names()
                ),
            );
        }
        series
    }

    /// A series that a share can be made of.
    fn rate_series(&mut self, name: &Spanned<String>) -> Option<Series> {
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

    fn objective(&mut self, percent: &Spanned<f64>) -> Option<f64> {
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

    fn burn(&mut self, rate: &Spanned<f64>, objective: Option<f64>) -> Option<f64> {
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

    fn windows(&mut self, window: &file::Window) -> Option<(TimeDelta, TimeDelta)> {
        let (long, short) = (self.time(&window.long, "long"), self.time(&window.short, "short"));
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
                format!("short has to be at least {} and shorter than long; a twelfth of it is usual", human(FINEST)),
            );
            return None;
        }
        Some((long, short))
    }

    fn time(&mut self, text: &Spanned<String>, key: &str) -> Option<TimeDelta> {
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

    fn zone(&mut self, zone: &Spanned<String>) -> Option<Calendar> {
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

    fn weeks(
        &mut self,
        weeks: Option<&Spanned<usize>>,
        default: usize,
        range: std::ops::RangeInclusive<usize>,
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

    fn any_number(&mut self, number: &Spanned<f64>, key: &str) -> Option<f64> {
        self.number(number, key, f64::MIN..=f64::MAX)
    }

    fn number(
        &mut self,
        number: &Spanned<f64>,
        key: &str,
        range: std::ops::RangeInclusive<f64>,
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
