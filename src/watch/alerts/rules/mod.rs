//! The rules: what they are, and how they are read from their file.

mod check;
mod file;
mod value;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use chrono::TimeDelta;

use super::anomaly::Anomaly;
use super::burn::Burn;
use super::calendar::Calendar;
use super::series::Series;
use super::shift::Shift;
use super::track::Patience;
use crate::watch::event::Severity;

/// The rules that are built in, as their file.
pub const DEFAULT: &str = include_str!("../../../../monitoring/alerts.toml");
/// What messages call that file.
const DEFAULT_NAME: &str = "monitoring/alerts.toml (built in)";

/// All rules, checked.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Pages a week that are borne without any incident.
    pub pages_per_week: f64,
    /// By whose clock an hour of the week is meant.
    pub(super) calendar: Calendar,
    /// Weeks that hours of the week are learnt from.
    pub(super) weeks: usize,
    /// Weeks that have to be known before anything is judged by them.
    pub(super) least_weeks: usize,
    /// The rules, in the order of the file.
    pub(super) rules: Vec<Rule>,
}

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name, unlike any other's.
    pub name: Arc<str>,
    /// What it means when it fires.
    pub title: Arc<str>,
    /// How much that hurts.
    pub severity: Severity,
    /// How long its condition has to hold, and not to.
    pub(super) patience: Patience,
    /// Its condition.
    pub(super) kind: Kind,
}

/// A rule's condition.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// A value is beyond a bound.
    Threshold {
        /// Of what.
        series: Series,
        /// The bound.
        bound: Bound,
    },
    /// A value is unknown.
    NoData {
        /// Of what.
        series: Series,
    },
    /// An error budget is used up too fast.
    Burn(Burn),
    /// A value is far from the usual.
    Anomaly(Anomaly),
    /// A value has shifted.
    Shift(Shift),
}

/// What a value may not be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bound {
    /// Above this.
    Above(f64),
    /// Below this.
    Below(f64),
}

impl Bound {
    /// Whether `value` is beyond it.
    pub fn is_broken_by(self, value: f64) -> bool {
        match self {
            Self::Above(bound) => value > bound,
            Self::Below(bound) => value < bound,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Above(bound) => write!(f, "above {bound}"),
            Self::Below(bound) => write!(f, "below {bound}"),
        }
    }
}

/// Something in a file of rules that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, counted from 1.
    pub line: usize,
    /// What, and what to do.
    pub text: String,
}

/// Why rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// The file cannot be read.
    #[error(
        "cannot read the rules in {file}: {source}; name another file, or leave it out to use the built-in rules"
    )]
    Read {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// What it says cannot be.
    #[error("{}", lines(.file, .problems))]
    Wrong {
        /// The file.
        file: String,
        /// Everything that is wrong with it.
        problems: Vec<Problem>,
    },
}

fn lines(file: &str, problems: &[Problem]) -> String {
    let line = |problem: &Problem| format!("{file}:{}: {}", problem.line, problem.text);
    problems.iter().map(line).collect::<Vec<_>>().join("\n")
}

impl Rules {
    /// The rules in `file`, or the built-in ones.
    ///
    /// # Errors
    /// [`RulesError`] names the file, the line and what to do.
    pub fn load(file: Option<&Path>) -> Result<Self, RulesError> {
        let Some(path) = file else {
            return Self::parse(DEFAULT, DEFAULT_NAME);
        };
        let file = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, &file),
            Err(source) => Err(RulesError::Read { file, source }),
        }
    }

    /// The rules that `text` says; errors call it `file`.
    ///
    /// # Errors
    /// [`RulesError::Wrong`].
    pub fn parse(text: &str, file: &str) -> Result<Self, RulesError> {
        check::rules(text).map_err(|problems| RulesError::Wrong {
            file: file.to_owned(),
            problems,
        })
    }

    /// The rules, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Rule> {
        self.rules.iter()
    }

    /// How much history is of any use to these rules.
    pub fn remembers(&self) -> TimeDelta {
        weeks(self.weeks) + super::span::LONGEST
    }

    /// How much history it takes until rules by the hour of the week judge anything.
    pub fn learns_for(&self) -> TimeDelta {
        weeks(self.least_weeks)
    }

    /// The series that anything is learnt of by hour of the week.
    pub(super) fn learnt(&self) -> Vec<Series> {
        let mut learnt: Vec<Series> = self
            .rules
            .iter()
            .filter_map(|rule| match &rule.kind {
                Kind::Anomaly(anomaly) => Some(anomaly.series),
                Kind::Shift(shift) => Some(shift.series),
                Kind::Threshold { .. } | Kind::NoData { .. } | Kind::Burn(_) => None,
            })
            .collect();
        learnt.sort_unstable();
        learnt.dedup();
        learnt
    }
}

impl<'a> IntoIterator for &'a Rules {
    type Item = &'a Rule;
    type IntoIter = std::slice::Iter<'a, Rule>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Threshold { series, bound } => write!(f, "{series} is {bound}")?,
            Kind::NoData { series } => write!(f, "{series} is unknown")?,
            Kind::Burn(burn) => write!(
                f,
                "{} uses up the budget of {:.4} % at {} times its rate over {} and {}",
                burn.bad,
                100.0 * (1.0 - burn.objective),
                burn.rate,
                human(burn.long),
                human(burn.short)
            )?,
            Kind::Anomaly(anomaly) => write!(
                f,
                "{} over {} is {} deviations and {:.0} % {} its usual in that hour of the week",
                anomaly.series,
                human(anomaly.window),
                anomaly.z,
                anomaly.change * 100.0,
                anomaly.direction.name()
            )?,
            Kind::Shift(shift) => write!(
                f,
                "{} stays {:.0} % {} its usual in that hour of the week",
                shift.series,
                shift.change * 100.0,
                shift.direction.name()
            )?,
        }
        if self.patience.before > TimeDelta::zero() {
            write!(f, ", for {}", human(self.patience.before))?;
        }
        Ok(())
    }
}

fn weeks(number: usize) -> TimeDelta {
    TimeDelta::days(7 * i64::from(u32::try_from(number).unwrap_or(u32::MAX)))
}

/// A length of time as a person would write it.
fn human(time: TimeDelta) -> impl fmt::Display {
    humantime::format_duration(time.to_std().unwrap_or_default())
}
