//! What operators and client authors see.

use evenkeel::class::Class;
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
async fn every_answer_says_that_it_is_not_to_be_kept_guessed_at_or_framed() {
    let shop = TestApp::start().await;
    let ann = shop.shopper("ann@example.org").await;
    let mut answers = vec![shop.get_as(&ann, "/api/me").await];
    for path in [
        "/",
        "/api/products",
        "/api/docs/",
        "/api/openapi.json",
        "/nothing-here",
        "/tickets/none",
        "/health/ready",
        "/metrics",
        "/ops/migrations",
    ] {
        answers.push(shop.get(path).await);
    }
    for answer in answers {
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("x-frame-options"), "DENY");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("frame-ancestors 'none'"), "{answer:?}");
        let kept = answer.header("cache-control");
        assert!(["no-store", "no-cache"].contains(&kept), "{answer:?}");
    }
}

#[tokio::test]
async fn the_api_describes_itself() {
    let shop = TestApp::start().await;

    let api = shop.get("/api/openapi.json").await.expect(200);

    let document = api.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    for (method, path) in [
        ("get", "/api/products"),
        ("get", "/api/products/{handle}"),
        ("get", "/api/categories"),
        ("post", "/api/accounts"),
        ("post", "/api/sessions"),
        ("delete", "/api/sessions/current"),
        ("get", "/api/me"),
        ("post", "/api/orders"),
        ("get", "/api/orders"),
        ("get", "/api/orders/{id}"),
        ("get", "/health/live"),
        ("get", "/health/ready"),
    ] {
        let operation = &document["paths"][path][method];
        assert!(operation["summary"].is_string(), "{method} {path}");
        let problem = &operation["responses"]["default"]["content"];
        assert!(problem["application/problem+json"].is_object());
    }
    for reference in api.text.split(r##""$ref":"#"##).skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer} is missing");
    }
    let page = shop.get("/api/docs/").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").starts_with("text/html"));
}
