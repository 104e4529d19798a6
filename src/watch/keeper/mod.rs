//! The task that watches: looks, judges, writes down, acts.
//!
//! On a connection of its own, never from the pool, which is full when it matters. Shoppers are
//! looked at ten times a second, which costs nothing; the database once a second, at once when
//! shoppers begin to suffer, and five times a second while they do.
//!
//! - `line`: the connection; `eyes`: the database as the watch sees it; `hands`: what it does to
//!   sessions; `alarms`: alerts

mod alarms;
mod eyes;
mod hands;
mod line;

use std::pin::pin;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use futures_util::FutureExt;
use futures_util::future::{FusedFuture, OptionFuture};
use pool::Class;
use pressure::Windows;
use pressure::latency::Totals;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use self::alarms::Alarms;
use self::eyes::Eyes;
use self::hands::Hands;
use self::line::Unheard;
use super::alerts::Rules;
use super::culprit::{self, Evidence, Shop};
use super::desk::{Desk, Minutes};
use super::event::{Event, Impact, What};
use super::finding::Finding;
use super::impact::{self, Requests, orders};
use super::incident::{Stage, rule_of};
use super::log::Log;
use super::metrics::Board;
use super::shoppers::{Gauge, Shoppers};
use super::statements::Statements;
use crate::config::Watch as Settings;

/// How its session calls itself in the database.
pub const APPLICATION: &str = "evenkeel watch";
/// How often shoppers are looked at.
const TICK: Duration = Duration::from_millis(100);
/// What rules find so soon after an incident is of the same trouble: many of them look back.
const AFTERMATH: Duration = Duration::from_secs(600);
/// How long the database may take to tell half a year.
const HISTORY: Duration = Duration::from_secs(60);
/// Who writes.
const WATCH: &str = "watch";

/// Watches one shop.
pub struct Keeper<W> {
    settings: Settings,
    windows: W,
    log: Log,
    shop: Shop,
    eyes: Eyes,
    hands: Hands,
    gauge: Gauge,
    statements: Statements,
    desk: Desk,
    alarms: Option<Alarms>,
    incident: Option<Uuid>,
    /// The incident that was over last, and when.
    last: Option<(Uuid, Instant)>,
    leads: watch::Sender<bool>,
    /// Events of the log that have been looked at.
    heard: watch::Receiver<usize>,
    suffering_since: Option<Instant>,
    /// What was last blamed, and when it was last seen.
    blamed: Option<(Finding, Instant)>,
    /// Requests before the incident that is open, and at its recovery.
    before: Option<[Totals; 3]>,
    after: Option<[Totals; 3]>,
}

impl<W: Windows> Keeper<W> {
    /// Watches the shop on the database of `options`, whose sessions call themselves `shop`, in the
    /// process that calls itself `process`. What shoppers feel is read from `windows`, and what happens is
    /// written to `log`.
    pub fn new(
        settings: Settings,
        options: PgConnectOptions,
        (shop, process): (&str, &str),
        windows: W,
        log: Log,
    ) -> Self {
        Self {
            settings,
            windows,
            shop: Shop {
                application: shop.to_owned(),
            },
            eyes: Eyes::new(options, shop, process, Instant::now()),
            hands: Hands::default(),
            gauge: Gauge::default(),
            statements: Statements::default(),
            desk: Desk::default(),
            alarms: None,
            incident: None,
            last: None,
            leads: watch::Sender::new(false),
            heard: log.subscribe(),
            suffering_since: None,
            blamed: None,
            before: None,
            after: None,
            log,
        }
    }

    /// With alerts by `rules`; what is measured is posted to `board`.
    #[must_use]
    pub fn with_alerts(mut self, rules: Rules, board: Board) -> Self {
        self.eyes.post_to(board.clone());
        self.alarms = Some(Alarms::new(rules, board, Instant::now()));
        self
    }

    /// Whether this process is the one that watches, and so the one that tells people.
    pub fn leads(&self) -> watch::Receiver<bool> {
        self.leads.subscribe()
    }

