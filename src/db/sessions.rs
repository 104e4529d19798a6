//! Whether an address leads to sessions of one's own, or to a pooler that gives every transaction
//! another one.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Executor, Row};

use super::PoolError;

/// How often it is looked: a pooler may have several backends at hand.
const ROUNDS: usize = 3;
/// How long all of it may take, beside the connecting.
const PATIENCE: Duration = Duration::from_secs(5);

const BACKEND: &str = "SELECT pg_catalog.pg_backend_pid()";

/// Refuses an address where two transactions of one client can be in two sessions, or those of two
/// clients in one.
///
/// A client that is alone may get the same backend again and again even so: therefore a second one
/// holds a transaction open meanwhile. Nothing is prepared, which such a pooler could trip over.
///
/// # Errors
/// [`PoolError::NoSessions`], or [`PoolError::Connect`] when it cannot be found out.
pub async fn refuse_shared(
    options: &PgConnectOptions,
    connect_timeout: Duration,
) -> Result<(), PoolError> {
    let look = async {
        let connect = || PgConnection::connect_with(options);
        let (mut client, mut other) = tokio::try_join!(connect(), connect())?;
        let shared = look(&mut client, &mut other).await?;
        // Whoever does not hear it finds the socket closed.
        let _ = other.close().await;
        let _ = client.close().await;
        Ok(shared)
    };
    let patience = connect_timeout * 2 + PATIENCE;
    let shared = tokio::time::timeout(patience, look)
        .await
        .unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
        .map_err(PoolError::Connect)?;
    shared.map_or(Ok(()), |why| Err(PoolError::NoSessions(why)))
}

/// How it shows that sessions are shared; `None` when it does not.
async fn look(
    client: &mut PgConnection,
    other: &mut PgConnection,
) -> Result<Option<&'static str>, sqlx::Error> {
    for _ in 0..ROUNDS {
        let first = backend(client).await?;
        if let Err(err) = other.execute("BEGIN").await {
            return match err {
                sqlx::Error::Database(_) => Ok(Some("it refuses transactions")),
                err => Err(err),
            };
        }
        if backend(other).await? == first {
            return Ok(Some("two clients were in one session"));
        }
        let second = backend(client).await?;
        other.execute("ROLLBACK").await?;
        if second != first {
            return Ok(Some("two transactions of one client were in two sessions"));
        }
    }
    Ok(None)
}

async fn backend(conn: &mut PgConnection) -> Result<i32, sqlx::Error> {
    conn.fetch_one(BACKEND).await?.try_get(0)
}
