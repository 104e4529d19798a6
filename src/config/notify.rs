//! Settings of notification: who is told of an incident, by which way, and when the next is.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Who is told of an incident. Nobody, unless there are channels.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Notify {
    /// The ways to tell people.
    pub channels: Vec<Channel>,
    /// Who is told first, who next; without any, all channels are one level.
    pub levels: Vec<Level>,
    /// Addresses and networks, such as `10.1.0.0/16`, that a channel may be at although they are not
    /// of the public internet.
    pub allow_private: Vec<Network>,
    /// How long the first message may wait for the cause to be named.
    #[serde(with = "humantime_serde")]
    pub gather_for: Duration,
    /// How long further findings of the same cause are kept back.
    #[serde(with = "humantime_serde")]
    pub group_for: Duration,
    /// After this, an acknowledgement counts no more if it still goes on.
    #[serde(with = "humantime_serde")]
    pub unacknowledge_after: Duration,
    /// How long one try to reach a channel may take.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Tries before a channel counts as dead for the time being.
    pub tries: usize,
    /// The key that links in messages are signed with, at least 32 characters; without one a random
    /// key is made at start, and links end with the process.
    #[serde(skip_serializing)]
    pub ticket_key: Option<Secret>,
    /// The environment variable that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket_key_env: Option<String>,
    /// How long a link in a message can be used.
    #[serde(with = "humantime_serde")]
    pub ticket_lifetime: Duration,
}

impl Default for Notify {
    fn default() -> Self {
        Self {
            channels: Vec::new(),
            levels: Vec::new(),
            allow_private: Vec::new(),
            gather_for: Duration::from_secs(1),
            group_for: Duration::from_secs(10 * 60),
            unacknowledge_after: Duration::from_secs(30 * 60),
            timeout: Duration::from_secs(5),
            tries: 3,
            ticket_key: None,
            ticket_key_env: None,
            ticket_lifetime: Duration::from_secs(30 * 60),
        }
    }
}

/// People who are told together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Level {
    /// The names of the channels that reach them.
    pub channels: Vec<String>,
    /// How long they have to acknowledge before the next level is told.
    #[serde(default = "five_minutes", with = "humantime_serde")]
    pub acknowledge_within: Duration,
    /// How often they are told again until somebody acknowledges, or the next level is told.
    #[serde(default = "five_minutes", with = "humantime_serde")]
    pub repeat_every: Duration,
}

fn five_minutes() -> Duration {
    Duration::from_secs(5 * 60)
}

/// A way to tell people.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Channel {
    /// JSON, signed as Standard Webhooks says.
    Webhook(Webhook),
    /// An incoming webhook as Slack, Mattermost and others understand it.
    Slack(Slack),
    /// The Events API, version 2.
    PagerDuty(PagerDuty),
    /// The API of an Alertmanager, version 2.
    Alertmanager(Alertmanager),
    /// E-mail by SMTP.
    Email(Email),
}

/// JSON, signed as Standard Webhooks says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// What levels and messages call it.
    pub name: String,
    /// Whether it may be at an address that is not of the public internet.
    #[serde(default)]
    pub private: bool,
    /// Where to.
    pub url: String,
    /// What bodies are signed with: `whsec_` and at least 24 bytes in base64.
    #[serde(default, skip_serializing)]
    pub secret: Option<Secret>,
    /// The environment variable that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_env: Option<String>,
}

/// An incoming webhook as Slack understands it. Its URL is the secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slack {
    /// What levels and messages call it.
    pub name: String,
    /// Whether it may be at an address that is not of the public internet.
    #[serde(default)]
    pub private: bool,
    /// Where to.
    #[serde(default, skip_serializing)]
    pub url: Option<Secret>,
    /// The environment variable that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_env: Option<String>,
}

/// PagerDuty's Events API, version 2.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PagerDuty {
    /// What levels and messages call it.
    pub name: String,
    /// Whether it may be at an address that is not of the public internet.
    #[serde(default)]
    pub private: bool,
    /// Where to; another one in the EU's service region.
    #[serde(default = "pagerduty_events")]
    pub url: String,
    /// The integration's key.
    #[serde(default, skip_serializing)]
    pub routing_key: Option<Secret>,
    /// The environment variable that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routing_key_env: Option<String>,
}

fn pagerduty_events() -> String {
    "https://events.pagerduty.com/v2/enqueue".to_owned()
}

/// An Alertmanager's API, version 2.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alertmanager {
    /// What levels and messages call it.
    pub name: String,
    /// Whether it may be at an address that is not of the public internet.
    #[serde(default)]
    pub private: bool,
    /// Where it is, without `/api/v2/alerts`.
    pub url: String,
    /// How often an alert is sent again while its incident is open; it ends by itself after four
    /// times as long.
    #[serde(default = "one_minute", with = "humantime_serde")]
    pub resend_every: Duration,
}

fn one_minute() -> Duration {
    Duration::from_secs(60)
}

/// E-mail by SMTP.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Email {
    /// What levels and messages call it.
    pub name: String,
    /// Whether it may be at an address that is not of the public internet.
    #[serde(default)]
    pub private: bool,
    /// The mail server.
    pub host: String,
    /// Its port; without one the usual port of `security`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How the connection is protected.
    #[serde(default)]
    pub security: Security,
    /// The sender, such as `Evenkeel <evenkeel@shop.example>`.
    pub from: String,
    /// Who gets it.
    pub to: Vec<String>,
    /// Who logs in; nobody if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password.
    #[serde(default, skip_serializing)]
    pub password: Option<Secret>,
    /// The environment variable that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_env: Option<String>,
}

