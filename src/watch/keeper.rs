//! The task that watches: looks, judges, writes down, acts.
//!
//! On a connection of its own, never from the pool, which is full when it matters. Shoppers are
//! looked at ten times a second, which costs nothing; the database once a second, at once when
//! shoppers begin to suffer, and five times a second while they do.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use metrics::{counter, gauge, histogram};
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use super::breaker::{self, Decision};
use super::changes::{self, Change};
use super::culprit::{self, Database, Evidence, Shop};
use super::desk::{Desk, Minutes};
use super::event::{Event, Impact, What};
use super::finding::{Finding, Suspect};
use super::impact::{self, Requests, orders};
use super::log::Log;
use super::sessions::{self, Snapshot};
use super::shoppers::{Gauge, Shoppers};
use super::statements::Statements;
use crate::class::Class;
use crate::config::Watch as Settings;
use crate::pressure::Windows;
use crate::pressure::latency::Totals;

/// How often shoppers are looked at.
const TICK: Duration = Duration::from_millis(100);
/// How long the database may take to say what it is at; its connection is given up after that.
const PATIENCE: Duration = Duration::from_secs(1);
/// Looks in a row without an answer, after which the database counts as lost.
const LOST: u32 = 2;
/// A snapshot that is older says nothing about now.
const STALE: Duration = Duration::from_secs(2);
/// A session that is still there so long after it was acted on is acted on again.
const AGAIN: Duration = Duration::from_secs(2);
/// The share of time that looking may take while all is well: a hundredth.
const CHEAP: u32 = 100;
/// The same while shoppers suffer, which is rare.
const URGENT: u32 = 10;
/// How often is read what was changed, and how far back.
const CHANGES_EVERY: Duration = Duration::from_secs(5);
const CHANGES_SINCE: TimeDelta = TimeDelta::hours(12);
/// Who writes.
const WATCH: &str = "watch";

/// Watches one shop.
pub struct Keeper<W> {
    settings: Settings,
    options: PgConnectOptions,
    windows: W,
    log: Log,
    shop: Shop,
    gauge: Gauge,
    statements: Statements,
    desk: Desk,
    incident: Option<Uuid>,
    conn: Option<PgConnection>,
    snapshot: Option<Snapshot>,
    looked_at: Option<Instant>,
    unanswered: u32,
    problem: String,
    suffering_since: Option<Instant>,
    /// What was last blamed, and when it was last seen.
    blamed: Option<(Finding, Instant)>,
    /// Who is named now, and since when.
    named: Option<(Suspect, Instant)>,
    /// Who was acted on or asked about last, and when.
    handled: Option<(Suspect, Instant)>,
    /// What was changed lately, and when that was read.
    changes: Vec<Change>,
    changes_at: Option<Instant>,
    /// Requests before the incident that is open, and at its recovery.
    before: Option<[Totals; 3]>,
    after: Option<[Totals; 3]>,
}

impl<W: Windows> Keeper<W> {
    /// Watches the shop on the database of `options`, whose sessions call themselves `shop`. What
    /// shoppers feel is read from `windows`, and what happens is written to `log`.
    pub fn new(
        settings: Settings,
        options: PgConnectOptions,
        shop: &str,
        windows: W,
        log: Log,
    ) -> Self {
        Self {
            settings,
            options: options.application_name("evenkeel watch"),
            windows,
            log,
            shop: Shop {
                application: shop.to_owned(),
            },
            gauge: Gauge::default(),
            statements: Statements::default(),
            desk: Desk::default(),
            incident: None,
            conn: None,
            snapshot: None,
            looked_at: None,
            unanswered: 0,
            problem: String::new(),
            suffering_since: None,
            blamed: None,
            named: None,
            handled: None,
            changes: Vec::new(),
            changes_at: None,
            before: None,
            after: None,
        }
    }

