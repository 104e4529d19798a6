//! Telling people: real receivers get what a person would see.

mod alertmanager;
mod channels;
mod destinations;
pub mod going_on;
pub mod receivers;
mod tickets;
mod tls;

use evenkeel::config::{Settings, Watch};
use evenkeel::watch::event::{Event, Felt, Impact, Severity, What};
use evenkeel::watch::finding::{Cause, Finding};
use evenkeel::watch::incident::Incident;
use evenkeel::watch::log::Log;
use evenkeel::watch::notify::Escalator;
use evenkeel::watch::ticket::Tickets;
use pool::Class;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::escalation::suspect;
use crate::support::eventually;

/// Settings as somebody would write them, below `[watch]`.
fn settings(toml: &str) -> Watch {
    let settings: Settings = toml::from_str(toml).unwrap();
    settings.validate().unwrap();
    settings.watch
}

/// A process that tells people of the incidents of a journal.
struct Process {
    log: Log,
    tickets: Tickets,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Process {
    async fn start(settings: &Watch, journal: &TempDir) -> Self {
        let log = Log::open(journal.path().to_owned()).await.unwrap();
        let tickets = Tickets::new(&settings.notify).unwrap();
        let escalator = Escalator::new(settings, log.clone(), tickets.clone()).unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move { escalator.run(stopped).await });
        Self {
            log,
            tickets,
            stop,
            task,
        }
    }

    /// Ends as `kill -9` does.
    async fn die(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    async fn finish(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    async fn happens(&self, incident: Uuid, what: What) -> Uuid {
        let event = Event::now(incident, "watch", what);
        let id = event.id;
        self.log.append(event).await;
        id
    }

    /// A script holds a lock, and shoppers suffer.
    async fn opens(&self) -> Uuid {
        let incident = Uuid::now_v7();
        self.happens(
            incident,
            What::Opened {
                title: "checkout, browse suffer: `nightly-reprice`".to_owned(),
                severity: Severity::Critical,
                key: "script/cron/nightly-reprice".to_owned(),
            },
        )
        .await;
        let felt = Felt {
            class: Class::Checkout,
            arrivals_per_s: 40.0,
            failed_per_s: 38.5,
            p95_ms: Some(5000.0),
        };
        self.happens(
            incident,
            What::Felt {
                classes: vec![felt],
            },
        )
        .await;
        let finding = Finding {
            at: chrono::Utc::now(),
            cause: Cause::Script,
            culprit: Some(suspect(4711)),
            accomplices: Vec::new(),
            first_victim: None,
            certainty: 0.94,
            evidence: vec!["16 shop sessions wait for it <!channel>".to_owned()],
            exclusions: vec!["Not traffic: arrivals -1 %".to_owned()],
        };
        let finding = Box::new(finding);
        self.happens(incident, What::Found { finding }).await;
        incident
    }

    async fn resolves(&self, incident: Uuid) {
        let impact = Impact {
            failed: vec![(Class::Checkout, 77)],
            arrived: vec![(Class::Checkout, 120)],
            orders_lost: 12.3,
            money_at_risk_minor: Some(123_400),
        };
        let impact = Box::new(impact);
        self.happens(incident, What::Resolved { impact }).await;
    }

    fn incident(&self, id: Uuid) -> Incident {
        self.log.incident(id).unwrap()
    }

    /// The messages that the log has, as (level, channel, problem).
    fn told(&self, id: Uuid) -> Vec<(u32, String, Option<String>)> {
        let events = self.incident(id).events;
        let told = events.into_iter().filter_map(|event| match event.what {
            What::Notified {
                level,
                channel,
                problem,
                ..
            } => Some((level, channel, problem)),
            _ => None,
        });
        told.collect()
    }
}