    /// Watches until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        self.eyes.tell_rights().await;
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let history = self.alarms.as_ref().map(|alarms| {
            let line = self.eyes.line.another(HISTORY);
            alarms::remembered(line, alarms.remembers_since())
        });
        let mut history = pin!(OptionFuture::from(history).fuse());
        while !stop.is_cancelled() {
            tokio::select! {
                _ = ticks.tick() => self.tick().await,
                readings = &mut history, if !history.is_terminated() => {
                    if let (Some(alarms), Some(readings)) = (&mut self.alarms, readings) {
                        alarms.restore(&readings);
                    }
                }
                () = stop.cancelled() => {}
            }
        }
        self.eyes.leave().await;
    }

    async fn tick(&mut self) {
        let now = Instant::now();
        let shoppers = self.gauge.sample(&self.windows, !self.desk.is_open(), now);
        let suffer = !shoppers.pains().is_empty();
        if suffer && self.suffering_since.is_none() {
            // A deploy a moment ago is worth knowing of, and what the database does now.
            self.eyes.read_changes_again();
            self.eyes.look_again();
        }
        self.suffering_since = suffer.then(|| self.suffering_since.unwrap_or(now));
        let leads = self.eyes.leads(now).await;
        let began = self
            .leads
            .send_if_modified(|led| std::mem::replace(led, leads) != leads);
        if !leads {
            return;
        }
        if began {
            // What has happened meanwhile has not been heeded.
            self.heard.mark_changed();
        }
        self.heed_news(now).await;
        self.look(now).await;
        let finding = self.judge(&shoppers, now);
        self.write_down(finding.as_ref(), &shoppers, now).await;
        if let Some(alarms) = &mut self.alarms {
            let lately = self.last.filter(|(_, at)| now - *at < AFTERMATH);
            let main = self.incident.or(lately.map(|(incident, _)| incident));
            alarms
                .ask(&mut self.eyes, &shoppers, &self.log, main, now)
                .await;
        }
        let Some(finding) = finding else {
            return self.hands.rest();
        };
        let breaker = &self.settings.breaker;
        let waits = self.incident.is_none();
        let done = self
            .hands
            .act(&mut self.eyes, breaker, &finding, waits, now);
        if let Some(what) = done.await {
            self.append(what, Duration::ZERO).await;
        }
    }

    /// Heeds what was appended, here or elsewhere.
    async fn heed_news(&mut self, now: Instant) {
        if self.heard.has_changed().unwrap_or(false) {
            self.heard.mark_unchanged();
            self.take_up(now).await;
            self.heed_people(now).await;
        }
    }

    /// Goes on with what another process, or an earlier one, has left open.
    async fn take_up(&mut self, now: Instant) {
        let mut open = self.log.unresolved();
        open.retain(|incident| rule_of(&incident.key).is_none());
        let newest = open.pop();
        let Some(newest) = newest else {
            return;
        };
        // Two processes that did not hear of each other may have opened one each.
        for older in open {
            let impact = Box::default();
            let text = format!("goes on as {}", newest.id);
            for what in [What::Noted { text }, What::Resolved { impact }] {
                self.log.append(Event::now(older.id, WATCH, what)).await;
            }
        }
        if self.incident == Some(newest.id) {
            return;
        }
        let finding = self.log.incident(newest.id).and_then(|known| known.finding);
        self.desk
            .take_up(finding, newest.stage == Stage::Recovered, now);
        self.incident = Some(newest.id);
    }

    async fn look(&mut self, now: Instant) {
        let trouble = self.desk.is_alert() || self.suffering_since.is_some();
        if self.eyes.look(&self.settings, trouble, now).await
            && !trouble
            && let Some(snapshot) = self.eyes.snapshot()
        {
            let statements = snapshot.sample.shop_statements.iter();
            self.statements
                .learn(statements.map(String::as_str), snapshot.wall);
        }
    }

    fn judge(&mut self, shoppers: &Shoppers, now: Instant) -> Option<Finding> {
        let seconds = |since: Instant| (now - since).as_secs_f64();
        let before = self.blamed.as_ref();
        let finding = culprit::judge(&Evidence {
            now: Utc::now(),
            database: self.eyes.database(now),
            shoppers,
            suffering_s: self.suffering_since.map(seconds),
            statements: &self.statements,
            changes: self.eyes.changes(),
            before: before.map(|(finding, at)| (finding, seconds(*at))),
            jobs: &self.settings.jobs,
            shop: &self.shop,
        });
        if let Some(finding) = &finding
            && finding.is_of_a_cause()
        {
            self.blamed = Some((finding.clone(), now));
        }
        finding
    }

    async fn write_down(&mut self, finding: Option<&Finding>, shoppers: &Shoppers, now: Instant) {
        let Minutes {
            opens,
            events,
            resolves,
        } = self
            .desk
            .note(finding, shoppers, self.settings.resolve_after, now);
        if opens {
            self.incident = Some(Uuid::now_v7());
            self.before = self.gauge.totals_before();
        }
        for (what, ago) in events {
            match &what {
                What::Found { finding } => info!(cause = %finding.cause, "{}", finding.sentence()),
                What::Recovered => self.after = Some(self.totals()),
                _ => {}
            }
            self.append(what, ago).await;
        }
        if resolves {
            let impact = Box::new(self.impact().await);
            self.append(What::Resolved { impact }, Duration::ZERO).await;
            self.end(now);
        }
    }

    /// Heeds what people have done to the incident: what they have allowed is done, once, and what they have
    /// resolved is over.
    async fn heed_people(&mut self, now: Instant) {
        let Some(incident) = self.incident.and_then(|id| self.log.incident(id)) else {
            return;
        };
        if !incident.is_open() {
            self.desk = Desk::default();
            self.end(now);
            return;
        }
        for (act, suspect, by) in hands::permitted(&incident) {
            let policy = format!("{by} has allowed it");
            let acted = self
                .hands
                .end(&mut self.eyes, act, suspect, &[], policy)
                .await;
            self.append(acted, Duration::ZERO).await;
        }
    }

    /// The incident is over; the next one begins with nothing.
    fn end(&mut self, now: Instant) {
        self.last = self.incident.take().map(|incident| (incident, now));
        (self.blamed, self.before, self.after) = (None, None, None);
        self.hands = Hands::default();
    }

    /// What the incident that is open has cost until shoppers were well again.
    async fn impact(&mut self) -> Impact {
        let incident = self.incident.and_then(|id| self.log.incident(id));
        let Some(incident) = incident else {
            return Impact::default();
        };
        let (from, to) = (
            incident.opened_at,
            incident.recovered_at.unwrap_or_else(Utc::now),
        );
        let requests = match (self.before.take(), self.after.take()) {
            (Some(before), Some(after)) => counted(&before, &after),
            // It began in another process.
            _ => impact::felt(&incident.events, to),
        };
        let trade = self
            .eyes
            .line
            .ask(async |conn| orders::trade(conn, from, to).await)
            .await;
        let trade = trade.unwrap_or_else(|Unheard { problem, .. }| {
            warn!(%problem, "what the incident has cost in orders is not known");
            None
        });
        impact::impact(&requests, trade.as_ref())
    }

    /// Requests that have ended by now, by class.
    fn totals(&self) -> [Totals; 3] {
        Class::SHOPPERS.map(|class| self.windows.totals(class))
    }

    async fn append(&self, what: What, ago: Duration) {
        let Some(incident) = self.incident else {
            return;
        };
        let mut event = Event::now(incident, WATCH, what);
        event.at -= TimeDelta::from_std(ago).unwrap_or_default();
        self.log.append(event).await;
    }
}

fn counted(before: &[Totals; 3], after: &[Totals; 3]) -> Vec<Requests> {
    let classes = Class::SHOPPERS.into_iter().zip(before.iter().zip(after));
    classes
        .map(|(class, (before, after))| Requests {
            class,
            arrived: after.completed.saturating_sub(before.completed),
            failed: after.failed.saturating_sub(before.failed),
        })
        .collect()
}
