//! What tests stand on: one PostgreSQL per run, a database per test, the real service over TCP.

pub mod app;
pub mod server;
pub mod wire;

use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnection;

pub use app::TestApp;

/// A connection to an empty shop of its own.
pub async fn empty_shop() -> PgConnection {
    let database = server::empty_database().await;
    database.connect().await.unwrap()
}

/// Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `look` sees something; `what` says for what.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let waited = waited.await;
    waited.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}
