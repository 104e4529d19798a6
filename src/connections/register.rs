//! Who is connected: the cap, whose turn it is to make room, and what is counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// How long a newcomer waits for the connection that makes room for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why the service ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It had no request for too long.
    Idle,
    /// A request's head did not come to an end.
    Head,
    /// It did not take what it had asked for.
    Unread,
    /// Another one needed its place.
    Room,
    /// The service was at work for every other connection.
    Refused,
}

impl Ended {
    /// All reasons.
    pub const ALL: [Self; 5] = [
        Self::Idle,
        Self::Head,
        Self::Unread,
        Self::Room,
        Self::Refused,
    ];

    /// The reason as metrics spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Head => "head",
            Self::Unread => "unread",
            Self::Room => "room",
            Self::Refused => "refused",
        }
    }
}

/// The connections of one port. Cheap to clone.
#[derive(Clone)]
pub struct Register(Arc<Inner>);

struct Inner {
    places: Arc<Semaphore>,
    capacity: usize,
    waiting: Mutex<Waiting>,
    ended: [AtomicU64; 5],
}

/// What a connection waits for while the service has nothing to do for it. Whoever comes first here
/// makes room first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaits {
    /// Its first request.
    FirstRequest,
    /// The rest of a request's body.
    Body,
    /// Another request.
    NextRequest,
}

/// The connections that wait for their clients, by what they wait for and longest first.
#[derive(Default)]
struct Waiting {
    /// Counts up; smaller is longer ago.
    next: u64,
    lists: [BTreeMap<u64, Arc<Notify>>; 3],
}

impl Register {
    /// Room for `capacity` connections.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(1, Semaphore::MAX_PERMITS);
        Self(Arc::new(Inner {
            places: Arc::new(Semaphore::new(capacity)),
            capacity,
            waiting: Mutex::default(),
            ended: Default::default(),
        }))
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.0.capacity - self.0.places.available_permits().min(self.0.capacity)
    }

    /// Connections that may be open.
    pub fn capacity(&self) -> usize {
        self.0.capacity
    }

    /// Connections that the service ended for this reason.
    pub fn ended(&self, why: Ended) -> u64 {
        self.0.ended[why as usize].load(Relaxed)
    }

    /// Has the connection that has waited for longest close; whether there was one.
    pub(super) fn make_room(&self) -> bool {
        let longest = {
            let mut waiting = self.0.waiting.lock();
            waiting.lists.iter_mut().find_map(BTreeMap::pop_first)
        };
        let Some((_, close)) = longest else {
            return false;
        };
        self.count(Ended::Room);
        close.notify_one();
        true
    }

    /// A place for a new connection; `None` when nobody can make room.
    pub(super) async fn seat(&self) -> Option<Seat> {
        let places = Arc::clone(&self.0.places);
        let place = match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => Some(place),
            Err(_) if self.make_room() => tokio::time::timeout(PATIENCE, places.acquire_owned())
                .await
                .ok()
                .and_then(Result::ok),
            Err(_) => None,
        };
        let Some(place) = place else {
            self.count(Ended::Refused);
            return None;
        };
        Some(Seat(Arc::new(Held {
            register: self.clone(),
            close: Arc::default(),
            key: Mutex::default(),
            _place: place,
        })))
    }

    fn count(&self, why: Ended) {
        self.0.ended[why as usize].fetch_add(1, Relaxed);
    }
}

/// The place of one connection, until the last clone is gone.
#[derive(Clone)]
pub(super) struct Seat(Arc<Held>);

struct Held {
    register: Register,
    close: Arc<Notify>,
    /// Where it stands among those that wait.
    key: Mutex<Option<(u64, Awaits)>>,
    _place: OwnedSemaphorePermit,
}

impl Seat {
    /// From now on it waits for its client.
    pub(super) fn waits(&self, what: Awaits) {
        self.0.leave();
        let key = {
            let waiting = &mut *self.0.register.0.waiting.lock();
            let key = waiting.next;
            waiting.next += 1;
            let close = Arc::clone(&self.0.close);
            waiting.lists[what as usize].insert(key, close);
            key
        };
        *self.0.key.lock() = Some((key, what));
    }

    /// From now on the service works for it.
    pub(super) fn works(&self) {
        self.0.leave();
    }

    /// Completes when the connection has to make room.
    pub(super) async fn wanted(&self) {
        self.0.close.notified().await;
    }

    /// Lets another one make room in its place.
    pub(super) fn pass_on(&self) {
        self.0.register.make_room();
    }

    /// Counts that the service ended it.
    pub(super) fn ended(&self, why: Ended) {
        self.0.register.count(why);
    }
}

impl Held {
    fn leave(&self) {
        let key = self.key.lock().take();
        if let Some((key, what)) = key {
            let mut waiting = self.register.0.waiting.lock();
            waiting.lists[what as usize].remove(&key);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.leave();
    }
}
