//! What operators and client authors see.

use pool::Class;
use reqwest::Method;

use crate::support::TestApp;
use crate::support::app::send;

#[tokio::test]
async fn metrics_count_requests_by_class_and_status() {
    let shop = TestApp::start().await;
    shop.product("chair", 4900, 10).await;
    shop.get("/api/products/chair").await.expect(200);
    shop.get("/api/products/table").await.expect(404);
    shop.get("/api/me").await.expect(401);
    shop.get("/health/live").await;

    let metrics = shop.get("/metrics").await.expect(200).text;

    for line in [
        r#"evenkeel_http_requests_total{class="browse",status="2xx"} 1"#,
        r#"evenkeel_http_requests_total{class="browse",status="4xx"} 1"#,
        r#"evenkeel_http_requests_total{class="account",status="4xx"} 1"#,
        r#"evenkeel_http_requests_total{class="checkout",status="2xx"} 0"#,
        r#"evenkeel_http_request_duration_seconds_count{class="browse"} 2"#,
        r#"evenkeel_http_requests_in_flight{class="browse"} 0"#,
        r#"evenkeel_pool_in_use{class="browse"} 0"#,
        r#"evenkeel_pool_acquire_timeouts_total{class="checkout"} 0"#,
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line}\n{metrics}");
    }
    assert_eq!(shop.app.latencies.totals(Class::Browse).completed, 2);
}

#[tokio::test]
async fn every_answer_carries_the_id_under_which_it_is_logged() {
    let shop = TestApp::start().await;

    let own = shop.get("/api/products").await;
    assert_eq!(own.header("x-request-id").len(), 36);
    let request = shop.request(Method::GET, "/nothing-here");
    let theirs = send(request.header("x-request-id", "from-the-proxy")).await;
    assert_eq!(theirs.expect(404).header("x-request-id"), "from-the-proxy");
}

#[tokio::test]
async fn an_id_that_is_not_plain_is_replaced() {
    let shop = TestApp::start().await;
    let long = "x".repeat(65);
    for id in [long.as_str(), "", "a b", "a\"b", "a/b"] {
        let request = shop.request(Method::GET, "/health/live");
        let answer = send(request.header("x-request-id", id)).await;
        assert_eq!(answer.header("x-request-id").len(), 36, "{id}");
    }
    let request = shop.request(Method::GET, "/health/live");
    let request = request.header("x-request-id", "one");
    let twice = send(request.header("x-request-id", "two")).await;
    assert_eq!(twice.header("x-request-id").len(), 36);
    let most = "x".repeat(64);
    let request = shop.request(Method::GET, "/health/live");
    let answer = send(request.header("x-request-id", &most)).await;
    assert_eq!(answer.header("x-request-id"), most);
}

#[tokio::test]
async fn the_documentation_is_a_page() {
    let shop = TestApp::start().await;
    let page = shop.get("/api/docs/").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").starts_with("text/html"));
}
