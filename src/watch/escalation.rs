//! Who is told next, and when: a pure function of an incident, the settings and the time.
//!
//! All that it goes by are the incident's events, so whoever has the journal goes on where the last
//! process stopped. Two kinds of message are told apart. A *page* calls somebody: it goes to the
//! channels of one level and is repeated. *News* only tells whoever was called how it goes on.
//!
//! An acknowledgement silences pages, not news. A level that does not acknowledge in time, or none of
//! whose channels can be reached, hands on to the next; the last one is repeated. A warning calls
//! the first level once.

mod history;

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use self::history::{History, News, Told, Urgency};
use super::event::{Occasion, Severity};
use super::incident::{Incident, Stage};
use crate::config::Notify;
use crate::config::notify::Level;

/// The pause before a channel that could not be reached is tried again; it doubles up to the level's
/// `repeat_every`.
const FIRST_RETRY: Duration = Duration::from_secs(60);

/// The shortest time between two pieces of news to a channel, except for a question: what happens at
/// once is one message.
const BREATH: Duration = Duration::from_secs(5);

/// How long after the end of an incident a channel that cannot be reached is still to be told of it.
const GIVE_UP: Duration = Duration::from_secs(6 * 3600);

/// When who is told.
#[derive(Clone, Debug)]
pub struct Plan {
    levels: Vec<Level>,
    gather_for: Duration,
    group_for: Duration,
    unacknowledge_after: Duration,
}

impl From<&Notify> for Plan {
    fn from(settings: &Notify) -> Self {
        Self {
            levels: settings.levels(),
            gather_for: settings.gather_for,
            group_for: settings.group_for,
            unacknowledge_after: settings.unacknowledge_after,
        }
    }
}

/// What is to be done about an incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Tell a channel.
    Tell(Tell),
    /// Hand on to the next level.
    Escalate {
        /// Counted from 1.
        level: u32,
        /// Why.
        reason: String,
    },
    /// Take the acknowledgement back: whoever gave it has been silent for too long.
    Expire,
    /// Nothing more before this time, unless something happens.
    Wait {
        /// The time.
        until: DateTime<Utc>,
    },
}

/// A message that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tell {
    /// The level that the channel is told at, counted from 1.
    pub level: u32,
    /// Its name.
    pub channel: String,
    /// Why.
    pub occasion: Occasion,
    /// The events that the channel has not been told yet.
    pub news: Vec<Uuid>,
}

/// What is due for an incident at a time. Without levels, nothing ever is.
pub fn due(incident: &Incident, plan: &Plan, now: DateTime<Utc>) -> Vec<Step> {
    if plan.levels.is_empty() {
        return Vec::new();
    }
    let mut due = Due {
        incident,
        plan,
        now,
        history: History::of(incident),
        wake: None,
    };
    let mut steps = Vec::new();
    let moved = due.expire().or_else(|| due.escalate());
    let is_moved = moved.is_some();
    steps.extend(moved);
    steps.extend(due.tell_all(is_moved).into_iter().map(Step::Tell));
    steps.extend(due.wake.map(|until| Step::Wait { until }));
    steps
}

/// A message that may be due: from when on, at which level and why.
type Candidate = (DateTime<Utc>, u32, Occasion);

struct Due<'a> {
    incident: &'a Incident,
    plan: &'a Plan,
    now: DateTime<Utc>,
    history: History<'a>,
    /// When there is something to do next.
    wake: Option<DateTime<Utc>>,
}

