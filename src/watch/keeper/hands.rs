//! What the watch does to sessions, once each.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::eyes::Eyes;
use super::line::Unheard;
use crate::config::Breaker;
use crate::watch::breaker::{self, Decision};
use crate::watch::event::{Act, What};
use crate::watch::finding::{Finding, Suspect};
use crate::watch::incident::Incident;

/// A session that is still there so long after it was acted on is acted on again.
const AGAIN: Duration = Duration::from_secs(2);

/// Who is named and who has been dealt with.
#[derive(Debug, Default)]
pub(super) struct Hands {
    /// Who is named now, and since when.
    named: Option<(Suspect, Instant)>,
    /// About whom a person was asked last.
    asked: Option<Suspect>,
    /// Who was acted on last, and when.
    acted: Option<(Suspect, Instant)>,
}

impl Hands {
    /// Nobody is named any more.
    pub(super) fn rest(&mut self) {
        self.named = None;
    }

    /// Does what the breaker decides about `finding`, if there is anything to do; says what was done.
    /// While `waits`, because no incident is open yet in which that could be written down, nothing is.
    pub(super) async fn act(
        &mut self,
        eyes: &mut Eyes,
        settings: &Breaker,
        finding: &Finding,
        waits: bool,
        now: Instant,
    ) -> Option<What> {
        let culprit = finding.culprit.as_ref()?;
        let since = match &self.named {
            Some((named, since)) if named.is_same_session(culprit) => *since,
            _ => now,
        };
        self.named = Some((culprit.clone(), since));
        if waits {
            return None;
        }
        match breaker::decide(settings, finding, now - since) {
            Decision::Leave(_) | Decision::Wait => None,
            Decision::Ask { act, suspect, why } => {
                let asked = self.asked.replace((*suspect).clone());
                let is_new = asked.is_none_or(|before| !before.is_same_session(&suspect));
                is_new.then_some(What::Asked {
                    act,
                    suspect,
                    policy: why,
                })
            }
            Decision::Do { act, suspect, why } => {
                let lately = self.acted.as_ref().is_some_and(|(before, at)| {
                    before.is_same_session(&suspect) && now - *at < AGAIN
                });
                if lately {
                    return None;
                }
                self.acted = Some(((*suspect).clone(), now));
                let accomplices = &finding.accomplices;
                Some(self.end(eyes, act, suspect, accomplices, why).await)
            }
        }
    }

    /// Acts on the suspect and its accomplices, and says what came of it.
    pub(super) async fn end(
        &mut self,
        eyes: &mut Eyes,
        act: Act,
        suspect: Box<Suspect>,
        accomplices: &[Suspect],
        policy: String,
    ) -> What {
        let all: Vec<&Suspect> = std::iter::once(&*suspect).chain(accomplices).collect();
        let told = eyes
            .line
            .ask(async |conn| breaker::act(conn, act, &all).await)
            .await;
        let problem = match told {
            Ok(pids) if pids.contains(&suspect.pid) => None,
            Ok(_) => Some("it had ended by itself".to_owned()),
            Err(Unheard { problem, .. }) => Some(problem),
        };
        // Whether it helped is to be seen at once.
        eyes.look_again();
        eyes.acted();
        let undo = breaker::undo(act, &suspect);
        What::Acted {
            act,
            suspect,
            policy,
            problem,
            undo,
        }
    }
}

/// What was asked for in an incident, has been allowed, and has not been done since: what, to whom,
/// and who allowed it.
pub(super) fn permitted(incident: &Incident) -> Vec<(Act, Box<Suspect>, String)> {
    let mut permitted = Vec::new();
    let mut seen = HashSet::new();
    for (i, event) in incident.events.iter().enumerate() {
        let What::Permitted { ask } = &event.what else {
            continue;
        };
        let asked = incident.events.iter().find(|asked| asked.id == *ask);
        let Some(What::Asked { act, suspect, .. }) = asked.map(|asked| &asked.what) else {
            continue;
        };
        let done = incident.events[i..].iter().any(
            |later| matches!(&later.what, What::Acted { suspect: of, .. } if of.is_same_session(suspect)),
        );
        if !done && seen.insert(*ask) {
            permitted.push((*act, suspect.clone(), event.by.clone()));
        }
    }
    permitted
}
