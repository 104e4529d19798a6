//! PagerDuty's Events API, version 2.

use serde_json::{Value, json};
use url::Url;

use super::channel;
use super::notice::Notice;
use super::post::{self, Post};
use super::words;
use crate::config::ConfigError;
use crate::config::notify::{self as settings, Secret};
use crate::watch::event::{Occasion, Severity};
use crate::watch::finding::Cause;
use crate::watch::incident::Stage;

/// Characters of a summary at most, by PagerDuty's documentation.
const SUMMARY: usize = 1024;

#[derive(Debug)]
pub(super) struct PagerDuty {
    url: Url,
    routing_key: Secret,
}

impl PagerDuty {
    pub(super) fn new(settings: &settings::PagerDuty) -> Result<Self, ConfigError> {
        let given = settings.routing_key.as_ref();
        let name = &settings.name;
        Ok(Self {
            url: post::parse(&settings.url, name)?,
            routing_key: channel::secret(given, settings.routing_key_env.as_ref(), name)?,
        })
    }

    pub(super) fn post(&self, notice: &Notice) -> Post {
        let action = match (notice.stage, notice.occasion) {
            (Stage::Resolved, _) => "resolve",
            (_, Occasion::Acknowledged) => "acknowledge",
            _ => "trigger",
        };
        let body = json!({
            "routing_key": self.routing_key.expose(),
            "event_action": action,
            // All messages of an incident are one of PagerDuty's.
            "dedup_key": notice.incident,
            "client": "Evenkeel",
            "client_url": notice.link,
            "links": links(notice),
            "payload": {
                "summary": words::truncate(&notice.headline(), SUMMARY),
                "source": "evenkeel",
                "component": "database",
                "group": notice.key,
                "class": notice.cause.map_or("unknown", Cause::name),
                "timestamp": notice.opened_at,
                "severity": match notice.severity {
                    Severity::Warning => "warning",
                    Severity::Critical => "critical",
                },
                "custom_details": details(notice),
            },
        });
        Post::json(self.url.clone(), &body)
    }
}

fn links(notice: &Notice) -> Vec<Value> {
    let asks = notice
        .asks
        .iter()
        .filter_map(|ask| ask.link.as_ref().map(|link| (link, &*ask.what)));
    let acknowledge = notice
        .acknowledge_link
        .iter()
        .map(|link| (link, "Take care of it"));
    asks.chain(acknowledge)
        .map(|(href, text)| json!({"href": href, "text": text}))
        .collect()
}

fn details(notice: &Notice) -> Value {
    let mut details = json!({
        "what": notice.what,
        "who": notice.who,
        "statement": notice.statement,
        "level": notice.level,
        "acknowledged by": notice.acknowledged_by,
        "cost": notice.impact,
    });
    for (name, lines) in notice.lists() {
        details[name] = json!(lines);
    }
    details
}
