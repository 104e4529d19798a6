//! The ways to tell people.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::secret::Secret;

/// A way to tell people.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// What levels and messages call it.
    pub name: String,
    /// Whether it may be at an address that is not of the public internet.
    #[serde(default)]
    pub private: bool,
    /// Where messages are sent to.
    pub url: String,
    /// What bodies are signed with: `whsec_` and at least 24 bytes in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// The environment variable that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_env: Option<String>,
}

/// An incoming webhook as Slack understands it. Its URL is the secret.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Slack {
    /// What levels and messages call it.
    pub name: String,
    /// Whether it may be at an address that is not of the public internet.
    #[serde(default)]
    pub private: bool,
    /// Where messages are sent to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Secret>,
    /// The environment variable that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_env: Option<String>,
}

/// PagerDuty's Events API, version 2.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routing_key: Option<Secret>,
    /// The environment variable that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routing_key_env: Option<String>,
}

fn pagerduty_events() -> String {
    "https://events.pagerduty.com/v2/enqueue".to_owned()
}

/// An Alertmanager's API, version 2.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
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
    #[serde(default = "one_minute", with = "settings::HumanTime")]
    pub resend_every: Duration,
}

fn one_minute() -> Duration {
    Duration::from_secs(60)
}

/// E-mail by SMTP.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// The environment variable that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_env: Option<String>,
}

/// How the connection to a mail server is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

    pub(super) fn validate(&self) -> Result<(), String> {
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
