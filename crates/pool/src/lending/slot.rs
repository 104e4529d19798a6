//! What the pool counts: slots, each with a connection or about to get one.

use std::time::Duration;

use deadpool::managed::{self, Metrics, Object, RecycleError, RecycleResult};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Executor, Row};

use super::PoolError;

/// A connection that has been idle for longer than this is pinged before it is lent.
pub(super) const PING_AFTER_IDLE: Duration = Duration::from_secs(1);
/// How long the server may take to hear that a session ends; it ends without that, too.
const FAREWELL: Duration = Duration::from_millis(500);

/// A connection with the process id of its backend, by which it can be cancelled.
pub(super) struct Backend {
    pub(super) conn: PgConnection,
    pub(super) pid: i32,
    /// It has seen an author's SQL, or is about to: nobody else ever gets it.
    pub(super) tagged: bool,
}

impl Backend {
    /// Connects within `patience`.
    pub(super) async fn open(
        options: &PgConnectOptions,
        patience: Duration,
    ) -> Result<Self, PoolError> {
        let open = async {
            let mut conn = PgConnection::connect_with(options).await?;
            // Not prepared: a session for authors' SQL begins without statements of ours.
            let row = conn.fetch_one("SELECT pg_catalog.pg_backend_pid()").await?;
            let pid = row.try_get(0)?;
            Ok(Self {
                conn,
                pid,
                tagged: false,
            })
        };
        let opened = tokio::time::timeout(patience, open).await;
        opened
            .unwrap_or_else(|_| Err(timed_out()))
            .map_err(PoolError::Connect)
    }

    /// Ends the session.
    pub(super) async fn close(self) {
        // A server that does not hear it finds the socket closed.
        let _ = tokio::time::timeout(FAREWELL, self.conn.close()).await;
    }
}

/// Counts slots. Who lends one connects it: to which address depends on whom it is lent to.
pub(super) struct Slots;

/// One of the pool's connections, in whoever's hands.
pub(super) type Slot = Object<Slots>;

impl managed::Manager for Slots {
    type Type = Option<Backend>;
    type Error = sqlx::Error;

    async fn create(&self) -> Result<Option<Backend>, sqlx::Error> {
        Ok(None)
    }

    async fn recycle(
        &self,
        slot: &mut Option<Backend>,
        metrics: &Metrics,
    ) -> RecycleResult<sqlx::Error> {
        let Some(backend) = slot else {
            return Err(RecycleError::message("it was never connected"));
        };
        // However it came here, for example because its borrower was dropped.
        if backend.tagged {
            return Err(RecycleError::message("it has seen an author's SQL"));
        }
        if metrics.last_used() > PING_AFTER_IDLE {
            backend.conn.ping().await.map_err(RecycleError::Backend)?;
        }
        Ok(())
    }
}

/// What a time limit of ours looks like among the driver's errors.
pub(super) fn timed_out() -> sqlx::Error {
    sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())
}
