//! A real server that answers as a test tells it to: the shop's API without a shop behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use load::Target;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// An order as it arrived.
#[derive(Clone)]
pub struct Order {
    pub key: String,
    pub skus: Vec<String>,
}

struct Behaviour {
    status: Mutex<StatusCode>,
    stalled_until: Mutex<Instant>,
    /// Seconds per request, and when the next one can be served.
    pace: Mutex<(f64, Instant)>,
    sold_out: AtomicBool,
    orders: Mutex<Vec<Order>>,
}

/// The running server.
pub struct FakeShop {
    target: Target,
    behaviour: Arc<Behaviour>,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

impl FakeShop {
    pub async fn start() -> Self {
        let behaviour = Arc::new(Behaviour {
            status: Mutex::new(StatusCode::OK),
            stalled_until: Mutex::new(Instant::now()),
            pace: Mutex::new((0.0, Instant::now())),
            sold_out: AtomicBool::new(false),
            orders: Mutex::default(),
        });
        let router = Router::new()
            .route("/api/products", get(list))
            .route("/api/products/{handle}", get(detail))
            .route("/api/accounts", post(created))
            .route("/api/sessions", post(created))
            .route("/api/me", get(own))
            .route("/api/orders", get(history).post(place))
            .route("/api/orders/{id}", get(own))
            .layer(middleware::from_fn_with_state(
                Arc::clone(&behaviour),
                behave,
            ))
            .with_state(Arc::clone(&behaviour));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("binds");
        let address = listener.local_addr().expect("bound");
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let server = tokio::spawn(async move {
            tokio::select! {
                served = async { axum::serve(listener, router).await } => served.expect("serves"),
                () = stopped => {}
            }
        });
        Self {
            target: Target::new(address).expect("loopback"),
            behaviour,
            stop,
            server,
        }
    }

    pub fn target(&self) -> Target {
        self.target
    }

    /// Answers everything with `status`.
    pub fn answer(&self, status: StatusCode) {
        *self.behaviour.status.lock() = status;
    }

    /// Answers nothing for `time`.
    pub fn stall(&self, time: Duration) {
        *self.behaviour.stalled_until.lock() = Instant::now() + time;
    }

    /// Serves one request after the other at this rate.
    pub fn serve_at_most(&self, rate: f64) {
        *self.behaviour.pace.lock() = (1.0 / rate, Instant::now());
    }

    pub fn sell_out(&self) {
        self.behaviour.sold_out.store(true, Ordering::Relaxed);
    }

    pub fn restock(&self) {
        self.behaviour.sold_out.store(false, Ordering::Relaxed);
    }

    pub fn orders(&self) -> Vec<Order> {
        self.behaviour.orders.lock().clone()
    }

    /// Stops listening and breaks every connection.
    pub async fn end(self) {
        self.behaviour.answer_nothing_more();
        self.stop.cancel();
        self.server.await.expect("ends");
    }
}

impl Behaviour {
    /// axum keeps serving open connections after the listener has gone: let them end.
    fn answer_nothing_more(&self) {
        *self.status.lock() = StatusCode::IM_A_TEAPOT;
    }
}

async fn behave(State(behaviour): State<Arc<Behaviour>>, request: Request, next: Next) -> Response {
    let stalled_until = *behaviour.stalled_until.lock();
    tokio::time::sleep_until(stalled_until).await;
    let turn = {
        let mut pace = behaviour.pace.lock();
        pace.1 = pace.1.max(Instant::now()) + Duration::from_secs_f64(pace.0);
        (pace.0 > 0.0).then_some(pace.1)
    };
    if let Some(turn) = turn {
        tokio::time::sleep_until(turn).await;
    }
    let status = *behaviour.status.lock();
    if status == StatusCode::IM_A_TEAPOT {
        panic!("the connection breaks");
    }
    if status != StatusCode::OK {
        return status.into_response();
    }
    next.run(request).await
}

async fn list() -> Json<Value> {
    let item = |n| json!({"id": n, "handle": format!("mug-{n}"), "title": "Blue Mug", "category": "Kitchen"});
    Json(json!({"items": (0..5).map(item).collect::<Vec<_>>(), "next": null}))
}

async fn detail(State(behaviour): State<Arc<Behaviour>>, request: Request) -> Json<Value> {
    let stock = if behaviour.sold_out.load(Ordering::Relaxed) {
        0
    } else {
        9
    };
    let sku = |n| json!({"sku": format!("{}-{n}", request.uri().path()), "stock": stock});
    Json(json!({"variants": [sku(1), sku(2)]}))
}

async fn created() -> (StatusCode, Json<Value>) {
    (StatusCode::CREATED, Json(json!({"token": "secret"})))
}

fn logged_in(headers: &HeaderMap) -> bool {
    headers
        .get("authorization")
        .is_some_and(|value| value == "Bearer secret")
}

async fn own(headers: HeaderMap) -> StatusCode {
    if logged_in(&headers) {
        StatusCode::OK
    } else {
        StatusCode::UNAUTHORIZED
    }
}

async fn history(headers: HeaderMap) -> (StatusCode, Json<Value>) {
    (own(headers).await, Json(json!({"items": []})))
}

async fn place(
    State(behaviour): State<Arc<Behaviour>>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    let Some(key) = headers
        .get("idempotency-key")
        .filter(|_| logged_in(&headers))
    else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let lines = body["lines"].as_array().expect("lines");
    let sku = |line: &Value| line["sku"].as_str().expect("a SKU").to_owned();
    behaviour.orders.lock().push(Order {
        key: key.to_str().expect("ASCII").to_owned(),
        skus: lines.iter().map(sku).collect(),
    });
    (StatusCode::CREATED, Json(json!({"id": 1}))).into_response()
}
