//! Guessing passwords: how many are checked, who is held up, and who is not.

use std::time::Duration;

use evenkeel::brake::Outcome;
use evenkeel::config::{Network, Settings};
use evenkeel::store::log_ins;
use futures_util::future::join_all;
use pool::Class;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor};

use crate::support::app::{Answer, PASSWORD, send};
use crate::support::{TestApp, server};

const OWNER: &str = "ann@example.org";
/// From where the owner logs in.
const HOME: &str = "198.51.100.1";

/// The tests are the proxy.
fn behind_a_proxy(settings: &mut Settings) {
    let here = Network::try_from("127.0.0.1".to_owned()).unwrap();
    settings.http.trusted_proxies = vec![here];
}

async fn shop(change: impl FnOnce(&mut Settings)) -> TestApp {
    let builder = TestApp::builder().settings(behind_a_proxy).settings(change);
    builder.start().await
}

/// Two processes on one database.
async fn two_shops() -> [TestApp; 2] {
    let database = server::empty_database().await;
    let start = async || {
        let builder = TestApp::builder().settings(behind_a_proxy);
        builder.database(database.clone()).start().await
    };
    [start().await, start().await]
}

fn from(shop: &TestApp, address: &str, path: &str, body: &Value) -> RequestBuilder {
    let request = shop.request(Method::POST, path).json(body);
    request.header("x-forwarded-for", address)
}

fn log_in(shop: &TestApp, address: &str, email: &str, password: &str) -> RequestBuilder {
    let body = json!({"email": email, "password": password});
    from(shop, address, "/api/sessions", &body)
}

async fn guess(shop: &TestApp, address: &str, email: &str) -> Answer {
    send(log_in(shop, address, email, "not the password")).await
}

async fn register(shop: &TestApp, address: &str, email: &str) -> Answer {
    let account = json!({"email": email, "password": PASSWORD});
    send(from(shop, address, "/api/accounts", &account)).await
}

/// The cookie by which the device is known that was logged in from.
fn device(answer: &Answer) -> String {
    let cookies = answer.headers.get_all("set-cookie").iter();
    let mut cookies = cookies.map(|cookie| cookie.to_str().unwrap());
    let cookie = cookies.find(|cookie| cookie.starts_with("evenkeel_device="));
    cookie.unwrap().split(';').next().unwrap().to_owned()
}

/// Registers the owner and logs in once.
async fn owner(shop: &TestApp) -> String {
    register(shop, HOME, OWNER).await.expect(201);
    device(&send(log_in(shop, HOME, OWNER, PASSWORD)).await.expect(201))
}

/// Has so many seconds pass for the brake.
async fn pass(shop: &TestApp, seconds: u32) {
    let mut sql = shop.sql().await;
    for change in [
        "UPDATE log_in_attempts SET next_at = next_at - interval '1 s' * $1,
                                    spent_until = spent_until - interval '1 s' * $1",
        "UPDATE devices SET spent_until = spent_until - interval '1 s' * $1",
    ] {
        let change = sqlx::query(change).bind(f64::from(seconds));
        change.execute(&mut sql).await.unwrap();
    }
}

/// As after so many failures of strangers, with the delay that follows from the last still to come.
async fn failed(shop: &TestApp, email: &str, failures: i32, delay: i32) {
    sqlx::query(
        "INSERT INTO log_in_attempts VALUES (sha256(convert_to($1, 'UTF8')), $2,
             now() + interval '1 s' * $3, now() + interval '90 s' * $2)
         ON CONFLICT (email_hash) DO UPDATE SET failures = excluded.failures,
             next_at = excluded.next_at, spent_until = excluded.spent_until",
    )
    .bind(email)
    .bind(failures)
    .bind(delay)
    .execute(&mut shop.sql().await)
    .await
    .unwrap();
}

async fn count(shop: &TestApp, what: &'static str) -> i64 {
    let mut sql = shop.sql().await;
    let count = sqlx::query_scalar(AssertSqlSafe(format!("SELECT {what}")));
    count.fetch_one(&mut sql).await.unwrap()
}

fn retry_after(answer: &Answer) -> u64 {
    answer.header("retry-after").parse().unwrap()
}

