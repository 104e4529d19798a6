//! A way to tell people, as the settings have it.

use std::error::Error;
use std::time::Duration;

use http::StatusCode;

use super::alertmanager::Alertmanager;
use super::destination::{DestinationError, Reach};
use super::email::Email;
use super::notice::Notice;
use super::pagerduty::PagerDuty;
use super::post::{Post, Poster};
use super::slack::Slack;
use super::webhook::Webhook;
use crate::config::ConfigError;
use crate::config::notify::{self as settings, Notify, Secret};

/// A way to tell people.
#[derive(Debug)]
pub struct Channel {
    name: String,
    reach: Reach,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Webhook(Webhook),
    Slack(Slack),
    PagerDuty(PagerDuty),
    Alertmanager(Alertmanager),
    Email(Email),
}

/// Why a channel was not reached. It never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Nobody may connect there, or there is no such host.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// It answered that it did not take the message.
    #[error("answered {0}")]
    Answer(StatusCode),
    /// It did not answer in time.
    #[error("did not answer within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
    /// There was no exchange with it.
    #[error("{}", chain(.0))]
    Http(#[from] hyper_util::client::legacy::Error),
    /// The message cannot be put into the form of a request.
    #[error("no request could be made: {0}")]
    Request(#[from] http::Error),
    /// The mail server did not take the message.
    #[error("{}", chain(.0))]
    Smtp(#[from] lettre::transport::smtp::Error),
    /// The message cannot be put into the form of an e-mail.
    #[error("no e-mail could be made: {0}")]
    Mail(#[from] lettre::error::Error),
}

impl SendError {
    /// Whether the same may succeed a moment later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Destination(err) => matches!(err, DestinationError::Unresolved { .. }),
            Self::Answer(status) => {
                status.is_server_error()
                    || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(status)
            }
            Self::Timeout(_) | Self::Http(_) => true,
            Self::Smtp(err) => !err.is_permanent(),
            Self::Request(_) | Self::Mail(_) => false,
        }
    }
}

/// An error with its causes, since the outermost says little.
fn chain(err: &dyn Error) -> String {
    let mut text = err.to_string();
    let mut source = err.source();
    while let Some(err) = source {
        let cause = err.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = err.source();
    }
    text
}

impl Channel {
    /// A channel as the settings have it.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] names what cannot be used, such as a URL, or an environment variable
    /// that is not set.
    pub fn new(channel: &settings::Channel, notify: &Notify) -> Result<Self, ConfigError> {
        let (private, kind) = match channel {
            settings::Channel::Webhook(c) => (c.private, Kind::Webhook(Webhook::new(c)?)),
            settings::Channel::Slack(c) => (c.private, Kind::Slack(Slack::new(c)?)),
            settings::Channel::PagerDuty(c) => (c.private, Kind::PagerDuty(PagerDuty::new(c)?)),
            settings::Channel::Alertmanager(c) => {
                (c.private, Kind::Alertmanager(Alertmanager::new(c)?))
            }
            settings::Channel::Email(c) => (c.private, Kind::Email(Email::new(c, notify.timeout)?)),
        };
        let allowed = notify.allow_private.clone();
        Ok(Self {
            name: channel.name().to_owned(),
            reach: Reach { private, allowed },
            kind,
        })
    }

    /// What levels and messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How often it wants to hear that an incident is still open.
    pub fn resend_every(&self) -> Option<Duration> {
        match &self.kind {
            Kind::Alertmanager(alertmanager) => Some(alertmanager.resend_every),
            _ => None,
        }
    }

    /// Sends a notice, once.
    ///
    /// # Errors
    /// [`SendError`] says why it did not arrive, as far as can be known.
    pub async fn send(&self, poster: &Poster, notice: &Notice) -> Result<(), SendError> {
        let post: Post = match &self.kind {
            Kind::Webhook(webhook) => webhook.post(notice),
            Kind::Slack(slack) => slack.post(notice),
            Kind::PagerDuty(pagerduty) => pagerduty.post(notice),
            Kind::Alertmanager(alertmanager) => alertmanager.post(notice),
            Kind::Email(email) => return email.send(notice, &self.reach).await,
        };
        poster.post(post, &self.reach).await
    }
}

/// The secret that a channel needs. Settings that were checked have one.
pub(super) fn secret(
    given: Option<&Secret>,
    variable: Option<&String>,
    channel: &str,
) -> Result<Secret, ConfigError> {
    let missing =
        || ConfigError::Invalid(format!("watch.notify.channels: `{channel}` has no secret"));
    Secret::find(given, variable.map(String::as_str))?.ok_or_else(missing)
}
