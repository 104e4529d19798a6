//! The one pool that shoppers and migrations share: deadpool over [`sqlx::PgConnection`], behind
//! the [`Gate`].
//!
//! A connection is lent to a closure, never handed out: [`Pool::run`] marks it dirty until the
//! closure has ended with everything flushed. A closure that is dropped half-way (the client hung
//! up, the time limit passed) or that failed leaves a connection in an unknown state: a query may
//! still run, a transaction may be open, and sqlx may not even know of it (its
//! `is_in_transaction()` is false after a cancelled BEGIN). Such a connection goes to a mender, which
//! cancels, rolls back and pings it, and only then frees its permit; one that cannot be mended is
//! replaced. No connection is destroyed merely because a request ran out of time: reconnecting in
//! mass is what makes an outage outlive its cause.
//!
//! SQL that an author wrote runs on connections of its [`Author`]'s own, which a shopper never gets.

mod author;
mod mend;
mod slot;

use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::{self, Object, Timeouts};
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::sync::OnceCell;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::Class;
use crate::gate::{Gate, GateReading, Permit};
use crate::sessions::Unsuitable;
use crate::settings::Limits;

pub use author::Author;
use author::Tagged;
use mend::Canceller;
use slot::{Backend, Slot, Slots, timed_out};

/// Why no result came from the database.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// Every connection that the class may use stayed busy for the whole acquire timeout.
    #[error("no database connection for {class} within {waited:?}")]
    Saturated {
        /// The class that asked.
        class: Class,
        /// Its acquire timeout.
        waited: Duration,
    },
    /// The work held a connection for longer than its class may. Whether a transaction that was
    /// being committed took effect is unknown.
    #[error("the database did not answer {class} within {held:?}")]
    TimedOut {
        /// The class that asked.
        class: Class,
        /// Its hold limit.
        held: Duration,
    },
    /// The server cannot be reached.
    #[error("cannot connect to the database: {}", crate::summarize(.0))]
    Connect(#[source] sqlx::Error),
    /// The pool is shutting down.
    #[error("the connection pool is closed")]
    Closed,
    /// The address leads to a pooler that does not keep what is needed, or elsewhere.
    #[error(transparent)]
    Pooler(#[from] Unsuitable),
}

/// Where the database is.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// For shoppers; may lead through a pooler.
    pub shop: PgConnectOptions,
    /// For authors' SQL, which needs sessions: PostgreSQL itself, where `shop` leads through a pooler.
    pub direct: Option<PgConnectOptions>,
}

impl From<PgConnectOptions> for Addresses {
    fn from(shop: PgConnectOptions) -> Self {
        Self { shop, direct: None }
    }
}

struct Inner {
    slots: managed::Pool<Slots>,
    gate: Gate,
    limits: [Limits; 4],
    shop: PgConnectOptions,
    direct: Option<PgConnectOptions>,
    connect_timeout: Duration,
    canceller: Canceller,
    menders: TaskTracker,
    tagged: Tagged,
    /// Set once it is known that authors' sessions are nobody else's, and of the shop's database.
    keeps_sessions: OnceCell<()>,
}

impl Inner {
    /// Where sessions are one's own.
    fn direct(&self) -> &PgConnectOptions {
        self.direct.as_ref().unwrap_or(&self.shop)
    }
}

/// The shared connection pool. Cheap to clone.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

/// A connection on loan. Unless it is returned clean, dropping it sends it to the mender.
struct Loan {
    pool: Pool,
    slot: Option<Slot>,
    permit: Option<Permit>,
}

