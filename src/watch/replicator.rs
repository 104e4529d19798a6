//! Keeps the log of this process and the record in the database alike, in both directions.
//!
//! The database being down is normal here: events stay in memory and in the journal, and after every
//! new connection both sides are compared, so that it does not matter what was lost meanwhile, not
//! even to a failover. While connected, only news are exchanged.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use chrono::Utc;
use pool::summarize;
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::event::Event;
use super::impact::orders;
use super::log::Log;
use super::record;

/// How its session calls itself in the database.
pub const APPLICATION: &str = "evenkeel record";
/// How often is exchanged while an incident is open.
const OPEN: Duration = Duration::from_secs(1);
/// How often otherwise, for notes on what is over and incidents of other processes.
const CALM: Duration = Duration::from_secs(10);
/// News that come in a rush go together.
const RUSH: Duration = Duration::from_millis(50);
/// How long one exchange may take; the connection is given up after that.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a position that was given out may take to become visible. Longer than any transaction of
/// [`record::store`] can last.
const OVERTAKING: Duration = Duration::from_secs(30);
/// How far behind the last position one may be that has not become visible yet.
const MARGIN: i64 = 10_000;
/// Events per transaction.
const CHUNK: usize = 200;

/// Exchanges events between a [`Log`] and the database.
pub struct Replicator {
    options: PgConnectOptions,
    log: Log,
}

/// What is known of the database over one connection.
struct Session {
    conn: PgConnection,
    /// How many events of the log have been looked at.
    pushed: usize,
    /// Events of the log behind those that the database has.
    held: HashSet<Uuid>,
    /// Incidents with an event that the database does not take.
    refused: HashSet<Uuid>,
    /// Nothing becomes visible any more up to this position.
    settled: i64,
    /// Positions behind it that were read, and when.
    seen: Vec<(i64, Instant)>,
}

impl Replicator {
    /// A replicator of `log` that connects by `options`.
    pub fn new(options: PgConnectOptions, log: Log) -> Self {
        Self {
            options: options.application_name(APPLICATION),
            log,
        }
    }

