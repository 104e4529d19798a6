//! Clients that are slow, silent, many, or gone: what they do is not held against the shop, and keeps
//! nobody else out.

use std::net::SocketAddr;
use std::time::Duration;

use evenkeel::config::Settings;
use evenkeel::connections::Ended;
use pool::Class;
use pressure::Latencies;
use sqlx::{Connection, Executor};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::TestApp;
use crate::support::app::{PASSWORD, fresh_key};

/// More than any of this takes; a bound for what would hang.
const PATIENCE: Duration = Duration::from_secs(120);

/// A connection that sends and reads what a test says.
struct Raw(TcpStream);

impl Raw {
    async fn to(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Everything until the service closes the connection.
    async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut bytes)).await;
        // A connection that is reset is closed, too.
        let _ = read.expect("the service closes the connection");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What comes next.
    async fn next(&mut self) -> String {
        let mut bytes = vec![0; 64 * 1024];
        let read = tokio::time::timeout(PATIENCE, self.0.read(&mut bytes)).await;
        let read = read.expect("an answer").unwrap();
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    }
}

fn head(method: &str, path: &str, more: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: shop\r\n{more}\r\n")
}

/// The head of a log-in whose body has `length` bytes.
fn log_in(length: usize) -> String {
    let more = format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
    head("POST", "/api/sessions", &more)
}

