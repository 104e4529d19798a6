//! Tickets: what a link in a message entitles its bearer to.
//!
//! A ticket is signed, so nobody can make or change one, and ends after a while. A right to act on a
//! session is used once, however many messages carry it: the use is an event of the incident, so it
//! counts in every process that knows the incident, also after a restart.
//!
//! Mail servers and chat programs open links to look at them. Whoever serves the link shows on GET
//! what it would do ([`Tickets::read`]) and does it on POST ([`Tickets::redeem`]).

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::serde::ts_milliseconds;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::event::{Act, Event, What};
use super::log::Log;
use super::signing::SigningKey;
use crate::config::ConfigError;
use crate::config::notify::{Notify, Secret};

/// Keeps signatures of tickets apart from all else that might be signed with the same key.
const DOMAIN: &[u8] = b"evenkeel ticket 1\0";

/// Characters of a configured key at least.
const KEY_MIN: usize = 32;

/// What a link entitles to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The incident that it is of.
    pub incident: Uuid,
    /// What its bearer may do.
    pub right: Right,
    /// Until when.
    #[serde(with = "ts_milliseconds")]
    pub expires: DateTime<Utc>,
}

/// What the bearer of a ticket may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// Take care of the incident.
    Acknowledge {
        /// The channel that the link was sent to: nobody else had it.
        channel: String,
    },
    /// Have the watch do what it asked for, once.
    Act {
        /// The event that asked, which makes all links for the same act one.
        ask: Uuid,
        /// What is to be done.
        act: Act,
        /// To which process of the server.
        pid: i32,
        /// When its connection was opened: process ids are used again.
        backend_start: Option<DateTime<Utc>>,
    },
}

/// Why a ticket is not honoured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It was not made by this service, or with a key that is gone.
    #[error(
        "this link was not made by this service, or before its last start; use `evenkeel incident`"
    )]
    Forged,
    /// It is too old.
    #[error("this link has expired; a later message has a new one")]
    Expired,
    /// It was used before.
    #[error("this link has been used; what it asked for was allowed already")]
    Used,
    /// Its use cannot be written down, so it is not used.
    #[error(
        "the journal of incidents cannot be written, so nothing was done; use `evenkeel incident`"
    )]
    Unwritten,
    /// The incident is over, or this process does not know it.
    #[error("the incident of this link is over")]
    Over,
}

/// Issues and honours tickets. Cheap to clone; a process needs one, because its key may be random.
#[derive(Clone, Debug)]
pub struct Tickets {
    key: SigningKey,
    lifetime: Duration,
    /// One use at a time, so that two of the same ticket cannot both find it unused.
    using: Arc<tokio::sync::Mutex<()>>,
}

impl Tickets {
    /// Tickets signed with the key of the settings, or with a random one.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] if the key is too short or its environment variable is not set.
    pub fn new(settings: &Notify) -> Result<Self, ConfigError> {
        let variable = settings.ticket_key_env.as_deref();
        let key = match Secret::find(settings.ticket_key.as_ref(), variable)? {
            Some(key) if key.expose().len() < KEY_MIN => {
                return Err(ConfigError::Invalid(format!(
                    "watch.notify.ticket_key must have at least {KEY_MIN} characters"
                )));
            }
            Some(key) => SigningKey::new(key.expose().as_bytes()),
            None => SigningKey::new(&rand::random::<[u8; 32]>()),
        };
        Ok(Self {
            key,
            lifetime: settings.ticket_lifetime,
            using: Arc::default(),
        })
    }

    /// A ticket for a link. It holds no character that a URL's path would have to escape.
    pub fn issue(&self, incident: Uuid, right: Right, now: DateTime<Utc>) -> String {
        let ticket = Ticket {
            incident,
            right,
            expires: now + self.lifetime.min(LONGEST),
        };
        let payload = serde_json::to_vec(&ticket).expect("plain data has a form in JSON");
        let signature = self.key.sign(&[DOMAIN, &payload]);
        let payload = URL_SAFE_NO_PAD.encode(payload);
        format!("{payload}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// What a genuine ticket entitles to, without using it.
    ///
    /// # Errors
    /// [`TicketError::Forged`] or [`TicketError::Expired`].
    pub fn read(&self, text: &str, now: DateTime<Utc>) -> Result<Ticket, TicketError> {
        let decode = |part| URL_SAFE_NO_PAD.decode(part).ok();
        let parts = text.split_once('.');
        let parts =
            parts.and_then(|(payload, signature)| Some((decode(payload)?, decode(signature)?)));
        let (payload, signature) = parts.ok_or(TicketError::Forged)?;
        if !self.key.is_genuine(&[DOMAIN, &payload], &signature) {
            return Err(TicketError::Forged);
        }
        let ticket: Ticket = serde_json::from_slice(&payload).map_err(|_| TicketError::Forged)?;
        if ticket.expires <= now {
            return Err(TicketError::Expired);
        }
        Ok(ticket)
    }

    /// Uses a ticket: what it entitles to is in the log from now on, as [`What::Permitted`] or
    /// [`What::Acknowledged`].
    ///
    /// # Errors
    /// [`TicketError`] says why it is not honoured.
    pub async fn redeem(
        &self,
        text: &str,
        log: &Log,
        now: DateTime<Utc>,
    ) -> Result<Ticket, TicketError> {
        let ticket = self.read(text, now)?;
        let _alone = self.using.lock().await;
        let incident = log.incident(ticket.incident).ok_or(TicketError::Over)?;
        if !incident.is_open() {
            return Err(TicketError::Over);
        }
        let (by, what) = match &ticket.right {
            Right::Acknowledge { channel } => {
                let via = "link".to_owned();
                (channel.as_str(), What::Acknowledged { via })
            }
            Right::Act { ask, .. } if incident.is_permitted(*ask) => {
                return Err(TicketError::Used);
            }
            Right::Act { ask, .. } => ("link", What::Permitted { ask: *ask }),
        };
        let event = Event::now(ticket.incident, by, what);
        let written = log.write(event).await;
        written.map(|()| ticket).map_err(|_| TicketError::Unwritten)
    }
}

/// A year: a longer life would be beyond the calendar at some point.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
