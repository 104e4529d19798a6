//! What the command line says, read as somebody who does not know it would.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};

use super::fixture::{PATIENCE, migration};
use super::process::{evenkeel, evenkeel_on, url};
use crate::support::server;

/// Somebody else's database with a table `t` of 40 rows.
struct Foreign {
    database: PgConnectOptions,
    definitions: tempfile::TempDir,
}

impl Foreign {
    async fn new() -> Self {
        let foreign = Self {
            database: server::blank_database().await,
            definitions: tempfile::tempdir().unwrap(),
        };
        foreign
            .run(
                "CREATE TABLE t (a bigint, b text, n int, PRIMARY KEY (a, b));
                  INSERT INTO t SELECT i, 'it''s ' || i FROM generate_series(1, 40) AS i",
            )
            .await;
        foreign.declare("fill", &fill());
        foreign
    }

    fn declare(&self, name: &str, text: &str) {
        std::fs::write(self.file(name), text).unwrap();
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.definitions.path().join(format!("{name}.sql"))
    }

    async fn run(&self, sql: &str) {
        let mut conn = self.database.connect().await.unwrap();
        let done = conn.execute(AssertSqlSafe(sql.to_owned())).await;
        done.unwrap_or_else(|err| panic!("{err}: {sql}"));
    }

    /// What is said to `arguments`, and how it ends.
    async fn says(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let url = url(&self.database);
        let directory = self.definitions.path().to_str().unwrap();
        let flags = ["--database-url", &url, "--dir", directory];
        let mut command = evenkeel(&[&["migrate"], arguments, &flags].concat());
        command.env("EVENKEEL_LOG", "error");
        let output = command.stdout(std::process::Stdio::piped()).output().await;
        let output = output.unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), said)
    }

    async fn done(&self, arguments: &[&str]) -> String {
        let (code, said) = self.says(arguments).await;
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
        said
    }
}

fn fill() -> String {
    let text = migration(
        "-- table: t\n-- pending: n IS NULL",
        "UPDATE t SET n = 1 WHERE :range",
    );
    format!("{text}\n-- down\nUPDATE t SET n = NULL WHERE :range\n")
}

/// The first command that `said` advises, as a shell reads it.
fn advised(said: &str) -> String {
    let begin = said
        .find("`evenkeel migrate run")
        .unwrap_or_else(|| panic!("{said}"));
    let advice = &said[begin + 1..];
    advice[..advice.find('`').unwrap()].to_owned()
}

/// Types `command` into a shell.
async fn type_in(command: &str) -> (bool, String) {
    let binary = env!("CARGO_BIN_EXE_evenkeel");
    let command = command.replacen("evenkeel", binary, 1);
    let mut shell = tokio::process::Command::new("sh");
    shell
        .arg("-c")
        .arg(command)
        .env_remove("DATABASE_URL")
        .env("EVENKEEL_LOG", "error");
    let output = tokio::time::timeout(PATIENCE, shell.output())
        .await
        .unwrap()
        .unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.success(), said)
}

#[tokio::test]
async fn a_run_that_nobody_is_there_to_take_says_so_and_the_hint_works_as_typed() {
    let foreign = Foreign::new().await;
    let nobody = "no process is there to take it";
    let said = foreign.done(&["start", "fill"]).await;
    assert!(said.contains(nobody), "{said}");
    let status = foreign.done(&["status", "fill"]).await;
    assert!(
        status.contains("queued") && status.contains(nobody),
        "{status}"
    );
    assert_eq!(advised(&status), advised(&said));
    let (went, ran) = type_in(&advised(&said)).await;
    assert!(went && ran.contains("40 rows changed"), "{ran}");

    let said = foreign.done(&["undo", "fill"]).await;
    assert!(said.contains(nobody), "{said}");
    foreign.done(&["pause", "fill"]).await;
    let said = foreign.done(&["resume", "fill"]).await;
    assert!(said.contains(nobody), "{said}");
    let (went, ran) = type_in(&advised(&said)).await;
    assert!(went && ran.contains("40 rows changed"), "{ran}");
    // After the way back it is not complete.
    foreign.done(&["start", "fill"]).await;
}

