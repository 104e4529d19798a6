//! What arrives by each channel.

use evenkeel::watch::event::{Act, What};
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tempfile::TempDir;

use super::receivers::{Answer, MailServer, Receiver, Request};
use super::{Process, eventually, settings};
use crate::watch::escalation::suspect;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

async fn webhook(receiver: &Receiver, more: &str) -> (Process, TempDir) {
    let url = receiver.url();
    let settings = settings(&format!(
        r#"
        [watch]
        public_url = "https://shop.example/"
        ops_url = "https://operations.example/"
        {more}
        [[watch.notify.channels]]
        kind = "webhook"
        name = "hook"
        private = true
        url = "{url}/hook"
        secret = "{SECRET}"
        "#
    ));
    let journal = TempDir::new().unwrap();
    (Process::start(&settings, &journal).await, journal)
}

fn verify(request: &Request) {
    let webhook = Webhook::new(SECRET).unwrap();
    webhook.verify(&request.body, &request.headers).unwrap();
}

#[tokio::test]
async fn a_webhook_is_signed_and_says_all_that_is_known() {
    let receiver = Receiver::start().await;
    let (process, _journal) = webhook(&receiver, "").await;
    let incident = process.opens().await;
    let request = receiver.wait_for(1).await.remove(0);
    verify(&request);
    assert_eq!(request.path, "/hook");
    let body = request.json();
    assert_eq!(body["type"], "incident.opened");
    let data = &body["data"];
    assert_eq!(data["incident"], json!(incident));
    assert_eq!(data["severity"], "critical");
    assert_eq!(data["cause"], "script");
    assert_eq!(
        data["who"],
        "`nightly-reprice` (role cron, 10.0.0.7, since 10:00:00), holds AccessExclusiveLock on orders"
    );
    assert_eq!(data["exclusions"], json!(["Not traffic: arrivals -1 %"]));
    assert_eq!(
        data["shoppers"],
        json!(["checkout: 40.0 requests/s, 38.5/s fail, p95 5000 ms"])
    );
    let link = format!("https://operations.example/ops/incidents/{incident}");
    assert_eq!(data["link"], json!(link));

    process.resolves(incident).await;
    let request = receiver.wait_for(2).await.remove(1);
    verify(&request);
    let data = &request.json()["data"];
    assert_eq!(data["occasion"], "resolved");
    assert_eq!(
        data["impact"],
        "77 of 120 requests failed (checkout 77); about 12 orders were not placed, worth 123400 in \
         the currency's smallest unit"
    );
    process.finish().await;
}

#[tokio::test]
async fn a_receiver_that_stumbles_gets_the_same_message_again() {
    let receiver = Receiver::answering(vec![Answer::Status(503), Answer::Status(200)]).await;
    let (process, _journal) = webhook(&receiver, "").await;
    let incident = process.opens().await;
    let requests = receiver.wait_for(2).await;
    verify(&requests[1]);
    let id = |request: &Request| request.headers["webhook-id"].clone();
    assert_eq!(id(&requests[0]), id(&requests[1]));
    let told = async || Some(process.told(incident)).filter(|told| !told.is_empty());
    let told = eventually("the record", told).await;
    assert_eq!(told, [(1, "hook".to_owned(), None)]);
    process.finish().await;
}

#[tokio::test]
async fn a_refusal_is_final_and_redirects_are_not_followed() {
    let elsewhere = Receiver::start().await;
    let to = elsewhere.url();
    for answer in [Answer::Status(410), Answer::Redirect(to)] {
        let receiver = Receiver::answering(vec![answer.clone()]).await;
        let (process, _journal) = webhook(&receiver, "").await;
        let incident = process.opens().await;
        let told = async || process.told(incident).pop();
        let (_, _, problem) = eventually("the record", told).await;
        let problem = problem.unwrap();
        assert!(problem.starts_with("answered"), "{answer:?}: {problem}");
        assert_eq!(receiver.requests().len(), 1);
        process.die().await;
    }
    assert_eq!(elsewhere.requests().len(), 0);
}

