//! Posting to a URL, at an address that was looked at before.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use rustls::ClientConfig;

use super::channel::SendError;
use super::destination::{Destination, Reach};
use super::tls;
use crate::config::ConfigError;

/// Posts messages. No redirect is followed and no proxy used: both would lead elsewhere than to the
/// address that was looked at.
#[derive(Clone, Debug)]
pub struct Http {
    tls: ClientConfig,
    timeout: Duration,
}

/// A request to be made.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Post {
    /// A request with a body of JSON.
    pub(super) fn json(url: Url, body: &serde_json::Value) -> Self {
        Self {
            url,
            headers: HeaderMap::new(),
            body: body.to_string().into_bytes(),
        }
    }
}

impl Http {
    /// Posts that may take so long each.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] if TLS cannot be set up.
    pub fn new(timeout: Duration) -> Result<Self, ConfigError> {
        let tls = tls::for_http();
        let tls =
            tls.map_err(|err| ConfigError::Invalid(format!("TLS cannot be set up: {err}")))?;
        Ok(Self { tls, timeout })
    }

    pub(super) async fn post(&self, post: Post, reach: &Reach) -> Result<(), SendError> {
        let Post { url, headers, body } = post;
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or(443);
        let resolving = Destination::resolve(host, port, reach);
        let destination = tokio::time::timeout(self.timeout, resolving).await;
        let destination = destination.map_err(|_| SendError::Timeout(self.timeout))??;
        // A client for each request: the addresses are part of it. A host that is an address is
        // connected to as it stands, which is what was looked at.
        let client = Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .resolve_to_addrs(host, &destination.addresses)
            .redirect(Policy::none())
            .no_proxy()
            .timeout(self.timeout)
            .build()?;
        let request = client
            .post(url)
            .header("content-type", "application/json")
            .header(
                "user-agent",
                concat!("evenkeel/", env!("CARGO_PKG_VERSION")),
            )
            .headers(headers)
            .body(body);
        let status = request.send().await?.status();
        if status.is_success() {
            Ok(())
        } else {
            Err(SendError::Answer(status))
        }
    }
}

/// A URL of a setting.
pub(super) fn parse(url: &str, channel: &str) -> Result<Url, ConfigError> {
    // The URL itself may be a secret, so it is not repeated.
    let invalid = |why: &str| {
        ConfigError::Invalid(format!(
            "watch.notify.channels: the URL of `{channel}` {why}"
        ))
    };
    let url = Url::parse(url).map_err(|err| invalid(&format!("is none: {err}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid("must begin with https:// or http://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid(
            "must not hold a password, because URLs are printed",
        ));
    }
    Ok(url)
}
