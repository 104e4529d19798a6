//! The pace capped over HTTP, and everything that limits it told at once.

use std::time::Duration;

use evenkeel::migration::governor::Sensors;
use evenkeel::migration::runner::Runner;
use pressure::settings::Budget;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{Answer, TestApp, send};

const TOKEN: &str = "an operations token";
const THROTTLES: &str = "/ops/migrations/throttles";

async fn ops(shop: &TestApp, method: Method, path: &str, body: Option<Value>) -> Answer {
    let mut request = shop.request(method, path).bearer_auth(TOKEN);
    if let Some(body) = body {
        request = request.json(&body);
    }
    send(request).await
}

/// A shop that allows next to no WAL.
async fn shop() -> TestApp {
    let builder = TestApp::builder();
    let builder = builder.settings(|s| {
        s.ops.admin_token = Some(TOKEN.to_owned());
        s.budgets.wal = Budget {
            enabled: true,
            soft: 1e-9,
            hard: 1e-8,
        };
    });
    builder.start().await
}

#[tokio::test]
async fn a_throttle_is_made_listed_and_ended() {
    let shop = shop().await;
    let wanted = json!({
        "migration": "accounts_email_key", "duty": 0.2, "for": "30m", "why": "the sale"
    });
    send(shop.request(Method::POST, THROTTLES).json(&wanted))
        .await
        .expect(401);
    let made = ops(&shop, Method::POST, THROTTLES, Some(wanted)).await;
    let made = made.expect(201).json();
    assert_eq!(made["reason"], "the sale");
    let listed = ops(&shop, Method::GET, THROTTLES, None).await.expect(200);
    assert_eq!(listed.json(), json!([made]));
    let path = format!("{THROTTLES}/{}", made["id"]);
    ops(&shop, Method::DELETE, &path, None).await.expect(200);
    ops(&shop, Method::DELETE, &path, None).await.expect(404);
    let listed = ops(&shop, Method::GET, THROTTLES, None).await.expect(200);
    assert_eq!(listed.json(), json!([]));
}

#[tokio::test]
async fn a_throttle_that_makes_no_sense_is_refused_by_field() {
    let shop = shop().await;
    let good = json!({"duty": 0.2, "for": "30m", "why": "the sale"});
    for (field, value, status) in [
        ("duty", json!(1.5), 422),
        ("duty", json!(-1), 422),
        ("for", json!("soon"), 422),
        ("for", json!("0s"), 422),
        ("for", json!("400d"), 422),
        ("why", json!(""), 422),
        ("why", json!("  "), 422),
        ("why", json!("a\nb"), 422),
        ("migration", json!("nothing"), 404),
        ("migration", json!("a\nb"), 422),
    ] {
        let mut body = good.clone();
        body[field] = value.clone();
        let answer = ops(&shop, Method::POST, THROTTLES, Some(body)).await;
        let answer = answer.expect(status);
        if status == 422 {
            assert!(answer.text.contains(field), "{field} {value}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn the_status_names_every_cause_and_the_metrics_show_the_readings() {
    let shop = shop().await;
    sqlx::query(
        "INSERT INTO accounts (email, password_hash)
         SELECT 'Person' || n || '@Example.org', '-' FROM generate_series(1, 500) n",
    )
    .execute(&mut shop.sql().await)
    .await
    .unwrap();
    for why in ["the sale", "the other sale"] {
        let wanted = json!({"duty": 0.0, "for": "30m", "why": why});
        ops(&shop, Method::POST, THROTTLES, Some(wanted))
            .await
            .expect(201);
    }
    let body = json!({"name": "accounts_email_key"});
    let started = ops(&shop, Method::POST, "/ops/migrations", Some(body)).await;
    let path = format!("/ops/migrations/{}", started.expect(201).json()["id"]);

    let app = &shop.app;
    let stop = app.shutdown.token();
    app.shutdown.spawn(app.sampler(true).run(stop.clone()));
    let sensors = Sensors {
        latencies: Some(app.latencies.clone()),
        pool: app.pool.clone(),
        surroundings: Some(app.surroundings.clone()),
    };
    let (engine, pace) = (app.settings.migration.clone(), app.settings.pace.clone());
    let runner = Runner::new(sensors, engine, pace, stop.clone());
    app.shutdown.spawn(async move { runner.run().await });

    let mut causes = String::new();
    let all = ["\"wal\"", "MiB/s", "the sale", "the other sale"];
    for _ in 0..600 {
        // Something else writes, so that there is WAL to speak of.
        sqlx::query("UPDATE accounts SET password_hash = password_hash || '-'")
            .execute(&mut shop.sql().await)
            .await
            .unwrap();
        let status = ops(&shop, Method::GET, &path, None).await.expect(200);
        causes = status.json()["pace"]["causes"].to_string();
        if all.iter().all(|said| causes.contains(said)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for said in all {
        assert!(causes.contains(said), "{said}: {causes}");
    }
    let metrics = shop.get("/metrics").await.expect(200).text;
    for metric in [
        "evenkeel_database_wal_bytes_total ",
        "evenkeel_database_checkpoints_requested_total ",
        "evenkeel_database_dead_rows{table=\"accounts\"} ",
        "evenkeel_migration_lock_waiters 0",
    ] {
        assert!(
            metrics.lines().any(|line| line.starts_with(metric)),
            "{metric}\n{metrics}"
        );
    }
    app.shutdown.finish().await;
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM evenkeel.readings")
        .fetch_one(&mut shop.sql().await)
        .await
        .unwrap();
    assert_eq!(left, 0, "it left without a word");
}
