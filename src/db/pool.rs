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

use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::{self, Metrics, Object, RecycleError, RecycleResult};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Executor};
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::gate::{Gate, GateReading, Permit};
use super::said::summarize;
use crate::class::Class;
use crate::config::Limits;

/// A connection that has been idle for longer than this is pinged before it is lent.
const PING_AFTER_IDLE: Duration = Duration::from_secs(1);
/// How long a dirty connection may take to answer before its statement is cancelled.
const MEND_PATIENCE: Duration = Duration::from_millis(20);
/// How long a connection may take to answer after its statement was cancelled.
const CANCEL_PATIENCE: Duration = Duration::from_secs(2);

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
    #[error("cannot connect to the database: {}", crate::db::summarize(.0))]
    Connect(#[source] sqlx::Error),
    /// The pool is shutting down.
    #[error("the connection pool is closed")]
    Closed,
}

/// A connection with the process id of its backend, by which it can be cancelled.
struct Backend {
    conn: PgConnection,
    pid: i32,
}

struct Manager {
    options: PgConnectOptions,
}

impl managed::Manager for Manager {
    type Type = Backend;
    type Error = sqlx::Error;

    async fn create(&self) -> Result<Backend, sqlx::Error> {
        let mut conn = PgConnection::connect_with(&self.options).await?;
        let pid = sqlx::query_scalar("SELECT pg_backend_pid()")
            .fetch_one(&mut conn)
            .await?;
        Ok(Backend { conn, pid })
    }

    async fn recycle(
        &self,
        backend: &mut Backend,
        metrics: &Metrics,
    ) -> RecycleResult<sqlx::Error> {
        if metrics.last_used() > PING_AFTER_IDLE {
            backend.conn.ping().await.map_err(RecycleError::Backend)?;
        }
        Ok(())
    }
}

/// Cancels statements of other sessions over one connection of its own, because the pool is full
/// when it matters.
struct Canceller {
    options: PgConnectOptions,
    conn: Mutex<Option<PgConnection>>,
}

impl Canceller {
    async fn cancel(&self, pid: i32) -> Result<(), sqlx::Error> {
        let mut slot = self.conn.lock().await;
        // Taken out while in use: a cancelled call must not leave a half-read connection behind.
        let mut conn = match slot.take() {
            Some(conn) => conn,
            None => PgConnection::connect_with(&self.options).await?,
        };
        sqlx::query("SELECT pg_cancel_backend($1)")
            .bind(pid)
            .execute(&mut conn)
            .await?;
        *slot = Some(conn);
        Ok(())
    }
}

struct Inner {
    connections: managed::Pool<Manager>,
    gate: Gate,
    limits: [Limits; 4],
    canceller: Canceller,
    menders: TaskTracker,
}

/// The shared connection pool. Cheap to clone.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

/// A connection on loan. Unless it is returned clean, dropping it sends it to the mender.
struct Loan {
    pool: Pool,
    backend: Option<Object<Manager>>,
    permit: Option<Permit>,
}

