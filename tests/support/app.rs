//! The real service on a port of its own, and what a client does with it.

use std::net::SocketAddr;
use std::time::Duration;

use evenkeel::app::App;
use evenkeel::config::Settings;
use evenkeel::http;
use evenkeel::watch::log::Log;
use evenkeel::watch::ticket::Tickets;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::net::TcpListener;

use super::server;

/// Long enough for a password.
pub const PASSWORD: &str = "correct horse battery staple";

/// A running shop with a database of its own.
pub struct TestApp {
    /// Its shared state.
    pub app: App,
    /// Where it listens for shoppers.
    pub address: SocketAddr,
    /// Where it listens for operators.
    pub ops: SocketAddr,
    /// A client without cookies.
    pub client: Client,
    database: PgConnectOptions,
}

/// How a [`TestApp`] is to be.
pub struct Builder {
    settings: Settings,
    database: Option<PgConnectOptions>,
    reached_through: Option<PgConnectOptions>,
    incidents: Option<Log>,
    tickets: Option<Tickets>,
}

impl Builder {
    /// Has the service tell people of the incidents of a log.
    pub fn telling(mut self, log: Log, tickets: Tickets) -> Self {
        self.incidents = Some(log);
        self.tickets = Some(tickets);
        self
    }

    /// Changes the settings.
    pub fn settings(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Uses this database instead of a new one.
    pub fn database(mut self, database: PgConnectOptions) -> Self {
        self.database = Some(database);
        self
    }

    /// Has the service reach its database through a proxy.
    pub fn reached_through(mut self, proxy: PgConnectOptions) -> Self {
        self.reached_through = Some(proxy);
        self
    }

    /// Has the service keep a record of incidents.
    pub fn incidents(mut self, log: Log) -> Self {
        self.incidents = Some(log);
        self
    }

    /// Starts the service.
    pub async fn start(self) -> TestApp {
        let database = match self.database {
            Some(database) => database,
            None => server::empty_database().await,
        };
        self.settings.validate().unwrap();
        let reached = self.reached_through.unwrap_or_else(|| database.clone());
        let mut app = App::new(self.settings, reached);
        app.incidents = self.incidents;
        app.tickets = self.tickets;
        let listener = || TcpListener::bind("127.0.0.1:0");
        let listeners = http::Listeners {
            shop: listener().await.unwrap(),
            ops: listener().await.unwrap(),
        };
        let address = listeners.shop.local_addr().unwrap();
        let ops = listeners.ops.local_addr().unwrap();
        app.shutdown.spawn(http::serve(app.clone(), listeners));
        TestApp {
            app,
            address,
            ops,
            client: Client::new(),
            database,
        }
    }
}

/// Somebody who is logged in.
#[derive(Clone)]
pub struct Shopper {
    pub account: i64,
    pub token: String,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|err| panic!("{err}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    /// Asserts the status, and for errors that the body is a problem document.
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        if status >= 400 {
            assert_eq!(self.header("content-type"), "application/problem+json");
            let problem = self.json();
            assert_eq!(problem["status"], status);
            assert!(problem["type"].is_string() && problem["title"].is_string());
        }
        self
    }
}

/// Sends a request and reads the answer.
pub async fn send(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.unwrap();
    Answer {
        status,
        headers,
        text,
    }
}

/// The body of an order.
pub fn order(lines: &[(&str, i64)]) -> Value {
    let lines = lines.iter();
    let lines = lines.map(|(sku, quantity)| json!({"sku": sku, "quantity": quantity}));
    json!({"lines": lines.collect::<Vec<_>>()})
}

/// An idempotency key that nobody has used.
pub fn fresh_key() -> String {
    uuid::Uuid::new_v4().to_string()
}

impl TestApp {
    /// With the default settings.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    pub fn builder() -> Builder {
        Builder {
            settings: Settings::default(),
            database: None,
            reached_through: None,
            incidents: None,
            tickets: None,
        }
    }

    /// How to connect to the shop's database.
    pub fn database(&self) -> PgConnectOptions {
        self.database.clone()
    }

    /// A connection of the test's own to the shop's database.
    pub async fn sql(&self) -> PgConnection {
        self.database.connect().await.unwrap()
    }

    /// At the port where `path` is served.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let for_operators = path.starts_with("/ops") || path == "/metrics";
        let address = if for_operators {
            self.ops
        } else {
            self.address
        };
        let url = format!("http://{address}{path}");
        self.client.request(method, url)
    }

    pub async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    pub async fn get_as(&self, shopper: &Shopper, path: &str) -> Answer {
        send(self.request(Method::GET, path).bearer_auth(&shopper.token)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        send(self.request(Method::POST, path).json(body)).await
    }

    pub async fn place(&self, shopper: &Shopper, key: &str, body: &Value) -> Answer {
        let request = self.request(Method::POST, "/api/orders");
        let request = request.bearer_auth(&shopper.token);
        send(request.header("idempotency-key", key).json(body)).await
    }

    /// Places an order as a client does that reads `Retry-After`: again, with the same key.
    pub async fn place_with_patience(&self, shopper: &Shopper, key: &str, body: &Value) -> Answer {
        loop {
            let answer = self.place(shopper, key, body).await;
            if answer.status != StatusCode::SERVICE_UNAVAILABLE {
                return answer;
            }
            let seconds: u64 = answer.header("retry-after").parse().unwrap();
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        }
    }

    /// Registers an account and logs in.
    pub async fn shopper(&self, email: &str) -> Shopper {
        let account = json!({"email": email, "password": PASSWORD});
        let registered = self.post("/api/accounts", &account).await.expect(201);
        let session = self.post("/api/sessions", &account).await.expect(201);
        Shopper {
            account: registered.json()["id"].as_i64().unwrap(),
            token: session.json()["token"].as_str().unwrap().to_owned(),
        }
    }

    /// Puts a product on sale with one variant, whose SKU is the product's handle.
    pub async fn product(&self, handle: &str, price_minor: i64, stock: i32) {
        sqlx::query(
            "WITH product AS (
                 INSERT INTO products (handle, title, category, tags)
                 VALUES ($1, initcap($1), 'Things', '{new}') RETURNING id
             ), image AS (
                 INSERT INTO images (product_id, position, url)
                 SELECT id, 1, '/images/' || $1 FROM product
             )
             INSERT INTO variants (product_id, position, sku, title, price_minor, currency, stock)
             SELECT id, 1, $1, 'Standard', $2, 'EUR', $3 FROM product",
        )
        .bind(handle)
        .bind(price_minor)
        .bind(stock)
        .execute(&mut self.sql().await)
        .await
        .unwrap();
    }

    pub async fn stock(&self, sku: &str) -> i32 {
        sqlx::query_scalar("SELECT stock FROM variants WHERE sku = $1")
            .bind(sku)
            .fetch_one(&mut self.sql().await)
            .await
            .unwrap()
    }

    /// How many rows every table of the shop has.
    pub async fn row_counts(&self) -> Vec<(String, i64)> {
        let counts = "SELECT relname::text, (xpath('/row/c/text()', query_to_xml(
                          format('SELECT count(*) AS c FROM %I', relname), false, true, '')))[1]
                          ::text::bigint
                      FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
                      ORDER BY relname";
        sqlx::query_as(counts)
            .fetch_all(&mut self.sql().await)
            .await
            .unwrap()
    }
}