    /// Watches until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        self.take_up();
        self.tell_rights().await;
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !stop.is_cancelled() {
            tokio::select! {
                _ = ticks.tick() => self.tick().await,
                () = stop.cancelled() => {}
            }
        }
    }

    /// Goes on with what an earlier process has left open.
    fn take_up(&mut self) {
        let open = self
            .log
            .incidents()
            .into_iter()
            .rfind(|incident| incident.is_open());
        if let Some(incident) = open
            && let Some(finding) = incident.finding
        {
            self.desk.take_up(finding, Instant::now());
            self.incident = Some(incident.id);
        }
    }

    /// Says at start what the role lacks, rather than when it matters.
    async fn tell_rights(&mut self) {
        let rights = tokio::time::timeout(PATIENCE, async {
            let conn = connected(&mut self.conn, &self.options).await?;
            sessions::rights(conn).await
        });
        match rights.await {
            Ok(Ok(lacking)) => {
                for lack in lacking {
                    warn!("the watch is not whole: {lack}");
                }
            }
            Ok(Err(err)) => warn!(%err, "the watch cannot connect"),
            Err(_) => warn!("the watch gets no answer from the database"),
        }
    }

    async fn tick(&mut self) {
        let now = Instant::now();
        let calm = !self.desk.is_open();
        let shoppers = self.gauge.sample(&self.windows, calm, now);
        let suffer = !shoppers.pains().is_empty();
        let begins = suffer && self.suffering_since.is_none();
        self.suffering_since = suffer.then(|| self.suffering_since.unwrap_or(now));
        if begins {
            // A deploy a moment ago is worth knowing of.
            self.changes_at = None;
        }
        if begins || self.is_due(now) {
            self.look(now).await;
        }
        let finding = self.judge(&shoppers, now);
        self.write_down(finding.as_ref(), &shoppers, now).await;
        if let Some(finding) = &finding {
            self.act(finding, now).await;
        } else {
            self.named = None;
        }
    }

    /// The database is looked at more rarely where looking takes long.
    fn is_due(&self, now: Instant) -> bool {
        let took = self.snapshot.as_ref().map_or(Duration::ZERO, |s| s.took);
        let trouble = self.desk.is_alert() || self.suffering_since.is_some() || self.unanswered > 0;
        let every = if trouble {
            self.settings.trouble.max(took * URGENT)
        } else {
            self.settings.calm.max(took * CHEAP)
        };
        self.looked_at.is_none_or(|at| now - at >= every)
    }

    async fn look(&mut self, now: Instant) {
        self.looked_at = Some(now);
        let application = self.shop.application.clone();
        let answer = tokio::time::timeout(PATIENCE, async {
            let conn = connected(&mut self.conn, &self.options).await?;
            sessions::read(conn, &application).await
        });
        match answer.await {
            Ok(Ok(snapshot)) => {
                self.unanswered = 0;
                self.problem.clear();
                histogram!("evenkeel_watch_look_seconds").record(snapshot.took.as_secs_f64());
                if !self.desk.is_open() && self.suffering_since.is_none() {
                    let statements = snapshot.sample.shop_statements.iter();
                    self.statements
                        .learn(statements.map(String::as_str), snapshot.wall);
                }
                self.snapshot = Some(snapshot);
                self.read_changes(now).await;
            }
            // Whoever refuses a statement answers.
            Ok(Err(err)) => self.unheard(err.to_string(), !is_refusal(&err)),
            Err(_) => self.unheard(format!("no answer within {PATIENCE:?}"), true),
        }
    }

    /// Reads what was changed lately. A deploy that is reported while shoppers suffer because of it
    /// counts, too.
    async fn read_changes(&mut self, now: Instant) {
        let due = self.changes_at.is_none_or(|at| now - at >= CHANGES_EVERY);
        let Some(conn) = self.conn.as_mut().filter(|_| due) else {
            return;
        };
        self.changes_at = Some(now);
        match tokio::time::timeout(PATIENCE, changes::since(conn, Utc::now() - CHANGES_SINCE)).await
        {
            Ok(Ok(changes)) => self.changes = changes,
            Ok(Err(err)) => warn!(%err, "the watch cannot read what was changed"),
            // The answer may still come: the connection is not to be used again.
            Err(_) => self.conn = None,
        }
    }

    fn unheard(&mut self, problem: String, lost: bool) {
        // What is left on it is not known.
        self.conn = None;
        if self.problem != problem {
            warn!(%problem, "the watch does not see the database");
        }
        self.unanswered = if lost { self.unanswered + 1 } else { 0 };
        counter!("evenkeel_watch_unanswered_total").increment(1);
        self.problem = problem;
    }

    fn judge(&mut self, shoppers: &Shoppers, now: Instant) -> Option<Finding> {
        let fresh = self.snapshot.as_ref().filter(|s| now - s.at <= STALE);
        let database = match fresh {
            _ if self.unanswered >= LOST => Database::Lost(&self.problem),
            Some(snapshot) => Database::Answers(&snapshot.sample),
            None => Database::Unheard,
        };
        let before = self
            .blamed
            .as_ref()
            .map(|(finding, at)| (finding, (now - *at).as_secs_f64()));
        let finding = culprit::judge(&Evidence {
            now: Utc::now(),
            database,
            shoppers,
            suffering_s: self
                .suffering_since
                .map(|since| (now - since).as_secs_f64()),
            statements: &self.statements,
            changes: &self.changes,
            before,
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
            if let What::Found { finding } = &what {
                info!(cause = %finding.cause, "{}", finding.sentence());
            }
            if matches!(what, What::Recovered) {
                self.after = Some(self.gauge.totals(&self.windows));
            }
            self.append(what, ago).await;
        }
        if resolves {
            let impact = Box::new(self.impact().await);
            self.append(What::Resolved { impact }, Duration::ZERO).await;
            (self.incident, self.blamed, self.handled) = (None, None, None);
        }
        gauge!("evenkeel_watch_incident_open").set(f64::from(u8::from(self.desk.is_open())));
    }

    /// What the incident that is open has cost until shoppers were well again.
    async fn impact(&mut self) -> Impact {
        let incident = self.incident.and_then(|id| self.log.incident(id));
        let Some(incident) = incident else {
            return Impact::default();
        };
        let to = incident.recovered_at.unwrap_or_else(Utc::now);
        let requests = match (self.before.take(), self.after.take()) {
            (Some(before), Some(after)) => counted(&before, &after),
            // It began in another process.
            _ => impact::felt(&incident.events, to),
        };
        let trade = tokio::time::timeout(PATIENCE, async {
            let conn = connected(&mut self.conn, &self.options).await?;
            orders::trade(conn, incident.opened_at, to).await
        });
        let trade = match trade.await {
            Ok(Ok(trade)) => trade,
            other => {
                warn!(?other, "what the incident has cost in orders is not known");
                self.conn = None;
                None
            }
        };
        impact::impact(&requests, trade.as_ref())
    }

    async fn append(&self, what: What, ago: Duration) {
        let Some(incident) = self.incident else {
            return;
        };
        let mut event = Event::now(incident, WATCH, what);
        event.at = back(event.at, ago);
        self.log.append(event).await;
    }

    async fn act(&mut self, finding: &Finding, now: Instant) {
        let Some(culprit) = &finding.culprit else {
            return;
        };
        let since = match &self.named {
            Some((named, since)) if same(named, culprit) => *since,
            _ => now,
        };
        self.named = Some((culprit.clone(), since));
        // What is done belongs into an incident.
        if self.incident.is_none() {
            return;
        }
        let decision = breaker::decide(&self.settings.breaker, finding, now - since);
        let (suspect, what) = match &decision {
            Decision::Do { suspect, .. } => (suspect, true),
            Decision::Ask { suspect, .. } => (suspect, false),
            Decision::Leave(_) | Decision::Wait => return,
        };
        let handled = self
            .handled
            .as_ref()
            .is_some_and(|(before, at)| same(before, suspect) && (!what || now - *at < AGAIN));
        if handled {
            return;
        }
        self.handled = Some(((**suspect).clone(), now));
        match decision {
            Decision::Do { act, suspect, why } => {
                let accomplices = finding.accomplices.iter();
                let all: Vec<&Suspect> = std::iter::once(&*suspect).chain(accomplices).collect();
                let done = tokio::time::timeout(PATIENCE, async {
                    let conn = connected(&mut self.conn, &self.options).await?;
                    breaker::act(conn, act, &all).await
                });
                let problem = match done.await {
                    Ok(Ok(pids)) if pids.contains(&suspect.pid) => None,
                    Ok(Ok(_)) => Some("it had ended by itself".to_owned()),
                    Ok(Err(err)) => Some(err.to_string()),
                    Err(_) => Some(format!("no answer within {PATIENCE:?}")),
                };
                if problem.is_some() {
                    self.conn = None;
                }
                // Whether it helped is to be seen at once.
                self.looked_at = None;
                let undo = breaker::undo(act, &suspect);
                counter!("evenkeel_watch_acts_total").increment(1);
                self.append(
                    What::Acted {
                        act,
                        suspect,
                        policy: why,
                        problem,
                        undo,
                    },
                    Duration::ZERO,
                )
                .await;
            }
            Decision::Ask { act, suspect, why } => {
                let policy = why;
                self.append(
                    What::Asked {
                        act,
                        suspect,
                        policy,
                    },
                    Duration::ZERO,
                )
                .await;
            }
            Decision::Leave(_) | Decision::Wait => {}
        }
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

/// The same session, not only the same process id.
fn same(a: &Suspect, b: &Suspect) -> bool {
    (a.pid, a.backend_start) == (b.pid, b.backend_start)
}

fn back(at: DateTime<Utc>, ago: Duration) -> DateTime<Utc> {
    at - TimeDelta::from_std(ago).unwrap_or_default()
}

/// Whether a server that lives says no to what was asked, rather than to being asked. The classes of
/// SQLSTATE are: 08 connection, 53 resources, 57 the server's operators.
fn is_refusal(err: &sqlx::Error) -> bool {
    let code = err.as_database_error().and_then(|err| err.code());
    code.is_some_and(|code| {
        !["08", "53", "57"]
            .iter()
            .any(|class| code.starts_with(class))
    })
}

async fn connected<'a>(
    slot: &'a mut Option<PgConnection>,
    options: &PgConnectOptions,
) -> Result<&'a mut PgConnection, sqlx::Error> {
    match slot {
        Some(conn) => Ok(conn),
        None => Ok(slot.insert(options.connect().await?)),
    }
}
