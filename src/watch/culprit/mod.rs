//! Who is to blame: a pure function of what was seen.
//!
//! The strongest evidence is asked first. Who holds a lock that the shop waits for is a fact; whose
//! statements fill the server is a matter of shares; and only where no stranger explains what
//! shoppers suffer are the shop's own traffic and its own new statements looked at. What none of
//! these explains is unknown, and said to be.
//!
//! - `lock`: queues behind a lock; `load`: shares of what runs; `own`: traffic and deploys
//! - `who`: a session as a suspect

mod load;
mod lock;
mod own;
mod who;

use chrono::{DateTime, Utc};

pub use who::{Shop, matches};

use super::changes::Change;
use super::finding::{Cause, Finding};
use super::sessions::Sample;
use super::shoppers::{Pain, Shoppers};
use super::statements::Statements;
use crate::config::Job;

/// What the database is to the watch.
#[derive(Clone, Copy, Debug)]
pub enum Database<'a> {
    /// It answers.
    Answers(&'a Sample),
    /// It has not for a while, and this is what is said instead.
    Lost(&'a str),
    /// It has not been asked, or it hesitates.
    Unheard,
}

/// All that a judgement rests on.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// When it is judged.
    pub now: DateTime<Utc>,
    /// The database.
    pub database: Database<'a>,
    /// The shoppers.
    pub shoppers: &'a Shoppers,
    /// How long shoppers have been suffering, in seconds; `None` if they are well.
    pub suffering_s: Option<f64>,
    /// The shop's own statements.
    pub statements: &'a Statements,
    /// What was changed in the last hours, latest last.
    pub changes: &'a [Change],
    /// What was last blamed in the incident that is open, and how long ago it was last seen, in seconds.
    pub before: Option<(&'a Finding, f64)>,
    /// Jobs that somebody answers for.
    pub jobs: &'a [Job],
    /// Who the shop is.
    pub shop: &'a Shop,
}

/// What is to blame; `None` while nobody suffers and nobody waits.
pub fn judge(evidence: &Evidence<'_>) -> Option<Finding> {
    let pains = evidence.shoppers.pains();
    match evidence.database {
        Database::Lost(problem) => Some(lost(evidence, &pains, problem)),
        // A look that is late says nothing by itself.
        Database::Unheard => None,
        Database::Answers(sample) => lock::judge(evidence, sample, &pains)
            .or_else(|| load::storm(evidence, sample, &pains))
            .or_else(|| {
                evidence.suffering_s?;
                if is_fresh(evidence) {
                    return None;
                }
                let stranger = load::stranger(evidence, sample, &pains);
                let own = own::deploy(evidence, sample, &pains)
                    .or_else(|| own::surge(evidence, sample, &pains));
                let surest = |a: Finding, b: Finding| if b.certainty > a.certainty { b } else { a };
                stranger.into_iter().chain(own).reduce(surest)
            })
            .or_else(|| aftermath(evidence, sample, &pains)),
    }
}

/// Whether somebody was to blame a moment ago. What shoppers suffer then is the queue that was left, and
/// whoever comes again because of it, rather than a new cause.
fn is_fresh(evidence: &Evidence<'_>) -> bool {
    const MOMENT_S: f64 = 5.0;
    evidence.before.is_some_and(|(before, ago_s)| {
        let own = matches!(before.cause, Cause::TrafficSurge | Cause::BadDeploy);
        before.is_of_a_cause() && !own && ago_s <= MOMENT_S
    })
}

fn reasons(pains: &[Pain]) -> impl Iterator<Item = String> {
    pains.iter().map(|pain| pain.reason.clone())
}

fn lost(evidence: &Evidence<'_>, pains: &[Pain], problem: &str) -> Finding {
    let said = std::iter::once(format!("it does not answer: {problem}"));
    Finding {
        at: evidence.now,
        cause: Cause::DatabaseLost,
        culprit: None,
        first_victim: None,
        accomplices: Vec::new(),
        certainty: 1.0,
        evidence: said.chain(reasons(pains)).collect(),
        exclusions: own::exclusions(evidence),
    }
}

/// What is left when nobody is to blame any more, or yet.
fn aftermath(evidence: &Evidence<'_>, sample: &Sample, pains: &[Pain]) -> Option<Finding> {
    /// What queued up behind a cause is gone a minute after it.
    const AFTERMATH_S: f64 = 60.0;
    /// Suffering of an unknown cause is no accident, such as a checkpoint, when it lasts so long.
    const LASTS_S: f64 = 5.0;
    let suffering_s = evidence.suffering_s?;
    let finding = |cause, certainty, said: Vec<String>| Finding {
        at: evidence.now,
        cause,
        culprit: None,
        first_victim: None,
        accomplices: Vec::new(),
        certainty,
        evidence: said.into_iter().chain(reasons(pains)).collect(),
        exclusions: own::exclusions(evidence)
            .into_iter()
            .chain(load::exclusion(evidence, sample))
            .collect(),
    };
    match evidence.before {
        Some((before, ago_s)) if ago_s <= AFTERMATH_S && before.cause != Cause::Unknown => {
            let said = format!("the cause ({}) is gone for {ago_s:.1} s", before.cause);
            Some(finding(Cause::Recovery, 0.9, vec![said]))
        }
        _ if suffering_s >= LASTS_S => {
            let bystanders = load::bystanders(evidence, sample);
            Some(finding(Cause::Unknown, 0.0, bystanders))
        }
        _ => None,
    }
}
