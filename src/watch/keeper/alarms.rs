//! Alerts as the keeper of the watch lives with them: read every second, remembered in the
//! database, and made into incidents.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use pool::Class;
use tracing::{info, warn};
use uuid::Uuid;

use super::AFTERMATH;
use super::eyes::Eyes;
use super::line::{Line, Unheard};
use crate::watch::alerts::{Evaluator, Firing, Reading, Rules, Series, State, history};
use crate::watch::event::{Event, What};
use crate::watch::incident::{Incident, OF_A_RULE, Summary, rule_of};
use crate::watch::log::Log;
use crate::watch::metrics::Board;
use crate::watch::sessions::Snapshot;
use crate::watch::shoppers::Shoppers;

/// How often the rules are asked.
const EVERY: Duration = Duration::from_secs(1);
/// How often what they learnt from is saved.
const SAVED: Duration = Duration::from_secs(60);
/// How often old points are deleted.
const PRUNED: Duration = Duration::from_secs(3600);
/// How long to wait before the history is asked for again.
const REMEMBERED: Duration = Duration::from_secs(10);
/// Who writes.
const ALERTS: &str = "alerts";

/// The rules and the incidents that they have opened.
pub(super) struct Alarms {
    evaluator: Evaluator,
    board: Board,
    /// What fired when this process began, until that has been looked at.
    restored: Vec<Firing>,
    asked_at: Option<Instant>,
    saved_at: Instant,
    pruned_at: Option<Instant>,
    /// The snapshot that the last reading was taken from, for rates.
    before: Option<Snapshot>,
}

impl Alarms {
    /// Alarms by `rules`; what is measured is posted to `board`.
    pub(super) fn new(rules: Rules, board: Board, now: Instant) -> Self {
        Self {
            evaluator: Evaluator::new(rules),
            board,
            restored: Vec::new(),
            asked_at: None,
            saved_at: now,
            pruned_at: None,
            before: None,
        }
    }

    /// How far back the rules want to know.
    pub(super) fn remembers_since(&self) -> DateTime<Utc> {
        Utc::now() - self.evaluator.rules().remembers()
    }

    /// Takes what was learnt before this process began; what it has seen itself is kept for the history.
    pub(super) fn restore(&mut self, readings: &[Reading]) {
        let mut restored = Evaluator::new(self.evaluator.rules().clone());
        restored.restore(readings);
        restored.give_back(self.evaluator.take_unsaved());
        self.restored = restored.firing();
        self.evaluator = restored;
    }

    /// Asks the rules, when it is time. What fires while the `main` incident is open is noted in it:
    /// people who are woken want one story.
    pub(super) async fn ask(
        &mut self,
        eyes: &mut Eyes,
        shoppers: &Shoppers,
        log: &Log,
        main: Option<Uuid>,
        now: Instant,
    ) {
        if self.asked_at.is_some_and(|at| now - at < EVERY) {
            return;
        }
        self.asked_at = Some(now);
        let reading = self.read(eyes, shoppers, now);
        for firing in self.evaluator.observe(&reading) {
            self.tell(&firing, log, main).await;
        }
        let restored = std::mem::take(&mut self.restored);
        if !restored.is_empty() {
            let is_restored = |firing: &Firing| restored.iter().any(|r| r.rule == firing.rule);
            let known = log.incidents();
            // What holds by what is read now, too.
            for firing in self.evaluator.persisting() {
                if is_restored(&firing) && !was_told(&firing, &known) {
                    self.tell(&firing, log, main).await;
                }
            }
        }
        let open = log.unresolved().into_iter();
        self.board.post(
            &reading,
            self.evaluator.rules(),
            self.evaluator.current(),
            open.map(|incident| incident.severity),
        );
        self.remember(eyes, now).await;
    }

    fn read(&mut self, eyes: &Eyes, shoppers: &Shoppers, now: Instant) -> Reading {
        let checkout = Class::SHOPPERS
            .iter()
            .position(|class| *class == Class::Checkout);
        let orders = checkout.map(|i| shoppers.now[i].served_per_s);
        let reading = Reading::new(Utc::now())
            .with_shoppers(&shoppers.felt())
            .with(Series::ORDERS, orders);
        let fresh = eyes.snapshot().filter(|snapshot| snapshot.is_fresh_at(now));
        let Some(snapshot) = fresh else {
            self.before = None;
            return reading;
        };
        let before = self.before.take().filter(|before| before.at < snapshot.at);
        let reading = reading.with_database(snapshot, before.as_ref());
        self.before = Some(snapshot.clone());
        reading
    }

