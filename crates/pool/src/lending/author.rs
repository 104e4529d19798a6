//! Connections for SQL that an author wrote.
//!
//! Such SQL can do to its session what it likes: set a search path or a time limit, take another
//! role, prepare a statement under a name of ours, listen, keep a lock, a cursor or a temporary
//! table. A session that has seen it is *tagged* with its author and never lent to anybody else.
//!
//! - A tagged connection is one of the pool's, so that no more than the pool's size are open.
//! - While it is idle it gives way: whoever has a permit and finds no free slot closes one.
//! - After each use it is reset, and closed when it is not certain that the reset worked.
//! - It is closed when its [`Author`] is dropped.
//!
//! What must be free of an author's own leavings, too, runs on a connection that is opened for it
//! and closed after it: [`Pool::run_alone`].

use std::collections::HashSet;
use std::time::{Duration, Instant};

use deadpool::managed::Object;
use parking_lot::Mutex;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor, Row};
use tracing::debug;

use super::slot::{Backend, PING_AFTER_IDLE, Slot};
use super::{Loan, Pool, PoolError};
use crate::Class;
use crate::{address, sessions};

/// How long a reset may take.
const RESET_PATIENCE: Duration = Duration::from_secs(1);

/// Takes back what a session can keep, in one round trip. What the client has said when it connected (date
/// style, time zone, encoding) is what RESET goes back to. Our own prepared statements stay; the answer is
/// whether SQL has made others. The function is asked, and not the view over it, which takes twice as long as
/// all the rest.
///
/// A transaction that is open is ended. Where there is none, BEGIN keeps the server from warning of a ROLLBACK in
/// its log; in one that has failed BEGIN is an error, whereupon the session is closed.
const RESET: &str = "BEGIN; ROLLBACK; RESET statement_timeout; CLOSE ALL; \
    SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL; UNLISTEN *; \
    DISCARD TEMP; DISCARD SEQUENCES; \
    SELECT EXISTS (SELECT FROM pg_catalog.pg_prepared_statement() WHERE from_sql), \
           pg_catalog.pg_advisory_unlock_all()";

/// Idle tagged connections, and whose they are.
#[derive(Default)]
pub(super) struct Tagged {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: u64,
    /// The authors that are still at it.
    alive: HashSet<u64>,
    /// In the order in which they were last used.
    idle: Vec<Idle>,
}

struct Idle {
    author: u64,
    slot: Slot,
    since: Instant,
}

impl Tagged {
    fn admit(&self) -> u64 {
        let mut state = self.state.lock();
        state.last += 1;
        let author = state.last;
        state.alive.insert(author);
        author
    }

    /// An idle connection of `author`, the one that was used last.
    fn take(&self, author: u64) -> Option<(Slot, Instant)> {
        let mut state = self.state.lock();
        let place = state.idle.iter().rposition(|idle| idle.author == author)?;
        let idle = state.idle.remove(place);
        Some((idle.slot, idle.since))
    }

    /// Keeps a connection that was reset; gives it back when its author is gone.
    fn keep(&self, author: u64, slot: Slot) -> Option<Slot> {
        let mut state = self.state.lock();
        if !state.alive.contains(&author) {
            return Some(slot);
        }
        state.idle.push(Idle {
            author,
            slot,
            since: Instant::now(),
        });
        None
    }

    /// Closes the connection that has been idle for longest; `false` when none is.
    pub(super) fn give_way(&self) -> bool {
        let first = {
            let mut state = self.state.lock();
            (!state.idle.is_empty()).then(|| state.idle.remove(0))
        };
        let found = first.is_some();
        drop(first.map(|idle| Object::take(idle.slot)));
        found
    }

    fn dismiss(&self, author: u64) {
        let gone: Vec<_> = {
            let mut state = self.state.lock();
            state.alive.remove(&author);
            let idle = std::mem::take(&mut state.idle);
            let (gone, kept) = idle.into_iter().partition(|idle| idle.author == author);
            state.idle = kept;
            gone
        };
        for idle in gone {
            drop(Object::take(idle.slot));
        }
    }

    /// Closes whatever is idle, and what is kept from here on.
    pub(super) fn close(&self) {
        self.state.lock().alive.clear();
        while self.give_way() {}
    }
}

/// Somebody whose SQL runs on connections that nobody else gets, until this is dropped: a run of a
/// migration, for example.
pub struct Author {
    pool: Pool,
    id: u64,
}

