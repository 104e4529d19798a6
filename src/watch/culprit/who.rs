//! A session as a suspect, and whether it is the shop's own.

use std::collections::BTreeMap;

use crate::config::Job;
use crate::migration::batch::APPLICATION as MIGRATION;
use crate::migration::sampler;
use crate::watch::finding::{KnownJob, Suspect};
use crate::watch::sessions::Session;
use crate::watch::sessions::fingerprint::{fingerprint, tags};
use crate::watch::{keeper, replicator};

/// Keys under which comments in SQL call a job.
const JOB_TAGS: [&str; 3] = ["job", "application", "action"];

/// How the shop calls itself in the database.
#[derive(Clone, Debug)]
pub struct Shop {
    /// Its `application_name`.
    pub application: String,
}

/// Whose a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// It serves shoppers.
    Shop,
    /// A background migration of ours.
    Migration,
    /// Something else of ours, such as a sampler.
    Ours,
    /// Somebody else's.
    Stranger,
}

impl Shop {
    /// Whose the session is.
    pub(super) fn side(&self, session: &Session) -> Side {
        let application = session.application.as_str();
        if application == self.application {
            Side::Shop
        } else if application.starts_with(MIGRATION) {
            Side::Migration
        } else if OURS.contains(&application) {
            Side::Ours
        } else {
            Side::Stranger
        }
    }
}

/// How the tasks of this program call themselves. Whoever has a name that only resembles them is a
/// stranger.
const OURS: [&str; 3] = [
    sampler::APPLICATION,
    replicator::APPLICATION,
    keeper::APPLICATION,
];

/// Whether `name` is `pattern`, or begins with it where it ends in `*`.
pub fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    }
}

/// The session as a suspect.
pub(super) fn suspect(session: &Session, jobs: &[Job]) -> Suspect {
    let query = session.query.as_deref().unwrap_or("");
    Suspect {
        pid: session.pid,
        backend_start: session.backend_start,
        role: session.role.clone(),
        application: session.application.clone(),
        client: session.client.clone(),
        since: session.xact_start,
        statement: fingerprint(query),
        job: known(session, &tags(query), jobs),
        holds: session.holds.clone(),
    }
}

/// The job that it is: by what its SQL says, or else by role and application.
fn known(session: &Session, tags: &BTreeMap<String, String>, jobs: &[Job]) -> Option<KnownJob> {
    let called = JOB_TAGS.iter().find_map(|tag| tags.get(*tag));
    let fits = |job: &&Job| {
        let role = job.role.as_ref().is_none_or(|role| *role == session.role);
        let application = job.application.as_ref();
        let named = application.is_none_or(|pattern| matches(pattern, &session.application));
        role && named && (job.role.is_some() || application.is_some())
    };
    let job = jobs
        .iter()
        .find(|job| called == Some(&job.name))
        .or_else(|| jobs.iter().find(fits));
    match (job, called) {
        (Some(job), _) => Some(KnownJob {
            name: job.name.clone(),
            owner: job.owner.clone(),
        }),
        // It says what it is, and nobody has entered it.
        (None, Some(called)) => Some(KnownJob {
            name: called.clone(),
            owner: tags
                .get("owner")
                .cloned()
                .unwrap_or_else(|| "an unknown owner".to_owned()),
        }),
        (None, None) => None,
    }
}
