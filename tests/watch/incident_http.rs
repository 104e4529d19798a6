//! Incidents and changes over HTTP.

use chrono::{TimeDelta, Utc};
use evenkeel::watch::changes::{self, Kind};
use evenkeel::watch::log::Log;
use evenkeel::watch::record;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::escalation::asked;
use super::story::{Story, felt};
use crate::support::app::{Answer, TestApp, send};

const TOKEN: &str = "an operations token";
const INCIDENTS: &str = "/ops/incidents";
const CHANGES: &str = "/ops/changes";

async fn shop() -> TestApp {
    let builder = TestApp::builder();
    let builder = builder.settings(|settings| settings.ops.admin_token = Some(TOKEN.to_owned()));
    builder.start().await
}

async fn ops(shop: &TestApp, method: Method, path: &str, body: Option<Value>) -> Answer {
    let mut request = shop.request(method, path).bearer_auth(TOKEN);
    if let Some(body) = body {
        request = request.json(&body);
    }
    send(request).await
}

async fn post(shop: &TestApp, path: &str, body: Value) -> Answer {
    ops(shop, Method::POST, path, Some(body)).await
}

#[tokio::test]
async fn an_incident_is_listed_shown_taken_care_of_noted_on_and_resolved() {
    let shop = shop().await;
    let mut story = Story::open("browse suffers");
    story.add(1.0, "watch", felt(0.5, 900.0));
    record::store(&mut shop.sql().await, &story.events)
        .await
        .unwrap();
    let one = format!("{INCIDENTS}/{}", story.id);
    shop.get(INCIDENTS).await.expect(401);
    let listed = ops(&shop, Method::GET, INCIDENTS, None).await.expect(200);
    assert_eq!(listed.json()[0]["id"], story.id.to_string());
    let shown = ops(&shop, Method::GET, &one, None).await.expect(200);
    assert_eq!(shown.json()["events"].as_array().unwrap().len(), 2);
    let taken = post(&shop, &format!("{one}/acknowledge"), json!({"by": "Ana"})).await;
    assert_eq!(taken.expect(200).json()["acknowledged"][0], "Ana");
    let noted = post(
        &shop,
        &format!("{one}/notes"),
        json!({"by": "Ana", "text": "a\nb"}),
    )
    .await;
    noted.expect(201);
    let over = post(&shop, &format!("{one}/resolve"), json!({}))
        .await
        .expect(200);
    assert_eq!(over.json()["stage"], "resolved");
    assert_eq!(over.json()["events"].as_array().unwrap().len(), 5);
    for path in ["acknowledge", "resolve"] {
        post(&shop, &format!("{one}/{path}"), json!({}))
            .await
            .expect(409);
    }
    let listed = ops(&shop, Method::GET, INCIDENTS, None).await.expect(200);
    assert_eq!(listed.json()[0]["stage"], "resolved");
}

