//! The log of the real program: readable by a program, and readable in an outage.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use sqlx::{ConnectOptions, Executor};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::migration::process::{evenkeel_on, signal};
use crate::support::server;

/// A bound for what would hang.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn an_outage_is_a_line_when_it_begins_and_one_with_counts_when_it_is_over() {
    let database = server::empty_database().await;
    let arguments = ["--log-format", "json", "serve", "--listen", "127.0.0.1:0"];
    let mut process = evenkeel_on(&database, &arguments)
        .args(["--ops-listen", "127.0.0.1:0"])
        .env("EVENKEEL_WATCH__ENABLED", "false")
        .env("EVENKEEL_HTTP__NOTICE", "0s")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let mut log = Vec::new();
    let mut until = async |message: &str| {
        tokio::time::timeout(PATIENCE, async {
            while let Some(line) = lines.next_line().await.unwrap() {
                let line: Value =
                    serde_json::from_str(&line).unwrap_or_else(|err| panic!("{err}: {line}"));
                log.push(line.clone());
                if line["message"]
                    .as_str()
                    .unwrap_or_default()
                    .contains(message)
                {
                    return line;
                }
            }
            panic!("{message}: not in {log:?}");
        })
        .await
        .unwrap()
    };
    let serving = until("serving").await;
    let address = format!("http://{}/api/products", serving["shop"].as_str().unwrap());
    let mut holder = database.connect().await.unwrap();
    holder
        .execute("BEGIN; LOCK TABLE products IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let client = reqwest::Client::new();
    let ask = async || client.get(&address).send().await.unwrap().status().as_u16();
    let asked = futures_util::future::join_all((0..40).map(|_| ask())).await;
    assert_eq!(asked, [503; 40]);
    holder.execute("ROLLBACK").await.unwrap();
    let over = until("requests have stopped failing").await;
    assert_eq!(over["failed"], 40, "{over}");
    let kinds = over["kinds"].as_str().unwrap();
    assert!(kinds.contains("for browse: "), "{over}");
    assert_eq!(ask().await, 200);
    signal(&process, Signal::SIGTERM);
    until("stopping").await;
    while let Some(line) = lines.next_line().await.unwrap() {
        log.push(serde_json::from_str(&line).unwrap());
    }
    let of_requests = |line: &&Value| {
        let target = line["target"].as_str().unwrap();
        target.starts_with("evenkeel::http") || target.starts_with("sqlx")
    };
    let of_requests: Vec<_> = log.iter().filter(of_requests).collect();
    assert_eq!(of_requests.len(), 2, "{of_requests:?}");
    let stdout = process.wait_with_output().await.unwrap().stdout;
    assert!(stdout.is_empty(), "{stdout:?}");
}