/// How the connection to a mail server is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// TLS after a greeting in the clear, never without; port 587.
    #[default]
    StartTls,
    /// TLS from the first byte; port 465.
    Tls,
    /// None; port 25. For a server on the same machine.
    None,
}

impl Security {
    /// The port that is usual for it.
    pub fn port(self) -> u16 {
        match self {
            Self::StartTls => 587,
            Self::Tls => 465,
            Self::None => 25,
        }
    }
}

/// What nobody may read: it is not printed and not serialized.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// A secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The secret that a setting holds, or the environment variable that it names; `None` if it
    /// does neither.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] if the variable is not set, empty or no text.
    pub fn find(given: Option<&Self>, variable: Option<&str>) -> Result<Option<Self>, ConfigError> {
        let Some(variable) = variable else {
            return Ok(given.cloned());
        };
        match std::env::var(variable) {
            Ok(value) if !value.is_empty() => Ok(Some(Self(value))),
            _ => Err(ConfigError::Invalid(format!(
                "the environment variable {variable}, which watch.notify names, is not set"
            ))),
        }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

/// An address, or a network of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(IpNet);

impl Network {
    /// Whether the address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let network = text.parse().or_else(|_| text.parse().map(IpAddr::into));
        network.map(Self).map_err(|_| {
            format!("`{text}` is neither an address nor a network such as 10.1.0.0/16")
        })
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.0.to_string()
    }
}

impl Channel {
    /// What levels and messages call it.
    pub fn name(&self) -> &str {
        match self {
            Self::Webhook(channel) => &channel.name,
            Self::Slack(channel) => &channel.name,
            Self::PagerDuty(channel) => &channel.name,
            Self::Alertmanager(channel) => &channel.name,
            Self::Email(channel) => &channel.name,
        }
    }

    /// Which of its fields holds a secret, what is given directly and by a variable, and whether it
    /// needs one.
    fn secret(&self) -> Option<(&'static str, bool, bool, bool)> {
        let (field, given, variable, needed) = match self {
            Self::Webhook(c) => ("secret", &c.secret, &c.secret_env, true),
            Self::Slack(c) => ("url", &c.url, &c.url_env, true),
            Self::PagerDuty(c) => ("routing_key", &c.routing_key, &c.routing_key_env, true),
            Self::Alertmanager(_) => return None,
            Self::Email(c) => (
                "password",
                &c.password,
                &c.password_env,
                c.username.is_some(),
            ),
        };
        Some((field, given.is_some(), variable.is_some(), needed))
    }

    fn validate(&self) -> Result<(), String> {
        let name = self.name();
        if name.trim().is_empty() {
            return Err("watch.notify.channels: every channel needs a name".to_owned());
        }
        if let Some((field, given, variable, needed)) = self.secret() {
            if given && variable {
                return Err(format!(
                    "watch.notify.channels: `{name}` has both {field} and {field}_env; keep one"
                ));
            }
            if needed && !given && !variable {
                return Err(format!(
                    "watch.notify.channels: `{name}` needs {field}, or {field}_env with the name of \
                     an environment variable"
                ));
            }
        }
        match self {
            Self::Email(email) if email.to.is_empty() => Err(format!(
                "watch.notify.channels: `{name}` has nobody in `to`"
            )),
            Self::Alertmanager(alertmanager) if alertmanager.resend_every.is_zero() => Err(
                format!("watch.notify.channels: resend_every of `{name}` must be above zero"),
            ),
            _ => Ok(()),
        }
    }
}

impl Notify {
    /// The levels; without any, all channels are one.
    pub fn levels(&self) -> Vec<Level> {
        if !self.levels.is_empty() || self.channels.is_empty() {
            return self.levels.clone();
        }
        let all = self
            .channels
            .iter()
            .map(|channel| channel.name().to_owned());
        vec![Level {
            channels: all.collect(),
            acknowledge_within: five_minutes(),
            repeat_every: five_minutes(),
        }]
    }

    pub(super) fn validate(&self) -> Result<(), String> {
        let mut names = HashSet::new();
        for channel in &self.channels {
            channel.validate()?;
            if !names.insert(channel.name()) {
                let name = channel.name();
                return Err(format!("watch.notify.channels: two are called `{name}`"));
            }
        }
        for (level, number) in self.levels.iter().zip(1..) {
            if level.channels.is_empty() {
                return Err(format!(
                    "watch.notify.levels: level {number} has no channels"
                ));
            }
            if let Some(unknown) = level
                .channels
                .iter()
                .find(|name| !names.contains(name.as_str()))
            {
                return Err(format!(
                    "watch.notify.levels: level {number} names the channel `{unknown}`, which \
                     watch.notify.channels does not have"
                ));
            }
            if level.acknowledge_within.is_zero() || level.repeat_every.is_zero() {
                return Err(format!(
                    "watch.notify.levels: acknowledge_within and repeat_every of level {number} must \
                     be above zero"
                ));
            }
        }
        if self.tries == 0 || self.timeout.is_zero() || self.unacknowledge_after.is_zero() {
            return Err(
                "watch.notify: tries, timeout and unacknowledge_after must be above zero"
                    .to_owned(),
            );
        }
        if self.ticket_key.is_some() && self.ticket_key_env.is_some() {
            return Err("watch.notify has both ticket_key and ticket_key_env; keep one".to_owned());
        }
        Ok(())
    }
}
