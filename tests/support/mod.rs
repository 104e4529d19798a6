//! A database per test.

use evenkeel::db::schema;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};

/// A connection to an empty shop of its own.
pub async fn empty_shop() -> PgConnection {
    let url = std::env::var("DATABASE_URL").expect("DATABASE_URL names a server for tests");
    let options: PgConnectOptions = url.parse().expect("a URL");
    let mut admin = options.connect().await.expect("connects");
    let name = format!("test_{}", uuid::Uuid::new_v4().simple());
    let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
    admin.execute(create).await.expect("creates");
    let mut conn = options.database(&name).connect().await.expect("connects");
    schema::apply(&mut conn, schema::latest())
        .await
        .expect("applies");
    conn
}