impl Pool {
    /// A pool of `size` connections, opened as they are needed.
    pub fn new(
        addresses: impl Into<Addresses>,
        size: usize,
        connect_timeout: Duration,
        gate: Gate,
        limits: [Limits; 4],
    ) -> Self {
        let Addresses { shop, direct } = addresses.into();
        let slots = managed::Pool::builder(Slots)
            .max_size(size)
            .runtime(deadpool::Runtime::Tokio1)
            .wait_timeout(Some(connect_timeout))
            .create_timeout(Some(connect_timeout))
            .recycle_timeout(Some(connect_timeout))
            .build();
        #[expect(
            clippy::expect_used,
            reason = "fails only without a runtime, set above"
        )]
        let slots = slots.expect("a runtime is given");
        Self {
            inner: Arc::new(Inner {
                slots,
                gate,
                limits,
                canceller: Canceller::new(direct.clone().unwrap_or_else(|| shop.clone())),
                shop,
                direct,
                connect_timeout,
                menders: TaskTracker::new(),
                tagged: Tagged::default(),
                keeps_sessions: OnceCell::new(),
            }),
        }
    }

    /// Lends a connection of `class` to `work` under the time limits of the class.
    ///
    /// `work` may be dropped at any await point; it should open a transaction when it changes more
    /// than one row, and must not hold the connection across anything but SQL. If it abandons a
    /// statement itself, it has to fail: after a success the connection is taken to be idle.
    ///
    /// # Errors
    /// What `work` returns, or a [`PoolError`] when there was no connection or no time.
    pub async fn run<T, E, F>(&self, class: Class, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
        E: From<PoolError>,
    {
        let hold = self.inner.limits[class.index()].hold;
        let mut loan = self.lend(class).await?;
        let result = loan.work(class, hold, work).await;
        if result.is_ok() {
            loan.give_back_if_clean();
        }
        result
    }

    async fn permit(&self, class: Class) -> Result<Permit, PoolError> {
        let waited = self.inner.limits[class.index()].acquire;
        let permit = self.inner.gate.acquire(class, waited).await;
        permit.ok_or(PoolError::Saturated { class, waited })
    }

    /// A slot for whoever has a permit, which guarantees that one is free or gives way: nobody waits
    /// here for somebody else's work.
    async fn slot(&self) -> Result<Slot, PoolError> {
        let slots = &self.inner.slots;
        let at_once = Timeouts {
            wait: Some(Duration::ZERO),
            ..slots.timeouts()
        };
        loop {
            let found = match slots.timeout_get(&at_once).await {
                Err(managed::PoolError::Timeout(managed::TimeoutType::Wait))
                    if self.inner.tagged.give_way() =>
                {
                    continue;
                }
                // Whoever has taken the one that gave way is about to free another.
                Err(managed::PoolError::Timeout(managed::TimeoutType::Wait)) => slots.get().await,
                found => found,
            };
            return found.map_err(|err| match err {
                managed::PoolError::Backend(err) => PoolError::Connect(err),
                managed::PoolError::Closed => PoolError::Closed,
                managed::PoolError::Timeout(_)
                | managed::PoolError::NoRuntimeSpecified
                | managed::PoolError::PostCreateHook(_) => PoolError::Connect(timed_out()),
            });
        }
    }

    async fn lend(&self, class: Class) -> Result<Loan, PoolError> {
        let permit = self.permit(class).await?;
        let mut slot = self.slot().await?;
        if slot.is_none() {
            let inner = &self.inner;
            *slot = Some(Backend::open(&inner.shop, inner.connect_timeout).await?);
        }
        Ok(Loan {
            pool: self.clone(),
            slot: Some(slot),
            permit: Some(permit),
        })
    }

    /// What every class holds and waits for, in the order of [`Class::ALL`].
    pub fn gates(&self) -> [GateReading; 4] {
        self.inner.gate.readings()
    }

    /// Connections that the pool may open.
    #[expect(
        clippy::misnamed_getters,
        reason = "what deadpool calls size is how many are open"
    )]
    pub fn size(&self) -> usize {
        self.inner.slots.status().max_size
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.inner.slots.status().size
    }

    /// Has no statement cancelled from now on: where a pooler shares sessions, the one that a statement
    /// was sent to may be somebody else's by now. What is given up is left to run to its end.
    pub fn share_sessions(&self) {
        self.inner.canceller.disable();
    }

    /// Refuses new work and waits until every borrowed connection is back or replaced.
    pub async fn close(&self) {
        self.inner.slots.close();
        self.inner.tagged.close();
        self.inner.menders.close();
        self.inner.menders.wait().await;
    }
}

impl Loan {
    /// Does `work` on the connection within the time that `class` may hold it.
    async fn work<T, E, F>(&mut self, class: Class, hold: Option<Duration>, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
        E: From<PoolError>,
    {
        let backend = self.slot.as_mut().and_then(|slot| (**slot).as_mut());
        let conn = &mut backend.ok_or(PoolError::Closed)?.conn;
        match hold {
            None => work(conn).await,
            Some(held) => tokio::time::timeout(held, work(conn))
                .await
                .unwrap_or_else(|_| Err(PoolError::TimedOut { class, held }.into())),
        }
    }

    /// Returns the connection at once when nothing is open or unsent on it.
    fn give_back_if_clean(&mut self) {
        let backend = self.slot.as_ref().and_then(|slot| (**slot).as_ref());
        let clean = backend.is_some_and(|backend| {
            !backend.tagged && !backend.conn.is_in_transaction() && !backend.conn.should_flush()
        });
        if clean {
            // In this order: the permit promises a free slot.
            self.slot.take();
            self.permit.take();
        }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let (Some(mut slot), Some(permit)) = (self.slot.take(), self.permit.take()) else {
            return;
        };
        let pool = self.pool.clone();
        let menders = pool.inner.menders.clone();
        if tokio::runtime::Handle::try_current().is_err() {
            // Without a runtime nobody can mend it; without the object the slot is free again.
            drop(Object::take(slot));
            return;
        }
        menders.spawn(async move {
            let Some(backend) = slot.as_mut() else {
                drop(Object::take(slot));
                return;
            };
            // Closing the socket does not end a statement, which may hold locks: so one that is
            // tagged is mended, too.
            let mended = pool.inner.canceller.mend(backend).await;
            if let Err(err) = &mended {
                // For each of the connections that an outage takes.
                debug!(
                    why = crate::summarize(err),
                    pid = backend.pid,
                    class = %permit.class(),
                    "replacing a connection that could not be mended"
                );
            }
            if mended.is_ok() && !backend.tagged {
                drop(slot);
            } else {
                drop(Object::take(slot));
            }
            drop(permit);
        });
    }
}