#[tokio::test]
async fn what_the_watch_asks_for_is_allowed_once() {
    let shop = shop().await;
    let mut story = Story::open("browse suffers");
    let asked = story.add(1.0, "watch", asked(4711));
    record::store(&mut shop.sql().await, &story.events)
        .await
        .unwrap();
    let allow = format!("{INCIDENTS}/{}/allow", story.id);
    let allowed = post(&shop, &allow, json!({"by": "Ana"})).await.expect(200);
    let last = allowed.json()["events"].as_array().unwrap().last().cloned();
    assert_eq!(last.unwrap()["ask"], asked.id.to_string());
    let again = post(&shop, &allow, json!({"by": "Ana"})).await.expect(409);
    assert!(again.text.contains("asks for nothing"), "{again:?}");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_field() {
    let shop = shop().await;
    let story = Story::open("browse suffers");
    record::store(&mut shop.sql().await, &story.events)
        .await
        .unwrap();
    let one = format!("{INCIDENTS}/{}", story.id);
    let nobody = format!("{INCIDENTS}/{}", Uuid::now_v7());
    ops(&shop, Method::GET, &nobody, None).await.expect(404);
    post(&shop, &format!("{nobody}/acknowledge"), json!({}))
        .await
        .expect(404);
    ops(&shop, Method::GET, &format!("{INCIDENTS}/x"), None)
        .await
        .expect(400);
    for (path, body, field) in [
        ("acknowledge", json!({"by": ""}), "by"),
        ("acknowledge", json!({"by": "a\nb"}), "by"),
        ("acknowledge", json!({"by": "x".repeat(101)}), "by"),
        ("acknowledge", json!({"by": " "}), "by"),
        ("notes", json!({}), "text"),
        ("notes", json!({"text": " "}), "text"),
        ("notes", json!({"text": "a\u{0}b"}), "text"),
        ("notes", json!({"text": "x".repeat(4001)}), "text"),
    ] {
        let answer = post(&shop, &format!("{one}/{path}"), body.clone())
            .await
            .expect(422);
        assert!(answer.text.contains(field), "{path} {body}: {answer:?}");
    }
}

#[tokio::test]
async fn a_process_with_a_log_answers_without_the_database() {
    let journal = tempfile::tempdir().unwrap();
    let log = Log::open(journal.path().to_owned()).await.unwrap();
    let story = Story::open("the database is lost");
    log.append(story.events[0].clone()).await;
    let nowhere = sqlx::postgres::PgConnectOptions::new_without_pgpass()
        .socket(journal.path())
        .username("nobody");
    let shop = TestApp::builder()
        .settings(|settings| settings.ops.admin_token = Some(TOKEN.to_owned()))
        .database(nowhere)
        .incidents(log.clone())
        .start()
        .await;
    let one = format!("{INCIDENTS}/{}", story.id);
    let listed = ops(&shop, Method::GET, INCIDENTS, None).await.expect(200);
    assert_eq!(listed.json()[0]["id"], story.id.to_string());
    post(&shop, &format!("{one}/acknowledge"), json!({"by": "Ana"}))
        .await
        .expect(200);
    post(&shop, &format!("{one}/resolve"), json!({"by": "Ana"}))
        .await
        .expect(200);
    let known = log.incident(story.id).unwrap();
    assert_eq!(known.acknowledged.unwrap().0, "Ana");
    assert!(known.resolved_at.is_some());
}

fn event() -> Value {
    json!({
        "routing_key": "0123456789abcdef0123456789abcdef",
        "event_action": "ignored",
        "payload": {
            "summary": "Build Success: shop 4.2 rolled out",
            "timestamp": Utc::now().format("%Y-%m-%dT%H:%M:%S%.3f+0000").to_string(),
            "source": "ci",
            "custom_details": {"commit": "abc"},
        },
        "links": [{"href": "https://ci.example.org/1", "text": "the build"}],
    })
}

#[tokio::test]
async fn a_change_event_is_taken_and_found_again_beside_our_own_migrations() {
    let shop = shop().await;
    let mut sql = shop.sql().await;
    send(shop.request(Method::POST, CHANGES).json(&event()))
        .await
        .expect(401);
    let answer = post(&shop, CHANGES, event()).await.expect(202);
    assert_eq!(answer.json()["status"], "success");
    let mut job = event();
    job["payload"]["custom_details"]["kind"] = json!("job");
    job["payload"].as_object_mut().unwrap().remove("timestamp");
    post(&shop, CHANGES, job).await.expect(202);
    sqlx::query(
        "INSERT INTO evenkeel.runs (migration, definition, started_by, state, started_at, finished_at)
         VALUES ('orders_total', '', 'ana', 'completed', now() - interval '5 min', now() - interval '1 min')",
    )
    .execute(&mut sql)
    .await
    .unwrap();
    let hour = Utc::now() - TimeDelta::hours(1);
    let known = changes::since(&mut sql, hour).await.unwrap();
    assert!(known.is_sorted_by_key(|change| change.at), "{known:?}");
    let of = |kind| known.iter().filter(move |change| change.kind == kind);
    let deploys: Vec<_> = of(Kind::Deploy).collect();
    assert_eq!(deploys.len(), 1, "{known:?}");
    assert_eq!(deploys[0].source, "ci");
    assert_eq!(deploys[0].body["custom_details"]["commit"], "abc");
    assert_eq!(
        deploys[0].body["links"][0]["href"],
        "https://ci.example.org/1"
    );
    assert_eq!(of(Kind::Job).count(), 1);
    for said in [
        "orders_total started",
        "orders_total completed",
        "schema step 1 applied",
    ] {
        assert!(
            of(Kind::Migration).any(|change| change.summary.contains(said)),
            "{said}: {known:?}"
        );
    }
    let later = changes::since(&mut sql, Utc::now() + TimeDelta::hours(1)).await;
    assert_eq!(later.unwrap(), []);
}

#[tokio::test]
async fn a_change_event_has_limits() {
    let shop = shop().await;
    let with = |path: &str, value: Value| {
        let mut event = event();
        *event.pointer_mut(path).unwrap() = value;
        event
    };
    let link = |href: &str| json!([{"href": href, "text": ""}]);
    for (body, field) in [
        (json!({}), "payload"),
        (with("/payload/summary", json!("")), "summary"),
        (with("/payload/summary", json!("x".repeat(1025))), "summary"),
        (with("/payload/summary", json!("a\nb")), "summary"),
        (with("/payload/source", json!("x".repeat(256))), "source"),
        (with("/payload/timestamp", json!("yesterday")), "timestamp"),
        (
            with("/payload/timestamp", json!("2001-01-01T00:00:00Z")),
            "timestamp",
        ),
        (
            with("/payload/timestamp", json!("2999-01-01T00:00:00Z")),
            "timestamp",
        ),
        (
            with("/payload/custom_details", json!({"x": "y".repeat(20_000)})),
            "custom_details",
        ),
        (
            with("/payload/custom_details", json!("text")),
            "custom_details",
        ),
        (with("/routing_key", json!("x".repeat(101))), "routing_key"),
        (with("/links", link("javascript:alert(1)")), "links"),
        (with("/links", json!([{"text": "nothing"}])), "links"),
        (
            with("/links", json!(vec![link("https://a.b")[0].clone(); 21])),
            "links",
        ),
    ] {
        let answer = post(&shop, CHANGES, body.clone()).await.expect(422);
        assert!(answer.text.contains(field), "{field}: {answer:?}");
    }
    let nul = with("/payload/custom_details", json!({"x": "a\u{0}"}));
    post(&shop, CHANGES, nul).await.expect(422);
    let none = changes::since(&mut shop.sql().await, Utc::now() - TimeDelta::minutes(10)).await;
    let none = none
        .unwrap()
        .into_iter()
        .filter(|change| change.source == "ci");
    assert_eq!(none.count(), 0);
}
