//! From the file to the rules, with a sentence for everything that cannot be.

use std::collections::HashMap;

use chrono::TimeDelta;
use toml::Spanned;

use super::super::anomaly::Anomaly;
use super::super::burn::Burn;
use super::super::calendar::Calendar;
use super::super::shift::Shift;
use super::super::track::Patience;
use super::value::Check;
use super::{Bound, Kind, Problem, Rule, Rules, file};
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

/// What all kinds of rules have.
struct Head<'a> {
    name: &'a Spanned<String>,
    title: &'a str,
    severity: Severity,
    before: Option<&'a Spanned<String>>,
    after: Option<&'a Spanned<String>>,
}

impl Check<'_> {
    fn all(&mut self, file: &file::File) -> Option<Rules> {
        let pages_per_week = self.number(&file.pages_per_week, "pages_per_week", 0.0..=1000.0);
        let calendar = match &file.timezone {
            None => Some(Calendar::default()),
            Some(zone) => self.zone(zone),
        };
        let weeks = self.weeks(file.baseline_weeks.as_ref(), WEEKS, 1..=MOST_WEEKS);
        let most = weeks.unwrap_or(MOST_WEEKS);
        let least = self.weeks(
            file.baseline_least_weeks.as_ref(),
            LEAST_WEEKS.min(most),
            1..=most,
        );
        let mut rules: Vec<Option<Rule>> = Vec::new();
        rules.extend(file.threshold.iter().map(|rule| self.threshold(rule)));
        rules.extend(file.no_data.iter().map(|rule| self.no_data(rule)));
        for rule in &file.burn_rate {
            rules.extend(self.burn_rate(rule));
        }
        rules.extend(file.anomaly.iter().map(|rule| self.anomaly(rule)));
        rules.extend(file.shift.iter().map(|rule| self.shift(rule)));
        if rules.is_empty() {
            self.problem(
                &(0..0),
                "there is no rule; write one, such as [[threshold]]",
            );
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
        let kind = series
            .zip(bound)
            .map(|(series, bound)| Kind::Threshold { series, bound });
        self.rule(&head, kind)
    }

    fn no_data(&mut self, rule: &file::NoData) -> Option<Rule> {
        let kind = self
            .series(&rule.series)
            .map(|series| Kind::NoData { series });
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
        let most = change.unwrap_or(f64::MAX);
        let tolerated = self.number(&rule.tolerated, "tolerated", 0.0..=most);
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
                tolerated: tolerated?,
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
                format!(
                    "`{}` needs a title that tells whoever is woken what it means",
                    head.name.get_ref()
                ),
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
}
