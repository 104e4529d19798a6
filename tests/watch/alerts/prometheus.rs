//! The files for Prometheus and Grafana, with a real Prometheus and its promtool.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chrono::Utc;
use evenkeel::watch::alerts::{Evaluator, Reading, Rules, Series};
use evenkeel::watch::event::Severity;
use reqwest::Client;
use serde_json::Value;
use sqlx::Executor;

use crate::support::TestApp;

const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/monitoring");
/// Where `.ci/monitoring` puts the programs.
const UNPACKED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/ci/monitoring/usr/bin");
/// The metrics that are written while a database is sampled.
const SAMPLED: &str = include_str!("../../../src/http/surroundings.rs");

/// Where `name` is. Without it, the test that asks is skipped and says so, or fails where
/// `REQUIRE_MONITORING=1` wants all of them.
fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .chain([PathBuf::from(UNPACKED)])
        .map(|directory| directory.join(name))
        .find(|program| program.is_file());
    if found.is_none() {
        let wanted = env::var_os("REQUIRE_MONITORING").is_some_and(|wanted| wanted == "1");
        assert!(!wanted, "there is no {name}: run .ci/monitoring");
        eprintln!("SKIPPED: there is no {name}; .ci/monitoring fetches it");
    }
    found
}

fn promtool(arguments: &[&str]) {
    let Some(promtool) = program("promtool") else {
        return;
    };
    let said = Command::new(promtool)
        .args(arguments)
        .current_dir(FILES)
        .output()
        .unwrap();
    assert!(said.status.success(), "{said:?}");
}

#[test]
fn promtool_finds_nothing_wrong_with_the_rules() {
    promtool(&["check", "rules", "--lint-fatal", "prometheus-rules.yml"]);
}

#[test]
fn the_rules_fire_on_the_outage_and_not_before_it() {
    promtool(&["test", "rules", "prometheus-rules.test.yml"]);
}

/// The words of `text` that begin with `evenkeel_`.
fn metrics(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_part(c));
    words
        .filter(|word| word.starts_with("evenkeel_"))
        // What a histogram is made of is not named where it is explained.
        .map(|word| word.trim_end_matches("_bucket").to_owned())
        .collect()
}

/// Shows the watch's metrics as if it had just read `reading`.
fn post(shop: &TestApp, reading: &Reading) {
    let mut evaluator = Evaluator::new(Rules::load(None).unwrap());
    evaluator.observe(reading);
    let current = evaluator.current();
    shop.app
        .board
        .post(reading, evaluator.rules(), current, [Severity::Critical]);
}

#[tokio::test]
async fn every_metric_that_the_files_name_is_exported_and_explained() {
    let shop = TestApp::start().await;
    shop.get("/api/products").await;
    post(&shop, &Reading::new(Utc::now()));
    let exported = metrics(&(shop.get("/metrics").await.text + SAMPLED));
    let docs = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md"));
    let explained = metrics(&docs.unwrap());
    let mut named = BTreeSet::new();
    for file in ["prometheus-rules.yml", "grafana-dashboard.json"] {
        named.append(&mut metrics(
            &fs::read_to_string(Path::new(FILES).join(file)).unwrap(),
        ));
    }
    assert!(named.len() > 15, "{named:?}");
    for name in &named {
        assert!(exported.contains(name), "{name} is not exported");
        assert!(
            explained.contains(name),
            "{name} is not in docs/operations.md"
        );
    }
}

#[tokio::test]
async fn the_watch_exports_what_it_read_and_nothing_that_it_did_not() {
    let shop = TestApp::start().await;
    let before = shop.get("/metrics").await.text;
    assert!(!before.contains("evenkeel_watch_"), "{before}");
    post(
        &shop,
        &Reading::new(Utc::now()).with(Series::CONNECTIONS_USED, 0.5),
    );
    let metrics = shop.get("/metrics").await.text;
    for line in [
        "evenkeel_watch_connections_used_share 0.5",
        "evenkeel_watch_lock_waiters NaN",
        r#"evenkeel_watch_incidents_open{severity="critical"} 1"#,
        r#"evenkeel_watch_incidents_open{severity="warning"} 0"#,
        r#"evenkeel_alert_firing{rule="lock-queue",severity="critical"} 0"#,
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line}\n{metrics}");
    }
    // A reading that could not be taken leaves no number behind.
    post(&shop, &Reading::new(Utc::now()));
    let metrics = shop.get("/metrics").await.text;
    assert!(
        metrics.contains("evenkeel_watch_connections_used_share NaN"),
        "{metrics}"
    );
}

