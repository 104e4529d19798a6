//! The task that sends what is due and records it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use super::channel::Channel;
use super::notice::{Links, Notice};
use super::post::Poster;
use crate::config::{ConfigError, Watch};
use crate::watch::escalation::{Plan, Step, Tell, due};
use crate::watch::event::{Event, Occasion, What};
use crate::watch::incident::Incident;
use crate::watch::log::Log;
use crate::watch::ticket::Tickets;

/// Messages under way at once, of all incidents.
const AT_ONCE: usize = 16;

/// The longest sleep, because the clock may be set and the machine may be suspended.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// How often a process that is not on duty looks whether it is.
const OFF_DUTY: Duration = Duration::from_secs(1);

/// The pause before the second try of a message; it doubles, and is jittered.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// Tells people of incidents, level by level, until somebody takes care.
///
/// It keeps nothing that it could not read from the log again: another process with the same log goes
/// on where this one stops. One of them at a time, or people are told twice.
#[derive(Debug)]
pub struct Escalator {
    plan: Plan,
    channels: HashMap<String, Channel>,
    poster: Poster,
    links: Links,
    log: Log,
    tries: usize,
    grace: Duration,
    duty: Option<watch::Receiver<bool>>,
}

/// A message under way.
struct Flight {
    incident: Incident,
    tell: Tell,
    /// Whether it goes into the log. That an alert is still there does not.
    is_recorded: bool,
}

/// What became of it.
struct Landing {
    incident: Uuid,
    tell: Tell,
    is_recorded: bool,
    problem: Option<String>,
}

/// What is under way and has been done in this process.
#[derive(Default)]
struct Memory {
    under_way: HashSet<(Uuid, String)>,
    /// How many of the log's events have been taken into account.
    seen: usize,
    /// Incidents for which nothing will be due any more.
    settled: HashSet<Uuid>,
    /// When a channel that wants to hear it again last heard of an incident.
    heard: HashMap<(Uuid, String), Instant>,
}

impl Escalator {
    /// An escalator for the incidents of a log.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] names a channel that cannot be used as it is set.
    pub fn new(settings: &Watch, log: Log, tickets: Tickets) -> Result<Self, ConfigError> {
        Ok(Self::prepare(settings, tickets)?(log))
    }

    /// As [`Escalator::new`], for a log that is opened later: what is wrong with the settings is known
    /// before anything is begun.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] names a channel that cannot be used as it is set.
    pub fn prepare(
        settings: &Watch,
        tickets: Tickets,
    ) -> Result<impl FnOnce(Log) -> Self + use<>, ConfigError> {
        let notify = &settings.notify;
        let channels = notify.channels.iter().map(|channel| {
            let channel = Channel::new(channel, notify)?;
            Ok((channel.name().to_owned(), channel))
        });
        let without_slash = |url: &Option<String>| {
            let url = url.as_deref();
            url.map(|url| url.trim_end_matches('/').to_owned())
        };
        let channels = channels.collect::<Result<_, ConfigError>>()?;
        let plan = Plan::from(notify);
        let poster = Poster::new(notify.timeout)?;
        let links = Links {
            public_url: without_slash(&settings.public_url),
            ops_url: without_slash(&settings.ops_url),
            tickets,
        };
        let (tries, grace) = (notify.tries, notify.timeout);
        Ok(move |log| Self {
            plan,
            channels,
            poster,
            links,
            log,
            tries,
            grace,
            duty: None,
        })
    }

    /// Tells people only while `duty` is true: of several processes that know the same incidents, one
    /// is to tell them.
    #[must_use]
    pub fn on_duty(mut self, duty: watch::Receiver<bool>) -> Self {
        self.duty = Some(duty);
        self
    }

    /// Tells people until it is asked to stop; what is under way then may end, within the time of
    /// one try.
    pub async fn run(self, stop: CancellationToken) {
        let mut appended = self.log.subscribe();
        let mut memory = Memory::default();
        let mut flights = FuturesUnordered::new();
        loop {
            // What is appended from here on wakes the wait below.
            appended.borrow_and_update();
            let free = AT_ONCE.saturating_sub(flights.len());
            let on_duty = self.duty.as_ref().is_none_or(|duty| *duty.borrow());
            let (due, wake) = if on_duty {
                self.decide(&mut memory, free).await
            } else {
                (Vec::new(), OFF_DUTY)
            };
            flights.extend(due.into_iter().map(|flight| self.deliver(flight)));
            tokio::select! {
                () = stop.cancelled() => break,
                _ = appended.changed() => {}
                Some(landing) = flights.next() => self.land(landing, &mut memory).await,
                () = sleep(wake) => {}
            }
        }
        let landed = timeout(self.grace, async {
            while let Some(landing) = flights.next().await {
                self.land(landing, &mut memory).await;
            }
        });
        if landed.await.is_err() {
            warn!("stopped while people were being told of an incident; the next start tells them");
        }
    }

