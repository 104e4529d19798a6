//! Brings a connection of unknown state back to a clean one.

use std::sync::atomic::{AtomicBool, Ordering};
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
    /// Set where a connection's backend is not the one that it had when it was opened.
    disabled: AtomicBool,
}

impl Canceller {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        Self {
            options,
            conn: Mutex::new(None),
            disabled: AtomicBool::new(false),
        }
    }

    /// Cancels nothing from now on, because nobody knows whose statement it would be.
    pub(super) fn disable(&self) {
        self.disabled.store(true, Ordering::Relaxed);
    }

    async fn cancel(&self, pid: i32) -> Result<(), sqlx::Error> {
        if self.disabled.load(Ordering::Relaxed) {
            return Err(timed_out());
        }
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
        let ended = tokio::time::timeout(MEND_PATIENCE, end_transaction(&mut backend.conn)).await;
        match ended {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(err)) if is_fatal(&err) => return Err(err),
            // The statement that was under way failed; its error is read, go on.
            Ok(Err(_)) => {}
            Err(_) => {
                let cancel = self.cancel(backend.pid);
                tokio::time::timeout(CANCEL_PATIENCE, cancel)
                    .await
                    .map_err(|_| timed_out())??;
            }
        }
        let settled = async {
            // The first may report the cancelled statement; the second must succeed.
            match end_transaction(&mut backend.conn).await {
                Err(err) if !is_fatal(&err) => end_transaction(&mut backend.conn).await,
                ended => ended,
            }
        };
        tokio::time::timeout(CANCEL_PATIENCE, settled)
            .await
            .unwrap_or_else(|_| Err(timed_out()))
    }
}

/// Rolls back the transaction that is open, if one is. Reads what earlier statements still have to say
/// first, and fails with the error of one that failed.
///
/// The server is asked, because the driver does not know of a transaction whose `BEGIN` was abandoned;
/// and it is not told to roll back what is not there, because it would write a warning to its log.
async fn end_transaction(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    // The driver takes any statement for a beginning, and looks at what the server says after it.
    let aborted = match conn.begin_with("SELECT").await {
        Ok(open) => return open.rollback().await,
        Err(sqlx::Error::BeginFailed) => return Ok(()),
        Err(err) => err,
    };
    if is_aborted(&aborted) {
        conn.execute("ROLLBACK").await.map(drop)
    } else {
        Err(aborted)
    }
}

/// Whether a statement was refused because an earlier one of its transaction has failed.
fn is_aborted(err: &sqlx::Error) -> bool {
    let code = err.as_database_error().and_then(|err| err.code());
    code.is_some_and(|code| code == "25P02")
}

/// Whether the connection itself is gone, rather than one statement on it.
fn is_fatal(err: &sqlx::Error) -> bool {
    match err {
        // Class 57P: the server is shutting down or this backend was terminated.
        sqlx::Error::Database(err) => err.code().is_some_and(|code| code.starts_with("57P")),
        _ => true,
    }
}
