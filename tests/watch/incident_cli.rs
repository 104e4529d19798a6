//! What a person types about incidents, as a process of its own.

use std::path::Path;
use std::process::Output;

use evenkeel::watch::incident::Stage;
use evenkeel::watch::log::Log;
use evenkeel::watch::record;
use serde_json::Value;
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;

use super::escalation::asked;
use super::story::{Story, felt, whole};
use crate::migration::process::evenkeel_on;
use crate::support::server;

struct Terminal {
    database: PgConnectOptions,
    directory: tempfile::TempDir,
}

impl Terminal {
    async fn new() -> Self {
        Self {
            database: server::empty_database().await,
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// One whose database does not answer.
    fn without_database() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let nowhere = PgConnectOptions::new_without_pgpass()
            .socket(directory.path())
            .username("nobody")
            .database("nothing");
        Self {
            database: nowhere,
            directory,
        }
    }

    fn journal(&self) -> std::path::PathBuf {
        self.directory.path().join("journal")
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = evenkeel_on(&self.database, &[&["incident"], arguments].concat());
        command
            .env("EVENKEEL_WATCH__JOURNAL", self.journal())
            .current_dir(self.directory.path())
            .stdout(std::process::Stdio::piped());
        command.output().await.unwrap()
    }

    /// What it prints.
    async fn said(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Why it fails.
    async fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

async fn written(story: &Story, journal: &Path) {
    let log = Log::open(journal.to_owned()).await.unwrap();
    for event in &story.events {
        log.append(event.clone()).await;
    }
}

#[tokio::test]
async fn incidents_are_listed_shown_taken_care_of_and_ended() {
    let terminal = Terminal::new().await;
    let mut sql = terminal.database.connect().await.unwrap();
    assert!(terminal.said(&["list"]).await.contains("no incident"));
    let mut story = Story::open("browse suffers");
    story.add(1.0, "watch", felt(0.5, 900.0));
    record::store(&mut sql, &story.events).await.unwrap();
    let id = story.id.to_string();
    let short = &id[..13];

    let listed = terminal.said(&["list"]).await;
    assert!(
        listed.contains(short) && listed.contains("browse suffers"),
        "{listed}"
    );
    let shown = terminal.said(&["show", short]).await;
    assert!(
        shown.contains("nobody takes care yet") && shown.contains("50 % of"),
        "{shown}"
    );
    let taken = terminal.said(&["ack", &short[..8], "--by", "Ana"]).await;
    assert!(taken.contains("Ana"), "{taken}");
    terminal
        .said(&["note", short, "it was | the\nscript"])
        .await;
    let json = terminal.said(&["show", short, "--json"]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["acknowledged"][0], "Ana");
    terminal.said(&["resolve", short, "--by", "Ana"]).await;
    let over = record::find(&mut sql, story.id).await.unwrap();
    assert_eq!(over.stage, Stage::Resolved);
    // Summed up from the readings: a second of 2,000 requests per second.
    let impact = over.impact.unwrap();
    let arrived: u64 = impact.arrived.iter().map(|(_, count)| count).sum();
    assert_eq!(arrived, 2000);
    let list: Value = serde_json::from_str(&terminal.said(&["list", "--json"]).await).unwrap();
    assert_eq!(list[0]["stage"], "resolved");
}

#[tokio::test]
async fn what_the_watch_asks_for_is_allowed_once() {
    let terminal = Terminal::new().await;
    let mut sql = terminal.database.connect().await.unwrap();
    let mut story = Story::open("browse suffers");
    story.add(1.0, "watch", asked(4711));
    let last = story.add(2.0, "watch", asked(4712));
    record::store(&mut sql, &story.events).await.unwrap();
    let id = story.id.to_string();
    let shown = terminal.said(&["show", &id]).await;
    assert!(shown.contains("evenkeel incident allow"), "{shown}");
    let said = terminal.said(&["allow", &id, "--by", "Ana"]).await;
    assert!(said.contains("nightly-reprice"), "{said}");
    let known = record::find(&mut sql, story.id).await.unwrap();
    assert!(known.is_permitted(last.id));
    terminal.said(&["allow", &id, "--by", "Ana"]).await;
    let refused = terminal.refused(&["allow", &id, "--by", "Ana"]).await;
    assert!(refused.contains("asks for nothing"), "{refused}");
}

#[tokio::test]
async fn a_report_is_written_where_it_is_wanted() {
    let terminal = Terminal::new().await;
    let mut sql = terminal.database.connect().await.unwrap();
    let story = whole();
    record::store(&mut sql, &story.events).await.unwrap();
    let id = story.id.to_string();
    let said = terminal.said(&["report", &id]).await;
    let out = terminal
        .directory
        .path()
        .join(format!("incident-{}", &id[..13]));
    assert!(
        said.contains("postmortem.md") && out.join("timeline.svg").exists(),
        "{said}"
    );
    let wanted = terminal.directory.path().join("wanted");
    terminal
        .said(&["report", &id, "--out", wanted.to_str().unwrap()])
        .await;
    let document = std::fs::read_to_string(wanted.join("postmortem.md")).unwrap();
    assert!(document.contains("Ana Díaz"), "{document}");
}

#[tokio::test]
async fn mistakes_are_explained() {
    let terminal = Terminal::new().await;
    let mut sql = terminal.database.connect().await.unwrap();
    let story = whole();
    record::store(&mut sql, &story.events).await.unwrap();
    let id = story.id.to_string();
    for (arguments, said) in [
        (
            vec!["show", "ffff"],
            "no incident ffff; `evenkeel incident list`",
        ),
        (vec!["show", "what?"], "`what?` is no incident's id"),
        (vec!["ack", &id], "is over"),
        (vec!["resolve", &id], "is over"),
        (vec!["note", &id, "  "], "a note has words"),
        (vec!["note", &id, "x", "--by", " "], "say who you are"),
        (vec!["report", &id, "--out", "/proc/nowhere"], "--out"),
    ] {
        let refused = terminal.refused(&arguments).await;
        assert!(refused.contains(said), "{arguments:?}: {refused}");
    }
}

#[tokio::test]
async fn without_a_database_the_journal_is_read_and_written_and_that_is_said() {
    let terminal = Terminal::without_database();
    let story = Story::open("the database is lost");
    written(&story, &terminal.journal()).await;
    let id = story.id.to_string();
    let listed = terminal.run(&["list"]).await;
    let (out, err) = (
        String::from_utf8(listed.stdout).unwrap(),
        String::from_utf8(listed.stderr).unwrap(),
    );
    assert!(out.contains("the database is lost"), "{out}");
    assert!(
        err.contains("the database does not answer") && err.contains("journal"),
        "{err}"
    );
    // A shop process that runs meanwhile hears of what is written here.
    let log = Log::open(terminal.journal()).await.unwrap();
    terminal.said(&["ack", &id[..13], "--by", "Ana"]).await;
    terminal.said(&["note", &id[..13], "on my way"]).await;
    log.reread().await.unwrap();
    let known = log.incident(story.id).unwrap();
    assert_eq!(known.acknowledged.unwrap().0, "Ana");
    assert_eq!(known.events.len(), 3);
    terminal.said(&["report", &id[..13]]).await;
}

#[tokio::test]
async fn an_embedded_server_that_is_gone_is_no_obstacle_either() {
    let terminal = Terminal::without_database();
    let mut command = evenkeel_on(&terminal.database, &["incident", "list"]);
    // Something else stands where its data should be.
    let data = terminal.directory.path().join("data");
    std::fs::write(&data, "").unwrap();
    std::fs::create_dir_all(terminal.journal()).unwrap();
    command
        .env_remove("DATABASE_URL")
        .env("EVENKEEL_WATCH__JOURNAL", terminal.journal())
        .args(["--data-dir", data.to_str().unwrap()]);
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("journal"), "{said}");
}

#[tokio::test]
async fn a_shop_process_keeps_the_record_and_takes_what_the_command_line_says() {
    let terminal = Terminal::new().await;
    let mut sql = terminal.database.connect().await.unwrap();
    let story = Story::open("an earlier process began this");
    written(&story, &terminal.journal()).await;
    let mut shop = evenkeel_on(
        &terminal.database,
        &[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--ops-listen",
            "127.0.0.1:0",
        ],
    );
    let mut shop = shop
        .env("EVENKEEL_WATCH__JOURNAL", terminal.journal())
        .spawn()
        .unwrap();
    let waits = tokio::time::timeout(std::time::Duration::from_secs(60), async {
        while record::find(&mut sql, story.id).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        terminal
            .said(&["ack", &story.id.to_string(), "--by", "Ana"])
            .await;
    });
    waits.await.unwrap();
    shop.kill().await.unwrap();
    let known = record::find(&mut sql, story.id).await.unwrap();
    assert_eq!(known.acknowledged.unwrap().0, "Ana");
}
