//! What the program says of settings that it cannot use: which one, where it is set, and what it takes.

use std::process::Stdio;

use sqlx::{ConnectOptions, Row};

use crate::migration::process::{evenkeel, url};
use crate::support::server;

const HOOK: &str = "EVENKEEL_WATCH__NOTIFY__CHANNELS";

/// What `evenkeel config` says with these variables, and the settings file `text`.
async fn refusal(variables: &[(&str, &str)], text: &str, flags: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("evenkeel.toml");
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let mut command = evenkeel(&[&["--config", file, "config"], flags].concat());
    for (name, value) in variables {
        command.env(name, value);
    }
    let said = command.stdout(Stdio::piped()).output().await.unwrap();
    let text = String::from_utf8(said.stderr).unwrap();
    assert!(!said.status.success(), "{variables:?} {text}");
    assert!(!text.contains("geheim"), "{text}");
    text
}

#[tokio::test]
async fn a_wrong_value_is_told_with_the_setting_its_place_and_what_it_takes() {
    let of_variables: &[(&str, &str, &[&str])] = &[
        (
            "EVENKEEL_POOL__SIZE",
            "many",
            &["pool.size is the text \"many\"", "a whole number"],
        ),
        (
            "EVENKEEL_HTTP__MAX_CONNECTIONS",
            "-1",
            &["http.max_connections is the number -1", "whole number"],
        ),
        (
            "EVENKEEL_ACCOUNTS__SECURE_COOKIES",
            "yes",
            &["accounts.secure_cookies", "must be true or false"],
        ),
        (
            "EVENKEEL_HTTP__REQUEST_TIMEOUT",
            "5",
            &["http.request_timeout is the number 5", "such as 250ms"],
        ),
        (
            "EVENKEEL_PACE__DUTY_MIN",
            "low",
            &["pace.duty_min is the text \"low\"", "a number"],
        ),
        (
            "EVENKEEL_OPS__LISTEN",
            "127.0.0.1",
            &["ops.listen", "an address with a port"],
        ),
        (
            "EVENKEEL_LOG__FORMAT",
            "xml",
            &["log.format is the text \"xml\"", "one of text, json"],
        ),
        (
            "EVENKEEL_HTTP__TRUSTED_PROXIES",
            "ten",
            &["http.trusted_proxies", "a list of texts"],
        ),
        (
            "EVENKEEL_HTTP__TRUSTED_PROXIES",
            "[\"ten\"]",
            &["entry 1 in http.trusted_proxies", "10.1.0.0/16"],
        ),
        (
            "EVENKEEL_POOL",
            "3",
            &["pool must be", "a table of settings"],
        ),
        (
            "EVENKEEL_DATABASE",
            "postgres://a:geheim@b/c",
            &["database must be a table"],
        ),
        (
            "EVENKEEL_OPS__ADMIN_TOKEN",
            "12345678901234567",
            &["ops.admin_token must be text", "double quotes"],
        ),
        (
            HOOK,
            "[{kind=\"slack\",name=4711}]",
            &["entry 1 in watch.notify.channels", "must be text"],
        ),
        (
            HOOK,
            "[{kind=\"slack\"}]",
            &["entry 1 in watch.notify.channels lacks name"],
        ),
        (
            HOOK,
            "[{kind=\"slak\"}]",
            &["kind of entry 1 in watch.notify.channels", "webhook, slack"],
        ),
        (
            "DATABASE_URL",
            "shop:geheim@database",
            &["database.url cannot be used", "postgres://user@host"],
        ),
        (
            "EVENKEEL_PACE__DUTY_MAX",
            "0.00001",
            &["pace.duty_max is 0.00001", "between"],
        ),
    ];
    for (name, value, parts) in of_variables {
        let said = refusal(&[(name, value)], "", &[]).await;
        let place = format!("the environment variable {name}");
        for part in parts.iter().copied().chain([place.as_str()]) {
            assert!(said.contains(part), "{name}={value}: {said}\nlacks {part}");
        }
    }
    let of_files: &[(&str, &[&str])] = &[
        (
            "[pool]\n\nsize = 'many'",
            &["pool.size is the text \"many\"", "evenkeel.toml:3"],
        ),
        (
            "[pool.browse]\nhold = 3",
            &["pool.browse.hold is the number 3", "evenkeel.toml:2"],
        ),
        (
            "[[watch.breaker.rules]]\nrole = 'a'\npolicy = 'ask'\n[[watch.breaker.rules]]\npolicy = 3",
            &[
                "policy of entry 2 in watch.breaker.rules",
                "never, ask",
                "evenkeel.toml:5",
            ],
        ),
        (
            "[[watch.breaker.rules]]\nrole = 'a'",
            &[
                "entry 1 in watch.breaker.rules lacks policy",
                "evenkeel.toml:1",
            ],
        ),
        (
            "[pace]\nduty_min = 0.5\nduty_max = 0.2",
            &["pace.duty_min is 0.5", "evenkeel.toml:2", "evenkeel.toml:3"],
        ),
        (
            "[ops]\nadmin_token = \"geheim\n",
            &["evenkeel.toml:2 is not TOML"],
        ),
        (
            "[database]\ndirect_url = 'postgres://a@b/c'",
            &["database.url", "leave", "evenkeel.toml:2"],
        ),
    ];
    for (text, parts) in of_files {
        let said = refusal(&[], text, &[]).await;
        for part in *parts {
            assert!(said.contains(part), "{text}: {said}\nlacks {part}");
        }
        for rust in ["struct", "u64", "usize", "invalid type", "expected"] {
            assert!(!said.contains(rust) || text.contains("geheim"), "{said}");
        }
    }
}

