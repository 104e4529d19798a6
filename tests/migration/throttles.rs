//! Operators cap the pace for a time.

use std::time::{Duration, Instant};

use evenkeel::migration::runner::End;
use evenkeel::migration::throttle::{self, Request, ThrottleError};
use pressure::pace::{Order, Pace};
use pressure::rules::Cap;
use pressure::settings::{Budgets, PaceSettings as Settings};
use pressure::{Signal, Verdict};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::fixture::{Fixture, PATIENCE, of_t};

fn request(duty: f64, time: Duration) -> Request<'static> {
    Request {
        migration: Some("m"),
        duty,
        extra_ms: 0.0,
        time,
        reason: "the sale",
    }
}

#[tokio::test]
async fn a_throttle_of_zero_stands_still_says_who_and_why_and_ends_by_itself() {
    let mut fixture = Fixture::with_rows(200).await;
    let stop = CancellationToken::new();
    fixture.surroundings = Some(fixture.watch("a", Budgets::default(), None, &stop));
    let hour = Duration::from_secs(3600);
    let made = throttle::add(&mut fixture.sql, &request(0.0, hour), "ana").await;
    let made = made.unwrap();
    // Another's cap limits nobody else.
    let other = Request {
        migration: Some("other"),
        ..request(0.0, Duration::from_secs(600))
    };
    throttle::add(&mut fixture.sql, &other, "ben")
        .await
        .unwrap();
    let run = fixture.enqueue(&of_t()).await;
    let runner = fixture.runner();
    let taken = runner.take().await.unwrap().unwrap();
    let drive = tokio::time::timeout(PATIENCE, runner.drive(taken));
    let (end, cause) = tokio::join!(drive, async {
        let named = format!(
            "SELECT count(*) FROM evenkeel.runs
              WHERE pace->'causes' @> '[{{\"source\": \"throttle {}\"}}]'",
            made.id
        );
        fixture.wait_until(&named).await;
        let pace: Value = sqlx::query_scalar("SELECT pace FROM evenkeel.runs")
            .fetch_one(&mut fixture.sql)
            .await
            .unwrap();
        let still = "SELECT count(*) FROM evenkeel.throttles
            WHERE actor = 'ana' AND until > clock_timestamp()";
        let batches = "SELECT count(*) FROM evenkeel.batches";
        // An hour passes in half a second.
        fixture
            .run(
                "UPDATE evenkeel.throttles SET until = clock_timestamp() + interval '500 ms'
                  WHERE actor = 'ana'",
            )
            .await;
        let began = fixture.count(batches).await;
        assert_eq!(began, 0);
        while fixture.count(still).await > 0 {
            let done = fixture.count(batches).await;
            assert!(done == began || fixture.count(still).await == 0, "{done}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        pace
    });
    assert_eq!(end.unwrap(), End::Completed);
    for said in ["ana", "the sale", "0 %"] {
        assert!(cause.to_string().contains(said), "{said}: {cause}");
    }
    assert!(!cause.to_string().contains("ben"), "{cause}");
    fixture.assert_exactly_once("t", &run).await;
    stop.cancel();
}

#[tokio::test]
async fn a_throttle_is_listed_until_it_is_removed_and_nonsense_is_refused() {
    let mut fixture = Fixture::with_rows(1).await;
    let sql = &mut fixture.sql;
    let hour = Duration::from_secs(3600);
    let made = throttle::add(sql, &request(0.2, hour), "ana")
        .await
        .unwrap();
    assert_eq!(
        throttle::list(sql).await.unwrap(),
        std::slice::from_ref(&made)
    );
    throttle::remove(sql, made.id, "ben").await.unwrap();
    assert_eq!(throttle::list(sql).await.unwrap(), []);
    let again = throttle::remove(sql, made.id, "ben").await;
    assert!(matches!(again, Err(ThrottleError::Unknown(id)) if id == made.id));
    for duty in [-0.1, 1.1, f64::NAN] {
        let refused = throttle::add(sql, &request(duty, hour), "ana").await;
        assert!(matches!(refused, Err(ThrottleError::Duty(_))), "{duty}");
    }
    for time in [Duration::ZERO, throttle::LONGEST * 2, Duration::MAX] {
        let refused = throttle::add(sql, &request(0.5, time), "ana").await;
        assert!(matches!(refused, Err(ThrottleError::Time)), "{time:?}");
    }
    for extra_ms in [-1.0, 101.0, f64::NAN] {
        let greedy = Request {
            extra_ms,
            ..request(1.0, hour)
        };
        let refused = throttle::add(sql, &greedy, "ana").await;
        assert!(
            matches!(refused, Err(ThrottleError::Extra(_))),
            "{extra_ms}"
        );
    }
    let both = Request {
        extra_ms: 1.0,
        ..request(0.5, hour)
    };
    for neither in [both, request(1.0, hour)] {
        let refused = throttle::add(sql, &neither, "ana").await;
        assert!(matches!(refused, Err(ThrottleError::Both)), "{refused:?}");
    }
    let unreasoned = Request {
        reason: " ",
        ..request(0.5, hour)
    };
    let refused = throttle::add(sql, &unreasoned, "ana").await;
    assert!(matches!(refused, Err(ThrottleError::Reason)));
}

#[test]
fn every_cause_is_named_and_the_lowest_cap_holds() {
    let settings = Settings::default();
    let now = Instant::now();
    let signal = |source: &str, verdict| Signal {
        source: source.to_owned(),
        verdict,
        at: now,
        reason: format!("because of {source}"),
    };
    let cap = |source: &str, duty| Cap {
        duty,
        source: source.to_owned(),
        reason: "asked".to_owned(),
    };
    let mut before = Pace::initial(&settings, now);
    before.duty = 0.9;
    let signals = [
        signal("browse latency", Verdict::Slow),
        signal("wal", Verdict::Cut),
        signal("account latency", Verdict::Normal),
    ];
    let pace = before
        .next(&settings, &signals, now)
        .capped(&settings, &[cap("throttle 1", 0.2), cap("throttle 2", 0.1)]);
    assert_eq!((pace.duty, pace.order), (0.1, Order::Work));
    let named: Vec<_> = pace.causes.iter().map(|c| c.source.as_str()).collect();
    assert_eq!(named, ["wal", "browse latency", "throttle 1", "throttle 2"]);

    let still = before
        .next(&settings, &signals, now)
        .capped(&settings, &[cap("throttle 3", 0.0)]);
    assert_eq!((still.duty, still.order), (settings.duty_min, Order::Wait));
    // What cancels a batch goes on doing so.
    let critical = [signal("lock waits", Verdict::Stop)];
    let stopped = before
        .next(&settings, &critical, now)
        .capped(&settings, &[cap("throttle 3", 0.0)]);
    assert_eq!(stopped.order, Order::Cancel);
}

#[tokio::test]
async fn the_command_line_makes_shows_and_ends_throttles_and_refuses_half_of_one() {
    let fixture = Fixture::with_rows(1).await;
    let evenkeel = async |words: &str| {
        let arguments: Vec<_> = ["migrate", "throttle"]
            .into_iter()
            .chain(words.split(' '))
            .collect();
        let done = super::process::evenkeel_on(&fixture.database, &arguments)
            .stdout(std::process::Stdio::piped())
            .output()
            .await
            .unwrap();
        let said = [done.stdout, done.stderr].concat();
        (
            done.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    };
    let made = evenkeel("--all --for 30m --duty 0.2 --why sale").await;
    assert!(
        made.0 && made.1.contains("every migration works 20 %"),
        "{made:?}"
    );
    let listed = evenkeel("--list").await;
    assert!(listed.0 && listed.1.contains("sale"), "{listed:?}");
    let ended = evenkeel("--remove 1").await;
    assert!(ended.0 && ended.1.contains("ended"), "{ended:?}");
    for (words, said) in [
        ("--remove 1", "no throttle 1 is in force"),
        ("--for 30m --duty 0.2 --why sale", "say --all"),
        ("nothing --for 30m --duty 0.2 --why sale", "nothing"),
        (
            "--all --for 30m --duty 2 --why sale",
            "a number from 0 to 1",
        ),
        ("--all --for 30m --duty 0.2", "--why"),
        ("--all --duty 0.2 --why sale", "--for"),
        ("--all --for soon --duty 0.2 --why sale", "--for"),
    ] {
        let refused = evenkeel(words).await;
        assert!(
            !refused.0 && refused.1.contains(said),
            "{words}: {refused:?}"
        );
    }
}