#[tokio::test]
async fn in_an_hour_at_most_a_hundred_guesses_are_checked_and_the_owner_gets_in() {
    let shops = two_shops().await;
    let known = owner(&shops[0]).await;
    let mut stolen = Vec::new();
    for _ in 0..4 {
        let session = send(log_in(&shops[1], HOME, OWNER, PASSWORD)).await;
        stolen.push(device(&session.expect(201)));
    }
    let mut checked = 0;
    for minute in 0..60 {
        let guesses = (0..10).map(|n| {
            let address = format!("192.0.2.{}", (minute * 10 + n) % 50);
            let request = log_in(&shops[n % 2], &address, OWNER, "not the password");
            send(match stolen.get(n) {
                Some(device) => request.header("cookie", device),
                None => request,
            })
        });
        for answer in join_all(guesses).await {
            match answer.status.as_u16() {
                401 => checked += 1,
                429 => assert!(retry_after(&answer) <= 90, "{answer:?}"),
                // A slow machine did not get round to it.
                503 => {}
                _ => panic!("{answer:?}"),
            }
        }
        pass(&shops[0], 60).await;
    }
    println!("{checked} of 600 guesses were checked");
    assert!(checked <= log_ins::PER_HOUR, "{checked}");
    assert!(checked >= 40, "nobody is locked out: {checked}");

    // The attack goes on: the next attempt of strangers is always taken.
    failed(&shops[0], OWNER, 20, 90).await;
    let refused = send(log_in(&shops[0], HOME, OWNER, PASSWORD))
        .await
        .expect(429);
    assert!((80..=90).contains(&retry_after(&refused)), "{refused:?}");
    let request = log_in(&shops[1], "203.0.113.9", OWNER, PASSWORD);
    send(request.header("cookie", known)).await.expect(201);
}

#[tokio::test]
async fn of_guesses_that_come_at_the_same_moment_one_is_checked() {
    let shops = two_shops().await;
    owner(&shops[0]).await;
    for email in [OWNER, "nobody@example.org"] {
        failed(&shops[0], email, 11, 0).await;
        let guesses = (0..40).map(|n| {
            let (shop, address) = (&shops[n % 2], format!("192.0.2.{n}"));
            async move { guess(shop, &address, email).await.status.as_u16() }
        });
        let statuses = join_all(guesses).await;
        let checked = statuses.iter().filter(|status| **status == 401).count();
        // A slow machine does not get round to all of them: those are not checked either.
        let held = statuses
            .iter()
            .filter(|status| [429, 503].contains(*status));
        assert_eq!((checked, held.count()), (1, 39), "{statuses:?}");
    }
}

#[tokio::test]
async fn the_delay_grows_is_the_same_without_an_account_and_outlives_a_process() {
    let [first, second] = two_shops().await;
    owner(&first).await;
    let mut told = Vec::new();
    for email in [OWNER, "nobody@example.org"] {
        for _ in 0..5 {
            guess(&first, HOME, email).await.expect(401);
        }
        let mut waits = Vec::new();
        for _ in 0..9 {
            // Not with its own capitals either, and not at another process.
            let shouted = email.to_uppercase();
            let held = guess(&second, "192.0.2.1", &shouted).await.expect(429);
            assert_eq!(held.json()["type"], "/problems/too-many-attempts");
            waits.push(retry_after(&held));
            told.push(held.text.replace(|c: char| c.is_ascii_digit(), ""));
            pass(&first, u32::try_from(retry_after(&held)).unwrap()).await;
            guess(&second, "192.0.2.1", &shouted).await.expect(401);
        }
        // A slow machine lets some of a delay pass before it asks.
        for (wait, delay) in waits.iter().zip([1, 2, 4, 8, 16, 32, 64, 90, 90]) {
            assert!(*wait <= delay && *wait * 2 > delay, "{waits:?}");
        }
    }
    told.dedup();
    assert_eq!(told.len(), 1, "{told:?}");
}

#[tokio::test]
async fn a_right_password_ends_the_delay_and_is_no_guess() {
    let shop = shop(|_| {}).await;
    owner(&shop).await;
    failed(&shop, OWNER, 11, 0).await;
    send(log_in(&shop, HOME, OWNER, PASSWORD)).await.expect(201);
    for _ in 0..4 {
        guess(&shop, HOME, OWNER).await.expect(401);
    }
    failed(&shop, OWNER, 0, 0).await;
    for _ in 0..30 {
        send(log_in(&shop, HOME, OWNER, PASSWORD)).await.expect(201);
    }
    let spent = "count(*) FROM log_in_attempts WHERE spent_until > now() + interval '1 s'";
    assert_eq!(count(&shop, spent).await, 0);
}

#[tokio::test]
async fn right_passwords_in_between_make_no_room_for_more_guesses() {
    let shop = shop(|_| {}).await;
    owner(&shop).await;
    let mut checked = 0;
    for _ in 0..40 {
        let guessed = guess(&shop, "192.0.2.1", OWNER).await;
        checked += u32::from(guessed.status == 401);
        // The owner, from a device that is new each time.
        send(log_in(&shop, HOME, OWNER, PASSWORD)).await;
    }
    assert!((10..=21).contains(&checked), "{checked}");
}

