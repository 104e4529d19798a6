//! Where findings become incidents: when one is opened, what is written down of it, and when it is over.
//!
//! Knows no clock and no database, so that an outage can be played to it in a test.

use std::time::{Duration, Instant};

use super::event::{Severity, What};
use super::finding::{Cause, Finding};
use super::shoppers::{Pain, Shoppers};

/// How often it is written down how shoppers are.
const FELT_EVERY: Duration = Duration::from_secs(1);
/// How long shoppers have to be well, before that is called a recovery.
const WELL: Duration = Duration::from_secs(1);
/// A finding has to stand for so long, which is another look at the database, before it is anything
/// that people are told.
const STANDS: Duration = Duration::from_millis(200);
/// A finding whose certainty grows by this much is told again.
const SURER: f64 = 0.2;

/// The one incident that is open, or none. While shoppers suffer, whatever is found belongs to the
/// same incident: people who are woken want one story.
#[derive(Debug, Default)]
pub struct Desk {
    open: Option<Open>,
    /// Since when something has been found that is no incident yet.
    found_since: Option<Instant>,
}

#[derive(Debug)]
struct Open {
    /// What was told last; nothing by a process that was lost at once.
    told: Option<Finding>,
    felt_at: Instant,
    well_since: Option<Instant>,
    recovered: bool,
}

/// What to do with the record.
#[derive(Debug, Default)]
pub struct Minutes {
    /// A new incident begins with the first of the events.
    pub opens: bool,
    /// What is to be written down, in order, each with how long ago it was.
    pub events: Vec<(What, Duration)>,
    /// It is over: the incident is to be resolved with its impact.
    pub resolves: bool,
}

impl Desk {
    /// Whether an incident is open.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether an incident is open or may be about to be.
    pub fn is_alert(&self) -> bool {
        self.open.is_some() || self.found_since.is_some()
    }

    /// Takes up an incident that another process has left open, with what it told last.
    pub fn take_up(&mut self, told: Option<Finding>, recovered: bool, now: Instant) {
        self.open = Some(Open {
            told,
            felt_at: now,
            well_since: None,
            recovered,
        });
    }

    /// What is to be written down after a look at `now`.
    pub fn note(
        &mut self,
        finding: Option<&Finding>,
        shoppers: &Shoppers,
        resolve_after: Duration,
        now: Instant,
    ) -> Minutes {
        let pains = shoppers.pains();
        let mut minutes = Minutes::default();
        let Some(open) = &mut self.open else {
            let Some(finding) = finding else {
                self.found_since = None;
                return minutes;
            };
            let since = *self.found_since.get_or_insert(now);
            if now - since < STANDS {
                return minutes;
            }
            self.found_since = None;
            let opened = What::Opened {
                title: title(finding, &pains),
                severity: severity(finding, &pains),
                key: key(finding),
            };
            minutes.events.push((opened, now - since));
            let mut write = |what| minutes.events.push((what, Duration::ZERO));
            write(found(finding));
            write(What::Felt {
                classes: shoppers.felt(),
            });
            minutes.opens = true;
            self.open = Some(Open {
                told: Some(finding.clone()),
                felt_at: now,
                well_since: None,
                recovered: false,
            });
            return minutes;
        };
        let mut write = |what| minutes.events.push((what, Duration::ZERO));
        if let Some(finding) = finding
            && open.told.as_ref().is_none_or(|told| differs(told, finding))
        {
            write(found(finding));
            open.told = Some(finding.clone());
        }
        if now - open.felt_at >= FELT_EVERY && !open.recovered {
            write(What::Felt {
                classes: shoppers.felt(),
            });
            open.felt_at = now;
        }
        if finding.is_some() || !pains.is_empty() {
            open.well_since = None;
            if open.recovered {
                write(What::Relapsed);
                open.recovered = false;
            }
            return minutes;
        }
        let since = *open.well_since.get_or_insert(now);
        let well = now - since;
        if well >= WELL && !open.recovered {
            minutes.events.push((What::Recovered, well));
            open.recovered = true;
        }
        if well >= resolve_after.max(WELL) {
            minutes.resolves = true;
            self.open = None;
        }
        minutes
    }
}

fn found(finding: &Finding) -> What {
    What::Found {
        finding: Box::new(finding.clone()),
    }
}

/// Whether `new` says something that `told` does not.
fn differs(told: &Finding, new: &Finding) -> bool {
    let who = |finding: &Finding| {
        let culprit = finding.culprit.as_ref();
        culprit.map(|suspect| (suspect.pid, suspect.backend_start))
    };
    // That nothing is known is no news where something was.
    if new.cause == Cause::Unknown && told.cause != Cause::Unknown {
        return false;
    }
    told.cause != new.cause || who(told) != who(new) || new.certainty >= told.certainty + SURER
}

fn severity(finding: &Finding, pains: &[Pain]) -> Severity {
    match finding.cause {
        // Nobody suffers yet.
        Cause::ConnectionStorm if pains.is_empty() => Severity::Warning,
        _ => Severity::Critical,
    }
}

fn title(finding: &Finding, pains: &[Pain]) -> String {
    let who = match (&finding.culprit, finding.cause) {
        (Some(culprit), _) => culprit.describe(),
        (None, Cause::DatabaseLost) => "the database does not answer".to_owned(),
        (None, cause) => cause.name().replace('_', " "),
    };
    let classes: Vec<&str> = pains.iter().map(|pain| pain.class.name()).collect();
    if classes.is_empty() {
        return who;
    }
    format!("{} suffer: {who}", classes.join(", "))
}

/// Reports of one culprit belong together, and so do reports of a cause without one.
fn key(finding: &Finding) -> String {
    match &finding.culprit {
        Some(culprit) => format!("{}/{}/{}", finding.cause, culprit.role, culprit.application),
        None => finding.cause.name().to_owned(),
    }
}
