//! HTTP/1.1 with keep-alive, as frugal as a client can be: bodies are drained, not read.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::de::DeserializeOwned;

use crate::LoadError;
use crate::record::Outcome;

/// A request whose body is in memory.
pub(crate) type Call = Request<Full<Bytes>>;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Only for the calls of the preparation; the load has a deadline of its own.
const PATIENCE: Duration = Duration::from_secs(10);

/// A pool of connections to the shop. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Http(Client<HttpConnector, Full<Bytes>>);

impl Http {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self(client)
    }

    /// Sends `call` and waits for the whole answer.
    pub(crate) async fn outcome(&self, call: Call) -> Outcome {
        let Ok(response) = self.0.request(call).await else {
            return Outcome::Connection;
        };
        let status = response.status();
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            if frame.is_err() {
                return Outcome::Connection;
            }
        }
        judge(status)
    }

    /// Sends `call` and reads the JSON of its answer.
    pub(crate) async fn json<T: DeserializeOwned>(&self, call: Call) -> Result<T, LoadError> {
        let what = format!("{} {}", call.method(), call.uri());
        let broken = |reason: String| LoadError::Answer(what.clone(), reason);
        let answer = async {
            let response = self.0.request(call).await;
            let response = response.map_err(|err| match err.is_connect() {
                true => LoadError::Unreachable(what.clone()),
                false => broken(err.to_string()),
            })?;
            let status = response.status();
            let body = response.into_body().collect().await;
            let body = body.map_err(|err| broken(err.to_string()))?.to_bytes();
            if !status.is_success() {
                return Err(LoadError::Status {
                    what: what.clone(),
                    status,
                    body: String::from_utf8_lossy(&body).chars().take(300).collect(),
                });
            }
            serde_json::from_slice(&body).map_err(|err| broken(err.to_string()))
        };
        tokio::time::timeout(PATIENCE, answer)
            .await
            .unwrap_or_else(|_| Err(broken(format!("no answer within {PATIENCE:?}"))))
    }
}

fn judge(status: StatusCode) -> Outcome {
    match status {
        StatusCode::CONFLICT => Outcome::Refused,
        StatusCode::SERVICE_UNAVAILABLE => Outcome::Unavailable,
        status if status.is_success() || status.is_redirection() => Outcome::Ok,
        status if status.is_server_error() => Outcome::ServerError,
        _ => Outcome::Unexpected,
    }
}

/// A request without a body, by nobody or by a shopper who is logged in.
pub(crate) fn get(uri: Uri, session: Option<&HeaderValue>) -> Call {
    call(Method::GET, uri, session, Bytes::new())
}

/// A request with a JSON body.
pub(crate) fn post(uri: Uri, session: Option<&HeaderValue>, body: Bytes) -> Call {
    let mut call = call(Method::POST, uri, session, body);
    call.headers_mut().insert(CONTENT_TYPE, JSON);
    call
}

/// An order, placed at most once whatever happens to the connection. `key` is visible ASCII.
pub(crate) fn place(uri: Uri, session: Option<&HeaderValue>, key: &str, body: Bytes) -> Call {
    let mut call = post(uri, session, body);
    if let Ok(key) = HeaderValue::try_from(key) {
        call.headers_mut().insert(IDEMPOTENCY_KEY, key);
    }
    call
}

fn call(method: Method, uri: Uri, session: Option<&HeaderValue>, body: Bytes) -> Call {
    let mut call = Request::new(Full::new(body));
    *call.method_mut() = method;
    *call.uri_mut() = uri;
    if let Some(session) = session {
        call.headers_mut().insert(AUTHORIZATION, session.clone());
    }
    call
}
