//! Migrations controlled over HTTP.

use std::time::Duration;

use evenkeel::migration::governor::Sensors;
use evenkeel::migration::runner::Runner;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{Answer, TestApp, send};

const TOKEN: &str = "an operations token";

async fn shop() -> TestApp {
    let builder = TestApp::builder();
    let builder = builder.settings(|s| s.ops.admin_token = Some(TOKEN.to_owned()));
    builder.start().await
}

/// As `evenkeel serve` does.
fn start_engine(shop: &TestApp) {
    let app = &shop.app;
    let sensors = Sensors {
        latencies: Some(app.latencies.clone()),
        pool: app.pool.clone(),
        surroundings: None,
    };
    let settings = app.settings.clone();
    let stop = app.shutdown.token().clone();
    let runner = Runner::new(
        sensors,
        settings.migration.clone(),
        settings.pace.clone(),
        stop,
    );
    app.shutdown.spawn(async move { runner.run().await });
}

async fn ops(shop: &TestApp, method: Method, path: &str, body: Option<Value>) -> Answer {
    let mut request = shop.request(method, path).bearer_auth(TOKEN);
    if let Some(body) = body {
        request = request.json(&body);
    }
    send(request).await
}

async fn legacy_accounts(shop: &TestApp, count: i32) {
    sqlx::query(
        "INSERT INTO accounts (email, password_hash)
         SELECT 'Person' || n || '@Example.org', '-' FROM generate_series(1, $1) n",
    )
    .bind(count)
    .execute(&mut shop.sql().await)
    .await
    .unwrap();
}

#[tokio::test]
async fn without_the_token_nothing_is_shown_or_done() {
    let shop = shop().await;
    for (method, path) in [
        (Method::GET, "/ops/migrations"),
        (Method::POST, "/ops/migrations"),
        (Method::GET, "/ops/migrations/1"),
        (Method::POST, "/ops/migrations/1/pause"),
    ] {
        send(shop.request(method.clone(), path)).await.expect(401);
        let wrong = shop.request(method, path).bearer_auth("another");
        let wrong = send(wrong).await.expect(401);
        assert_eq!(wrong.header("www-authenticate"), "Bearer");
        let detail = wrong.json()["detail"].to_string();
        assert!(detail.contains("not the operations token"), "{detail}");
    }
    // A shop without a token has no operations at all.
    let closed = TestApp::start().await;
    let empty = closed
        .request(Method::GET, "/ops/migrations")
        .bearer_auth("");
    send(empty).await.expect(401);
}

