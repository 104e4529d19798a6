//! Alertmanager: one that only takes what it is sent, and a real one.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use super::receivers::Receiver;
use super::{Process, eventually, settings};

async fn process(url: &str, resend_every: &str, journal: &TempDir) -> Process {
    let settings = settings(&format!(
        r#"
        watch.public_url = "https://shop.example"
        watch.ops_url = "https://operations.example"
        [[watch.notify.channels]]
        kind = "alertmanager"
        name = "alertmanager"
        private = true
        url = "{url}"
        resend_every = "{resend_every}"
        "#
    ));
    Process::start(&settings, journal).await
}

#[tokio::test]
async fn an_alert_is_sent_again_while_the_incident_is_open_and_ends_with_it() {
    let receiver = Receiver::start().await;
    let journal = TempDir::new().unwrap();
    let process = process(&receiver.url(), "100ms", &journal).await;
    let incident = process.opens().await;
    let requests = receiver.wait_for(4).await;
    let alerts: Vec<Value> = requests
        .iter()
        .map(|request| request.json()[0].clone())
        .collect();
    for alert in &alerts {
        assert_eq!(
            alert["labels"], alerts[0]["labels"],
            "or it would be another alert"
        );
        assert_eq!(alert["startsAt"], alerts[0]["startsAt"]);
    }
    let told = process.told(incident);
    assert!(
        told.len() <= 1,
        "that it is still there is no news: {told:?}"
    );
    process.resolves(incident).await;
    let resolved = process.incident(incident).resolved_at.unwrap();
    let ended = async || {
        let last = receiver.requests().pop()?.json();
        let ends: chrono::DateTime<chrono::Utc> = last[0]["endsAt"].as_str()?.parse().ok()?;
        (ends == resolved).then_some(())
    };
    eventually("the end", ended).await;
    process.finish().await;
}

/// Debian's program; `.ci/monitoring` makes it available.
fn alertmanager() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|dir| dir.join("prometheus-alertmanager"))
        .find(|program| program.is_file());
    let required = std::env::var_os("REQUIRE_MONITORING").is_some();
    assert!(
        found.is_some() || !required,
        "prometheus-alertmanager is not on PATH"
    );
    found
}

async fn start(program: PathBuf, receiver: &Receiver, dir: &TempDir) -> (Child, String) {
    let config = format!(
        "route: {{receiver: test, group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}\n\
         receivers: [{{name: test, webhook_configs: [{{url: '{}/', send_resolved: true}}]}}]\n",
        receiver.url()
    );
    let file = dir.path().join("alertmanager.yml");
    std::fs::write(&file, config).unwrap();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let child = Command::new(program)
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.path={}", dir.path().display()))
        .arg(format!("--web.listen-address={address}"))
        .arg("--cluster.listen-address=")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let url = format!("http://{address}");
    for _ in 0..200 {
        let ready = reqwest::get(format!("{url}/-/ready")).await;
        if ready.is_ok_and(|answer| answer.status().is_success()) {
            return (child, url);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("alertmanager did not become ready");
}

#[tokio::test]
async fn a_real_alertmanager_takes_the_alert_and_its_end() {
    let Some(program) = alertmanager() else {
        eprintln!("SKIPPED: prometheus-alertmanager is not on PATH; .ci/monitoring fetches it");
        return;
    };
    let receiver = Receiver::start().await;
    let dir = TempDir::new().unwrap();
    let (mut child, url) = start(program, &receiver, &dir).await;
    let journal = TempDir::new().unwrap();
    let process = process(&url, "1m", &journal).await;
    let incident = process.opens().await;
    let body = receiver.wait_for(1).await[0].json();
    assert_eq!(body["status"], "firing");
    let alert = &body["alerts"][0];
    assert_eq!(alert["labels"]["alertname"], "EvenkeelIncident");
    assert_eq!(alert["labels"]["severity"], "critical");
    assert_eq!(alert["labels"]["incident"], incident.to_string());
    let description = alert["annotations"]["description"].as_str().unwrap();
    assert!(
        description.contains("Who: `nightly-reprice`"),
        "{description}"
    );
    let link = format!("https://operations.example/ops/incidents/{incident}");
    assert_eq!(alert["generatorURL"], link);

    process.resolves(incident).await;
    let ended = async || {
        let last = receiver.requests().pop()?.json();
        (last["status"] == "resolved").then_some(())
    };
    eventually("the end", ended).await;
    process.finish().await;
    child.kill().await.unwrap();
}
