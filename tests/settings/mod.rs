//! Settings: what is printed of them, what is said of wrong ones, and that none makes a panic.

mod told;

use std::path::Path;

use evenkeel::config::print::{print, schema};
use evenkeel::config::{ConfigError, Settings};
use serde_json::Value;

use crate::migration::process::{evenkeel, url};
use crate::support::{TestApp, server};

/// A setting that a file can set by `[table]` and `key = value`.
struct Leaf {
    table: String,
    key: String,
    schema: Value,
}

impl Leaf {
    fn name(&self) -> String {
        format!("{}.{}", self.table, self.key)
    }

    fn is_number(&self) -> bool {
        let text = self.schema["type"].to_string();
        text.contains("integer") || text.contains("number") || self.is_time()
    }

    fn is_time(&self) -> bool {
        self.schema["format"] == "duration"
    }
}

/// Every setting of the schema, and every description that is missing.
fn walk(table: &str, schema: &Value, leaves: &mut Vec<Leaf>, bare: &mut Vec<String>) {
    let properties = schema["properties"].as_object().unwrap();
    for (key, property) in properties {
        let name = format!("{table}.{key}");
        let described = property["description"].as_str().unwrap_or_default();
        // Which kind a table is of says the table.
        if described.len() < 8 && property["const"].is_null() {
            bare.push(name.clone());
        }
        let below = name.trim_start_matches('.');
        if property["properties"].is_object() {
            walk(below, property, leaves, bare);
        } else if property["items"]["properties"].is_object() {
            // Of tables that can be many, the descriptions count.
            walk(below, &property["items"], &mut Vec::new(), bare);
        } else if let Some(kinds) = property["items"]["oneOf"].as_array() {
            for kind in kinds {
                walk(below, kind, &mut Vec::new(), bare);
            }
        } else {
            leaves.push(Leaf {
                table: table.to_owned(),
                key: key.clone(),
                schema: property.clone(),
            });
        }
    }
}

fn leaves() -> Vec<Leaf> {
    let (mut leaves, mut bare) = (Vec::new(), Vec::new());
    walk("", &schema(), &mut leaves, &mut bare);
    assert!(leaves.len() > 80, "{}", leaves.len());
    assert!(bare.is_empty(), "what do these mean? {bare:?}");
    leaves
}

fn load(directory: &Path, text: &str) -> Result<Settings, ConfigError> {
    let file = directory.join("evenkeel.toml");
    std::fs::write(&file, text).unwrap();
    Settings::load(Some(&file))
}

#[test]
fn every_setting_is_printed_with_what_it_means() {
    let printed = print(&Settings::default()).unwrap();
    for leaf in leaves() {
        let table = printed.split(&format!("[{}]\n", leaf.table)).nth(1);
        let table = table.unwrap_or_else(|| panic!("[{}] is missing", leaf.table));
        let table = table.split("\n\n").next().unwrap();
        let line = |line: &&str| {
            let line = line.strip_prefix("# ").unwrap_or(line);
            line.starts_with(&format!("{} = ", leaf.key))
        };
        let lines: Vec<_> = table.lines().collect();
        let at = lines.iter().position(line);
        let at = at.unwrap_or_else(|| panic!("{} is missing", leaf.name()));
        let about = lines[at - 1];
        let told = about.starts_with("# Default: ") || about.starts_with("# Unset by default");
        assert!(
            told && lines[at - 2].starts_with("# "),
            "{}: {about}",
            leaf.name()
        );
    }
    // What is unset is told, too, in tables of which there are none.
    for unset in [
        "# [[watch.breaker.rules]]",
        "# routing_key",
        "# owner",
        "# acknowledge_within",
    ] {
        assert!(printed.contains(unset), "{unset} is missing");
    }
}

#[tokio::test]
async fn what_config_prints_is_a_settings_file_that_says_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("evenkeel.toml");
    std::fs::write(
        &file,
        "[database]\nurl = 'postgres://shop@database/shop'\n\
         [pool.browse]\nhold = '1s'\n\
         [[watch.breaker.rules]]\nrole = 'cron'\npolicy = 'never'\n\
         [[watch.notify.channels]]\nkind = 'webhook'\nname = 'hook'\nurl = 'https://hook.example/'\n\
         secret_env = 'HOOK'\n\
         [[watch.notify.channels]]\nkind = 'email'\nname = 'mail'\nhost = 'mail.example'\n\
         from = 'a@shop.example'\nto = ['b@shop.example']\n",
    )
    .unwrap();
    let config = async |file: &Path| {
        let file = file.to_str().unwrap();
        let mut command = evenkeel(&["--config", file, "config"]);
        command.env("EVENKEEL_WATCH__JOURNAL", "/var/lib/journal");
        let said = command.stdout(std::process::Stdio::piped()).output().await;
        let said = said.unwrap();
        assert!(said.status.success(), "{said:?}");
        String::from_utf8(said.stdout).unwrap()
    };
    let first = config(&file).await;
    for set in [
        "hold = \"1s\"",
        "role = \"cron\"",
        "host = \"mail.example\"",
        "url = \"https://hook",
    ] {
        assert!(first.contains(&format!("\n{set}")), "{set}: {first}");
    }
    std::fs::write(&file, &first).unwrap();
    assert_eq!(config(&file).await, first);
}

