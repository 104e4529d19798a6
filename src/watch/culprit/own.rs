//! The shop's own doing: more traffic than usual, or statements that were not there before.

use super::who::Side;
use super::{Evidence, load, reasons};
use crate::watch::changes::Kind;
use crate::watch::finding::{Cause, Finding};
use crate::watch::sessions::{Sample, Session};
use crate::watch::shoppers::Pain;

/// So many times the usual arrivals are a surge. Not much more: a shop that has no time to accept
/// connections does not see all that would arrive.
const SURGE: f64 = 1.3;
/// Within this much of the usual, traffic is as usual.
const USUAL: f64 = 0.25;
/// The share of the shop's busy sessions that a new statement has to fill to be blamed.
const FILLS: f64 = 0.5;
/// The shop's busy sessions that a share is taken of.
const ENOUGH: usize = 3;
/// A deploy is suspected for so long.
const DEPLOY_S: f64 = 3600.0;

/// A statement that the shop did not send before fills its sessions.
pub(super) fn deploy(evidence: &Evidence<'_>, sample: &Sample, pains: &[Pain]) -> Option<Finding> {
    let busy: Vec<&Session> = sample
        .sessions
        .iter()
        .filter(|s| evidence.shop.side(s) == Side::Shop && s.is_working())
        .collect();
    let (statement, new) = evidence.statements.newcomers(
        busy.iter().filter_map(|session| session.query.as_deref()),
        evidence.now,
    )?;
    let share = new as f64 / busy.len().max(1) as f64;
    if busy.len() < ENOUGH || share < FILLS {
        return None;
    }
    let deployed = last_deploy(evidence).filter(|(_, ago_s)| *ago_s <= DEPLOY_S);
    let mut said = vec![format!(
        "{new} of {} busy sessions of the shop run a statement that was not there before: {statement}",
        busy.len()
    )];
    if let Some((summary, ago_s)) = &deployed {
        said.push(format!("{summary} was deployed {} ago", ago(*ago_s)));
    }
    Some(Finding {
        at: evidence.now,
        cause: Cause::BadDeploy,
        culprit: None,
        first_victim: None,
        accomplices: Vec::new(),
        certainty: if deployed.is_some() {
            share
        } else {
            share * 0.8
        },
        evidence: said.into_iter().chain(reasons(pains)).collect(),
        exclusions: traffic_as_usual(evidence)
            .into_iter()
            .chain(load::exclusion(evidence, sample))
            .collect(),
    })
}

/// More shoppers than usual.
pub(super) fn surge(evidence: &Evidence<'_>, sample: &Sample, pains: &[Pain]) -> Option<Finding> {
    let (now, usual) = evidence.shoppers.arrivals();
    let usual = usual?;
    if now < SURGE * usual {
        return None;
    }
    let said = format!("{now:.0} requests arrive per second, usually {usual:.0}");
    let served = format!("{:.0} of them are answered", evidence.shoppers.served());
    Some(Finding {
        at: evidence.now,
        cause: Cause::TrafficSurge,
        culprit: None,
        first_victim: None,
        accomplices: Vec::new(),
        certainty: (0.6 + (now / usual - SURGE) / 2.0).min(0.95),
        evidence: [said, served].into_iter().chain(reasons(pains)).collect(),
        exclusions: no_deploy(evidence)
            .into_iter()
            .chain(load::exclusion(evidence, sample))
            .collect(),
    })
}

/// That it is neither traffic nor a deploy, by the numbers, where it is not.
pub(super) fn exclusions(evidence: &Evidence<'_>) -> Vec<String> {
    traffic_as_usual(evidence)
        .into_iter()
        .chain(no_deploy(evidence))
        .collect()
}

fn traffic_as_usual(evidence: &Evidence<'_>) -> Option<String> {
    let (now, usual) = evidence.shoppers.arrivals();
    let change = now / usual? - 1.0;
    (change <= USUAL).then(|| format!("Not traffic: arrivals {:+.0} %", change * 100.0))
}

fn no_deploy(evidence: &Evidence<'_>) -> Option<String> {
    match last_deploy(evidence) {
        Some((_, ago_s)) if ago_s <= DEPLOY_S => None,
        Some((_, ago_s)) => Some(format!("Not a deploy: none for {}", ago(ago_s))),
        None => Some("Not a deploy: none is known of".to_owned()),
    }
}

/// The last deploy and how long ago it was, in seconds.
fn last_deploy<'a>(evidence: &Evidence<'a>) -> Option<(&'a str, f64)> {
    let deploys = evidence
        .changes
        .iter()
        .filter(|change| change.kind == Kind::Deploy);
    let last = deploys.max_by_key(|change| change.at)?;
    let ago_s = (evidence.now - last.at).as_seconds_f64().max(0.0);
    Some((last.summary.as_str(), ago_s))
}

fn ago(seconds: f64) -> String {
    let whole = std::time::Duration::from_secs(seconds as u64);
    humantime::format_duration(whole).to_string()
}