    /// Takes the steps that only need the log; returns up to `free` messages to be sent, and how
    /// long nothing else is due.
    async fn decide(&self, memory: &mut Memory, free: usize) -> (Vec<Flight>, Duration) {
        let mut flights = Vec::new();
        let mut wake = LONGEST_SLEEP;
        memory.awaken(&self.log.after(memory.seen));
        for id in self.log.ids() {
            while !memory.settled.contains(&id)
                && let Some(incident) = self.log.incident(id)
            {
                let now = Utc::now();
                let steps = due(&incident, &self.plan, now);
                if steps.is_empty() && !incident.is_open() {
                    memory.settle(id);
                    break;
                }
                let mut moved = false;
                for step in steps {
                    match step {
                        Step::Escalate { level, reason } => {
                            info!(incident = %id, level, reason, "an incident is handed on");
                            self.append(id, What::Escalated { level, reason }).await;
                            moved = true;
                        }
                        Step::Expire => {
                            self.append(id, What::AcknowledgementExpired).await;
                            moved = true;
                        }
                        Step::Tell(tell) if flights.len() < free && memory.begin(id, &tell) => {
                            flights.push(Flight {
                                incident: incident.clone(),
                                tell,
                                is_recorded: true,
                            });
                        }
                        // Under way, or it will be when another has landed.
                        Step::Tell(_) => {}
                        Step::Wait { until } => wake = wake.min(until_then(until, now)),
                    }
                }
                if !moved {
                    let free = free - flights.len();
                    flights.extend(self.resend(&incident, memory, free, &mut wake));
                    break;
                }
            }
        }
        (flights, wake)
    }

    /// Messages to channels that want to hear that an incident is still open.
    fn resend(
        &self,
        incident: &Incident,
        memory: &mut Memory,
        free: usize,
        wake: &mut Duration,
    ) -> Vec<Flight> {
        if !incident.is_open() {
            return Vec::new();
        }
        let mut flights = Vec::new();
        let now = Instant::now();
        for (name, channel) in &self.channels {
            let Some(every) = channel.resend_every() else {
                continue;
            };
            let Some(level) = reached_at(incident, name) else {
                continue;
            };
            let heard = memory.heard.get(&(incident.id, name.clone()));
            let rest = heard.map_or(Duration::ZERO, |heard| every.saturating_sub(now - *heard));
            let tell = Tell {
                level,
                channel: name.clone(),
                occasion: Occasion::Updated,
                news: Vec::new(),
            };
            if !rest.is_zero() {
                *wake = rest.min(*wake);
            } else if flights.len() < free && memory.begin(incident.id, &tell) {
                flights.push(Flight {
                    incident: incident.clone(),
                    tell,
                    is_recorded: false,
                });
            }
        }
        flights
    }

    async fn deliver(&self, flight: Flight) -> Landing {
        let Flight {
            incident,
            tell,
            is_recorded,
        } = flight;
        let notice = Notice::of(&incident, &tell, &self.links, Utc::now());
        let problem = match self.channels.get(&tell.channel) {
            None => Some("no such channel".to_owned()),
            Some(channel) => {
                let pauses = ExponentialBuilder::default()
                    .with_min_delay(FIRST_PAUSE)
                    .with_max_times(self.tries.saturating_sub(1))
                    .with_jitter();
                let send = || channel.send(&self.poster, &notice);
                let sent = send.retry(pauses).when(|err| err.is_transient()).await;
                sent.err().map(|err| err.to_string())
            }
        };
        Landing {
            incident: incident.id,
            tell,
            is_recorded,
            problem,
        }
    }

    async fn land(&self, landing: Landing, memory: &mut Memory) {
        let Landing {
            incident,
            tell,
            is_recorded,
            problem,
        } = landing;
        let channel = tell.channel;
        if let Some(problem) = &problem {
            warn!(%incident, channel, problem, "a channel could not be reached");
        }
        let flight = (incident, channel.clone());
        memory.under_way.remove(&flight);
        memory.heard.insert(flight, Instant::now());
        if is_recorded {
            let told = What::Notified {
                level: tell.level,
                channel,
                occasion: tell.occasion,
                news: tell.news,
                problem,
            };
            self.append(incident, told).await;
        }
    }

    async fn append(&self, incident: Uuid, what: What) {
        self.log.append(Event::now(incident, "watch", what)).await;
    }
}

impl Memory {
    /// Whether a message may begin: one at a time for an incident and a channel.
    fn begin(&mut self, incident: Uuid, tell: &Tell) -> bool {
        self.under_way.insert((incident, tell.channel.clone()))
    }

    /// What is over may come back.
    fn awaken(&mut self, events: &[Event]) {
        self.seen += events.len();
        for event in events {
            self.settled.remove(&event.incident);
        }
    }

    fn settle(&mut self, incident: Uuid) {
        self.settled.insert(incident);
        self.heard.retain(|(of, _), _| *of != incident);
    }
}

/// The level at which a channel was last reached.
fn reached_at(incident: &Incident, name: &str) -> Option<u32> {
    incident
        .events
        .iter()
        .rev()
        .find_map(|event| match &event.what {
            What::Notified {
                level,
                channel,
                problem: None,
                ..
            } if channel == name => Some(*level),
            _ => None,
        })
}

fn until_then(until: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    (until - now).to_std().unwrap_or_default()
}