#[tokio::test]
async fn a_migration_is_started_followed_and_verified() {
    let shop = shop().await;
    legacy_accounts(&shop, 500).await;
    let listed = ops(&shop, Method::GET, "/ops/migrations", None)
        .await
        .expect(200)
        .json();
    let names = listed.as_array().unwrap().iter().map(|m| &m["name"]);
    assert!(
        names.clone().any(|name| name == "accounts_email_key"),
        "{listed}"
    );

    let body = json!({"name": "accounts_email_key"});
    let started = ops(&shop, Method::POST, "/ops/migrations", Some(body.clone())).await;
    let started = started.expect(201).json();
    assert_eq!(started["state"], "queued");
    let path = format!("/ops/migrations/{}", started["id"]);
    // One active run of a migration at a time.
    ops(&shop, Method::POST, "/ops/migrations", Some(body))
        .await
        .expect(409);

    let verify = format!("{path}/verify");
    let before = ops(&shop, Method::POST, &verify, None)
        .await
        .expect(200)
        .json();
    assert_eq!(
        (&before["rows"], &before["pending"]),
        (&json!(500), &json!(500))
    );

    start_engine(&shop);
    let mut last = Value::Null;
    for _ in 0..600 {
        last = ops(&shop, Method::GET, &path, None)
            .await
            .expect(200)
            .json();
        if last["state"] == "completed" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(last["state"], "completed", "{last}");
    assert_eq!(
        (&last["rows_changed"], &last["done"]),
        (&json!(500), &json!(1.0))
    );
    let after = ops(&shop, Method::POST, &verify, None)
        .await
        .expect(200)
        .json();
    assert_eq!(after["pending"], 0);
    assert_eq!(after["direction"], "up");
    assert_eq!(after["condition"], "email_key IS NULL");
    assert_eq!(after["physical"]["answer"], "none_pending", "{after}");
    assert_eq!(after["physical"]["rows"], 500);
    assert_eq!(last["proof"]["answer"], "none_pending", "{last}");
    let certificate = ops(&shop, Method::GET, &format!("{path}/certificate"), None)
        .await
        .expect(200)
        .json();
    assert_eq!(certificate["physical"]["answer"], "none_pending");
    assert_eq!(certificate["later"]["physical"]["answer"], "none_pending");
    assert_eq!(certificate["later"]["rows"], 500);
    // It is complete; who insists can have it run again.
    let body = json!({"name": "accounts_email_key"});
    let twice = ops(&shop, Method::POST, "/ops/migrations", Some(body)).await;
    let twice = twice.expect(409);
    let complete = format!("is complete: run {} of it was certified", started["id"]);
    assert!(twice.text.contains(&complete), "{}", twice.text);
    let body = json!({"name": "accounts_email_key", "again": true});
    ops(&shop, Method::POST, "/ops/migrations", Some(body))
        .await
        .expect(201);
}

#[tokio::test]
async fn an_operator_pauses_resumes_and_cancels() {
    let shop = shop().await;
    let body = json!({"name": "accounts_email_key"});
    let started = ops(&shop, Method::POST, "/ops/migrations", Some(body))
        .await
        .expect(201);
    let path = format!("/ops/migrations/{}", started.json()["id"]);
    let act =
        async |action: &str| ops(&shop, Method::POST, &format!("{path}/{action}"), None).await;
    assert_eq!(act("pause").await.expect(200).json()["state"], "paused");
    let twice = act("pause").await.expect(409);
    assert!(
        twice.text.contains("is paused, so it cannot be paused"),
        "{}",
        twice.text
    );
    assert_eq!(act("resume").await.expect(200).json()["state"], "queued");
    assert_eq!(act("cancel").await.expect(200).json()["state"], "cancelled");
    act("resume").await.expect(409);
}

#[tokio::test]
async fn what_does_not_exist_is_said() {
    let shop = shop().await;
    ops(&shop, Method::GET, "/ops/migrations/999", None)
        .await
        .expect(404);
    for name in ["nothing", "../../Cargo", "a\nb", ""] {
        let body = json!({ "name": name });
        let answer = ops(&shop, Method::POST, "/ops/migrations", Some(body)).await;
        assert!(answer.status.is_client_error(), "{name:?}: {answer:?}");
        answer.json();
    }
}

#[tokio::test]
async fn a_broken_file_is_listed_beside_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = std::fs::read("migrations/background/orders_total.sql").unwrap();
    std::fs::write(folder.path().join("orders_total.sql"), shipped).unwrap();
    std::fs::write(folder.path().join("broken.sql"), "-- title: T\n").unwrap();
    let definitions = folder.path().to_owned();
    let builder = TestApp::builder().settings(move |s| {
        s.ops.admin_token = Some(TOKEN.to_owned());
        s.migration.definitions = definitions;
    });
    let shop = builder.start().await;
    let listed = ops(&shop, Method::GET, "/ops/migrations", None).await;
    let listed = listed.expect(200).json();
    let problem = listed[0]["problem"].as_str().unwrap_or_default();
    assert!(problem.starts_with("broken.sql:"), "{listed}");
    assert_eq!(listed[1]["name"], "orders_total");
    assert_eq!(
        (&listed[1]["problem"], &listed[1]["table"]),
        (&Value::Null, &json!("orders")),
        "{listed}"
    );
}