    /// Exchanges until `stop`, and a last time then.
    pub async fn run(self, stop: CancellationToken) {
        let mut appended = self.log.subscribe();
        let mut session = None;
        let mut pauses = None;
        loop {
            // Before the exchange, so that what comes during it is not missed.
            appended.mark_unchanged();
            let ended = stop.is_cancelled();
            let problem = self.exchange_in_time(&mut session).await;
            tell(&mut pauses, problem.as_deref());
            if ended {
                return;
            }
            let healthy = problem.is_none();
            let pause = match &mut pauses {
                Some(pauses) => pauses.next().unwrap_or(CALM),
                None if self.log.has_open() => OPEN,
                None => CALM,
            };
            tokio::select! {
                () = self.reread_for(pause) => {}
                () = rush(&mut appended), if healthy => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Listens to the journal for as long as `pause`: the command line writes there when the
    /// database is down.
    async fn reread_for(&self, pause: Duration) {
        let until = tokio::time::Instant::now() + pause;
        while tokio::time::Instant::now() < until {
            self.reread().await;
            let next = tokio::time::Instant::now() + OPEN;
            tokio::time::sleep_until(next.min(until)).await;
        }
    }

    async fn reread(&self) {
        if let Err(err) = self.log.reread().await {
            error!(%err, "the journal of incidents cannot be read");
        }
    }

    /// Exchanges once. Why it could not.
    async fn exchange_in_time(&self, session: &mut Option<Session>) -> Option<String> {
        let problem = match tokio::time::timeout(PATIENCE, self.exchange(session)).await {
            Ok(Ok(())) => return None,
            Ok(Err(err)) => summarize(&err),
            Err(_) => format!("no answer within {PATIENCE:?}"),
        };
        // What is left on the connection is not known.
        *session = None;
        Some(problem)
    }

    async fn exchange(&self, slot: &mut Option<Session>) -> Result<(), sqlx::Error> {
        let session = match slot {
            Some(session) => session,
            None => {
                let conn = PgConnection::connect_with(&self.options).await?;
                slot.insert(Session::begin(conn, &self.log).await?)
            }
        };
        session.push(&self.log).await?;
        session.pull(&self.log).await?;
        orders::mark(&mut session.conn, Utc::now(), self.log.has_open()).await
    }
}

/// Completes when something was appended, and what came with it.
async fn rush(appended: &mut tokio::sync::watch::Receiver<usize>) {
    if appended.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(RUSH).await;
}

fn tell(pauses: &mut Option<ExponentialBackoff>, problem: Option<&str>) {
    match (&pauses, problem) {
        (None, Some(problem)) => {
            warn!(%problem, "incidents are kept in the journal until the database is back");
            let pause = ExponentialBuilder::default()
                .with_min_delay(Duration::from_millis(200))
                .with_max_delay(Duration::from_secs(5))
                .with_jitter()
                .without_max_times();
            *pauses = Some(pause.build());
        }
        (Some(_), None) => {
            info!("the record of incidents is whole again");
            *pauses = None;
        }
        _ => {}
    }
}

impl Session {
    /// Compares both sides and takes what the log lacks.
    async fn begin(mut conn: PgConnection, log: &Log) -> Result<Self, sqlx::Error> {
        let mut tx = conn.begin_with(record::BEGIN).await?;
        let settled = (record::end(&mut tx).await? - MARGIN).max(0);
        let (seen, now) = (
            record::visible_behind(&mut tx, settled).await?,
            Instant::now(),
        );
        // After the positions, so that what becomes visible in between is at worst read twice.
        let held = record::holds(&mut tx, &log.ids(), Utc::now()).await?;
        let lacking = held.iter().filter(|id| !log.knows(**id));
        let lacking: Vec<Uuid> = lacking.copied().collect();
        for ids in lacking.chunks(CHUNK) {
            log.take_all(record::fetch(&mut tx, ids).await?);
        }
        tx.commit().await?;
        Ok(Self {
            conn,
            pushed: 0,
            held,
            refused: HashSet::new(),
            settled,
            seen: seen.into_iter().map(|position| (position, now)).collect(),
        })
    }

    /// Stores what the database lacks.
    async fn push(&mut self, log: &Log) -> Result<(), sqlx::Error> {
        let news = log.after(self.pushed);
        let mut incidents: HashSet<Uuid> = news.iter().map(|event| event.incident).collect();
        let lacks = |event: &&Event| !self.held.contains(&event.id);
        let lacking: Vec<Event> = news.iter().filter(lacks).cloned().collect();
        for events in lacking.chunks(CHUNK) {
            self.store(events).await?;
        }
        incidents.retain(|incident| !self.refused.contains(incident));
        // Only now, because an attempt that fails is repeated from the beginning.
        self.pushed += news.len();
        for event in &news {
            self.held.remove(&event.id);
        }
        self.note_stored(log, incidents).await;
        Ok(())
    }

    /// Lets the journals of `incidents` be removed one day, unless more has come meanwhile.
    async fn note_stored(&self, log: &Log, mut incidents: HashSet<Uuid>) {
        // What is noted is how much was read.
        let mut noted = log.reread().await;
        for event in log.after(self.pushed) {
            incidents.remove(&event.incident);
        }
        for incident in incidents {
            noted = noted.and(log.stored(incident).await);
        }
        if let Err(err) = noted {
            warn!(%err, "journals of incidents are kept for longer than they need be");
        }
    }

    /// Stores `events`, but for those that the database refuses for what is in them.
    async fn store(&mut self, events: &[Event]) -> Result<(), sqlx::Error> {
        match record::store(&mut self.conn, events).await {
            Err(err) if is_about_data(&err) => {}
            done => return done,
        }
        // One that cannot be stored must not hold up the others.
        for event in events {
            match record::store(&mut self.conn, std::slice::from_ref(event)).await {
                Err(err) if is_about_data(&err) => {
                    let err = summarize(&err);
                    error!(err, event = %event.id, "it stays in the journal only");
                    self.refused.insert(event.incident);
                }
                done => done?,
            }
        }
        Ok(())
    }

    /// Takes what others have stored.
    async fn pull(&mut self, log: &Log) -> Result<(), sqlx::Error> {
        let limit = CHUNK as i64;
        loop {
            let seen: Vec<i64> = self.seen.iter().map(|(position, _)| *position).collect();
            let mut tx = self.conn.begin_with(record::BEGIN).await?;
            let rows = record::behind(&mut tx, self.settled, &seen, limit).await?;
            tx.commit().await?;
            let (now, count) = (Instant::now(), rows.len());
            for (position, event) in rows {
                self.seen.push((position, now));
                if let Some(event) = event {
                    // Unless it came from here.
                    if !log.knows(event.id) {
                        self.held.insert(event.id);
                    }
                    log.take(event);
                }
            }
            if count < CHUNK {
                break;
            }
        }
        let old = |at: &Instant| at.elapsed() > OVERTAKING;
        let settled = self
            .seen
            .iter()
            .filter(|(_, at)| old(at))
            .map(|seen| seen.0);
        if let Some(settled) = settled.max() {
            self.settled = self.settled.max(settled);
            self.seen.retain(|(position, _)| *position > self.settled);
        }
        Ok(())
    }
}

/// Whether the same event would be refused again: data exceptions, violated constraints, and limits of
/// the program.
fn is_about_data(err: &sqlx::Error) -> bool {
    let code = err.as_database_error().and_then(|err| err.code());
    code.is_some_and(|code| {
        ["22", "23", "54"]
            .iter()
            .any(|class| code.starts_with(class))
    })
}
