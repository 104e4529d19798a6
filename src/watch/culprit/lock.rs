//! Queues behind a lock. Who stands at the front is a fact, not a guess.

use super::who::{self, Side};
use super::{Evidence, own, reasons};
use crate::watch::finding::{Cause, Finding, Suspect};
use crate::watch::sessions::{Chain, Sample, Session, State};
use crate::watch::shoppers::Pain;

/// Sessions of the shop that wait for one session by no accident.
const VICTIMS: usize = 3;
/// A queue that is younger may be gone with the next statement, in seconds.
const LASTS_S: f64 = 0.15;
/// A single session of the shop that waits for so long suffers for all, in seconds.
const LONG_S: f64 = 1.0;

/// Whoever the most sessions of the shop wait for, if that is what shoppers suffer by.
pub(super) fn judge(evidence: &Evidence<'_>, sample: &Sample, pains: &[Pain]) -> Option<Finding> {
    let of_shop = |pid: &i32| {
        let session = sample.session(*pid)?;
        (evidence.shop.side(session) == Side::Shop).then_some(session)
    };
    let blocked =
        |chain: &Chain| -> Vec<&Session> { chain.victims.iter().filter_map(of_shop).collect() };
    let all = sample
        .sessions
        .iter()
        .filter(|session| session.is_blocked() && evidence.shop.side(session) == Side::Shop);
    let all = all.count();
    let chains = sample.chains();
    let (chain, victims) = chains
        .iter()
        .map(|chain| (chain, blocked(chain)))
        .max_by_key(|(chain, victims)| (victims.len(), std::cmp::Reverse(chain.root)))?;
    let longest_s = victims.iter().filter_map(|s| s.waits_s).fold(0.0, f64::max);
    let many = victims.len() >= VICTIMS && longest_s >= LASTS_S;
    let long = !victims.is_empty() && longest_s >= LONG_S;
    if !(many || long) {
        return None;
    }
    let Some(root) = sample.session(chain.root) else {
        return Some(nobody(evidence, chain, &victims, pains));
    };
    let first = chain.first_victim.and_then(|pid| sample.session(pid));
    // Shop sessions that wait for the root itself, rather than behind the first victim.
    let direct = victims
        .iter()
        .any(|victim| victim.blocked_by.contains(&chain.root));
    let side = evidence.shop.side(root);
    let (cause, first) = match (side, first) {
        (Side::Migration, _) => (Cause::OwnMigration, None),
        (_, Some(first)) if !direct && evidence.shop.side(first) != Side::Shop => {
            (Cause::BlockedChain, Some(first))
        }
        // The shop's own queue for a row: it is as long as the shop is slow, and no cause.
        (Side::Shop, _) if root.state == State::Active => return None,
        (Side::Shop | Side::Ours, _) => (Cause::BlockedChain, None),
        (Side::Stranger, _) => (Cause::Script, None),
    };
    let culprit = who::suspect(root, evidence.jobs);
    let first_victim = first.map(|first| who::suspect(first, evidence.jobs));
    let same_client = |other: &&Session| {
        other.pid != root.pid && other.application == root.application && other.role == root.role
    };
    let accomplices: Vec<Suspect> = chains
        .iter()
        .filter(|other| cause == Cause::Script && !blocked(other).is_empty())
        .filter_map(|other| sample.session(other.root))
        .filter(same_client)
        .map(|session| who::suspect(session, evidence.jobs))
        .collect();
    let mut said = Vec::new();
    said.push(match first {
        Some(first) => format!(
            "{} and {} waits behind it for {}",
            does(root),
            who::suspect(first, evidence.jobs).describe(),
            first.wants.as_deref().unwrap_or("a lock")
        ),
        None => format!("{} and holds {}", does(root), holds(root, &victims)),
    });
    said.push(format!(
        "{} of {all} waiting sessions of the shop wait for it, the longest for {longest_s:.1} s",
        victims.len(),
    ));
    said.push(share(sample, chain));
    said.extend(reasons(pains));
    let explained = victims.len() as f64 / all.max(1) as f64;
    let enough = if long {
        1.0
    } else {
        victims.len() as f64 / VICTIMS as f64
    };
    Some(Finding {
        at: evidence.now,
        cause,
        culprit: Some(culprit),
        first_victim,
        accomplices,
        certainty: explained * enough.min(1.0),
        evidence: said,
        exclusions: own::exclusions(evidence),
    })
}

/// What the session is at, as a clause without its subject.
fn does(session: &Session) -> String {
    match (session.state, session.statement_s) {
        (State::IdleInTransaction | State::Aborted, Some(s)) => {
            format!("it has been idle in a transaction for {s:.0} s")
        }
        (_, Some(s)) => format!("its statement has been running for {s:.1} s"),
        (_, None) => "it may not be looked into".to_owned(),
    }
}

fn holds(root: &Session, victims: &[&Session]) -> String {
    if !root.holds.is_empty() {
        return root.holds.join(", ");
    }
    let wanted = victims.iter().find_map(|victim| victim.wants.as_deref());
    format!("what they want: {}", wanted.unwrap_or("a lock"))
}

/// How much of all that is busy belongs to this queue.
fn share(sample: &Sample, chain: &Chain) -> String {
    let busy = sample
        .sessions
        .iter()
        .filter(|session| session.state != State::Other);
    let busy = busy.count().max(1);
    let percent = (chain.victims.len() + 1) as f64 / busy as f64 * 100.0;
    format!(
        "it and its queue are {:.0} % of the busy sessions",
        percent.min(100.0)
    )
}

/// A queue whose front is no session: a prepared transaction has none.
fn nobody(evidence: &Evidence<'_>, chain: &Chain, victims: &[&Session], pains: &[Pain]) -> Finding {
    let what = if chain.root == 0 {
        "a prepared transaction holds a lock: see pg_prepared_xacts"
    } else {
        "the session that holds a lock is not to be seen"
    };
    let queue = format!("{} sessions of the shop wait for it", victims.len());
    Finding {
        at: evidence.now,
        cause: Cause::BlockedChain,
        culprit: None,
        first_victim: None,
        accomplices: Vec::new(),
        certainty: 0.5,
        evidence: [what.to_owned(), queue]
            .into_iter()
            .chain(reasons(pains))
            .collect(),
        exclusions: own::exclusions(evidence),
    }
}