#[test]
fn secrets_are_in_nothing_that_is_printed() {
    let directory = tempfile::tempdir().unwrap();
    let text = "[database]\nurl = 'postgres://shop:geheim@database/shop?password=geheim'\n\
                direct_url = 'postgres://shop:geheim@direct/shop'\n\
                [ops]\nadmin_token = 'geheim-geheim-geheim-geheim'\n\
                [watch]\ndatabase_url = 'postgres://watch:geheim@database/shop'\n\
                [watch.notify]\nticket_key = 'geheim-geheim-geheim-geheim-geheim'\n\
                [[watch.notify.channels]]\nkind = 'slack'\nname = 'chat'\nurl = 'https://geheim/'\n";
    let settings = load(directory.path(), text).unwrap();
    let printed = print(&settings).unwrap();
    for shown in [&printed, &format!("{settings:?}")] {
        assert!(!shown.contains("geheim"), "{shown}");
        assert!(shown.contains("(hidden)") && shown.contains("postgres://shop@database/shop"));
    }
    // Used as a file, it lacks what is needed of them, and says what.
    let said = load(directory.path(), &printed).unwrap_err().to_string();
    assert!(said.contains("`chat` needs url"), "{said}");
    for wrong in [
        "[ops]\nadmin_token = 4711",
        "[database]\nurl = 4711",
        "[watch.notify]\nticket_key = 4711",
        "[watch.notify]\nticket_key = ['4711']",
        "[database]\nurl = 'postgres://a@b/c'\ndirect_url = 'shop:4711@database'",
    ] {
        let said = load(directory.path(), wrong).unwrap_err().to_string();
        assert!(!said.contains("4711"), "{said}");
    }
}

#[test]
fn a_wrong_setting_is_named_with_its_place_and_the_nearest_one() {
    let directory = tempfile::tempdir().unwrap();
    for (text, parts) in [
        (
            "[pool]\nsise = 3",
            &["pool.sise is not a setting", "did you mean pool.size?"][..],
        ),
        (
            "[poll]\nsize = 3",
            &["poll is not a setting", "did you mean pool?"],
        ),
        (
            "[pool.browse]\nmaxx = 3",
            &["pool.browse.maxx", "pool.browse.max?"],
        ),
        (
            "[pool]\nsize = 'many'",
            &["pool.size", "many", "evenkeel.toml"],
        ),
        ("[http]\nrequest_timeout = '5'", &["http.request_timeout"]),
        (
            "[log]\nformat = 'xml'",
            &["log.format", "xml", "text", "json"],
        ),
        (
            "[[watch.breaker.rules]]\npolicy = 'terminate'",
            &[
                "watch.breaker.rules",
                "rule 1",
                "neither role nor application",
            ],
        ),
        (
            "[http]\nlisten = '127.0.0.1:9000'\n[ops]\nlisten = '0.0.0.0:9000'",
            &["http.listen", "ops.listen", "one port"],
        ),
        (
            "[migration]\nlease = '1s'",
            &["migration.lease (1s)", "migration.statement_timeout is 4s"],
        ),
        (
            "[pace]\nduty_min = 0.5\nduty_max = 0.2",
            &["pace.duty_min is 0.5", "pace.duty_max (0.2)"],
        ),
    ] {
        let said = load(directory.path(), text).unwrap_err().to_string();
        for part in parts {
            assert!(said.contains(part), "{text}: {said}");
        }
    }
}

/// Any value in any setting is refused with a sentence that names it, or the shop runs with it.
#[tokio::test]
async fn no_value_of_a_setting_makes_a_panic() {
    let directory = tempfile::tempdir().unwrap();
    let database = server::empty_database().await;
    let numbers = [
        "nan",
        "inf",
        "-inf",
        "0",
        "-1",
        "0.0",
        "1e308",
        "9223372036854775807",
        "4294967295",
    ];
    let times = [
        "'0s'",
        "'1ns'",
        "'100000000years'",
        "'500000000000years'",
        "'-1s'",
        "''",
        "0",
        "nan",
    ];
    let others = ["true", "[]", "''", "'x'", "{}", "['']"];
    let (mut refused, mut ran) = (0, 0);
    for leaf in leaves() {
        let values = others
            .iter()
            .chain(if leaf.is_time() { &times[..] } else { &numbers });
        for value in values {
            let text = format!("[{}]\n{} = {value}\n", leaf.table, leaf.key);
            match load(directory.path(), &text) {
                Err(err) => {
                    let said = err.to_string();
                    let named = said.contains(&leaf.key) || said.contains(&leaf.table);
                    assert!(named, "{text}: {said}");
                    refused += 1;
                }
                // What names a file, an address or a database may be missing when it is used.
                Ok(settings) if leaf.is_number() => {
                    let shop = TestApp::builder()
                        .settings(|to_be| *to_be = settings)
                        .database(database.clone())
                        .start()
                        .await;
                    shop.get("/health/live").await.expect(200);
                    shop.app.shutdown.finish().await;
                    ran += 1;
                }
                Ok(_) => {}
            }
        }
    }
    assert!(refused > 500 && ran > 10, "{refused} refused, {ran} ran");
}

#[tokio::test]
async fn a_pool_that_the_server_has_no_room_for_is_refused_with_the_numbers() {
    let database = server::empty_database().await;
    let served = evenkeel(&["--log-format", "json", "serve", "--listen", "127.0.0.1:0"])
        .args(["--ops-listen", "127.0.0.1:0"])
        .env("DATABASE_URL", url(&database))
        .env("EVENKEEL_POOL__SIZE", "9000")
        .output()
        .await
        .unwrap();
    assert!(!served.status.success());
    let said = String::from_utf8(served.stderr).unwrap();
    for part in ["pool.size is 9000", "397 connections", "at most 390"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    for line in said.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
    }
}