#[tokio::test]
async fn a_known_device_has_attempts_of_its_own_and_nobody_elses_help() {
    let shop = shop(|_| {}).await;
    let known = owner(&shop).await;
    register(&shop, HOME, "bob@example.org").await.expect(201);
    let bobs = log_in(&shop, HOME, "bob@example.org", PASSWORD);
    let bobs = device(&send(bobs).await.expect(201));
    failed(&shop, OWNER, 12, 90).await;
    let with = async |cookie: &str, password: &str| {
        let request = log_in(&shop, HOME, OWNER, password);
        send(request.header("cookie", cookie)).await
    };
    let forged = format!("{}A", &known[..known.len() - 1]);
    let forged = if forged == known {
        known.replace("A", "B")
    } else {
        forged
    };
    for stranger in [
        bobs.as_str(),
        forged.as_str(),
        "evenkeel_device=nonsense",
        "a=b",
    ] {
        with(stranger, PASSWORD).await.expect(429);
    }
    for _ in 0..5 {
        with(&known, "not the password").await.expect(401);
    }
    with(&known, "not the password").await.expect(429);
    pass(&shop, 20 * 60).await;
    failed(&shop, OWNER, 12, 90).await;
    let opened = with(&known, PASSWORD).await.expect(201);
    assert_eq!(device(&opened), known, "it stays the same device");
    let cookies: Vec<_> = opened.headers.get_all("set-cookie").iter().collect();
    let cookie = cookies[1].to_str().unwrap();
    for attribute in [
        "; HttpOnly",
        "; SameSite=Strict",
        "; Path=/api/sessions",
        "; Max-Age=34560000",
    ] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    let stored: String = sqlx::query_scalar("SELECT json_agg(devices)::text FROM devices")
        .fetch_one(&mut shop.sql().await)
        .await
        .unwrap();
    let token = known.split_once('=').unwrap().1;
    assert!(!stored.contains(token), "only a hash of it is stored");
}

#[tokio::test]
async fn the_devices_that_were_used_last_are_remembered() {
    let shop = shop(|_| {}).await;
    let first = owner(&shop).await;
    for _ in 0..4 {
        send(log_in(&shop, HOME, OWNER, PASSWORD)).await.expect(201);
    }
    let again = log_in(&shop, HOME, OWNER, PASSWORD).header("cookie", &first);
    assert_eq!(device(&send(again).await.expect(201)), first);
    for _ in 0..4 {
        send(log_in(&shop, HOME, OWNER, PASSWORD)).await.expect(201);
    }
    assert_eq!(count(&shop, "count(*) FROM devices").await, 5);
    failed(&shop, OWNER, 12, 90).await;
    let still = log_in(&shop, HOME, OWNER, PASSWORD).header("cookie", &first);
    send(still).await.expect(201);
}

#[tokio::test]
async fn a_network_that_fails_too_often_is_held_up_and_no_other() {
    let shop =
        shop(|s| (s.accounts.attempts_at_once, s.accounts.attempts_per_minute) = (4, 1)).await;
    let known = owner(&shop).await;
    for _ in 0..4 {
        send(log_in(&shop, HOME, OWNER, PASSWORD)).await.expect(201);
    }
    // With the registration of the owner: four.
    for n in 0..3 {
        let email = format!("nobody{n}@example.org");
        guess(&shop, HOME, &email).await.expect(401);
    }
    let held = send(log_in(&shop, HOME, OWNER, PASSWORD)).await.expect(429);
    assert!((1..=60).contains(&retry_after(&held)), "{held:?}");
    register(&shop, HOME, "new@example.org").await.expect(429);
    let device = log_in(&shop, HOME, OWNER, PASSWORD).header("cookie", &known);
    send(device).await.expect(201);
    let forged = log_in(&shop, HOME, OWNER, PASSWORD).header("cookie", known.to_lowercase());
    send(forged).await.expect(429);
    send(log_in(&shop, "198.51.100.2", OWNER, PASSWORD))
        .await
        .expect(201);
    for n in 0..4 {
        let address = format!("2001:db8::{n}");
        guess(&shop, &address, "nobody@example.org")
            .await
            .expect(401);
    }
    guess(&shop, "2001:db8::ffff", "other@example.org")
        .await
        .expect(429);
    guess(&shop, "2001:db8:0:1::1", "other@example.org")
        .await
        .expect(401);
}

