//! The least that axum and sqlx can do: sqlx's own pool, one route, the same statement.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use evenkeel::store::catalog::DETAIL;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::net::TcpListener;

use super::CONNECTIONS;

/// Makes this program be the bare server, on the database and the address that follow.
pub const ARGUMENT: &str = "--bare-server";

/// Serves until the process is ended.
pub fn serve(database: &str, address: &str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let pool = PgPoolOptions::new().max_connections(u32::try_from(CONNECTIONS).unwrap());
        let pool = pool.connect(database).await.unwrap();
        let router = Router::new()
            .route("/api/products/{handle}", get(detail))
            .with_state(pool);
        let listener = TcpListener::bind(address).await.unwrap();
        let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
        axum::serve(listener, router).await.unwrap();
    });
}

async fn detail(State(pool): State<PgPool>, Path(handle): Path<String>) -> Response {
    let product = sqlx::query_scalar::<_, String>(DETAIL)
        .bind(handle)
        .fetch_optional(&pool)
        .await;
    match product {
        Ok(Some(json)) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
