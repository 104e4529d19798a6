//! What every answer carries, whoever makes it; which are compressed; and that errors are problem documents.

use std::io::Read;

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::json;

use crate::support::TestApp;
use crate::support::app::{Answer, PASSWORD, Shopper, fresh_key, order, send};

const TOKEN: &str = "a token of some length";

async fn shop(over_tls: bool) -> TestApp {
    let change = |settings: &mut evenkeel::config::Settings| {
        settings.ops.admin_token = Some(TOKEN.to_owned());
        settings.accounts.secure_cookies = over_tls;
        // One that fits into what is read at once: a client that is still sending may miss the answer.
        settings.http.body_limit = 1024;
    };
    TestApp::builder().settings(change).start().await
}

/// One request for every kind of answer, with the status of the answer.
fn kinds(shop: &TestApp, ann: &Shopper) -> Vec<(u16, RequestBuilder)> {
    let get = |path: &str| shop.request(Method::GET, path);
    let post = |path: &str| shop.request(Method::POST, path);
    let login = json!({"email": "ann@example.org", "password": PASSWORD});
    let json = "application/json";
    vec![
        (200, get("/")),
        (200, get("/static/app.js")),
        (304, get("/").header("if-none-match", "*")),
        (200, get("/api/products")),
        (
            406,
            get("/api/products").header("accept-encoding", "identity;q=0"),
        ),
        (200, get("/api/me").bearer_auth(&ann.token)),
        (401, get("/api/me")),
        (201, post("/api/sessions").json(&login)),
        (422, post("/api/sessions").json(&json!([]))),
        (
            413,
            post("/api/sessions")
                .header("content-type", json)
                .body("x".repeat(2_000)),
        ),
        (415, post("/api/sessions").body("{}")),
        (400, get("/api/products/%ff")),
        (404, get("/nothing-here")),
        (405, post("/")),
        (303, get("/api/docs")),
        (200, get("/api/docs/")),
        (200, get("/api/docs/swagger-ui.css")),
        (404, get("/api/docs/nothing.js")),
        (200, get("/api/openapi.json")),
        (200, get("/health/live")),
        (200, get("/health/ready")),
        (404, get("/tickets/none")),
        (200, get("/metrics")),
        (401, get("/ops/migrations")),
        (200, get("/ops/migrations").bearer_auth(TOKEN)),
        (404, get("/ops/nothing-here")),
        (405, shop.request(Method::PUT, "/ops/migrations")),
        // The session is over then.
        (
            204,
            shop.request(Method::DELETE, "/api/sessions/current")
                .bearer_auth(&ann.token),
        ),
    ]
}

/// The lists of Mozilla's HTTP Observatory and of OWASP's Secure Headers project, as far as they apply.
fn carries_what_every_answer_has(answer: &Answer, over_tls: bool) {
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("x-permitted-cross-domain-policies", "none"),
        (
            "strict-transport-security",
            if over_tls { "max-age=31536000" } else { "" },
        ),
    ] {
        assert_eq!(answer.header(name), value, "{name}: {answer:?}");
    }
    let policy = answer.header("content-security-policy");
    for directive in ["default-src '", "base-uri 'none'", "frame-ancestors 'none'"] {
        assert!(policy.contains(directive), "{directive}: {answer:?}");
    }
    let scripts = policy
        .split(';')
        .filter(|part| !part.trim().starts_with("style-src"));
    for loose in ["unsafe-", "*", "http:"] {
        assert!(
            scripts.clone().all(|part| !part.contains(loose)),
            "{policy}"
        );
    }
    let kept = answer.header("cache-control");
    assert!(["no-store", "no-cache"].contains(&kept), "{answer:?}");
    assert!(!answer.header("x-request-id").is_empty(), "{answer:?}");
    for tells in ["server", "x-powered-by", "access-control-allow-origin"] {
        assert_eq!(answer.header(tells), "", "{answer:?}");
    }
    let kind = answer.header("content-type");
    let is_text = kind.starts_with("text/html") || kind.starts_with("text/plain");
    assert!(!is_text || kind.contains("charset=utf-8"), "{answer:?}");
    if kind.starts_with("text/html") {
        assert!(
            answer.header("permissions-policy").contains("camera=()"),
            "{answer:?}"
        );
    }
    if let Some(cookie) = answer.headers.get("set-cookie") {
        let cookie = cookie.to_str().unwrap();
        for attribute in ["; HttpOnly", "; SameSite=Lax"] {
            assert!(cookie.contains(attribute), "{cookie}");
        }
        let secured = cookie.starts_with("__Host-")
            && cookie.contains("; Path=/;")
            && cookie.ends_with("; Secure");
        assert_eq!(secured, over_tls, "{cookie}");
    }
}

