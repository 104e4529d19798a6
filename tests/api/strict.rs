//! Bodies that two readers could understand differently, or that nobody should have to read: every address
//! that takes a body refuses them and names the part.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::app::{Answer, PASSWORD, Shopper, fresh_key, send};

const TOKEN: &str = "a token of some length";
/// Anything may be in there.
const FREE: &str = "/payload/custom_details";

/// Every address that takes a body, with one that has each of its members.
fn bodies() -> Vec<(String, Value)> {
    let incident = |act: &str| format!("/ops/incidents/{}/{act}", uuid::Uuid::nil());
    let by = json!({"by": "ann"});
    let account = json!({"email": "new@example.org", "password": PASSWORD});
    vec![
        ("/api/accounts".to_owned(), account.clone()),
        ("/api/sessions".to_owned(), account),
        (
            "/api/orders".to_owned(),
            json!({"lines": [{"sku": "chair", "quantity": 1}]}),
        ),
        (
            "/ops/migrations".to_owned(),
            json!({"name": "orders_total", "again": true}),
        ),
        (
            "/ops/migrations/throttles".to_owned(),
            json!({"migration": "orders_total", "duty": 0.5, "extra_ms": 0, "for": "30m", "why": "sale"}),
        ),
        (incident("acknowledge"), by.clone()),
        (incident("allow"), by.clone()),
        (incident("resolve"), by),
        (incident("notes"), json!({"by": "ann", "text": "seen"})),
        (
            "/ops/changes".to_owned(),
            json!({
                "payload": {"summary": "deployed", "source": "ci", "custom_details": {"build": {"number": 17}}},
                "links": [{"href": "https://ci.example.org/17", "text": "build"}],
            }),
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
        let shop = TestApp::builder()
            .settings(|s| s.ops.admin_token = Some(TOKEN.to_owned()))
            .start()
            .await;
        shop.product("chair", 4900, 10).await;
        let ann = shop.shopper("ann@example.org").await;
        let before = shop.row_counts().await;
        Self { shop, ann, before }
    }

    fn post(&self, path: &str) -> RequestBuilder {
        let token = if path.starts_with("/ops") {
            TOKEN
        } else {
            &self.ann.token
        };
        let request = self.shop.request(Method::POST, path).bearer_auth(token);
        request.header("idempotency-key", fresh_key())
    }

    async fn send(&self, path: &str, body: String) -> Answer {
        let request = self.post(path).header("content-type", "application/json");
        send(request.body(body)).await
    }

    /// Sends `body`, and asserts that one sentence of the refusal has all of `said` in it.
    async fn refused(&self, path: &str, body: String, said: &[&str]) {
        let answer = self.send(path, body.clone()).await;
        let problem = answer.expect(422).json();
        let errors = problem["errors"].as_array().unwrap();
        let told = errors.iter().any(|error| {
            let sentence = format!("{}: {}", error["field"], error["message"]).replace('\\', "");
            said.iter().all(|word| sentence.contains(word))
        });
        assert!(told, "{path} {body}: {problem} does not say {said:?}");
    }

    async fn nothing_was_stored(&self) {
        assert_eq!(self.shop.row_counts().await, self.before);
    }
}

/// The pointers of all values within `value` that are `wanted`, itself included.
fn pointers(value: &Value, at: &str, wanted: &dyn Fn(&Value) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    if wanted(value) {
        found.push(at.to_owned());
    }
    match value {
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                found.extend(pointers(item, &format!("{at}/{i}"), wanted));
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                found.extend(pointers(member, &format!("{at}/{name}"), wanted));
            }
        }
        _ => {}
    }
    found
}

/// `/lines/0/sku` as the service writes it: `lines[0].sku`.
fn written(pointer: &str) -> String {
    let mut path = String::new();
    for part in pointer.split('/').skip(1) {
        if part.chars().all(|c| c.is_ascii_digit()) {
            path += &format!("[{part}]");
        } else if path.is_empty() {
            path += part;
        } else {
            path += &format!(".{part}");
        }
    }
    if path.is_empty() {
        "body".to_owned()
    } else {
        path
    }
}

#[tokio::test]
async fn an_array_is_no_object_at_any_depth() {
    let case = Case::new().await;
    for (path, body) in bodies() {
        for pointer in pointers(&body, "", &Value::is_object) {
            if pointer.len() > FREE.len() && pointer.starts_with(FREE) {
                continue;
            }
            let mut other = body.clone();
            let object = other.pointer_mut(&pointer).unwrap();
            let values: Vec<_> = object.as_object().unwrap().values().cloned().collect();
            *object = json!(values);
            let said = [&written(&pointer), "an object is wanted, not an array"];
            case.refused(&path, other.to_string(), &said).await;
        }
    }
    case.nothing_was_stored().await;
}

#[tokio::test]
async fn a_member_that_stands_there_twice_is_refused_at_any_depth() {
    let case = Case::new().await;
    for (path, body) in bodies() {
        let text = body.to_string();
        for pointer in pointers(&body, "", &|_| true) {
            let name = pointer.rsplit('/').next().unwrap();
            let member = format!("\"{name}\":");
            if !text.contains(&member) {
                continue;
            }
            let twice = text.replacen(&member, &format!("{member}null,{member}"), 1);
            let said = [name, "two members"];
            case.refused(&path, twice, &said).await;
        }
    }
    case.nothing_was_stored().await;
}

#[tokio::test]
async fn a_member_that_nobody_knows_is_named() {
    let case = Case::new().await;
    for (path, body) in bodies() {
        // PagerDuty's events have members that mean nothing here.
        if path == "/ops/changes" {
            continue;
        }
        for pointer in pointers(&body, "", &Value::is_object) {
            let mut other = body.clone();
            other.pointer_mut(&pointer).unwrap()["is_admin"] = json!(true);
            let field = match pointer.as_str() {
                "" => r#""is_admin":"#.to_owned(),
                object => format!(r#""{}.is_admin":"#, written(object)),
            };
            let said = [field.as_str(), "is not known here"];
            case.refused(&path, other.to_string(), &said).await;
        }
    }
    case.nothing_was_stored().await;
}

#[tokio::test]
async fn a_text_with_nul_is_refused_by_field() {
    let case = Case::new().await;
    for (path, body) in bodies() {
        for pointer in pointers(&body, "", &Value::is_string) {
            let mut other = body.clone();
            *other.pointer_mut(&pointer).unwrap() = json!("a\u{0}b@c");
            let said = [&written(&pointer), "NUL"];
            case.refused(&path, other.to_string(), &said).await;
        }
    }
    case.nothing_was_stored().await;
}

#[tokio::test]
async fn nesting_without_end_and_what_follows_the_end_are_refused() {
    let case = Case::new().await;
    for (path, body) in bodies() {
        case.send(&path, format!("{body}{{}}")).await.expect(400);
        let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
        case.refused(&path, deep, &["nested more than"]).await;
        let text = body.to_string();
        let deep = text.replacen(":", &format!(":{}", r#"{"a":"#.repeat(500)), 1);
        case.refused(&path, deep, &["nested more than"]).await;
    }
    case.nothing_was_stored().await;
}

#[tokio::test]
async fn an_encoded_body_is_not_guessed_at() {
    let case = Case::new().await;
    for (path, body) in bodies() {
        let request = case.post(&path).header("content-encoding", "gzip");
        send(request.json(&body)).await.expect(415);
    }
    case.nothing_was_stored().await;
}