async fn until(what: &str, met: impl AsyncFn() -> bool) {
    let waits = async {
        while !met().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waits = tokio::time::timeout(PATIENCE, waits).await;
    waits.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Requests of `class` that are counted so far: completed, failed, abandoned.
fn counted(latencies: &Latencies, class: Class) -> (u64, u64, u64) {
    let totals = latencies.totals(class);
    (totals.completed, totals.failed, latencies.abandoned(class))
}

async fn shop(change: impl FnOnce(&mut Settings)) -> TestApp {
    let shop = TestApp::builder().settings(change).start().await;
    until("the shop is ready", async || {
        shop.get("/health/ready").await.status == 200
    })
    .await;
    shop
}

#[tokio::test]
async fn a_request_that_leaves_open_which_host_is_meant_is_malformed() {
    let shop = shop(|_| ()).await;
    for (version, headers, status) in [
        ("1.1", "Host: shop", 200),
        ("1.1", "Host: shop.example:8080", 200),
        ("1.1", "Host: [::1]:8080", 200),
        ("1.1", "Host:", 200),
        ("1.0", "Accept: */*", 200),
        ("1.1", "Accept: */*", 400),
        ("1.1", "Host: shop\r\nHost: shop", 400),
        ("1.1", "Host: shop\r\nhost: other", 400),
        ("1.1", "Host: ann@shop", 400),
        ("1.1", "Host: shop/api", 400),
        ("1.1", "Host: a shop", 400),
        ("1.0", "Host: shop\r\nHost: other", 400),
    ] {
        for target in ["/api/products", "/health/live", "http://shop/health/live"] {
            let mut client = Raw::to(shop.address).await;
            let request =
                format!("GET {target} HTTP/{version}\r\n{headers}\r\nConnection: close\r\n\r\n");
            client.send(&request).await;
            let answer = client.rest().await;
            let code = answer.split(' ').nth(1).unwrap_or_default();
            assert_eq!(code, status.to_string(), "{request}{answer}");
            let is_problem = answer.contains("application/problem+json");
            assert_eq!(is_problem, status == 400, "{request}{answer}");
        }
    }
}

#[tokio::test]
async fn slow_bodies_are_answered_with_408_and_are_not_the_shops_failures() {
    let shop = shop(|s| s.http.body_timeout = Duration::from_millis(2_500)).await;
    let mut slow = Vec::new();
    for _ in 0..10 {
        let mut client = Raw::to(shop.address).await;
        client.send(&log_in(9)).await;
        client.send("{").await;
        slow.push(client);
    }
    // Longer than a request of the shop may be under way before its class counts as stuck.
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let ready = shop.get("/health/ready?class=account").await;
        assert_eq!(ready.status, 200, "{ready:?}");
    }
    for mut client in slow {
        let answer = client.rest().await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
    }
    assert_eq!(counted(&shop.app.latencies, Class::Account), (0, 0, 0));
    shop.get("/health/ready?class=account").await.expect(200);
}

#[tokio::test]
async fn a_body_that_drips_in_within_the_limit_is_served() {
    let shop = shop(|_| {}).await;
    shop.shopper("ann@example.org").await;
    let body = format!(r#"{{"email":"ann@example.org","password":"{PASSWORD}"}}"#);
    let mut client = Raw::to(shop.address).await;
    client.send(&log_in(body.len())).await;
    for part in body.as_bytes().chunks(8) {
        client.0.write_all(part).await.unwrap();
        client.0.flush().await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let answer = client.next().await;
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
}

#[tokio::test]
async fn clients_that_hang_up_at_once_are_counted_as_such_and_nowhere_else() {
    let shop = shop(|s| s.http.patience = Duration::from_secs(3)).await;
    shop.product("chair", 4900, 10).await;
    let mut sql = shop.sql().await;
    let mut lock = sql.begin().await.unwrap();
    lock.execute("LOCK TABLE products IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    for _ in 0..20 {
        let mut client = Raw::to(shop.address).await;
        client.send(&head("GET", "/api/products/chair", "")).await;
        let before = shop.app.latencies.abandoned(Class::Browse);
        until("the request has arrived", async || {
            let gates = shop.app.pool.gates();
            gates[Class::Browse.index()].in_use > 0
        })
        .await;
        drop(client);
        until("it is given up", async || {
            shop.app.latencies.abandoned(Class::Browse) > before
        })
        .await;
    }
    assert_eq!(counted(&shop.app.latencies, Class::Browse), (0, 0, 20));
    shop.get("/health/ready?class=browse").await.expect(200);
}

#[tokio::test]
async fn clients_that_have_gone_before_their_answer_is_there_are_no_shoppers() {
    let shop = shop(|_| {}).await;
    let head = head("GET", "/api/products?limit=many", "");
    for _ in 0..20 {
        // Within one step of this thread's runtime, so that all of it is there when the shop looks: refusing
        // the limit needs no database, and the answer is there at once.
        let mut client = std::net::TcpStream::connect(shop.address).unwrap();
        std::io::Write::write_all(&mut client, head.as_bytes()).unwrap();
    }
    until("they are counted", async || {
        let (completed, failed, abandoned) = counted(&shop.app.latencies, Class::Browse);
        completed + failed + abandoned == 20
    })
    .await;
    assert_eq!(counted(&shop.app.latencies, Class::Browse), (0, 0, 20));
    shop.get("/api/products?limit=many").await.expect(422);
    assert_eq!(counted(&shop.app.latencies, Class::Browse), (1, 0, 20));
}

#[tokio::test]
async fn clients_that_hang_up_within_their_body_are_no_shoppers() {
    let shop = shop(|_| {}).await;
    for _ in 0..20 {
        let mut client = Raw::to(shop.address).await;
        client.send(&log_in(60)).await;
        client.send(r#"{"email":"ann@"#).await;
    }
    until("they are given up", async || {
        shop.app.latencies.abandoned(Class::Account) == 20
    })
    .await;
    assert_eq!(counted(&shop.app.latencies, Class::Account), (0, 0, 20));
}

#[tokio::test]
async fn clients_that_give_up_after_waiting_make_an_outage_visible() {
    let shop = shop(|s| s.http.patience = Duration::from_millis(100)).await;
    shop.product("chair", 4900, 10).await;
    let mut sql = shop.sql().await;
    let mut lock = sql.begin().await.unwrap();
    lock.execute("LOCK TABLE products IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let mut client = Raw::to(shop.address).await;
    client.send(&head("GET", "/api/products/chair", "")).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(client);
    until("a failure is counted", async || {
        shop.app.latencies.totals(Class::Browse).failed == 1
    })
    .await;
    let ready = shop.get("/health/ready?class=browse").await;
    assert_eq!(ready.status, 503, "{ready:?}");
    assert_eq!(shop.app.latencies.abandoned(Class::Browse), 0);
}

#[tokio::test]
async fn a_slow_order_of_somebody_who_is_not_logged_in_is_refused_before_its_body_has_come() {
    let shop = shop(|_| {}).await;
    let ann = shop.shopper("ann@example.org").await;
    let order = |token: &str| {
        let more = format!(
            "Authorization: Bearer {token}\r\nIdempotency-Key: {}\r\n\
             Content-Type: application/json\r\nContent-Length: 100\r\n",
            fresh_key()
        );
        head("POST", "/api/orders", &more)
    };
    let forged = ann.token.chars().rev().collect::<String>();
    for token in ["nonsense", forged.as_str()] {
        let mut stranger = Raw::to(shop.address).await;
        stranger.send(&order(token)).await;
        let answer = stranger.next().await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
    let mut known = Raw::to(shop.address).await;
    known.send(&order(&ann.token)).await;
    let early = tokio::time::timeout(Duration::from_millis(300), known.next()).await;
    assert!(
        early.is_err(),
        "the rest of the body is waited for: {early:?}"
    );
}

#[tokio::test]
async fn connections_that_only_take_up_room_are_closed_and_counted() {
    let shop = shop(|s| {
        s.http.head_timeout = Duration::from_millis(400);
        s.http.idle_timeout = Duration::from_millis(800);
    })
    .await;
    let mut silent = Raw::to(shop.address).await;
    let mut half = Raw::to(shop.address).await;
    half.send("GET / HTTP/1.1\r\nHo").await;
    let mut dripping = Raw::to(shop.address).await;
    let drip = tokio::spawn(async move {
        dripping.send("GET / HTTP/1.1\r\n").await;
        let mut sent = 0;
        while dripping.0.write_all(b"A: b\r\n").await.is_ok() {
            sent += 1;
            assert!(sent < 3_000, "a head that never ends is read for ever");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let mut asked = Raw::to(shop.address).await;
    asked.send(&head("GET", "/health/live", "")).await;
    assert!(asked.next().await.starts_with("HTTP/1.1 200 "));

    assert_eq!(silent.rest().await, "");
    assert_eq!(half.rest().await, "");
    assert_eq!(asked.rest().await, "");
    drip.await.unwrap();
    let ended = |why| shop.app.connections.ended(why);
    until("every one is counted", async || ended(Ended::Head) >= 2).await;
    assert!(ended(Ended::Idle) >= 2, "{}", ended(Ended::Idle));
    let metrics = shop.get("/metrics").await.expect(200).text;
    let line = r#"evenkeel_http_connections_ended_total{reason="head"} 2"#;
    assert!(metrics.lines().any(|l| l == line), "{metrics}");
}

#[tokio::test]
async fn an_answer_that_nobody_reads_does_not_hold_its_connection() {
    let shop = shop(|s| s.http.unread_timeout = Duration::from_millis(500)).await;
    let mut unread = Raw::to(shop.address).await;
    let asks = async {
        // Until the answers fill every buffer on the way.
        let page = head("GET", "/api/openapi.json", "");
        while unread.0.write_all(page.as_bytes()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    let ended = async || shop.app.connections.ended(Ended::Unread) == 1;
    tokio::time::timeout(PATIENCE, asks).await.expect("an end");
    until("it is counted", ended).await;
    shop.get("/health/live").await;
}

#[tokio::test]
async fn a_full_house_makes_room_for_whoever_comes_with_a_request() {
    let shop = shop(|s| s.http.max_connections = Some(20)).await;
    let mut regular = Raw::to(shop.address).await;
    regular.send(&head("GET", "/health/live", "")).await;
    assert!(regular.next().await.starts_with("HTTP/1.1 200 "));
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(Raw::to(shop.address).await);
        assert!(shop.app.connections.open() <= 20);
    }
    for _ in 0..5 {
        let fresh = reqwest::Client::new();
        let url = format!("http://{}/health/live", shop.address);
        assert_eq!(fresh.get(url).send().await.unwrap().status(), 200);
        silent.push(Raw::to(shop.address).await);
    }
    regular.send(&head("GET", "/health/live", "")).await;
    let still = regular.next().await;
    assert!(still.starts_with("HTTP/1.1 200 "), "strangers go first");
    assert!(shop.app.connections.ended(Ended::Room) >= 80);
}

#[tokio::test]
async fn a_house_full_of_slow_bodies_makes_room_too() {
    let shop = shop(|s| s.http.max_connections = Some(10)).await;
    let mut slow = Vec::new();
    for _ in 0..30 {
        let mut client = Raw::to(shop.address).await;
        client.send(&log_in(9)).await;
        slow.push(client);
    }
    for _ in 0..10 {
        let fresh = reqwest::Client::new();
        let url = format!("http://{}/health/live", shop.address);
        assert_eq!(fresh.get(url).send().await.unwrap().status(), 200);
    }
    assert_eq!(shop.app.connections.ended(Ended::Refused), 0);
    let (completed, failed, _) = counted(&shop.app.latencies, Class::Account);
    assert_eq!((completed, failed), (0, 0));
}

#[tokio::test]
async fn when_the_shop_is_at_work_for_every_connection_a_newcomer_is_refused_at_once() {
    let shop = shop(|s| s.http.max_connections = Some(3)).await;
    shop.product("chair", 4900, 10).await;
    let mut sql = shop.sql().await;
    let mut lock = sql.begin().await.unwrap();
    lock.execute("LOCK TABLE products IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let mut busy = Vec::new();
    for _ in 0..4 {
        let mut client = Raw::to(shop.address).await;
        // Those that are refused may be gone before they have sent anything.
        let asks = head("GET", "/api/products/chair", "");
        let _ = client.0.write_all(asks.as_bytes()).await;
        busy.push(client);
    }
    until("a newcomer is refused", async || {
        shop.app.connections.ended(Ended::Refused) == 1
    })
    .await;
}

#[tokio::test]
async fn operators_have_a_port_of_their_own() {
    let shop = shop(|s| s.ops.admin_token = Some("a token of some length".to_owned())).await;
    for (address, found) in [(shop.address, 404), (shop.ops, 200)] {
        for path in ["/metrics", "/ops/migrations"] {
            let url = format!("http://{address}{path}");
            let request = shop.client.get(url).bearer_auth("a token of some length");
            assert_eq!(request.send().await.unwrap().status(), found, "{path}");
        }
    }
    for (address, found) in [(shop.address, 200), (shop.ops, 404)] {
        let url = format!("http://{address}/api/products");
        assert_eq!(shop.client.get(url).send().await.unwrap().status(), found);
    }
}

#[tokio::test]
async fn readiness_fails_before_the_port_closes() {
    let shop = shop(|_| {}).await;
    shop.app.shutdown.announce();
    let ready = shop.get("/health/ready").await;
    assert_eq!(ready.status, 503);
    shop.get("/api/products").await.expect(200);
    shop.get("/health/live").await.expect(200);
}