#[tokio::test]
async fn what_kubernetes_says_of_a_service_of_our_name_is_no_setting() {
    let said = evenkeel(&["config"])
        .env("EVENKEEL_SERVICE_HOST", "10.0.0.1")
        .env("EVENKEEL_SHOP_SERVICE_PORT_HTTP", "8080")
        .env("EVENKEEL_PORT", "tcp://10.0.0.1:8080")
        .env("EVENKEEL_PORT_8080_TCP_PROTO", "tcp")
        .output()
        .await
        .unwrap();
    let text = String::from_utf8(said.stderr).unwrap();
    assert!(said.status.success(), "{text}");
    let said = refusal(&[("EVENKEEL_PORT", "8080")], "", &[]).await;
    assert!(said.contains("EVENKEEL_PORT sets nothing"), "{said}");
}

#[tokio::test]
async fn a_variable_that_was_not_filled_in_is_named() {
    for variable in ["DATABASE_URL", "PG_BIN_DIR"] {
        let said = refusal(&[(variable, "")], "", &[]).await;
        assert!(said.contains(&format!("{variable} is empty")), "{said}");
    }
    let said = evenkeel(&["config"]).env("EVENKEEL_CONFIG", "").output();
    let said = said.await.unwrap();
    let text = String::from_utf8(said.stderr).unwrap();
    assert!(
        !said.status.success() && text.contains("EVENKEEL_CONFIG"),
        "{text}"
    );
}

#[tokio::test]
async fn a_password_that_ends_the_address_is_not_told() {
    for url in [
        "postgres://app:12/geheim@127.0.0.1/shop",
        "postgres://app:/geheim@127.0.0.1/shop",
        "postgres://app:12?geheim@127.0.0.1/shop",
    ] {
        let said = refusal(&[("DATABASE_URL", url)], "", &[]).await;
        assert!(said.contains("%2F"), "{said}");
    }
}

