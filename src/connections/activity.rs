//! What one connection is doing, and since when.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::net::TcpStream;

use super::register::{Awaits, Ended, Seat};
use crate::config::Http;

/// What a client takes of an answer within `http.unread_timeout`, in bytes, if it reads at all.
const LEAST_TAKEN: usize = 16 * 1024;

/// A connection's stream. Its reader and its requests are polled by one task, so nobody waits for the lock.
type Stream = Mutex<TokioIo<TcpStream>>;

/// What one connection is doing. Shared by its reader, its writer and its requests.
pub(super) struct Activity {
    seat: Seat,
    now: Mutex<Now>,
}

struct Now {
    /// Requests that have not been answered to their end.
    under_way: usize,
    /// Those of them whose bodies are waited for.
    awaited: usize,
    /// Since when there is none.
    idle: Instant,
    /// Whether the next request's head has begun to arrive, and when.
    head: Option<Instant>,
    /// Whether there has been a request.
    acquainted: bool,
    /// Since when the client lets an answer wait, and what it has taken of it since.
    unread: Option<(Instant, usize)>,
}

impl Activity {
    pub(super) fn new(seat: Seat, now: Instant) -> Self {
        seat.waits(Awaits::FirstRequest);
        Self {
            seat,
            now: Mutex::new(Now {
                under_way: 0,
                awaited: 0,
                idle: now,
                head: None,
                acquainted: false,
                unread: None,
            }),
        }
    }

    /// A request's head is here. It is under way until what is returned is dropped.
    pub(super) fn begin(self: &Arc<Self>, at: Instant) -> UnderWay {
        let mut now = self.now.lock();
        now.head = None;
        now.acquainted = true;
        now.under_way += 1;
        now.idle = at;
        self.seat.works();
        UnderWay(Arc::clone(self))
    }

    /// The body of one of its requests is waited for (`true`), or is not any more.
    fn awaits_body(&self, is_so: bool) {
        let mut now = self.now.lock();
        if is_so {
            now.awaited += 1;
        } else {
            now.awaited = now.awaited.saturating_sub(1);
        }
        if is_so && now.awaited == now.under_way {
            self.seat.waits(Awaits::Body);
        } else if now.under_way > 0 {
            self.seat.works();
        }
    }

    /// Whether the service has nothing to do for it.
    pub(super) fn waits(&self) -> bool {
        let now = self.now.lock();
        now.under_way == now.awaited
    }

    /// When to look at it next.
    pub(super) fn due(&self, limits: &Http) -> Instant {
        let shortest = limits
            .head_timeout
            .min(limits.idle_timeout)
            .min(limits.unread_timeout);
        // What it does may change meanwhile, so that a shorter limit holds.
        let look = Instant::now() + shortest / 2;
        let waits_until = self.now.lock().waits_until(limits);
        waits_until.map_or(look, |(until, _)| until.min(look))
    }

    /// Why it has to end at `at`, if it has to.
    pub(super) fn overdue(&self, limits: &Http, at: Instant) -> Option<Ended> {
        let mut now = self.now.lock();
        if let Some((since, taken)) = now.unread {
            if at.saturating_duration_since(since) < limits.unread_timeout {
                return None;
            }
            if taken < LEAST_TAKEN {
                return Some(Ended::Unread);
            }
            now.unread = Some((at, 0));
            return None;
        }
        let (until, why) = now.waits_until(limits)?;
        (at >= until).then_some(why)
    }

    fn read(&self) {
        let mut now = self.now.lock();
        if now.under_way == 0 && now.head.is_none() {
            now.head = Some(Instant::now());
        }
    }

    fn wrote(&self, taken: Option<usize>) {
        let mut now = self.now.lock();
        match (taken, &mut now.unread) {
            (Some(n), Some((_, taken))) => *taken += n,
            (None, None) => now.unread = Some((Instant::now(), 0)),
            _ => {}
        }
    }

    fn flushed(&self) {
        self.now.lock().unread = None;
    }
}

impl Now {
    /// Until when it may go on without a request, and what it is ended for then.
    fn waits_until(&self, limits: &Http) -> Option<(Instant, Ended)> {
        if self.under_way > 0 || self.unread.is_some() {
            return None;
        }
        Some(match self.head {
            Some(began) => (began + limits.head_timeout, Ended::Head),
            // A client connects because it has something to ask.
            None if !self.acquainted => (self.idle + limits.head_timeout, Ended::Idle),
            None => (self.idle + limits.idle_timeout, Ended::Idle),
        })
    }
}

/// The client of one request.
#[derive(Clone)]
pub struct Client {
    activity: Arc<Activity>,
    stream: Weak<Stream>,
}

impl Client {
    /// The request's body is waited for from now on (`true`), and the connection may have to make room; or the
    /// service works on the request again.
    pub fn is_awaited(&self, is_so: bool) {
        self.activity.awaits_body(is_so);
    }

    /// Whether it has hung up, also where nobody has tried to read since.
    pub fn has_hung_up(&self) -> bool {
        let Some(stream) = self.stream.upgrade() else {
            return true;
        };
        let stream = stream.lock();
        let mut byte = [MaybeUninit::uninit()];
        match SockRef::from(stream.inner()).peek(&mut byte) {
            Ok(bytes) => bytes == 0,
            Err(err) => err.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

/// A request of a connection, until its answer has been handed over.
pub(super) struct UnderWay(Arc<Activity>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut now = self.0.now.lock();
        now.under_way -= 1;
        if now.under_way == 0 {
            now.idle = Instant::now();
            self.0.seat.waits(Awaits::NextRequest);
        }
    }
}

/// The body of an answer, which keeps its request under way.
pub(super) struct Answer {
    body: Body,
    _under_way: UnderWay,
}

impl Answer {
    pub(super) fn new(body: Body, under_way: UnderWay) -> Self {
        Self {
            body,
            _under_way: under_way,
        }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream whose reads and writes are noted.
pub(super) struct Watched {
    stream: Arc<Stream>,
    activity: Arc<Activity>,
}

impl Watched {
    pub(super) fn new(stream: TcpStream, activity: Arc<Activity>) -> Self {
        Self {
            stream: Arc::new(Mutex::new(TokioIo::new(stream))),
            activity,
        }
    }

    /// Whose requests come through it. It keeps no stream open.
    pub(super) fn client(&self) -> Client {
        Client {
            activity: Arc::clone(&self.activity),
            stream: Arc::downgrade(&self.stream),
        }
    }

    fn noted(&self, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &wrote {
            Poll::Ready(Ok(n)) => self.activity.wrote(Some(*n)),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.activity.wrote(None),
        }
        wrote
    }
}

impl Read for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut *self.stream.lock()).poll_read(cx, buffer);
        if read.is_ready() {
            self.activity.read();
        }
        read
    }
}

impl Write for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut *self.stream.lock()).poll_write(cx, bytes);
        self.noted(wrote)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut *self.stream.lock()).poll_write_vectored(cx, bytes);
        self.noted(wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.lock().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.activity.flushed();
        Pin::new(&mut *self.stream.lock()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream.lock()).poll_shutdown(cx)
    }
}