#[tokio::test]
async fn nobody_is_believed_who_is_no_trusted_proxy() {
    let shop = TestApp::builder()
        .settings(|s| s.accounts.attempts_at_once = 2)
        .start()
        .await;
    for n in 0..2 {
        guess(
            &shop,
            &format!("192.0.2.{n}"),
            &format!("nobody{n}@example.org"),
        )
        .await
        .expect(401);
    }
    guess(&shop, "192.0.2.9", "nobody@example.org")
        .await
        .expect(429);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_at_once_does_not_keep_others_from_logging_in() {
    let shop = shop(|s| s.accounts.attempts_at_once = 10_000).await;
    owner(&shop).await;
    for addresses in [1, 50] {
        let flood = join_all((0..200).map(|n| {
            let address = format!("192.0.2.{}", n % addresses);
            let email = format!("nobody-{addresses}-{n}@example.org");
            let shop = &shop;
            async move { guess(shop, &address, &email).await.status.as_u16() }
        }));
        let honest = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let (mut took, mut refused) = (Vec::new(), 0);
            for n in 0..5 {
                let began = std::time::Instant::now();
                let address = format!("198.51.100.{n}");
                // A slow machine may make one of them wait for too long; it is repeated.
                while send(log_in(&shop, &address, OWNER, PASSWORD)).await.status != 201 {
                    refused += 1;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                took.push(began.elapsed());
            }
            println!("log-ins during a flood from {addresses}: {took:?}");
            assert!(refused <= 2, "{refused} of 5 were refused");
        };
        let (statuses, ()) = tokio::join!(flood, honest);
        assert!(
            statuses
                .iter()
                .all(|status| [401, 429, 503].contains(status))
        );
        if addresses == 1 {
            assert!(
                !statuses.contains(&503),
                "the crowd's own doing: {statuses:?}"
            );
        }
    }
    // What was not checked is not counted.
    let wrong = shop.app.brake.log_ins.total(Outcome::Wrong);
    let failures = count(&shop, "sum(failures) FROM log_in_attempts").await;
    assert_eq!(u64::try_from(failures).unwrap(), wrong);
    assert!(
        shop.app.brake.log_ins.total(Outcome::Busy) > 0,
        "it was a crowd"
    );
}

#[tokio::test]
async fn a_password_that_is_tried_first_cannot_be_chosen() {
    let shop = TestApp::start().await;
    for password in [
        "password",
        "12345678",
        "        ",
        OWNER,
        "Ann Smith",
        "Dragon2024!",
    ] {
        let account = json!({"email": OWNER, "password": password, "name": "Ann Smith"});
        let refused = shop
            .post("/api/accounts", &account)
            .await
            .expect(422)
            .json();
        assert_eq!(refused["errors"][0]["field"], "password", "{refused}");
    }
    assert_eq!(count(&shop, "count(*) FROM accounts").await, 0);
}

#[tokio::test]
async fn log_ins_are_counted_by_what_became_of_them() {
    let shop = shop(|s| s.accounts.attempts_at_once = 3).await;
    owner(&shop).await;
    guess(&shop, "192.0.2.1", OWNER).await.expect(401);
    failed(&shop, OWNER, 12, 90).await;
    guess(&shop, "192.0.2.1", OWNER).await.expect(429);
    guess(&shop, "192.0.2.1", OWNER).await.expect(429);
    guess(&shop, "192.0.2.1", OWNER).await.expect(429);
    let metrics = shop.get("/metrics").await.expect(200).text;
    for (outcome, count) in [
        ("right", 1),
        ("wrong", 1),
        ("account_held", 2),
        ("network_held", 1),
        ("busy", 0),
    ] {
        let line = format!("evenkeel_log_ins_total{{outcome=\"{outcome}\"}} {count}");
        assert!(metrics.lines().any(|l| l == line), "{line}\n{metrics}");
    }
}

/// Refusals say nothing about the shop: as requests that were served they would hide that others fail.
#[tokio::test]
async fn a_flood_of_refusals_does_not_hide_that_a_class_fails() {
    let shop = shop(|s| s.pool.account.hold = Some(Duration::from_secs(1))).await;
    owner(&shop).await;
    failed(&shop, OWNER, 40, 3600).await;
    let ben = shop.shopper("ben@example.org").await;
    let before = shop.app.latencies.totals(Class::Account);
    let mut sql = shop.sql().await;
    let mut lock = sql.begin().await.unwrap();
    let sql = "LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE";
    lock.execute(sql).await.unwrap();
    let refusals = join_all((0..30).map(|_| guess(&shop, HOME, OWNER)));
    let failures = join_all((0..2).map(|_| shop.get_as(&ben, "/api/me")));
    let (refusals, failures) = tokio::join!(refusals, failures);
    for refusal in refusals {
        refusal.expect(429);
    }
    for failure in failures {
        failure.expect(503);
    }
    let after = shop.app.latencies.totals(Class::Account);
    let ended = after.completed - before.completed;
    assert_eq!((ended, after.failed - before.failed), (2, 2));
}