#[tokio::test]
async fn slack_shows_the_culprit_and_a_button_that_works_once() {
    let receiver = Receiver::start().await;
    let settings = settings(&format!(
        r#"
        watch.public_url = "https://shop.example"
        watch.ops_url = "https://operations.example"
        [[watch.notify.channels]]
        kind = "slack"
        name = "chat"
        private = true
        url = "{}/services/T/B/secret"
        "#,
        receiver.url()
    ));
    let journal = TempDir::new().unwrap();
    let process = Process::start(&settings, &journal).await;
    let incident = process.opens().await;
    let body = receiver.wait_for(1).await[0].json();
    let text = body["text"].as_str().unwrap();
    assert_eq!(
        text,
        "Critical: checkout, browse suffer: `nightly-reprice` (opened)\nA script, a job or a \
         statement from outside the shop overloads the database (certainty 94 %)."
    );
    let shown = body["blocks"].to_string();
    assert!(
        shown.contains("16 shop sessions wait for it &lt;!channel&gt;"),
        "{shown}"
    );
    assert!(
        !shown.contains("<!channel>"),
        "a session's name must not call everybody"
    );

    let ask = What::Asked {
        act: Act::Terminate,
        suspect: Box::new(suspect(4711)),
        policy: "no rule for cron".to_owned(),
    };
    let ask = process.happens(incident, ask).await;
    let body = receiver.wait_for(2).await[1].json();
    let button = button(&body, "Allow it");
    let ticket = button
        .strip_prefix("https://shop.example/tickets/")
        .unwrap();
    let now = chrono::Utc::now();
    process
        .tickets
        .redeem(ticket, &process.log, now)
        .await
        .unwrap();
    let permitted = |what: &What| matches!(what, What::Permitted { ask: of } if *of == ask);
    let events = process.incident(incident).events;
    assert!(events.iter().any(|event| permitted(&event.what)));
    process
        .tickets
        .redeem(ticket, &process.log, now)
        .await
        .unwrap_err();

    let care = super::channels::button(&body, "Take care of it");
    let ticket = care.strip_prefix("https://shop.example/tickets/").unwrap();
    process
        .tickets
        .redeem(ticket, &process.log, now)
        .await
        .unwrap();
    let (by, _) = process.incident(incident).acknowledged.unwrap();
    assert_eq!(by, "chat");
    process.finish().await;
}