impl Due<'_> {
    /// Whether the time has come; if not, it is remembered.
    fn has_come(&mut self, time: DateTime<Utc>) -> bool {
        if time <= self.now {
            return true;
        }
        self.wake = Some(self.wake.map_or(time, |wake| wake.min(time)));
        false
    }

    /// Whether somebody is to be called: shoppers suffer, and nobody takes care.
    fn is_calling(&self) -> bool {
        self.incident.stage == Stage::Open && self.incident.acknowledged.is_none()
    }

    fn is_critical(&self) -> bool {
        self.incident.severity == Severity::Critical
    }

    /// The level that the incident has come to; settings may have fewer than there once were.
    fn level(&self) -> u32 {
        let last = u32::try_from(self.plan.levels.len()).unwrap_or(u32::MAX);
        self.incident.level.min(last)
    }

    fn settings(&self, level: u32) -> Option<&Level> {
        self.plan.levels.get(level.checked_sub(1)? as usize)
    }

    fn expire(&mut self) -> Option<Step> {
        let (_, since) = self.incident.acknowledged.as_ref()?;
        if !self.is_critical() || self.incident.stage != Stage::Open {
            return None;
        }
        // A note is a sign of life, too.
        let since = self.history.noted.map_or(*since, |noted| noted.max(*since));
        let over = self.has_come(after(since, self.plan.unacknowledge_after));
        over.then_some(Step::Expire)
    }

    fn escalate(&mut self) -> Option<Step> {
        if !self.is_calling() {
            return None;
        }
        let level = self.level();
        let Some(settings) = self.settings(level).cloned() else {
            let gathered = after(self.incident.opened_at, self.plan.gather_for);
            let ready = self.history.is_named || self.has_come(gathered);
            return ready.then(|| Step::Escalate {
                level: 1,
                reason: "the incident was opened".to_owned(),
            });
        };
        if !self.is_critical() || self.settings(level + 1).is_none() {
            return None;
        }
        let reason = if self.is_dead(&settings) {
            format!("no channel of level {level} could be reached")
        } else {
            let patience = settings.acknowledge_within;
            let since = self
                .history
                .calling_since
                .unwrap_or(self.incident.opened_at);
            if !self.has_come(after(since, patience)) {
                return None;
            }
            let patience = humantime::format_duration(patience);
            format!("nobody of level {level} acknowledged within {patience}")
        };
        Some(Step::Escalate {
            level: level + 1,
            reason,
        })
    }

    /// Whether nobody of the level has heard the call, and nobody could.
    fn is_dead(&self, level: &Level) -> bool {
        let since = self.history.calling_since;
        let dead = |channel: &String| {
            let heard =
                |told: &Told<'_>| !told.failed && since.is_none_or(|since| told.at >= since);
            let mut told = self.history.told_to(channel);
            let last = told.next_back();
            last.is_some_and(|last| last.failed) && !told.any(heard)
        };
        level.channels.iter().all(dead)
    }

    fn tell_all(&mut self, moved: bool) -> Vec<Tell> {
        let forgotten = self
            .incident
            .resolved_at
            .is_some_and(|resolved| after(resolved, GIVE_UP) <= self.now);
        if forgotten {
            return Vec::new();
        }
        let plan = self.plan;
        let mut seen = HashSet::new();
        let channels = plan.levels.iter().flat_map(|level| &level.channels);
        channels
            .filter(|channel| seen.insert(channel.as_str()))
            .filter_map(|channel| self.tell(channel, moved))
            .collect()
    }

    fn tell(&mut self, channel: &str, moved: bool) -> Option<Tell> {
        let told: Vec<Told<'_>> = self.history.told_to(channel).cloned().collect();
        let pending = self.pending(channel, &told);
        let retry = self.retry(&told);
        let mut chosen = None;
        for (time, level, occasion) in self.candidates(channel, &told, &pending, moved) {
            let time = retry.map_or(time, |retry| retry.max(time));
            if chosen.is_none() && self.has_come(time) {
                chosen = Some((level, occasion));
            }
        }
        let (level, occasion) = chosen?;
        Some(Tell {
            level,
            channel: channel.to_owned(),
            occasion,
            news: pending.iter().map(|news| news.id).collect(),
        })
    }

    /// What the channel was not told yet and is to know.
    fn pending(&self, channel: &str, told: &[Told<'_>]) -> Vec<News> {
        let reached = told.iter().filter(|told| !told.failed);
        let known: HashSet<Uuid> = reached.flat_map(|told| told.news).copied().collect();
        let concerns = |news: &News| match news.urgency {
            Urgency::Calls(level) => self.is_of(channel, level),
            _ => true,
        };
        let news = self.history.news.iter();
        news.filter(|news| !known.contains(&news.id) && concerns(news))
            .cloned()
            .collect()
    }

    /// The messages that may be due for the channel, most important first.
    fn candidates(
        &self,
        channel: &str,
        told: &[Told<'_>],
        pending: &[News],
        moved: bool,
    ) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        let reached = told.iter().rev().find(|told| !told.failed);
        let again = |level: u32| {
            let mut pages = told.iter().filter(|told| !told.failed);
            let last = pages.rfind(|told| told.occasion.is_page() && told.level == level)?;
            Some(after(last.at, self.settings(level)?.repeat_every))
        };
        if self.is_calling() {
            let call = pending.iter().rev().find_map(|news| match news.urgency {
                Urgency::Calls(level) => Some((level, news)),
                _ => None,
            });
            if let Some((level, call)) = call {
                let time = again(level).unwrap_or(call.at);
                candidates.push((time, level, call.occasion));
            }
        }
        if let Some(reached) = reached {
            // Turns that were taken back before they were told leave nothing to tell.
            let told = |news: &&News| pending.iter().all(|pending| pending.id != news.id);
            let mut turns = self.history.news.iter().filter(|news| news.is_turn());
            let believed = turns
                .rfind(told)
                .map_or(Occasion::Relapsed, |turn| turn.occasion);
            let telling = pending.iter().rev().filter(|news| {
                news.urgency == Urgency::Tells && !(news.is_turn() && news.occasion == believed)
            });
            candidates.extend(telling.map(|news| {
                let breath = match news.occasion {
                    Occasion::Asked => news.at,
                    _ => after(reached.at, BREATH),
                };
                (news.at.max(breath), reached.level, news.occasion)
            }));
        }
        if !self.is_calling() {
            return candidates;
        }
        let level = self.level();
        if self.is_of(channel, level)
            && self.is_critical()
            && !moved
            && let Some(time) = again(level)
        {
            candidates.push((time, level, Occasion::Repeated));
        }
        if let Some(reached) = reached
            && pending.iter().any(|news| news.urgency == Urgency::CanWait)
        {
            let time = after(reached.at, self.plan.group_for);
            candidates.push((time, reached.level, Occasion::Updated));
        }
        candidates
    }

    /// Whether the channel reaches people of the level.
    fn is_of(&self, channel: &str, level: u32) -> bool {
        self.settings(level)
            .is_some_and(|level| level.channels.iter().any(|name| name == channel))
    }

    /// When a channel that could not be reached is tried again.
    fn retry(&self, told: &[Told<'_>]) -> Option<DateTime<Utc>> {
        let failures = told.iter().rev().take_while(|told| told.failed).count();
        let last = told.last().filter(|_| failures > 0)?;
        let longest = self
            .settings(last.level)
            .map_or(FIRST_RETRY, |level| level.repeat_every);
        let doubled = u32::try_from(failures - 1).unwrap_or(u32::MAX).min(16);
        let pause = FIRST_RETRY.saturating_mul(1 << doubled).min(longest);
        Some(after(last.at, pause))
    }
}

/// The time after a while; settings may be beyond the calendar.
fn after(time: DateTime<Utc>, while_: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(while_)
        .ok()
        .and_then(|delta| time.checked_add_signed(delta))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}
