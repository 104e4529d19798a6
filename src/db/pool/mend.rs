//! Brings a connection of unknown state back to a clean one.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Executor};
use tokio::sync::Mutex;

use super::slot::{Backend, timed_out};

/// How long a dirty connection may take to answer before its statement is cancelled.
const MEND_PATIENCE: Duration = Duration::from_millis(20);
/// How long a connection may take to answer after its statement was cancelled.
const CANCEL_PATIENCE: Duration = Duration::from_secs(2);

/// Cancels statements of other sessions over one connection of its own, because the pool is full
/// when it matters.
pub(super) struct Canceller {
    options: PgConnectOptions,
    conn: Mutex<Option<PgConnection>>,
}

impl Canceller {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        Self {
            options,
            conn: Mutex::new(None),
        }
    }

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

    /// Ends whatever `backend` does and rolls it back, or says that it cannot.
    pub(super) async fn mend(&self, backend: &mut Backend) -> Result<(), sqlx::Error> {
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
            let cancel = self.cancel(backend.pid);
            tokio::time::timeout(CANCEL_PATIENCE, cancel)
                .await
                .map_err(|_| timed_out())??;
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
            .unwrap_or_else(|_| Err(timed_out()))
    }
}

/// Whether the connection itself is gone, rather than one statement on it.
pub(super) fn is_fatal(err: &sqlx::Error) -> bool {
    match err {
        // Class 57P: the server is shutting down or this backend was terminated.
        sqlx::Error::Database(err) => err.code().is_some_and(|code| code.starts_with("57P")),
        _ => true,
    }
}
