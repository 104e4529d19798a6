//! The people whom the watch calls: somebody on call who does not answer, and the database
//! administrators, who do.

use std::net::{Ipv4Addr, SocketAddr};

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::DemoError;

/// Who is called first, and next.
pub const ON_CALL: &str = "on-call";
pub const ADMINISTRATORS: &str = "database-administrators";
/// How long the first may take. Five minutes is the default; the demo has no time for that.
const ACKNOWLEDGE_WITHIN: &str = "800ms";

/// Receivers of messages; they end with this value.
#[derive(Debug)]
pub struct People {
    on_call: SocketAddr,
    administrators: SocketAddr,
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl People {
    /// Lets them wait for messages.
    ///
    /// # Errors
    /// When there is no port for them.
    pub async fn wait() -> Result<Self, DemoError> {
        let (on_call, first) = receiver(false).await?;
        let (administrators, second) = receiver(true).await?;
        Ok(Self {
            on_call,
            administrators,
            _tasks: [first, second],
        })
    }

    /// The settings that have the watch call them.
    pub fn settings(&self) -> String {
        let secret = format!("whsec_{}", STANDARD.encode(rand::random::<[u8; 32]>()));
        let channel = |name: &str, address: SocketAddr| {
            format!(
                "[[watch.notify.channels]]\nkind = 'webhook'\nname = '{name}'\n\
                 url = 'http://{address}/'\nsecret = '{secret}'\nprivate = true\n"
            )
        };
        let level = |name: &str| {
            format!(
                "[[watch.notify.levels]]\nchannels = ['{name}']\nacknowledge_within = '{ACKNOWLEDGE_WITHIN}'\n"
            )
        };
        [
            channel(ON_CALL, self.on_call),
            channel(ADMINISTRATORS, self.administrators),
            level(ON_CALL),
            level(ADMINISTRATORS),
        ]
        .concat()
    }
}

/// Somebody who is told, and who acknowledges with the link in the message if he `cares`.
async fn receiver(cares: bool) -> Result<(SocketAddr, AbortOnDropHandle<()>), DemoError> {
    let port = || DemoError::file("find a free port of", "127.0.0.1");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .map_err(port())?;
    let address = listener.local_addr().map_err(port())?;
    let router = Router::new().route("/", post(told)).with_state(cares);
    // It ends with the demo; until then nothing ends it.
    let serve = async move { axum::serve(listener, router).await.unwrap_or_default() };
    Ok((address, AbortOnDropHandle::new(tokio::spawn(serve))))
}

async fn told(State(cares): State<bool>, Json(message): Json<Value>) {
    let link = message["data"]["acknowledge_link"].as_str();
    let request = link.filter(|_| cares).and_then(|link| {
        let request = Request::builder().method(Method::POST).uri(link);
        request.body(Empty::<Bytes>::new()).ok()
    });
    if let Some(request) = request {
        let client = Client::builder(TokioExecutor::new()).build_http();
        // Who does not get through is called again.
        let _ = client.request(request).await;
    }
}
