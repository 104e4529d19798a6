//! JSON, signed as [Standard Webhooks](https://www.standardwebhooks.com) says.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::Utc;
use http::{HeaderMap, HeaderValue};
use serde_json::json;
use url::Url;

use super::channel;
use super::notice::Notice;
use super::post::{self, Post};
use crate::config::ConfigError;
use crate::config::notify as settings;
use crate::watch::signing::SigningKey;

/// Bytes that a key has at least and at most.
const KEY: std::ops::RangeInclusive<usize> = 24..=64;

#[derive(Debug)]
pub(super) struct Webhook {
    url: Url,
    key: SigningKey,
}

impl Webhook {
    pub(super) fn new(settings: &settings::Webhook) -> Result<Self, ConfigError> {
        let name = &settings.name;
        let secret = channel::secret(settings.secret.as_ref(), settings.secret_env.as_ref(), name)?;
        let encoded = secret.expose().strip_prefix("whsec_");
        let key = encoded.and_then(|encoded| STANDARD.decode(encoded).ok());
        let key = key.filter(|key| KEY.contains(&key.len())).ok_or_else(|| {
            ConfigError::Invalid(format!(
                "watch.notify.channels: the secret of `{name}` must be `whsec_` and {} to {} bytes in \
                 base64, as `echo whsec_$(openssl rand -base64 32)` makes it",
                KEY.start(),
                KEY.end()
            ))
        })?;
        Ok(Self {
            url: post::parse(&settings.url, name)?,
            key: SigningKey::new(&key),
        })
    }

    pub(super) fn post(&self, notice: &Notice) -> Post {
        let body = json!({
            "type": format!("incident.{}", notice.occasion.name()),
            "timestamp": notice.at,
            "data": notice,
            "text": notice.text(),
        });
        let mut post = Post::json(self.url.clone(), &body);
        // When it is sent, not when it was written: receivers refuse what is old.
        let timestamp = Utc::now().timestamp().to_string();
        let signed = [
            notice.id.as_bytes(),
            b".",
            timestamp.as_bytes(),
            b".",
            &post.body,
        ];
        let signature = format!("v1,{}", STANDARD.encode(self.key.sign(&signed)));
        let headers = [
            ("webhook-id", notice.id.as_str()),
            ("webhook-timestamp", timestamp.as_str()),
            ("webhook-signature", signature.as_str()),
        ];
        let valid = headers.into_iter().filter_map(|(name, value)| {
            Some((name.parse().ok()?, HeaderValue::from_str(value).ok()?))
        });
        post.headers = valid.collect::<HeaderMap>();
        post
    }
}