#[tokio::test]
async fn a_variable_that_sets_nothing_is_named_with_the_one_that_was_meant() {
    for (wrong, right) in [
        (
            "EVENKEEL_DATABASE_URL",
            "EVENKEEL_DATABASE__URL (database.url)",
        ),
        ("EVENKEEL_POOL_SIZE", "EVENKEEL_POOL__SIZE (pool.size)"),
        ("EVENKEEL_POLL__SIZE", "EVENKEEL_POOL__SIZE (pool.size)"),
        ("EVENKEEL__POOL__SIZE", "EVENKEEL_POOL__SIZE (pool.size)"),
        (
            "EVENKEEL_WATCH_NOTIFY_TRIES",
            "EVENKEEL_WATCH__NOTIFY__TRIES",
        ),
        (
            "EVENKEEL_WATCH__NOTIFY__TRYS",
            "EVENKEEL_WATCH__NOTIFY__TRIES",
        ),
        ("EVENKEEL_LOG_LEVEL", "did you mean EVENKEEL_LOG?"),
        ("EVENKEEL_CONFIG_FILE", "did you mean EVENKEEL_CONFIG?"),
        ("EVENKEEL_DATABASE__DIRECT", "EVENKEEL_DATABASE__DIRECT_URL"),
        (
            "EVENKEEL_DATABASE__URL__X",
            "EVENKEEL_DATABASE__URL (database.url)",
        ),
        ("EVENKEEL_UNHEARD_OF", "`evenkeel config`"),
    ] {
        let said = refusal(&[(wrong, "1")], "", &[]).await;
        assert!(said.contains(&format!("{wrong} sets nothing")), "{said}");
        assert!(said.contains(right), "{wrong}: {said}");
    }
    for (wrong, right) in [
        ("database_url = 'x'", "did you mean database.url?"),
        ("[database]\nurls = 'x'", "did you mean database.url?"),
    ] {
        let said = refusal(&[], wrong, &[]).await;
        assert!(
            said.contains(right) && said.contains("evenkeel.toml:"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_flag_that_contradicts_a_setting_is_told_with_both_and_where_they_are() {
    const DIRECT: &str = "EVENKEEL_DATABASE__DIRECT_URL";
    let direct = (DIRECT, "postgres://a:geheim@b/c");
    for flags in [
        &["--database-url", "postgres://x:geheim@y/z"][..],
        &["--data-dir", "/nonexistent"],
    ] {
        let said = refusal(&[direct], "", flags).await;
        for part in [
            flags[0],
            "database.direct_url contradict",
            DIRECT,
            "Leave database.direct_url out",
        ] {
            assert!(said.contains(part), "{said}\nlacks {part}");
        }
        let said = refusal(&[], "[database]\ndirect_url = 'postgres://b/c'", flags).await;
        assert!(said.contains("evenkeel.toml:2"), "{said}");
    }
    // A wrong flag is the command line's, whatever the environment says.
    let usual = ("DATABASE_URL", "postgres://a@b/c");
    let said = refusal(&[usual], "", &["--database-url", "x:geheim@y"]).await;
    assert!(said.contains("database.url: the command line"), "{said}");
}

#[tokio::test]
async fn what_is_to_be_logged_is_refused_by_name_when_it_is_not_understood() {
    for (value, part) in [("inof", "`inof`"), ("info,sqlx=wran", "`sqlx=wran`")] {
        for format in ["text", "json"] {
            let flags = ["--log-format", format];
            let said = refusal(&[("EVENKEEL_LOG", value)], "", &flags).await;
            for part in [part, "EVENKEEL_LOG", "debug or trace", "sqlx=warn"] {
                assert!(said.contains(part), "{value}: {said}\nlacks {part}");
            }
        }
    }
    let heard = evenkeel(&["config"])
        .env("EVENKEEL_LOG", "warn,sqlx=off")
        .output();
    assert!(heard.await.unwrap().status.success());
}

#[tokio::test]
async fn what_the_settings_of_the_watch_name_is_looked_for_before_anything_is_written() {
    let database = server::blank_database().await;
    let directory = tempfile::tempdir().unwrap();
    let broken = directory.path().join("alerts.toml");
    std::fs::write(&broken, "[[rule]]\nnonsense = 1\n").unwrap();
    let broken = broken.to_str().unwrap();
    let occupied = format!("{broken}/journal");
    for (name, value, part) in [
        (
            HOOK,
            "[{kind=\"slack\",name=\"chat\",url_env=\"NOBODY_SET_THIS\"}]",
            "NOBODY_SET_THIS",
        ),
        (
            HOOK,
            "[{kind=\"slack\",name=\"chat\",url=\"ftp://x\"}]",
            "https://",
        ),
        (
            "EVENKEEL_WATCH__NOTIFY__TICKET_KEY_ENV",
            "NOBODY_SET_THIS",
            "NOBODY_SET_THIS",
        ),
        ("EVENKEEL_WATCH__NOTIFY__TICKET_KEY", "short", "ticket_key"),
        (
            "EVENKEEL_WATCH__ALERTS__RULES",
            "/nonexistent/alerts.toml",
            "/nonexistent/alerts.toml",
        ),
        ("EVENKEEL_WATCH__ALERTS__RULES", broken, "alerts.toml:1"),
        ("EVENKEEL_WATCH__JOURNAL", &occupied, "alerts.toml/journal"),
    ] {
        let ports = ["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"];
        let served = evenkeel(&[&["serve"], &ports[..]].concat())
            .env("DATABASE_URL", url(&database))
            .env(name, value)
            .output()
            .await
            .unwrap();
        let said = String::from_utf8(served.stderr).unwrap();
        assert!(
            !served.status.success() && said.contains(part),
            "{name}: {said}"
        );
        let mut sql = database.connect().await.unwrap();
        let made =
            "SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
                     WHERE nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')";
        let made = sqlx::query(made).fetch_one(&mut sql).await.unwrap();
        assert_eq!(made.get::<i64, _>(0), 0, "{name}={value}");
    }
}