impl Author {
    /// Lends one of the author's connections to `work`, as [`Pool::run`] does to background work.
    ///
    /// # Errors
    /// What `work` returns, or a [`PoolError`] when there was no connection or no time.
    pub async fn run<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
        E: From<PoolError>,
    {
        let hold = self.pool.inner.limits[Class::Background.index()].hold;
        let mut loan = self.pool.lend_to_author(Some(self.id)).await?;
        let result = loan.work(Class::Background, hold, work).await;
        if result.is_ok() {
            loan.keep(self.id).await;
        }
        result
    }
}

impl Drop for Author {
    fn drop(&mut self) {
        self.pool.inner.tagged.dismiss(self.id);
    }
}

impl Pool {
    /// Connections for an author's SQL.
    pub fn author(&self) -> Author {
        Author {
            pool: self.clone(),
            id: self.inner.tagged.admit(),
        }
    }

    /// Lends `work` a connection that is opened for it and closed after it, for as long as it takes.
    /// It counts as background work and as one of the pool's connections.
    ///
    /// # Errors
    /// What `work` returns, or a [`PoolError`] when there was no connection.
    pub async fn run_alone<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
        E: From<PoolError>,
    {
        let mut loan = self.lend_to_author(None).await?;
        let result = loan.work(Class::Background, None, work).await;
        if result.is_ok() {
            loan.close().await;
        }
        result
    }

    /// Refuses an address that keeps no sessions: what an author sets would reach whoever gets the
    /// backend next. Refuses one that leads to another database than the shop's, too.
    ///
    /// # Errors
    /// [`PoolError::Pooler`] says what to do; [`PoolError::Connect`] when it cannot be found out.
    pub async fn refuse_shared_sessions(&self) -> Result<(), PoolError> {
        let inner = &self.inner;
        let look = async || {
            if let Some(direct) = &inner.direct {
                address::refuse_another(&inner.shop, direct, inner.connect_timeout).await?;
            }
            sessions::refuse_shared(inner.direct(), inner.connect_timeout).await
        };
        // Only a good answer is remembered: the other is what an operator mends.
        inner.keeps_sessions.get_or_try_init(look).await.copied()
    }

    /// A connection of `author`'s, or a new one that is nobody's yet.
    async fn lend_to_author(&self, author: Option<u64>) -> Result<Loan, PoolError> {
        self.refuse_shared_sessions().await?;
        let permit = self.permit(Class::Background).await?;
        let kept = match author {
            Some(author) => self.kept(author).await,
            None => None,
        };
        let slot = match kept {
            Some(slot) => slot,
            None => {
                let mut slot = self.slot().await?;
                if let Some(shoppers) = slot.take() {
                    shoppers.close().await;
                }
                let inner = &self.inner;
                let backend = Backend::open(inner.direct(), inner.connect_timeout).await?;
                slot.insert(backend).tagged = true;
                slot
            }
        };
        Ok(Loan {
            pool: self.clone(),
            slot: Some(slot),
            permit: Some(permit),
        })
    }

    /// A connection that `author` has had before, if one is alive.
    async fn kept(&self, author: u64) -> Option<Slot> {
        while let Some((mut slot, since)) = self.inner.tagged.take(author) {
            let alive = match slot.as_mut() {
                Some(backend) if since.elapsed() > PING_AFTER_IDLE => {
                    let ping = tokio::time::timeout(RESET_PATIENCE, backend.conn.ping());
                    matches!(ping.await, Ok(Ok(())))
                }
                backend => backend.is_some(),
            };
            if alive {
                return Some(slot);
            }
            drop(Object::take(slot));
        }
        None
    }
}

impl Loan {
    /// Keeps the connection for the next use by `author`, once it is reset; else the mender closes it.
    async fn keep(mut self, author: u64) {
        let Some(backend) = self.slot.as_mut().and_then(|slot| (**slot).as_mut()) else {
            return;
        };
        let reset = tokio::time::timeout(RESET_PATIENCE, reset(&mut backend.conn)).await;
        if !matches!(reset, Ok(Ok(false))) || backend.conn.should_flush() {
            debug!(
                ?reset,
                pid = backend.pid,
                "closing a session that could not be reset"
            );
            return;
        }
        if let Some(slot) = self.slot.take()
            && let Some(orphan) = self.pool.inner.tagged.keep(author, slot)
        {
            drop(Object::take(orphan));
        }
        // In this order: the permit promises a slot that is free or gives way.
        self.permit.take();
    }

    /// Ends the session before anybody can get its slot.
    async fn close(mut self) {
        if let Some(mut slot) = self.slot.take() {
            if let Some(backend) = slot.take() {
                backend.close().await;
            }
            drop(Object::take(slot));
        }
        self.permit.take();
    }
}

/// Resets a session; returns whether SQL has prepared statements in it.
async fn reset(conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let rows = conn.fetch_all(RESET).await?;
    rows.last().ok_or(sqlx::Error::RowNotFound)?.try_get(0)
}
