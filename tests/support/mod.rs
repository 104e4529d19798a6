//! What tests stand on: one PostgreSQL per run, a database per test, the real service over TCP.

pub mod app;
pub mod server;
pub mod wire;

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnection;

pub use app::TestApp;

/// A connection to an empty shop of its own.
pub async fn empty_shop() -> PgConnection {
    let database = server::empty_database().await;
    database.connect().await.unwrap()
}
