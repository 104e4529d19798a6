//! One clock per request: how long it has waited for the shop.
//!
//! It starts when the request's head is here and stands still while a read of the body is pending,
//! because a client that sends slowly waits for itself. Everything that judges a request by its age uses
//! this clock: the time limit, the latencies that readiness, pace and watch read, and whether a client
//! that hung up had been failed by the shop.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;
use pool::Class;
use pressure::{InFlight, Latencies, Outcome};
use tokio::time::Sleep;

use super::error::{ApiError, Kind};
use super::outage::Fault;
use crate::config::Http;
use crate::connections::Client;

/// How exact the time limit is for a request whose clock has stood still.
const RESOLUTION: Duration = Duration::from_millis(25);

/// The clock of one request. Clones are the same clock.
#[derive(Clone)]
pub struct Clock(Arc<Mutex<Running>>);

struct Running {
    /// When it started, later by as long as it stood still.
    started: Instant,
    /// Since when it has stood still.
    paused: Option<Instant>,
    /// How long it has stood still before that.
    waited: Duration,
    /// What is counted by it, once the request's class is known.
    counted: Option<InFlight>,
    /// Who is waited for while it stands still.
    client: Option<Client>,
    /// The body broke off: the client hung up, or sent what is none.
    cut_short: bool,
}

impl Clock {
    fn start(now: Instant, client: Option<Client>) -> Self {
        Self(Arc::new(Mutex::new(Running {
            started: now,
            paused: None,
            waited: Duration::ZERO,
            counted: None,
            client,
            cut_short: false,
        })))
    }

    /// How long the request has waited for the shop.
    fn elapsed(&self, now: Instant) -> Duration {
        let running = self.0.lock();
        let until = running.paused.unwrap_or(now);
        until.saturating_duration_since(running.started)
    }

    /// Whether the body broke off: the client hung up, or sent what is none.
    pub fn was_cut_short(&self) -> bool {
        self.0.lock().cut_short
    }

    /// Whether the client has hung up.
    pub fn was_hung_up(&self) -> bool {
        let client = self.0.lock().client.clone();
        client.is_some_and(|client| client.has_hung_up())
    }

    /// How long the request has waited for its client.
    fn waited(&self, now: Instant) -> Duration {
        let running = self.0.lock();
        let paused = running.paused.map(|at| now.saturating_duration_since(at));
        running.waited + paused.unwrap_or_default()
    }

    fn pause(&self, now: Instant) {
        let mut running = self.0.lock();
        if running.paused.is_none() {
            running.paused = Some(now);
            if let Some(counted) = &mut running.counted {
                counted.pause(now);
            }
            if let Some(client) = &running.client {
                client.is_awaited(true);
            }
        }
    }

    /// Lets it run again, if it stands still: from `now` on the shop works on the request.
    pub fn resume(&self, now: Instant) {
        let mut running = self.0.lock();
        if let Some(paused) = running.paused.take() {
            let stood = now.saturating_duration_since(paused);
            running.started += stood;
            running.waited += stood;
            if let Some(counted) = &mut running.counted {
                counted.resume(now);
            }
            if let Some(client) = &running.client {
                client.is_awaited(false);
            }
        }
    }

    /// Counts the request in `class` until what is returned is finished or dropped.
    pub fn count(&self, latencies: &Latencies, class: Class, patience: Duration) -> Counted {
        let mut running = self.0.lock();
        running.counted = Some(latencies.arrive(class, running.started));
        Counted {
            clock: self.clone(),
            patience,
        }
    }

    /// Completes when the request has waited for the shop for as long as `limit`.
    async fn passes(&self, limit: Duration) {
        loop {
            let left = limit.saturating_sub(self.elapsed(Instant::now()));
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.max(RESOLUTION)).await;
        }
    }
}

/// A request that is counted in its class.
pub struct Counted {
    clock: Clock,
    /// A client that hung up earlier had not waited.
    patience: Duration,
}

impl Counted {
    /// Counts the request as ended; says how long it waited for the shop.
    pub fn finish(self, outcome: Outcome, now: Instant) -> Duration {
        self.end(outcome, now);
        self.clock.elapsed(now)
    }

    fn end(&self, outcome: Outcome, now: Instant) {
        if let Some(counted) = self.clock.0.lock().counted.take() {
            counted.finish(outcome, now);
        }
    }
}

impl Drop for Counted {
    /// Dropped unfinished when the client hangs up, the request times out or the handler panics.
    fn drop(&mut self) {
        let now = Instant::now();
        let had_waited = self.clock.elapsed(now) >= self.patience;
        let outcome = if had_waited || std::thread::panicking() {
            Outcome::Failed
        } else {
            Outcome::Abandoned
        };
        self.end(outcome, now);
    }
}

/// Starts the clock of a request and ends the request when it has waited for the shop, or its body for
/// the client, for too long.
pub async fn timed(State(limits): State<Http>, mut request: Request, next: Next) -> Response {
    let client = request.extensions_mut().remove();
    let clock = Clock::start(Instant::now(), client);
    let changes = !request.method().is_safe();
    request.extensions_mut().insert(clock.clone());
    let request = request.map(|body| {
        if body.is_end_stream() {
            return body;
        }
        Body::new(TimedBody {
            body,
            clock: clock.clone(),
            limit: limits.body_timeout,
            alarm: None,
        })
    });
    tokio::select! {
        biased;
        response = next.run(request) => response,
        () = clock.passes(limits.request_timeout) => {
            let detail = if changes {
                "The request took too long. Whether it took effect is unknown: repeat an order with \
                 the same Idempotency-Key."
            } else {
                "The request took too long: repeat it in a moment."
            };
            let limit = limits.request_timeout;
            let why = format!("a request was not answered within {limit:?}");
            let fault = Fault::new("request timed out", why);
            ApiError::new(Kind::UNAVAILABLE, detail).because(fault).into_response()
        }
    }
}

/// The body did not come within its time limit.
#[derive(Debug, thiserror::Error)]
#[error("the request's body did not arrive within {0:?}")]
pub struct SlowBody(Duration);

impl SlowBody {
    /// Whether `err` says so, at whatever depth.
    pub fn caused(err: &(dyn std::error::Error + 'static)) -> bool {
        std::iter::successors(Some(err), |err| err.source()).any(|err| err.is::<Self>())
    }
}

/// A body that stops its request's clock while a read of it is pending.
struct TimedBody {
    body: Body,
    clock: Clock,
    limit: Duration,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for TimedBody {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.clock.resume(Instant::now());
            self.alarm = None;
            if matches!(frame, Some(Err(_))) {
                self.clock.0.lock().cut_short = true;
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        self.clock.pause(Instant::now());
        loop {
            let left = self.limit.saturating_sub(self.clock.waited(Instant::now()));
            if left.is_zero() {
                self.clock.resume(Instant::now());
                return Poll::Ready(Some(Err(SlowBody(self.limit).into())));
            }
            let alarm = self
                .alarm
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(left)));
            ready!(alarm.as_mut().poll(cx));
            // The shop may have worked on the request since the alarm was set: then some is left.
            self.alarm = None;
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for TimedBody {
    /// Nobody reads it any more: what happens now is the shop's.
    fn drop(&mut self) {
        self.clock.resume(Instant::now());
    }
}