fn button(body: &Value, label: &str) -> String {
    let blocks = body["blocks"].as_array().unwrap();
    let elements = blocks
        .iter()
        .filter_map(|block| block["elements"].as_array());
    let button = elements
        .flatten()
        .find(|button| button["text"]["text"] == label);
    button.unwrap()["url"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn pagerduty_gets_one_incident_from_trigger_to_resolve() {
    let receiver = Receiver::start().await;
    let settings = settings(&format!(
        r#"
        [[watch.notify.channels]]
        kind = "pagerduty"
        name = "duty"
        private = true
        url = "{}/v2/enqueue"
        routing_key = "0123456789abcdef0123456789abcdef"
        "#,
        receiver.url()
    ));
    let journal = TempDir::new().unwrap();
    let process = Process::start(&settings, &journal).await;
    let incident = process.opens().await;
    receiver.wait_for(1).await;
    let via = "cli".to_owned();
    process.happens(incident, What::Acknowledged { via }).await;
    receiver.wait_for(2).await;
    process.resolves(incident).await;
    let requests = receiver.wait_for(3).await;
    let bodies: Vec<Value> = requests.iter().map(Request::json).collect();
    let actions: Vec<&str> = bodies
        .iter()
        .map(|body| body["event_action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["trigger", "acknowledge", "resolve"]);
    for body in &bodies {
        assert_eq!(body["dedup_key"], json!(incident));
        assert_eq!(body["routing_key"], "0123456789abcdef0123456789abcdef");
        assert_eq!(body["payload"]["severity"], "critical");
    }
    let details = &bodies[0]["payload"]["custom_details"];
    assert_eq!(details["Ruled out"], json!(["Not traffic: arrivals -1 %"]));
    process.finish().await;
}

#[tokio::test]
async fn an_email_reads_as_a_person_would_write_it() {
    let server = MailServer::start().await;
    let settings = settings(&email(&server, "none"));
    let journal = TempDir::new().unwrap();
    let process = Process::start(&settings, &journal).await;
    let incident = process.opens().await;
    let first = async || server.mails().pop();
    eventually("the first mail", first).await;
    let undo = "start the job again".to_owned();
    let acted = What::Acted {
        act: Act::Terminate,
        suspect: Box::new(suspect(4711)),
        policy: "cron is a maintenance role".to_owned(),
        problem: None,
        undo,
    };
    process.happens(incident, acted).await;
    let two = async || Some(server.mails()).filter(|mails| mails.len() >= 2);
    let mails = eventually("the second mail", two).await;
    assert_eq!(mails[0].from, "<evenkeel@shop.example>");
    assert_eq!(mails[0].to, ["<dba@shop.example>", "<ops@shop.example>"]);
    // Long headers go on in the next line, long lines of the text after a `=`.
    let text = mails[1].text.replace("=\n", "").replace("\n ", " ");
    for expected in [
        "To: DBA <dba@shop.example>, ops@shop.example",
        "Subject: Critical: checkout, browse suffer: `nightly-reprice` (the watch has acted)",
        "Who: `nightly-reprice` (role cron, 10.0.0.7, since 10:00:00)",
        "- 16 shop sessions wait for it",
        "ended the connection of `nightly-reprice`",
        "To undo: start the job again",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
    process.finish().await;
}

#[tokio::test]
async fn a_mail_server_without_tls_gets_nothing_unless_that_is_meant() {
    for security in ["starttls", "tls"] {
        let server = MailServer::start().await;
        let settings = settings(&email(&server, security));
        let journal = TempDir::new().unwrap();
        let process = Process::start(&settings, &journal).await;
        let incident = process.opens().await;
        let told = async || process.told(incident).pop();
        let (_, _, problem) = eventually("the record", told).await;
        assert!(problem.is_some());
        assert_eq!(server.mails().len(), 0);
        process.die().await;
    }
}

fn email(server: &MailServer, security: &str) -> String {
    format!(
        r#"
        watch.notify.tries = 1
        watch.notify.timeout = "2s"
        [[watch.notify.channels]]
        kind = "email"
        name = "mail"
        private = true
        host = "127.0.0.1"
        port = {}
        security = "{security}"
        from = "Evenkeel <evenkeel@shop.example>"
        to = ["DBA <dba@shop.example>", "ops@shop.example"]
        "#,
        server.address.port()
    )
}

#[test]
fn secrets_are_never_printed() {
    let settings = settings(
        r#"
        watch.notify.ticket_key = "k3y-k3y-k3y-k3y-k3y-k3y-k3y-k3y-k3y"
        [[watch.notify.channels]]
        kind = "slack"
        name = "chat"
        url = "https://hooks.example/services/s3cret"
        [[watch.notify.channels]]
        kind = "pagerduty"
        name = "duty"
        routing_key = "s3cret"
        [[watch.notify.channels]]
        kind = "email"
        name = "mail"
        host = "mail.example"
        from = "a@shop.example"
        to = ["b@shop.example"]
        username = "a"
        password = "s3cret"
        [[watch.notify.channels]]
        kind = "webhook"
        name = "hook"
        url = "https://hooks.example/"
        secret = "whsec_s3cret"
        "#,
    );
    for printed in [format!("{settings:?}"), toml::to_string(&settings).unwrap()] {
        assert!(
            !printed.contains("s3cret") && !printed.contains("k3y"),
            "{printed}"
        );
        assert!(printed.contains("hooks.example"), "{printed}");
    }
}
