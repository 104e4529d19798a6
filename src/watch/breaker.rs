//! What the watch may do to whom, and how it does it.
//!
//! Deciding is a pure function; acting names a session by process id and start, so that a process
//! id that the server has given to somebody else meanwhile ends nobody.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::culprit::matches;
use super::event::Act;
use super::finding::{Cause, Finding, Suspect};
use crate::config::{Breaker, Policy};

/// What is to be done about a finding.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Nothing, and why.
    Leave(String),
    /// Nothing yet.
    Wait,
    /// A person decides.
    Ask {
        /// What would be done.
        act: Act,
        /// To whom.
        suspect: Box<Suspect>,
        /// Why it is not done.
        why: String,
    },
    /// It is done.
    Do {
        /// What.
        act: Act,
        /// To whom.
        suspect: Box<Suspect>,
        /// Which rule allows it.
        why: String,
    },
}

/// What is to be done about `finding`, which has stood for `named`.
pub fn decide(settings: &Breaker, finding: &Finding, named: Duration) -> Decision {
    if !matches!(finding.cause, Cause::Script | Cause::BlockedChain) {
        return Decision::Leave(format!(
            "{} is not ended by ending a session",
            finding.cause
        ));
    }
    // Ending either end of a chain frees everybody; rather somebody whom a rule allows to be ended.
    let suspects = [finding.culprit.as_ref(), finding.first_victim.as_ref()];
    let mut choices: Vec<(Policy, Duration, &Suspect, String)> = suspects
        .into_iter()
        .flatten()
        .filter(|suspect| suspect.backend_start.is_some())
        .map(|suspect| {
            let (policy, grace, why) = policy(settings, suspect);
            (policy, grace, suspect, why)
        })
        .collect();
    // The root comes first among equals.
    choices.sort_by_key(|(policy, ..)| std::cmp::Reverse(readiness(*policy)));
    let Some((policy, grace, suspect, why)) = choices.into_iter().next() else {
        return Decision::Leave("nobody is named whom the role may look into".to_owned());
    };
    let suspect = Box::new(suspect.clone());
    let act = match policy {
        Policy::Never => return Decision::Leave(why),
        // A statement that is cancelled leaves its transaction, and so its locks, open.
        Policy::Ask => {
            return Decision::Ask {
                act: Act::Terminate,
                suspect,
                why,
            };
        }
        Policy::Cancel => Act::Cancel,
        Policy::Terminate => Act::Terminate,
    };
    if finding.certainty < settings.certainty {
        let why = format!(
            "it is {:.0} % certain, and {:.0} % are wanted",
            finding.certainty * 100.0,
            settings.certainty * 100.0
        );
        return Decision::Ask { act, suspect, why };
    }
    if named < grace {
        return Decision::Wait;
    }
    Decision::Do { act, suspect, why }
}

fn readiness(policy: Policy) -> u8 {
    match policy {
        Policy::Never => 0,
        Policy::Ask => 1,
        Policy::Cancel => 2,
        Policy::Terminate => 3,
    }
}

/// What may be done to the suspect, after which grace, and by which rule.
fn policy(settings: &Breaker, suspect: &Suspect) -> (Policy, Duration, String) {
    let rule = settings.rules.iter().find(|rule| {
        let role = rule.role.as_ref().is_none_or(|role| *role == suspect.role);
        let application = rule.application.as_ref();
        role && application.is_none_or(|pattern| matches(pattern, &suspect.application))
    });
    let Suspect { role, .. } = suspect;
    match rule {
        Some(rule) => {
            let which = match (&rule.role, &rule.application) {
                (Some(role), Some(application)) => format!("role {role} as {application}"),
                (Some(role), None) => format!("role {role}"),
                (None, Some(application)) => format!("application {application}"),
                (None, None) => "everybody".to_owned(),
            };
            let policy = format!("{:?}", rule.policy).to_lowercase();
            let why = format!("the breaker's rule for {which} says {policy}");
            (rule.policy, rule.grace.unwrap_or(settings.grace), why)
        }
        None if settings.maintenance_roles.contains(role) => {
            let why = format!("role {role} is listed for maintenance");
            (Policy::Terminate, settings.grace, why)
        }
        None => {
            let why = format!("no rule of the breaker is for role {role}");
            (Policy::Ask, settings.grace, why)
        }
    }
}

/// How an act is undone, for whoever reads of it.
pub fn undo(act: Act, suspect: &Suspect) -> String {
    let again = match &suspect.job {
        Some(job) => format!(
            "run job {} again, off peak; {} answers for it",
            job.name, job.owner
        ),
        None => "run it again, off peak".to_owned(),
    };
    match act {
        Act::Terminate => {
            format!("its transaction was rolled back, so nothing of it remains: {again}")
        }
        Act::Cancel => format!("its statement was rolled back, and its connection lives: {again}"),
    }
}

/// Acts on all suspects at once, without waiting for any to end. Returns the process ids of those
/// who were told; the others are gone.
///
/// # Errors
/// What the database says, such as that the role may not.
pub async fn act(
    conn: &mut PgConnection,
    act: Act,
    suspects: &[&Suspect],
) -> Result<Vec<i32>, sqlx::Error> {
    let named = suspects
        .iter()
        .filter_map(|s| Some((s.pid, s.backend_start?)));
    let (pids, starts): (Vec<i32>, Vec<DateTime<Utc>>) = named.unzip();
    let function = match act {
        Act::Cancel => "pg_cancel_backend",
        Act::Terminate => "pg_terminate_backend",
    };
    // In a WHERE clause the planner may call the function on every session there is, before it
    // looks at who is meant. What is materialised is what is meant, and nothing else is called on.
    let sql = format!(
        "WITH meant AS MATERIALIZED (
             SELECT a.pid FROM pg_stat_activity AS a
               JOIN unnest($1, $2) AS s (pid, backend_start)
                 ON a.pid = s.pid AND a.backend_start = s.backend_start
         ), told AS MATERIALIZED (SELECT pid, {function}(pid) AS done FROM meant)
         SELECT pid FROM told WHERE done"
    );
    sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(pids)
        .bind(starts)
        .fetch_all(conn)
        .await
}