#[tokio::test]
async fn a_shop_that_takes_no_runs_does_not_count_and_one_that_does_is_relied_on() {
    let foreign = Foreign::new().await;
    foreign.done(&["start", "fill"]).await;
    foreign.done(&["cancel", "fill"]).await;
    let process = |name: &str, takes: &str| {
        format!(
            "INSERT INTO evenkeel.readings VALUES ('{name}', 1, clock_timestamp(), '{{{takes}}}')"
        )
    };
    // A process of the version before says nothing of it.
    foreign.run(&process("old", "")).await;
    foreign.run(&process("idle", "\"takes_runs\": false")).await;
    let said = foreign.done(&["start", "fill"]).await;
    assert!(
        said.contains("2 of the shop are, with `migration.enabled` = false"),
        "{said}"
    );
    foreign.run(&process("busy", "\"takes_runs\": true")).await;
    let said = foreign.done(&["status", "fill"]).await;
    assert!(
        said.contains("a process of the shop will take it"),
        "{said}"
    );
    foreign
        .run("UPDATE evenkeel.readings SET at = at - interval '1 minute'")
        .await;
    let said = foreign.done(&["status", "fill"]).await;
    assert!(said.contains("no process is there to take it:"), "{said}");
}

#[tokio::test]
async fn a_running_shop_is_there_to_take_runs() {
    let shop = server::empty_database().await;
    let mut serve = evenkeel_on(
        &shop,
        &[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--ops-listen",
            "127.0.0.1:0",
        ],
    );
    let mut serving = serve.spawn().unwrap();
    let mut conn = shop.connect().await.unwrap();
    let there = async {
        let takes =
            "SELECT EXISTS (SELECT FROM evenkeel.readings WHERE body->'takes_runs' = 'true')";
        while !sqlx::query_scalar::<_, bool>(takes)
            .fetch_one(&mut conn)
            .await
            .unwrap()
        {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, there).await.unwrap();
    let mut start = evenkeel_on(&shop, &["migrate", "start", "accounts_email_key"]);
    let output = start
        .stdout(std::process::Stdio::piped())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(
        said.contains("a process of the shop will take it"),
        "{said}"
    );
    serving.kill().await.unwrap();
}

#[tokio::test]
async fn an_unknown_name_is_told_apart_from_one_that_was_never_started() {
    let foreign = Foreign::new().await;
    for command in [
        "status",
        "pause",
        "resume",
        "cancel",
        "certificate",
        "quarantine",
        "retry",
        "verify",
        "undo",
        "plan",
        "start",
    ] {
        let (code, said) = foreign.says(&[command, "fil"]).await;
        assert_eq!(code, Some(1), "{command}: {said}");
        assert!(
            said.contains("there is no migration `fil`"),
            "{command}: {said}"
        );
        assert!(said.contains("did you mean `fill`?"), "{command}: {said}");
        assert!(
            said.contains("`evenkeel migrate list --dir "),
            "{command}: {said}"
        );
    }
    for more in [
        &["run", "nosuch", "--standalone"][..],
        &[
            "throttle", "nosuch", "--for", "1m", "--duty", "0", "--why", "t",
        ],
        &[
            "spend",
            "nosuch",
            "--for",
            "1m",
            "--extra-ms",
            "1",
            "--why",
            "t",
        ],
    ] {
        let (code, said) = foreign.says(more).await;
        assert_eq!(code, Some(1), "{more:?}: {said}");
        assert!(
            said.contains("there is no migration `nosuch`"),
            "{more:?}: {said}"
        );
        assert!(!said.contains("did you mean"), "{more:?}: {said}");
    }
    let (code, said) = foreign.says(&["status", "fill"]).await;
    assert!(
        code == Some(1) && said.contains("`fill` has never been started"),
        "{said}"
    );
}

#[tokio::test]
async fn a_run_whose_file_is_gone_can_be_looked_at_controlled_and_taken_back() {
    let foreign = Foreign::new().await;
    foreign.done(&["start", "fill"]).await;
    std::fs::remove_file(foreign.file("fill")).unwrap();
    let list = foreign.done(&["list"]).await;
    assert!(
        list.contains("fill") && list.contains("its file is gone"),
        "{list}"
    );
    foreign.done(&["pause", "fill"]).await;
    foreign.done(&["resume", "fill"]).await;
    let ran = foreign.done(&["run", "fill", "--standalone"]).await;
    assert!(ran.contains("40 rows changed"), "{ran}");
    for command in [
        "status",
        "certificate",
        "verify",
        "quarantine",
        "undo",
        "cancel",
    ] {
        foreign.done(&[command, "fill"]).await;
    }
    let (code, said) = foreign.says(&["start", "fill"]).await;
    assert!(
        code == Some(1) && said.contains("there is no migration `fill` in"),
        "{said}"
    );
}

#[tokio::test]
async fn one_broken_file_does_not_hide_the_others() {
    let foreign = Foreign::new().await;
    foreign.declare("broken", "-- title: T\nUPDATE t SET n = 1 WHERE :range\n");
    std::fs::write(foreign.file("latin"), b"-- title: \xe9\n").unwrap();
    std::fs::create_dir(foreign.file("folder")).unwrap();
    let (code, said) = foreign.says(&["list"]).await;
    assert_eq!(code, Some(1), "{said}");
    let line = |name: &str| said.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(line("fill").contains("never run"), "{said}");
    assert!(line("broken").contains("BROKEN: broken.sql:"), "{said}");
    assert!(line("latin").contains("BROKEN: "), "{said}");
    assert!(line("folder").contains("BROKEN: "), "{said}");
    foreign.done(&["start", "fill"]).await;
}

#[tokio::test]
async fn what_is_set_aside_is_told_by_the_names_and_values_of_the_key() {
    let foreign = Foreign::new().await;
    foreign
        .run("ALTER TABLE t ADD CONSTRAINT few CHECK (n IS NULL OR a NOT IN (1, 30))")
        .await;
    foreign.declare(
        "fill",
        &fill().replace("-- pending", "-- batch_max: 1\n-- pending"),
    );
    let (code, said) = foreign.says(&["run", "fill", "--standalone"]).await;
    assert_eq!(code, Some(1), "{said}");
    let first = "from the beginning up to (a, b) = (1, 'it''s 1')";
    let later = "after (a, b) = (29, 'it''s 29') up to (30, 'it''s 30')";
    for command in ["status", "quarantine"] {
        let said = foreign.done(&[command, "fill"]).await;
        assert!(
            said.contains(first) && said.contains(later),
            "{command}: {said}"
        );
        assert!(!said.contains("Some("), "{command}: {said}");
    }
    let status = foreign.done(&["status", "fill"]).await;
    let second = status.lines().nth(1).unwrap();
    assert!(
        second.starts_with("  because 2 rows are still pending"),
        "{status}"
    );
    let (code, said) = foreign.says(&["verify", "fill"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("(a, b) = ("), "{said}");
    foreign.run("ALTER TABLE t DROP CONSTRAINT few").await;
    foreign.done(&["retry", "fill"]).await;
    foreign.done(&["run", "fill", "--standalone"]).await;
    let certificate = foreign.done(&["certificate", "fill"]).await;
    assert!(
        certificate.contains(later) && !certificate.contains("Some("),
        "{certificate}"
    );
}

#[tokio::test]
async fn a_plan_of_what_cannot_end_says_so_first_and_ends_with_1() {
    let foreign = Foreign::new().await;
    let endless = migration(
        "-- table: t\n-- pending: b IS NOT NULL",
        "UPDATE t SET n = 1 WHERE :range",
    );
    foreign.declare("endless", &endless);
    let (code, said) = foreign.says(&["plan", "endless"]).await;
    assert_eq!(code, Some(1), "{said}");
    let first = said.lines().next().unwrap();
    assert!(first.contains("`b IS NOT NULL` false"), "{said}");
    let (code, said) = foreign.says(&["plan", "endless", "--json"]).await;
    assert_eq!(code, Some(1), "{said}");
    let document = &said[..said.rfind('}').unwrap() + 1];
    let document: serde_json::Value = serde_json::from_str(document).unwrap();
    assert!(
        document["stays_pending"]["rows"].as_i64() > Some(0),
        "{document}"
    );
    assert_eq!(document["pending"]["from"], "counted");
}

#[tokio::test]
async fn only_a_run_whose_lease_ran_out_is_silent() {
    let foreign = Foreign::new().await;
    foreign.done(&["start", "fill"]).await;
    foreign
        .run(
            "UPDATE evenkeel.runs SET state = 'running', lease_holder = 'somebody',
                     lease_until = clock_timestamp() + interval '1 hour'",
        )
        .await;
    let said = foreign.done(&["status", "fill"]).await;
    assert!(!said.contains("silent"), "{said}");
    foreign
        .run(
            "UPDATE evenkeel.runs
                SET pace = '{\"duty\": 1, \"causes\": [{\"source\": \"retrying\", \"verdict\": \"normal\", \"reason\": \"busy\"}]}'",
        )
        .await;
    let said = foreign.done(&["status", "fill"]).await;
    assert!(said.contains("\n  tries again after: busy"), "{said}");
    // It says that it is alive, so it waits for something.
    foreign
        .run(
            "UPDATE evenkeel.runs SET lease_until = clock_timestamp() - interval '2 minutes';
             INSERT INTO evenkeel.readings VALUES ('somebody', 1, clock_timestamp(), '{}')",
        )
        .await;
    let said = foreign.done(&["status", "fill"]).await;
    assert!(!said.contains("silent"), "{said}");
    assert!(said.contains("its lease has run out"), "{said}");
    assert!(
        said.contains("somebody has not renewed its lease"),
        "{said}"
    );
    foreign.run("DELETE FROM evenkeel.readings").await;
    // A server that has only just started has not been there for it either.
    let mut admin = foreign.database.connect().await.unwrap();
    let age = "SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())::float8";
    let said = loop {
        let said = foreign.done(&["status", "fill"]).await;
        let age: f64 = sqlx::query_scalar(age).fetch_one(&mut admin).await.unwrap();
        if said.contains("its process is silent") {
            assert!(age > 15.0, "{age}: {said}");
            break said;
        }
        assert!(said.contains("its lease has run out"), "{said}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(
        said.contains("somebody was to renew its lease 2 minutes ago"),
        "{said}"
    );
    assert!(
        said.contains("`evenkeel migrate run fill --standalone "),
        "{said}"
    );
}

/// What `list` says of the rows stays true whatever is queued, cancelled or done on top of it.
#[tokio::test]
async fn the_list_says_how_the_rows_stand_whatever_the_newest_run_is_about_to_do() {
    let foreign = Foreign::new().await;
    let lists = async |wanted: &str| {
        let list = foreign.done(&["list"]).await;
        assert!(list.contains(wanted), "{wanted}: {list}");
    };
    lists("never run").await;
    foreign.done(&["run", "fill", "--standalone"]).await;
    lists(" completed ").await;
    foreign.done(&["undo", "fill"]).await;
    lists("undo queued (before: completed)").await;
    foreign.done(&["cancel", "fill"]).await;
    lists("undo cancelled (before: completed)").await;
    foreign.done(&["undo", "fill"]).await;
    foreign.done(&["run", "fill", "--standalone"]).await;
    lists(" taken back ").await;
    let (code, said) = foreign.says(&["undo", "fill"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("`fill` is taken back: run 3 did that"),
        "{said}"
    );
    foreign.done(&["undo", "fill", "--again"]).await;
    lists("undo queued (before: taken back)").await;
    foreign.done(&["run", "fill", "--standalone"]).await;
    foreign.done(&["run", "fill", "--standalone"]).await;
    lists(" completed ").await;
}

#[tokio::test]
async fn a_plan_whose_batches_all_fail_says_so_first_and_ends_with_one() {
    for (prepare, why) in [
        (
            "ALTER TABLE t REPLICA IDENTITY NOTHING; CREATE PUBLICATION p FOR TABLE t",
            "replica identity",
        ),
        (
            "ALTER TABLE t ADD CHECK (n IS NULL)",
            "violates check constraint",
        ),
    ] {
        let foreign = Foreign::new().await;
        foreign.run(prepare).await;
        let (code, said) = foreign.says(&["plan", "fill"]).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.starts_with("DO NOT START fill: "), "{said}");
        assert!(said.contains(why), "{said}");
        let (code, said) = foreign.says(&["plan", "fill", "--json"]).await;
        assert!(code == Some(1) && said.contains("\"hopeless\""), "{said}");
    }
}

#[tokio::test]
async fn after_a_failed_way_back_the_advice_goes_the_same_way() {
    let foreign = Foreign::new().await;
    foreign.done(&["run", "fill", "--standalone"]).await;
    foreign.done(&["undo", "fill"]).await;
    foreign.run("ALTER TABLE t RENAME COLUMN n TO m").await;
    let (code, said) = foreign.says(&["run", "fill", "--standalone"]).await;
    assert_eq!(code, Some(1), "{said}");
    let status = foreign.done(&["status", "fill"]).await;
    assert!(status.contains("`evenkeel migrate undo fill"), "{status}");
    assert!(!status.contains("migrate start fill"), "{status}");
}
