//! `evenkeel alert`.

use std::fmt::Write;
use std::fs;
use std::process::{Command, Output};

use chrono::TimeDelta;
use evenkeel::watch::alerts::{Evaluator, Reading, Rules, Series, history};
use sqlx::ConnectOptions;

use super::week::{Weeks, monday};
use crate::support::server;

fn evenkeel(arguments: &[&str]) -> (Option<i32>, String) {
    evenkeel_on("postgres://nobody@127.0.0.1:1/none", arguments)
}

/// Runs the command on this database.
fn evenkeel_on(database: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_evenkeel"))
        .env("DATABASE_URL", database)
        .arg("alert")
        .args(arguments)
        .output()
        .unwrap();
    let text = [stdout, stderr].concat();
    (status.code(), String::from_utf8(text).unwrap())
}

fn csv(readings: &[Reading]) -> String {
    let names: Vec<&str> = Series::all().map(Series::name).collect();
    let mut text = format!("at,{}\n", names.join(","));
    for reading in readings {
        write!(text, "{}", reading.at.to_rfc3339()).unwrap();
        for series in Series::all() {
            let value = reading.get(series).map(|value| value.to_string());
            write!(text, ",{}", value.unwrap_or_default()).unwrap();
        }
        text.push('\n');
    }
    text
}

#[test]
fn a_week_that_pages_too_often_fails_the_command_and_a_calm_one_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let mut weeks = Weeks::new(11);
    let step = TimeDelta::minutes(5);
    let past = file(
        "past.csv",
        &csv(&weeks.readings(monday(0), monday(4), step, |_| 1.0)),
    );
    let week = weeks.readings(monday(4), monday(5), TimeDelta::minutes(1), |_| 1.0);
    let calm = file("calm.csv", &csv(&week));
    let from = monday(4).to_rfc3339();

    let (status, said) = evenkeel(&["test", "--history", &past, &calm, "--from", &from]);
    assert_eq!(status, Some(0), "{said}");
    assert!(
        said.contains("0.0 pages a week, within the budget of 1"),
        "{said}"
    );

    let begin = monday(4) + TimeDelta::hours(58);
    let full: Vec<Reading> = week
        .into_iter()
        .map(|reading| {
            let into = reading.at - begin;
            let locked = into > TimeDelta::zero() && into < TimeDelta::minutes(135);
            if locked {
                reading
                    .with(Series::CONNECTIONS_USED, 1.0)
                    .with(Series::LOCK_WAITERS, 16.0)
            } else {
                reading
            }
        })
        .collect();
    let outage = file("outage.csv", &csv(&full));
    let (status, said) = evenkeel(&["test", "--history", &outage]);
    assert_eq!(status, Some(1), "{said}");
    assert!(
        said.contains("2024-06-05 10:02:00 page    connections-used-up"),
        "{said}"
    );
    assert!(said.contains("for 2h 18m"), "{said}");
    assert!(
        said.contains("2.0 pages a week, above the budget of 1"),
        "{said}"
    );
    assert!(said.contains("they need 3 weeks of history"), "{said}");

    // The same as JSON lines, under rules that bear it.
    let lines: String = full
        .iter()
        .map(|reading| {
            let mut object = serde_json::json!(reading.known());
            object["at"] = serde_json::json!(reading.at);
            format!("{object}\n")
        })
        .collect();
    let lines = file("outage.jsonl", &lines);
    let rules = evenkeel::watch::alerts::rules::DEFAULT;
    let patient = file(
        "patient.toml",
        &rules.replace("pages_per_week = 1", "pages_per_week = 2"),
    );
    let (status, said) = evenkeel(&["test", "--rules", &patient, "--history", &lines, "--json"]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains(r#""rule":"lock-queue""#), "{said}");
}

#[tokio::test]
async fn the_shops_own_history_can_be_replayed() {
    let database = server::empty_database().await;
    let url = database.to_url_lossy().to_string();
    let (status, said) = evenkeel_on(&url, &["test", "--from-database"]);
    assert_eq!(status, Some(1));
    assert!(said.contains("there is no reading to replay"), "{said}");

    let mut evaluator = Evaluator::new(Rules::load(None).unwrap());
    let step = TimeDelta::seconds(30);
    for reading in
        Weeks::new(12).readings(monday(0), monday(0) + TimeDelta::hours(3), step, |_| 1.0)
    {
        let full = reading.at > monday(0) + TimeDelta::hours(2);
        let used = if full {
            Some(1.0)
        } else {
            reading.get(Series::CONNECTIONS_USED)
        };
        evaluator.observe(&reading.with(Series::CONNECTIONS_USED, used));
    }
    let mut conn = database.connect().await.unwrap();
    history::save(&mut conn, &evaluator.take_unsaved())
        .await
        .unwrap();

    let (status, said) = evenkeel_on(&url, &["test", "--from-database"]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("connections-used-up: The database"), "{said}");
    assert!(
        said.contains("1.0 pages a week, within the budget"),
        "{said}"
    );
}

#[test]
fn rules_are_checked_and_said_in_sentences() {
    let (status, said) = evenkeel(&["check"]);
    assert_eq!(status, Some(0));
    assert!(
        said.contains("rules, ") && said.contains("of them page"),
        "{said}"
    );
    let (_, said) = evenkeel(&["list"]);
    assert!(
        said.contains("database.connections_used is above 0.95, for 1m"),
        "{said}"
    );

    let directory = tempfile::tempdir().unwrap();
    let wrong = directory.path().join("wrong.toml");
    fs::write(&wrong, "pages_per_week = 1\n\nthresholds = []\n").unwrap();
    let wrong = wrong.to_str().unwrap();
    let (status, said) = evenkeel(&["check", "--rules", wrong]);
    assert_eq!(status, Some(1));
    assert!(
        said.contains(&format!("{wrong}:3: unknown field `thresholds`")),
        "{said}"
    );
    let (status, said) = evenkeel(&["test", "--history", wrong]);
    assert_eq!(status, Some(1));
    assert!(
        said.contains(&format!("{wrong}:1: nothing called")),
        "{said}"
    );
    let (status, said) = evenkeel(&["test"]);
    assert_eq!(status, Some(2), "{said}");
    let (_, said) = evenkeel(&["test", "--history", wrong, "--from", "Monday"]);
    assert!(said.contains("write it like"), "{said}");
}