impl Pool {
    /// A pool of `size` connections, opened as they are needed.
    pub fn new(
        options: PgConnectOptions,
        size: usize,
        connect_timeout: Duration,
        gate: Gate,
        limits: [Limits; 4],
    ) -> Self {
        let manager = Manager {
            options: options.clone(),
        };
        let connections = managed::Pool::builder(manager)
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
        let connections = connections.expect("a runtime is given");
        Self {
            inner: Arc::new(Inner {
                connections,
                gate,
                limits,
                canceller: Canceller {
                    options,
                    conn: Mutex::new(None),
                },
                menders: TaskTracker::new(),
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
        self.lend_for(class, hold, work).await
    }

    /// As [`run`](Self::run), but for as long as it takes: for a statement of which it is known that
    /// it keeps nobody waiting.
    ///
    /// # Errors
    /// What `work` returns, or a [`PoolError`] when there was no connection.
    pub async fn run_long<T, E, F>(&self, class: Class, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
        E: From<PoolError>,
    {
        self.lend_for(class, None, work).await
    }

    async fn lend_for<T, E, F>(&self, class: Class, hold: Option<Duration>, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
        E: From<PoolError>,
    {
        let acquire = self.inner.limits[class.index()].acquire;
        let mut loan = self.lend(class, acquire).await?;
        let conn = loan.connection()?;
        let result = match hold {
            None => work(conn).await,
            Some(held) => tokio::time::timeout(held, work(conn))
                .await
                .unwrap_or_else(|_| Err(PoolError::TimedOut { class, held }.into())),
        };
        if result.is_ok() {
            loan.give_back_if_clean();
        }
        result
    }

    async fn lend(&self, class: Class, patience: Duration) -> Result<Loan, PoolError> {
        let permit = self.inner.gate.acquire(class, patience).await;
        let permit = permit.ok_or(PoolError::Saturated {
            class,
            waited: patience,
        })?;
        // The permit guarantees a free slot, so this waits only for a connect or a ping.
        let backend = self
            .inner
            .connections
            .get()
            .await
            .map_err(|err| match err {
                managed::PoolError::Backend(err) => PoolError::Connect(err),
                managed::PoolError::Closed => PoolError::Closed,
                managed::PoolError::Timeout(_)
                | managed::PoolError::NoRuntimeSpecified
                | managed::PoolError::PostCreateHook(_) => PoolError::Connect(sqlx::Error::Io(
                    std::io::Error::from(std::io::ErrorKind::TimedOut),
                )),
            })?;
        Ok(Loan {
            pool: self.clone(),
            backend: Some(backend),
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
        self.inner.connections.status().max_size
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.inner.connections.status().size
    }

    /// Refuses new work and waits until every borrowed connection is back or replaced.
    pub async fn close(&self) {
        self.inner.connections.close();
        self.inner.menders.close();
        self.inner.menders.wait().await;
    }

    /// Brings a connection of unknown state back to a clean one, or says that it cannot.
    async fn mend(&self, backend: &mut Backend) -> Result<(), sqlx::Error> {
        // ROLLBACK first reads what earlier statements still have to say, so one round trip both
        // ends an open transaction and proves that the connection answers. Without a transaction
        // the server answers with a warning.
        let rollback = async |conn: &mut PgConnection| conn.execute("ROLLBACK").await.map(drop);
        if let Ok(done) = tokio::time::timeout(MEND_PATIENCE, rollback(&mut backend.conn)).await {
            match done {
                Ok(()) => return backend.conn.ping().await,
                Err(err) if is_fatal(&err) => return Err(err),
                // The statement that was under way failed; its error is read, go on.
                Err(_) => {}
            }
        } else {
            let cancel = self.inner.canceller.cancel(backend.pid);
            tokio::time::timeout(CANCEL_PATIENCE, cancel)
                .await
                .map_err(|_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))??;
        }
        let settled = async {
            // The first may report the cancelled statement; the second must succeed.
            if let Err(err) = rollback(&mut backend.conn).await
                && is_fatal(&err)
            {
                return Err(err);
            }
            rollback(&mut backend.conn).await?;
            backend.conn.ping().await
        };
        tokio::time::timeout(CANCEL_PATIENCE, settled)
            .await
            .unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
    }
}

/// Whether the connection itself is gone, rather than one statement on it.
fn is_fatal(err: &sqlx::Error) -> bool {
    match err {
        // Class 57P: the server is shutting down or this backend was terminated.
        sqlx::Error::Database(err) => err.code().is_some_and(|code| code.starts_with("57P")),
        _ => true,
    }
}

impl Loan {
    fn connection(&mut self) -> Result<&mut PgConnection, PoolError> {
        let backend = self.backend.as_mut().ok_or(PoolError::Closed)?;
        Ok(&mut backend.conn)
    }

    /// Returns the connection at once when nothing is open or unsent on it.
    fn give_back_if_clean(&mut self) {
        let clean = self
            .backend
            .as_ref()
            .is_some_and(|b| !b.conn.is_in_transaction() && !b.conn.should_flush());
        if clean {
            // In this order: the permit promises a free slot.
            self.backend.take();
            self.permit.take();
        }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let (Some(mut backend), Some(permit)) = (self.backend.take(), self.permit.take()) else {
            return;
        };
        let pool = self.pool.clone();
        let menders = pool.inner.menders.clone();
        if tokio::runtime::Handle::try_current().is_err() {
            // Without a runtime nobody can mend it; without the object the slot is free again.
            drop(Object::take(backend));
            return;
        }
        menders.spawn(async move {
            if let Err(err) = pool.mend(&mut backend).await {
                let why = summarize(&err);
                debug!(
                    why,
                    pid = backend.pid,
                    "replacing a connection that could not be mended"
                );
                let class = permit.class();
                if !is_fatal(&err) {
                    warn!(why, %class, "a connection could not be rolled back");
                }
                drop(Object::take(backend));
            } else {
                drop(backend);
            }
            drop(permit);
        });
    }
}
