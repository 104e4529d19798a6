//! Accepts connections and ends those that only take up room.
//!
//! A client may keep a connection open, send slowly or not read what it asked for. Each of these has a
//! time limit (`activity`), and there is a cap ([`Register`]): when it is reached, a connection that
//! waits for its client makes room for the new one, so that a crowd of silent clients keeps nobody out.

mod activity;
mod register;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::{debug, warn};

use crate::config::Http;
pub use activity::Client;
use activity::{Activity, Answer, UnderWay, Watched};
use register::Seat;
pub use register::{Ended, Register};

/// Largest head of a request, and what one connection buffers in each direction.
const BUFFER: usize = 32 * 1024;
/// How long to wait when the system has no room for another connection.
const BREATH: Duration = Duration::from_millis(50);

/// A port and what is served there.
pub struct Port {
    /// Where connections arrive.
    pub listener: TcpListener,
    /// What is served there.
    pub router: Router,
    /// Who is connected.
    pub register: Register,
}

impl Port {
    /// Serves until `stop`; requests under way then have `limits.drain` to end.
    pub async fn serve(self, limits: Http, stop: CancellationToken) {
        let Self {
            listener,
            router,
            register,
        } = self;
        let connections = TaskTracker::new();
        let ending = CancellationToken::new();
        let limits = Arc::new(limits);
        let mut exhausted = false;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                // The client had gone before it was its turn.
                Err(err) if is_the_clients(&err) => continue,
                Err(err) => {
                    if !std::mem::replace(&mut exhausted, true) {
                        warn!(%err, "no connection can be accepted; idle ones are closed");
                    }
                    register.make_room();
                    tokio::time::sleep(BREATH).await;
                    continue;
                }
            };
            if std::mem::replace(&mut exhausted, false) {
                warn!("connections are accepted again");
            }
            let Some(seat) = register.seat().await else {
                continue;
            };
            let connection = Connection {
                seat,
                limits: Arc::clone(&limits),
                stop: ending.clone(),
            };
            connections.spawn(connection.run(stream, peer, router.clone()));
        }
        drop(listener);
        ending.cancel();
        connections.close();
        if tokio::time::timeout(limits.drain, connections.wait())
            .await
            .is_err()
        {
            let drain = limits.drain;
            warn!(
                ?drain,
                "requests were still under way at the end of the drain"
            );
        }
    }
}

fn is_the_clients(err: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        err.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

struct Connection {
    seat: Seat,
    limits: Arc<Http>,
    stop: CancellationToken,
}

impl Connection {
    async fn run(self, stream: TcpStream, peer: SocketAddr, router: Router) {
        let Self { seat, limits, stop } = self;
        if let Err(err) = stream.set_nodelay(true) {
            debug!(%err, "TCP_NODELAY was refused");
        }
        let activity = Arc::new(Activity::new(seat.clone(), Instant::now()));
        let io = Watched::new(stream, Arc::clone(&activity));
        let service = service_fn({
            let (activity, client) = (Arc::clone(&activity), io.client());
            move |request| {
                let under_way = activity.begin(Instant::now());
                answer(under_way, client.clone(), router.clone(), peer, request)
            }
        });
        let builder = builder();
        let connection = builder.serve_connection(io, service);
        tokio::pin!(connection);
        let mut stopping = false;
        loop {
            let due = activity.due(&limits);
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(err) = ended {
                        debug!(%err, "a connection ended early");
                    }
                    return;
                }
                () = seat.wanted() => {
                    if activity.waits() {
                        return;
                    }
                    // Its next request has come at that very moment: somebody else makes room.
                    seat.pass_on();
                }
                () = tokio::time::sleep_until(due.into()) => {
                    if let Some(why) = activity.overdue(&limits, Instant::now()) {
                        seat.ended(why);
                        return;
                    }
                }
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// HTTP/1 alone: an HTTP/2 client decides by its windows what of an answer is taken and when, which the time
/// limits of a connection do not see.
fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // Its own limit cannot tell a head from idleness; ours can.
        .header_read_timeout(None)
        .max_buf_size(BUFFER);
    builder
}

async fn answer(
    under_way: UnderWay,
    client: Client,
    router: Router,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    let mut request = request.map(Body::new);
    let extensions = request.extensions_mut();
    extensions.insert(ConnectInfo(peer));
    extensions.insert(client);
    let response = router.oneshot(request).await?;
    Ok(response.map(|body| Answer::new(body, under_way)))
}