    /// Tells people of a rule. Rules of one title are one story, such as the windows of a burn rate; but
    /// what is critical is not noted in a warning that nobody was woken for.
    async fn tell(&self, firing: &Firing, log: &Log, main: Option<Uuid>) {
        let mut open = log.unresolved();
        open.retain(|incident| {
            is_of(&incident.key, &incident.title, firing) && incident.severity >= firing.severity
        });
        let own = format!("{OF_A_RULE}{}", firing.rule);
        match firing.state {
            State::Firing if open.iter().any(|incident| incident.key == own) => {}
            State::Firing => {
                let known = main.or_else(|| open.first().map(|incident| incident.id));
                let incident = match known {
                    Some(incident) => incident,
                    None => open_incident(firing, own, log).await,
                };
                let text = format!("alert: {firing}");
                log.append(Event::now(incident, ALERTS, What::Noted { text }))
                    .await;
            }
            State::Resolved => {
                let firing = self.evaluator.firing();
                let goes_on = |incident: &Summary| {
                    firing.iter().any(|firing| {
                        is_of(&incident.key, &incident.title, firing)
                            && firing.severity >= incident.severity
                    })
                };
                for incident in open.iter().filter(|incident| !goes_on(incident)) {
                    let impact = Box::default();
                    for what in [What::Recovered, What::Resolved { impact }] {
                        log.append(Event::now(incident.id, ALERTS, what)).await;
                    }
                }
            }
            State::Pending => {}
        }
    }

    async fn remember(&mut self, eyes: &mut Eyes, now: Instant) {
        if now - self.saved_at < SAVED {
            return;
        }
        self.saved_at = now;
        let points = self.evaluator.take_unsaved();
        let saved = eyes
            .line
            .ask(async |conn| history::save(conn, &points).await)
            .await;
        if let Err(Unheard { problem, .. }) = saved {
            warn!(%problem, "the history of the alerts waits to be saved");
            self.evaluator.give_back(points);
        }
        if self.pruned_at.is_none_or(|at| now - at >= PRUNED) {
            self.pruned_at = Some(now);
            let wall = Utc::now();
            // What is too old is deleted the next time.
            let _ = eyes
                .line
                .ask(async |conn| history::prune(conn, wall).await)
                .await;
        }
    }
}

/// Whether a rule has opened the incident of this key and title that tells the same story as `firing`.
fn is_of(key: &str, title: &str, firing: &Firing) -> bool {
    rule_of(key).is_some() && *title == *firing.title
}

async fn open_incident(firing: &Firing, key: String, log: &Log) -> Uuid {
    let incident = Uuid::now_v7();
    info!(%incident, rule = %firing.rule, "alert: {firing}");
    let opened = What::Opened {
        title: firing.title.to_string(),
        severity: firing.severity,
        key,
    };
    log.append(Event::now(incident, ALERTS, opened)).await;
    incident
}

/// Whether people know of what began to fire under an earlier process: in an incident of the rule itself,
/// or in one after which so soon it is of the same trouble.
fn was_told(firing: &Firing, incidents: &[Incident]) -> bool {
    let aftermath = TimeDelta::from_std(AFTERMATH).unwrap_or_default();
    incidents.iter().any(|incident| {
        let after_end = |end: DateTime<Utc>| firing.since - end;
        let after_end = incident.resolved_at.map_or(TimeDelta::MIN, after_end);
        match rule_of(&incident.key) {
            Some(_) => {
                is_of(&incident.key, &incident.title, firing)
                    && incident.severity >= firing.severity
                    && after_end <= TimeDelta::zero()
            }
            None => incident.opened_at <= firing.since && after_end <= aftermath,
        }
    })
}

/// What was learnt since `since`, as soon as the database tells. That can be half a year, which nobody
/// waits for to whom something happens meanwhile.
pub(super) async fn remembered(mut line: Line, since: DateTime<Utc>) -> Vec<Reading> {
    loop {
        match line
            .ask(async |conn| history::load(conn, since).await)
            .await
        {
            Ok(readings) => return readings,
            Err(Unheard { problem, .. }) => {
                warn!(%problem, "the alerts do not know yet what is usual");
            }
        }
        tokio::time::sleep(REMEMBERED).await;
    }
}
