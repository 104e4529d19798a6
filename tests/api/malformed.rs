//! Whatever is sent, the answer is a problem document in the 400s, and nothing is stored.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::app::{Answer, PASSWORD, Shopper, fresh_key, send};

/// Every address that takes a body, with a body that it accepts.
fn bodies() -> [(&'static str, Value); 3] {
    let account = json!({"email": "new@example.org", "password": PASSWORD});
    [
        ("/api/accounts", account.clone()),
        ("/api/sessions", account),
        (
            "/api/orders",
            json!({"lines": [{"sku": "chair", "quantity": 1}]}),
        ),
    ]
}

struct Case {
    shop: TestApp,
    ann: Shopper,
    before: Vec<(String, i64)>,
}

impl Case {
    async fn new() -> Self {
        let shop = TestApp::start().await;
        shop.product("chair", 4900, 10).await;
        let ann = shop.shopper("ann@example.org").await;
        let before = shop.row_counts().await;
        Self { shop, ann, before }
    }

    fn post(&self, path: &str) -> RequestBuilder {
        let request = self.shop.request(Method::POST, path);
        let request = request.header("idempotency-key", fresh_key());
        request.bearer_auth(&self.ann.token)
    }

    async fn post_bytes(&self, path: &str, body: impl Into<Vec<u8>>) -> Answer {
        let request = self.post(path).header("content-type", "application/json");
        send(request.body(body.into())).await
    }

    async fn post_json(&self, path: &str, body: &Value) -> Answer {
        send(self.post(path).json(body)).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.shop.get_as(&self.ann, path).await
    }

    async fn nothing_was_stored(&self) {
        assert_eq!(self.shop.row_counts().await, self.before);
        assert_eq!(self.shop.stock("chair").await, 10);
    }
}

/// Asserts that one of the invalid fields is `field`.
fn names(answer: &Answer, field: &str) {
    let problem = answer.json();
    let errors = problem["errors"].as_array().unwrap();
    let named = errors
        .iter()
        .any(|error| error["field"] == field && !error["message"].as_str().unwrap().is_empty());
    assert!(named, "{field}: {problem}");
}

#[tokio::test]
async fn a_body_that_is_not_json_is_refused_everywhere() {
    let case = Case::new().await;
    for (path, valid) in bodies() {
        let text = valid.to_string();
        let mut bad_utf8 = text.clone().into_bytes();
        let inside_a_string = text.rfind('"').unwrap() - 1;
        bad_utf8[inside_a_string] = 0xff;
        let deep = format!(r#"{{"lines":{}"#, "[".repeat(50_000));
        for body in [
            b"".to_vec(),
            b"{".to_vec(),
            b"{,}".to_vec(),
            b"\xef\xbb\xbf{}".to_vec(),
            format!("{text}x").into_bytes(),
            text.replace('"', "'").into_bytes(),
            text.replace(r#"":"#, r#"\ud800":"#).into_bytes(),
            bad_utf8,
        ] {
            case.post_bytes(path, body).await.expect(400);
        }
        for body in [
            format!("{text}{}", " ".repeat(64 * 1024)),
            "x".repeat(10_000_000),
        ] {
            // A service that stops reading may be gone before the client has sent everything.
            let request = case.post(path).header("content-type", "application/json");
            if let Ok(response) = request.body(body).send().await {
                assert_eq!(response.status(), 413);
            }
        }
        let answer = case.post_bytes(path, deep).await;
        assert!([400, 422].contains(&answer.status.as_u16()), "{answer:?}");
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "json",
            "ä",
        ] {
            let request = case.post(path).header("content-type", kind.as_bytes());
            send(request.body(text.clone())).await.expect(415);
        }
        send(case.post(path).body(text.clone())).await.expect(415);
    }
    case.nothing_was_stored().await;
}

#[tokio::test]
async fn a_body_of_another_shape_is_refused_everywhere() {
    let case = Case::new().await;
    for (path, valid) in bodies() {
        for body in [json!([]), json!(1), json!(null), json!("text"), json!({})] {
            case.post_json(path, &body).await.expect(422);
        }
        let mut unknown = valid.clone();
        unknown["is_admin"] = json!(true);
        let answer = case.post_json(path, &unknown).await.expect(422);
        assert!(answer.text.contains("is_admin"), "{}", answer.text);
        for (field, _) in valid.as_object().unwrap() {
            for wrong in [json!(1), json!(null), json!({"a": []}), json!("")] {
                let mut body = valid.clone();
                body[field] = wrong;
                let answer = case.post_json(path, &body).await.expect(422);
                names(&answer, field);
            }
            let twice = valid
                .to_string()
                .replacen('{', &format!(r#"{{"{field}":1,"#), 1);
            case.post_bytes(path, twice).await.expect(422);
        }
    }
    case.nothing_was_stored().await;
}

#[tokio::test]
async fn an_order_with_impossible_lines_is_refused_by_field() {
    let case = Case::new().await;
    let quantity = |quantity: Value| json!([{"sku": "chair", "quantity": quantity}]);
    let sku = |sku: Value| json!([{"sku": sku, "quantity": 1}]);
    let line = |i: usize| json!({"sku": format!("sku-{i}"), "quantity": 1});
    for (lines, field) in [
        (quantity(json!(0)), "lines[0].quantity"),
        (quantity(json!(-1)), "lines[0].quantity"),
        (quantity(json!(1001)), "lines[0].quantity"),
        (quantity(json!(1.5)), "lines[0].quantity"),
        (quantity(json!("1")), "lines[0].quantity"),
        (quantity(json!(i64::MAX)), "lines[0].quantity"),
        (quantity(json!(1e300)), "lines[0].quantity"),
        (sku(json!("")), "lines[0].sku"),
        (sku(json!("a\u{0}b")), "lines[0].sku"),
        (sku(json!("a\nb")), "lines[0].sku"),
        (sku(json!("x".repeat(201))), "lines[0].sku"),
        (json!([]), "lines"),
        (json!((0..101).map(line).collect::<Vec<_>>()), "lines"),
    ] {
        let body = json!({"lines": lines});
        let answer = case.post_json("/api/orders", &body).await.expect(422);
        names(&answer, field);
    }
    for unknown in [
        "no such sku",
        "chair'; DROP TABLE orders; --",
        "\u{fffd}\u{1f4a9}",
    ] {
        let body = json!({"lines": sku(json!(unknown))});
        let answer = case.post_json("/api/orders", &body).await.expect(409);
        names(&answer, "lines[0].sku");
    }
    let price = json!({"lines": [{"sku": "chair", "quantity": 1, "unit_price_minor": 1}]});
    case.post_json("/api/orders", &price).await.expect(422);
    case.nothing_was_stored().await;
}

#[tokio::test]
async fn an_account_with_impossible_fields_is_refused_by_field() {
    let case = Case::new().await;
    for (field, value) in [
        ("email", "".to_owned()),
        ("email", "nobody".to_owned()),
        ("email", "@example.org".to_owned()),
        ("email", "a b@example.org".to_owned()),
        ("email", "a@b@example.org".to_owned()),
        ("email", "a\u{0}@example.org".to_owned()),
        ("email", format!("{}@example.org", "a".repeat(250))),
        ("password", "1234567".to_owned()),
        ("password", "x".repeat(129)),
        ("name", "x".repeat(201)),
        ("name", "a\u{0}".to_owned()),
    ] {
        let mut body = json!({"email": "new@example.org", "password": PASSWORD, "name": "New"});
        body[field] = json!(value);
        let answer = case.post_json("/api/accounts", &body).await.expect(422);
        names(&answer, field);
    }
    case.nothing_was_stored().await;
}

#[tokio::test]
async fn an_address_that_cannot_be_read_is_refused() {
    let case = Case::new().await;
    for (path, status) in [
        ("/api/products/%00", 400),
        ("/api/products/%ff%fe", 400),
        ("/api/products/%F0%9F%92%A9", 404),
        ("/api/products/..%2f..%2fetc", 404),
        ("/api/orders/0", 404),
        ("/api/orders/-1", 404),
        ("/api/orders/99999999999999999999", 400),
        ("/api/orders/abc", 400),
        ("/api/orders/1%00", 400),
        ("/api/orders/%ff", 400),
        ("/api/orders/1.0", 400),
    ] {
        case.get(path).await.expect(status);
    }
    for path in ["/api/products", "/api/orders"] {
        for (query, field) in [
            ("limit=0", "limit"),
            ("limit=101", "limit"),
            ("limit=-1", "limit"),
            ("limit=ten", "limit"),
            ("limit=", "limit"),
            ("limit=99999999999999999999", "limit"),
            ("after=5", "after"),
            ("after=AAAAAAAAAAAA", "after"),
        ] {
            let answer = case.get(&format!("{path}?{query}")).await.expect(422);
            names(&answer, field);
        }
        case.get(&format!("{path}?colour=red")).await.expect(422);
        case.get(&format!("{path}?limit=1&limit=2"))
            .await
            .expect(422);
        case.get(&format!("{path}?after=%ff")).await.expect(400);
    }
    case.get("/api/products?q=%ff").await.expect(400);
    names(&case.get("/api/products?q=%00").await.expect(422), "q");
    names(
        &case.get("/api/products?category=%00").await.expect(422),
        "category",
    );
    let long = format!("/api/products?q={}", "x".repeat(201));
    names(&case.get(&long).await.expect(422), "q");
    names(
        &case.get("/health/ready?class=all").await.expect(422),
        "class",
    );
    names(
        &case.get("/health/ready?class=background").await.expect(422),
        "class",
    );
    case.nothing_was_stored().await;
}

#[tokio::test]
async fn headers_that_cannot_be_read_are_refused() {
    let case = Case::new().await;
    let (_, valid) = &bodies()[2];
    let order = || {
        let request = case.shop.request(Method::POST, "/api/orders");
        request.json(valid)
    };
    let known = || order().bearer_auth(&case.ann.token);
    for keys in [
        vec![],
        vec!["".to_owned()],
        vec!["a b".to_owned()],
        vec!["x".repeat(256)],
        vec!["ä".to_owned()],
        vec!["a".to_owned(), "b".to_owned()],
    ] {
        let request = keys.iter().fold(known(), |request, key| {
            request.header("idempotency-key", key.as_bytes())
        });
        send(request).await.expect(400);
    }
    let short = &case.ann.token[1..];
    for authorization in [
        "",
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        "Bearer \u{e4}",
        short,
    ] {
        let request = order().header("idempotency-key", "key");
        let request = request.header("authorization", authorization.as_bytes());
        // A header that cannot be read is not made up for by a cookie that can.
        let cookie = format!("evenkeel_session={}", case.ann.token);
        send(request.header("cookie", cookie)).await.expect(401);
    }
    let mut forged = case.ann.token.clone();
    forged.replace_range(0..1, if forged.starts_with('A') { "B" } else { "A" });
    let request = order().header("idempotency-key", "key");
    send(request.bearer_auth(forged)).await.expect(401);
    case.nothing_was_stored().await;
}

#[tokio::test]
async fn a_method_that_an_address_does_not_know_is_refused() {
    let case = Case::new().await;
    for (method, path) in [
        (Method::PUT, "/api/orders"),
        (Method::DELETE, "/api/products"),
        (Method::POST, "/api/products/chair"),
        (Method::PATCH, "/api/me"),
        (Method::POST, "/health/live"),
    ] {
        send(case.shop.request(method, path)).await.expect(405);
    }
    case.nothing_was_stored().await;
}
