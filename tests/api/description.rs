//! The API's description of itself, at both ports.

use serde_json::Value;

use crate::support::TestApp;
use crate::support::app::send;

/// The descriptions of the shop's and of the operators' port.
async fn documents() -> [Value; 2] {
    let shop = TestApp::start().await;
    let of = async |address| {
        let url = format!("http://{address}/api/openapi.json");
        send(shop.client.get(url)).await.expect(200).json()
    };
    [of(shop.address).await, of(shop.ops).await]
}

/// Every operation with its name.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let all = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().iter();
        methods.map(move |(method, operation)| (format!("{method} {path}"), operation))
    });
    all.collect()
}

/// What a `$ref` stands for.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(pointer) => {
            let found = document.pointer(pointer.trim_start_matches('#'));
            found.unwrap_or_else(|| panic!("{pointer} is missing"))
        }
        None => value,
    }
}

#[tokio::test]
async fn every_address_is_described() {
    let [shop, ops] = documents().await;
    let names = |document| {
        operations(document)
            .into_iter()
            .map(|(name, _)| name)
            .collect::<Vec<_>>()
    };
    let (shop, ops) = (names(&shop), names(&ops));
    for name in [
        "get /api/products",
        "get /api/products/{handle}",
        "get /api/categories",
        "post /api/accounts",
        "post /api/sessions",
        "delete /api/sessions/current",
        "get /api/me",
        "post /api/orders",
        "get /api/orders",
        "get /api/orders/{id}",
        "get /health/live",
        "get /health/ready",
    ] {
        assert!(shop.iter().any(|described| described == name), "{name}");
    }
    for name in [
        "get /metrics",
        "post /ops/migrations",
        "post /ops/changes",
        "get /ops/incidents",
    ] {
        assert!(ops.iter().any(|described| described == name), "{name}");
    }
}

#[tokio::test]
async fn every_status_is_described_with_its_headers_and_every_error_is_a_problem() {
    for document in &documents().await {
        for (name, operation) in operations(document) {
            assert!(operation["summary"].is_string(), "{name}");
            let responses = operation["responses"].as_object().unwrap();
            for (status, response) in responses {
                let response = resolved(document, response);
                // Not `default`, which would describe whatever comes.
                let status: u16 = status
                    .parse()
                    .unwrap_or_else(|_| panic!("{name}: {status}"));
                assert!(
                    !response["description"].as_str().unwrap().is_empty(),
                    "{name} {status}"
                );
                let headers = &response["headers"];
                assert!(headers["X-Request-Id"].is_object(), "{name} {status}");
                if status >= 400 {
                    let problem = &response["content"]["application/problem+json"];
                    assert!(problem["schema"].is_object(), "{name} {status}");
                }
                let waits = [429, 503].contains(&status);
                assert_eq!(headers["Retry-After"].is_object(), waits, "{name} {status}");
                assert_eq!(
                    headers["WWW-Authenticate"].is_object(),
                    status == 401,
                    "{name} {status}"
                );
            }
            let mut wanted = vec!["500", "503"];
            if operation["requestBody"].is_object() {
                wanted.extend(["400", "408", "413", "415", "422"]);
            }
            if operation["security"].is_array() {
                wanted.push("401");
            }
            if name.contains('{') {
                wanted.extend(["400", "404"]);
            }
            for status in wanted {
                assert!(responses.contains_key(status), "{name} {status}");
            }
        }
    }
}

/// Asserts that whatever can be sent as `schema` has bounds.
fn is_bounded(document: &Value, what: &str, schema: &Value) {
    let schema = resolved(document, schema);
    let is = |kind: &str| {
        let said = &schema["type"];
        said == kind
            || said
                .as_array()
                .is_some_and(|kinds| kinds.iter().any(|k| k == kind))
    };
    if is("string") && !schema["format"].is_string() {
        assert!(
            schema["pattern"].is_string(),
            "{what} has no pattern: {schema}"
        );
    }
    if is("integer") || is("number") {
        let bounds = schema["minimum"].is_number() && schema["maximum"].is_number();
        assert!(bounds, "{what} has no bounds: {schema}");
    }
    if is("array") {
        assert!(
            schema["maxItems"].is_number(),
            "{what} has no end: {schema}"
        );
        is_bounded(document, &format!("{what}[]"), &schema["items"]);
    }
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        is_bounded(document, &format!("{what}.{name}"), member);
    }
    if is("object") && schema["properties"].is_object() {
        // PagerDuty's events have members that mean nothing here.
        let is_free = what.contains("/ops/changes");
        assert!(
            is_free || schema["additionalProperties"] == false,
            "{what} takes anything: {schema}"
        );
    }
}

#[tokio::test]
async fn whatever_can_be_sent_has_its_bounds_described() {
    for document in &documents().await {
        for (name, operation) in operations(document) {
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let what = format!("{name} {}", parameter["name"]);
                is_bounded(document, &what, &parameter["schema"]);
            }
            let body = &operation["requestBody"]["content"]["application/json"]["schema"];
            if body.is_object() {
                is_bounded(document, &name, body);
            }
        }
    }
}

#[tokio::test]
async fn every_reference_leads_somewhere() {
    for document in documents().await {
        let text = document.to_string();
        for reference in text.split(r##""$ref":"#"##).skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer} is missing");
        }
    }
}
