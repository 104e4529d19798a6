//! Settings of notification: who is told of an incident, by which way, and when the next is.

mod channel;
mod secret;

use std::collections::HashSet;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use channel::{Alertmanager, Channel, Email, PagerDuty, Security, Slack, Webhook};
pub use secret::Secret;
use settings::bounds::{above_zero, lasts, within};

use super::Network;

/// Who is told of an incident. Nobody, unless there are channels.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
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
    #[serde(with = "settings::HumanTime")]
    pub gather_for: Duration,
    /// How long further findings of the same cause are kept back.
    #[serde(with = "settings::HumanTime")]
    pub group_for: Duration,
    /// After this, an acknowledgement counts no more if it still goes on.
    #[serde(with = "settings::HumanTime")]
    pub unacknowledge_after: Duration,
    /// How long one try to reach a channel may take.
    #[serde(with = "settings::HumanTime")]
    pub timeout: Duration,
    /// Tries before a channel counts as dead for the time being.
    pub tries: usize,
    /// The key that links in messages are signed with, at least 32 characters; without one a random
    /// key is made at start, and links end with the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket_key: Option<Secret>,
    /// The environment variable that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket_key_env: Option<String>,
    /// How long a link in a message can be used.
    #[serde(with = "settings::HumanTime")]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Level {
    /// The names of the channels that reach them.
    pub channels: Vec<String>,
    /// How long they have to acknowledge before the next level is told.
    #[serde(default = "five_minutes", with = "settings::HumanTime")]
    pub acknowledge_within: Duration,
    /// How often they are told again until somebody acknowledges, or the next level is told.
    #[serde(default = "five_minutes", with = "settings::HumanTime")]
    pub repeat_every: Duration,
}

fn five_minutes() -> Duration {
    Duration::from_secs(5 * 60)
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
        within("watch.notify.tries", self.tries, 1..=100)?;
        above_zero("watch.notify.timeout", self.timeout)?;
        above_zero("watch.notify.unacknowledge_after", self.unacknowledge_after)?;
        above_zero("watch.notify.ticket_lifetime", self.ticket_lifetime)?;
        lasts("watch.notify.gather_for", self.gather_for, Duration::ZERO)?;
        lasts("watch.notify.group_for", self.group_for, Duration::ZERO)?;
        if self.ticket_key.is_some() && self.ticket_key_env.is_some() {
            return Err("watch.notify has both ticket_key and ticket_key_env; keep one".to_owned());
        }
        Ok(())
    }
}