#[test]
fn the_dashboard_is_one() {
    let text = fs::read_to_string(Path::new(FILES).join("grafana-dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() > 10);
    for panel in panels {
        assert!(
            panel["title"].is_string() && panel["gridPos"].is_object(),
            "{panel}"
        );
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            // A gauge has no rate, and a counter tells nothing by itself.
            let counts = expression.contains("_total") || expression.contains("_bucket");
            assert_eq!(counts, expression.contains("rate("), "{expression}");
        }
    }
}

/// A Prometheus that scrapes one shop, until it is dropped.
struct Prometheus {
    process: Child,
    address: String,
    _directory: tempfile::TempDir,
}

impl Prometheus {
    fn start(program: &Path, shop: &TestApp) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // The rules as they are, but a minute is five seconds: nobody waits for a test that long.
        let rules = fs::read_to_string(Path::new(FILES).join("prometheus-rules.yml")).unwrap();
        let rules = rules.replace("for: 1m", "for: 2s").replace("[1m]", "[5s]");
        fs::write(directory.path().join("rules.yml"), rules).unwrap();
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: [rules.yml]\n\
             scrape_configs:\n- job_name: evenkeel\n  static_configs: [{{targets: ['{}']}}]\n",
            shop.ops
        );
        fs::write(directory.path().join("prometheus.yml"), config).unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        // It ends by itself, should this process be killed.
        let process = Command::new("timeout")
            .arg("120")
            .arg(program)
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=data")
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=error")
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            process,
            address,
            _directory: directory,
        }
    }

    async fn get(&self, path: &str) -> Option<Value> {
        let url = format!("http://{}/api/v1/{path}", self.address);
        let answer = Client::new().get(url).send().await.ok()?;
        answer.json().await.ok()
    }

    /// The alerts that fire.
    async fn firing(&self) -> BTreeSet<String> {
        let alerts = self.get("alerts").await.unwrap_or_default();
        let alerts = alerts["data"]["alerts"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        alerts
            .iter()
            .filter(|alert| alert["state"] == "firing")
            .map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned())
            .collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        use nix::sys::signal::{Signal, kill};
        // `timeout` passes it on.
        let pid = nix::unistd::Pid::from_raw(self.process.id() as i32);
        let _ = kill(pid, Signal::SIGTERM);
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn a_real_prometheus_takes_the_metrics_and_fires_on_a_locked_table() {
    let Some(program) = program("prometheus") else {
        return;
    };
    let shop = TestApp::start().await;
    shop.product("chair", 4900, 10).await;
    let prometheus = Prometheus::start(&program, &shop);
    post(
        &shop,
        &Reading::new(Utc::now()).with(Series::CONNECTIONS_USED, 0.3),
    );

    let patience = Instant::now() + Duration::from_secs(60);
    let scraped = "query?query=evenkeel_watch_connections_used_share";
    let calm = BTreeSet::from(["EvenkeelIncident".to_owned()]);
    loop {
        shop.get("/api/products/chair").await;
        let answer = prometheus.get(scraped).await.unwrap_or_default();
        let firing = prometheus.firing().await;
        if answer["data"]["result"][0]["value"][1] == "0.3" && firing == calm {
            break;
        }
        assert!(Instant::now() < patience, "{firing:?} of {answer}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    // The script of the postmortem, and what the watch reads of it.
    let mut script = shop.sql().await;
    script
        .execute("BEGIN; LOCK TABLE products IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    post(
        &shop,
        &Reading::new(Utc::now()).with(Series::CONNECTIONS_USED, 1.0),
    );
    let patience = Instant::now() + Duration::from_secs(60);
    let wanted = ["EvenkeelClassFailing", "EvenkeelConnectionsUsedUp"];
    loop {
        let browse = (0..8).map(|_| shop.get("/api/products/chair"));
        futures_util::future::join_all(browse).await;
        let firing = prometheus.firing().await;
        if wanted.iter().all(|alert| firing.contains(*alert)) {
            break;
        }
        assert!(Instant::now() < patience, "only {firing:?}");
    }
    script.execute("ROLLBACK").await.unwrap();
}
