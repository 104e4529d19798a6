//! The page behind a link in a message.

use chrono::Utc;
use evenkeel::config::Notify;
use evenkeel::watch::event::{Event, Severity, What};
use evenkeel::watch::log::Log;
use evenkeel::watch::ticket::{Right, Tickets};
use reqwest::Method;
use uuid::Uuid;

use crate::support::TestApp;

const TITLE: &str = "checkout suffers: `<script>` (role cron)";

async fn incident(log: &Log) -> Uuid {
    let id = Uuid::now_v7();
    let opened = What::Opened {
        title: TITLE.to_owned(),
        severity: Severity::Critical,
        key: "script".to_owned(),
    };
    log.append(Event::now(id, "watch", opened)).await;
    id
}

#[tokio::test]
async fn opening_a_link_does_nothing_and_pressing_its_button_does_what_it_says() {
    let journal = tempfile::tempdir().unwrap();
    let log = Log::open(journal.path().to_owned()).await.unwrap();
    let tickets = Tickets::new(&Notify::default()).unwrap();
    let shop = TestApp::builder()
        .telling(log.clone(), tickets.clone())
        .start()
        .await;
    let id = incident(&log).await;
    let right = Right::Acknowledge {
        channel: "on-call".to_owned(),
    };
    let address = format!("/tickets/{}", tickets.issue(id, right, Utc::now()));

    let page = shop.get(&address).await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("I take care of it"), "{}", page.text);
    // Names come from the database.
    assert!(
        page.text.contains("&lt;script&gt;") && !page.text.contains("<script>"),
        "{}",
        page.text
    );
    assert!(
        page.header("content-security-policy")
            .contains("default-src 'none'")
    );
    assert_eq!(page.header("referrer-policy"), "no-referrer");
    assert_eq!(log.incident(id).unwrap().acknowledged, None);

    let pressed = shop.request(Method::POST, &address).send().await.unwrap();
    assert_eq!(pressed.status(), 200);
    let (by, _) = log.incident(id).unwrap().acknowledged.unwrap();
    assert_eq!(by, "on-call");

    let forged = format!("{}x", &address);
    for method in [Method::GET, Method::POST] {
        let answer = shop.request(method, &forged).send().await.unwrap();
        assert_eq!(answer.status(), 404);
        assert!(
            answer
                .text()
                .await
                .unwrap()
                .contains("was not made by this service")
        );
    }
}
