//! An Alertmanager's API, version 2: the alert of an incident is there until it ends.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};
use url::Url;

use super::notice::Notice;
use super::post::{self, Post};
use crate::config::ConfigError;
use crate::config::notify as settings;
use crate::watch::event::Severity;

/// An alert that is not sent again ends by itself after so many times `resend_every`, as Prometheus
/// does it.
const LIVES: i32 = 4;

#[derive(Debug)]
pub(super) struct Alertmanager {
    url: Url,
    pub(super) resend_every: Duration,
}

impl Alertmanager {
    pub(super) fn new(settings: &settings::Alertmanager) -> Result<Self, ConfigError> {
        let base = settings.url.trim_end_matches('/');
        let url = post::parse(&format!("{base}/api/v2/alerts"), &settings.name)?;
        Ok(Self {
            url,
            resend_every: settings.resend_every,
        })
    }

    pub(super) fn post(&self, notice: &Notice) -> Post {
        let mut alert = json!({
            // They tell one alert from another, so nothing in them may change on the way.
            "labels": {
                "alertname": "EvenkeelIncident",
                "service": "evenkeel",
                "incident": notice.incident,
                "key": notice.key,
                "severity": match notice.severity {
                    Severity::Warning => "warning",
                    Severity::Critical => "critical",
                },
            },
            "annotations": annotations(notice),
            "startsAt": notice.opened_at,
            "endsAt": self.ends(notice),
        });
        if let Some(link) = &notice.link {
            alert["generatorURL"] = json!(link);
        }
        Post::json(self.url.clone(), &json!([alert]))
    }

    fn ends(&self, notice: &Notice) -> DateTime<Utc> {
        if let Some(resolved) = notice.resolved_at {
            return resolved;
        }
        let life = TimeDelta::from_std(self.resend_every)
            .ok()
            .and_then(|every| every.checked_mul(LIVES))
            .and_then(|life| notice.at.checked_add_signed(life));
        life.unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

fn annotations(notice: &Notice) -> Map<String, Value> {
    let named = [
        ("summary", Some(notice.title.clone())),
        ("description", Some(notice.text())),
        ("what", Some(notice.what.clone())),
        ("who", notice.who.clone()),
        ("acknowledged_by", notice.acknowledged_by.clone()),
    ];
    named
        .into_iter()
        .filter_map(|(name, text)| Some((name.to_owned(), Value::String(text?))))
        .collect()
}
