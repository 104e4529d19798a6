//! Posting to a URL, at an address that was looked at before.

use std::convert::Infallible;
use std::future::ready;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Uri};
use http_body_util::Full;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use url::Url;

use super::channel::SendError;
use super::destination::{Destination, Reach};
use super::tls;
use crate::config::ConfigError;

/// Posts messages. No redirect is followed and no proxy used: both would lead elsewhere than to the
/// address that was looked at.
#[derive(Clone, Debug)]
pub struct Poster {
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

impl Poster {
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
        let posting = self.post_at_leisure(post, reach);
        let posted = tokio::time::timeout(self.timeout, posting).await;
        posted.unwrap_or(Err(SendError::Timeout(self.timeout)))
    }

    async fn post_at_leisure(&self, post: Post, reach: &Reach) -> Result<(), SendError> {
        let host = post.url.host_str().unwrap_or_default();
        let port = post.url.port_or_known_default().unwrap_or(443);
        let destination = Destination::resolve(host, port, reach).await?;
        // Whatever the connector asks, this is the answer. A host that is an address is not asked for,
        // but connected to as it stands, which is what was looked at.
        let pinned = tower::service_fn(move |_| {
            ready(Ok::<_, Infallible>(
                destination.addresses.clone().into_iter(),
            ))
        });
        let mut tcp = HttpConnector::new_with_resolver(pinned);
        tcp.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(self.tls.clone())
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let uri: Uri = post.url.as_str().parse().map_err(http::Error::from)?;
        let mut request = Request::post(uri)
            .header("content-type", "application/json")
            .header(
                "user-agent",
                concat!("evenkeel/", env!("CARGO_PKG_VERSION")),
            )
            .body(Full::new(Bytes::from(post.body)))?;
        request.headers_mut().extend(post.headers);
        let status = client.request(request).await?.status();
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