#[tokio::test]
async fn every_kind_of_answer_carries_the_headers_that_protect_its_reader() {
    for over_tls in [false, true] {
        let mut shop = shop(over_tls).await;
        let ann = shop.shopper("ann@example.org").await;
        // Redirections are answers, too.
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        shop.client = client.build().unwrap();
        for (status, request) in kinds(&shop, &ann) {
            let answer = send(request).await;
            assert_eq!(answer.status.as_u16(), status, "{answer:?}");
            carries_what_every_answer_has(&answer, over_tls);
        }
    }
}

#[tokio::test]
async fn errors_of_the_router_the_files_and_the_documentation_are_problem_documents() {
    let shop = shop(false).await;
    for (path, status) in [
        ("/nothing-here", 404),
        ("/api/docs/nothing.js", 404),
        ("/static/nothing.js", 404),
        ("/static/%ff", 400),
        ("/tickets/%ff", 400),
        ("/api/docs/%ff", 400),
        ("/api/products/%ff", 400),
        ("/ops/nothing-here", 404),
    ] {
        shop.get(path).await.expect(status);
    }
    for (path, allowed) in [
        ("/", "GET,HEAD"),
        ("/api/orders", "POST,GET,HEAD"),
        ("/api/products/chair", "GET,HEAD"),
        ("/api/openapi.json", "GET,HEAD"),
        ("/health/live", "GET,HEAD"),
        ("/tickets/none", "GET,HEAD,POST"),
        ("/metrics", "GET,HEAD"),
        ("/ops/migrations", "GET,HEAD,POST"),
    ] {
        let answer = send(shop.request(Method::PATCH, path)).await.expect(405);
        let mut methods: Vec<_> = answer.header("allow").split(',').collect();
        let mut wanted: Vec<_> = allowed.split(',').collect();
        methods.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(methods, wanted, "{path}");
    }
    let nothing = shop.request(Method::GET, "/api/openapi.json");
    send(nothing.header("accept-encoding", "identity;q=0"))
        .await
        .expect(406);
}

/// The answer as it comes over the wire, to a client that takes gzip, and its length.
async fn gzipped(request: RequestBuilder) -> (reqwest::header::HeaderMap, Vec<u8>) {
    let response = request
        .header("accept-encoding", "gzip, br")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let headers = response.headers().clone();
    (headers, response.bytes().await.unwrap().to_vec())
}

#[tokio::test]
async fn what_everybody_may_see_is_compressed_when_that_is_worth_it() {
    let shop = shop(false).await;
    for i in 0..20 {
        shop.product(&format!("chair-{i}"), 4900, 10).await;
    }
    for path in [
        "/",
        "/static/app.js",
        "/api/products",
        "/api/openapi.json",
        "/metrics",
    ] {
        let plain = shop.get(path).await;
        assert_eq!(plain.header("content-encoding"), "", "{path}");
        assert_eq!(plain.header("vary"), "accept-encoding", "{path}");
        let (headers, bytes) = gzipped(shop.request(Method::GET, path)).await;
        assert_eq!(headers["content-encoding"], "gzip", "{path}");
        assert_eq!(headers["vary"], "accept-encoding", "{path}");
        assert!(
            bytes.len() * 4 < plain.text.len() * 3,
            "{path}: {}",
            bytes.len()
        );
        let mut text = String::new();
        flate2::read::GzDecoder::new(&bytes[..])
            .read_to_string(&mut text)
            .unwrap();
        if path != "/metrics" {
            assert_eq!(text, plain.text, "{path}");
        }
    }
    // Smaller than a packet.
    let (headers, _) = gzipped(shop.request(Method::GET, "/api/categories")).await;
    assert!(!headers.contains_key("content-encoding"));
}

#[tokio::test]
async fn what_is_somebodys_own_is_never_compressed() {
    let shop = shop(false).await;
    shop.product("chair", 4900, 1000).await;
    let ann = shop.shopper("ann@example.org").await;
    for _ in 0..20 {
        let placed = shop
            .place(&ann, &fresh_key(), &order(&[("chair", 1)]))
            .await;
        placed.expect(201);
    }
    let orders = shop
        .request(Method::GET, "/api/orders")
        .bearer_auth(&ann.token);
    let (headers, bytes) = gzipped(orders).await;
    assert!(bytes.len() > 1024);
    assert!(!headers.contains_key("content-encoding"));
}
