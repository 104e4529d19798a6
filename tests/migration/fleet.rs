//! Shoppers of every process count, wherever the migration is driven.

use std::time::{Duration, Instant};

use evenkeel::migration::runner::End;
use pool::Class;
use pressure::fleet::{Judge, Reading};
use pressure::settings::{Budgets, PaceSettings};
use pressure::surroundings::{Driven, Surroundings};
use pressure::{Latencies, Outcome, Signal, Verdict};
use tokio_util::sync::CancellationToken;

use super::fixture::{Fixture, PATIENCE, of_t};

/// Rows of processes in the table of readings.
const ROWS: &str = "SELECT count(*) FROM evenkeel.readings";

async fn until(surroundings: &Surroundings, what: &str, met: impl Fn(&Reading) -> bool) -> Reading {
    let found = async {
        loop {
            let seen = surroundings.seen();
            if let Some(reading) = seen.fleet.filter(|reading| met(reading)) {
                return Reading::clone(&reading);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await;
    found.unwrap_or_else(|_| panic!("never {what}: {:?}", surroundings.seen()))
}

fn judge(judge: &mut Judge, reading: &Reading) -> Vec<Signal> {
    judge.judge(
        &PaceSettings::default(),
        Some(reading),
        None,
        Instant::now(),
    )
}

#[tokio::test]
async fn what_shoppers_feel_elsewhere_is_heard_and_silence_is_unknown() {
    let mut fixture = Fixture::with_rows(1).await;
    // Others publish often while a run is under way.
    fixture.enqueue(&of_t()).await;
    fixture.runner().take().await.unwrap().unwrap();
    fixture
        .run("UPDATE evenkeel.runs SET lease_until = now() + interval '1 hour'")
        .await;
    let (driver_stop, other_stop) = (CancellationToken::new(), CancellationToken::new());
    let driver = fixture.watch("driver", Budgets::default(), None, &driver_stop);
    let latencies = Latencies::new(Instant::now());
    fixture.watch(
        "other",
        Budgets::default(),
        Some(latencies.clone()),
        &other_stop,
    );
    let _driving = driver.drive(Driven {
        migration: "m".to_owned(),
        table: "t".to_owned(),
    });

    let first = until(&driver, "heard", |fleet| !fleet.members.is_empty()).await;
    let mut memory = Judge::default();
    judge(&mut memory, &first);
    let now = Instant::now();
    latencies
        .arrive(Class::Checkout, now)
        .finish(Outcome::Failed, now);
    let failed = until(&driver, "failed", |fleet| {
        let report = fleet.members[0].report.as_ref().unwrap();
        report.totals[0].failed == 1
    })
    .await;
    let signals = judge(&mut memory, &failed);
    let cut = signals
        .iter()
        .find(|signal| signal.source == "checkout failures at other")
        .unwrap();
    assert!(cut.verdict >= Verdict::Cut, "{cut:?}");

    // One that hangs says nothing and is not forgotten.
    fixture
        .run("ALTER TABLE evenkeel.readings RENAME TO hidden")
        .await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let unread = driver.seen();
    assert!(unread.problem.is_some(), "{unread:?}");
    let stale = unread.fleet.unwrap();
    let signals = judge(&mut memory, &stale);
    assert!(signals.iter().all(|s| s.verdict == Verdict::Unknown) && !signals.is_empty());
    fixture
        .run("ALTER TABLE evenkeel.hidden RENAME TO readings")
        .await;
    until(&driver, "recovered", |fleet| fleet.at > stale.at).await;

    // One that leaves in order is not missed.
    other_stop.cancel();
    let left = until(&driver, "left", |fleet| fleet.members.is_empty()).await;
    assert!(judge(&mut memory, &left).is_empty());
    assert_eq!(fixture.count(ROWS).await, 0);
    driver_stop.cancel();
}

#[tokio::test]
async fn shoppers_who_fail_elsewhere_slow_the_run_down_here_and_are_named() {
    let mut fixture = Fixture::with_rows(400).await;
    fixture.pace.adaptive = true;
    let (stop, shop) = (CancellationToken::new(), CancellationToken::new());
    let latencies = Latencies::new(Instant::now());
    fixture.watch("other", Budgets::default(), Some(latencies.clone()), &stop);
    fixture.surroundings = Some(fixture.watch("driver", Budgets::default(), None, &stop));
    let run = fixture.enqueue(&of_t()).await;
    let runner = fixture.runner();
    let taken = runner.take().await.unwrap().unwrap();
    let drive = tokio::time::timeout(PATIENCE, runner.drive(taken));
    let shopping = async {
        while !shop.is_cancelled() {
            let arrived = Instant::now();
            tokio::time::sleep(Duration::from_millis(5)).await;
            let request = latencies.arrive(Class::Checkout, arrived);
            request.finish(Outcome::Failed, Instant::now());
        }
    };
    let (end, (), ()) = tokio::join!(drive, shopping, async {
        // It is at the least duty from the beginning, so that it lasts.
        fixture
            .wait_until(
                "SELECT count(*) FROM evenkeel.runs
                  WHERE pace->'causes' @> '[{\"source\": \"checkout failures at other\",
                                             \"verdict\": \"cut\"}]'
                    AND (pace->>'duty')::float8 < 0.05",
            )
            .await;
        shop.cancel();
    });
    assert_eq!(end.unwrap(), End::Completed);
    fixture.assert_exactly_once("t", &run).await;
    stop.cancel();
}

#[tokio::test]
async fn a_process_that_falls_silent_is_unknown_whatever_the_clocks_say() {
    let mut fixture = Fixture::with_rows(1).await;
    let stop = CancellationToken::new();
    let driver = fixture.watch("driver", Budgets::default(), None, &stop);
    let _driving = driver.drive(Driven {
        migration: "m".to_owned(),
        table: "t".to_owned(),
    });
    fixture
        .run("INSERT INTO evenkeel.readings VALUES ('dead', 7, clock_timestamp(), '{}')")
        .await;
    let garbled = until(&driver, "heard", |fleet| fleet.members.len() == 1).await;
    let said = judge(&mut Judge::default(), &garbled);
    assert!(said[0].reason.contains("cannot be read"), "{said:?}");
    // Its last words are dated into the future, as by a clock that was set back since.
    fixture
        .run("UPDATE evenkeel.readings SET at = clock_timestamp() + interval '1 hour'")
        .await;
    tokio::time::sleep(PaceSettings::default().stale_after + Duration::from_millis(500)).await;
    let silent = until(&driver, "heard", |fleet| fleet.members.len() == 1).await;
    let said = judge(&mut Judge::default(), &silent);
    assert_eq!(said[0].verdict, Verdict::Unknown);
    assert!(said[0].reason.contains("silent"), "{said:?}");
    stop.cancel();
}

#[tokio::test]
async fn what_dead_processes_left_behind_is_tidied_up_with_a_record() {
    let mut fixture = Fixture::with_rows(1).await;
    fixture
        .run("INSERT INTO evenkeel.readings VALUES ('dead', 7, now() - interval '2 min', '{}')")
        .await;
    let stop = CancellationToken::new();
    fixture.watch("idle", Budgets::default(), None, &stop);
    fixture
        .wait_until(
            "SELECT count(*) FROM evenkeel.events
              WHERE actor = 'idle' AND action = 'process declared gone' AND detail LIKE 'dead %'",
        )
        .await;
    assert_eq!(fixture.count(ROWS).await, 0);
    stop.cancel();
}

#[test]
fn a_baseline_of_another_process_is_learnt_in_pauses_even_with_few_requests() {
    use pool::gate::GateReading;
    use pressure::LatencyReading;
    use pressure::fleet::{Member, Report};

    let settings = PaceSettings::default();
    let origin = Instant::now();
    let reading = |tick: u32, p95_ms| {
        let at = origin + Duration::from_millis(250) * tick;
        let latency = LatencyReading {
            completed: 8,
            failed: 0,
            in_flight: 1,
            oldest_ms: 0.0,
            p50_ms: Some(p95_ms),
            p95_ms: Some(p95_ms),
            p99_ms: Some(p95_ms),
        };
        let slow = LatencyReading {
            completed: 32,
            ..latency
        };
        let gate = GateReading {
            in_use: 1,
            granted: 100 + u64::from(tick),
            ..GateReading::default()
        };
        Reading {
            at,
            members: vec![Member {
                process: "other".to_owned(),
                sequence: i64::from(tick),
                at,
                report: Ok(Report {
                    totals: Default::default(),
                    fast_window_ms: 250,
                    fast: [latency; 3],
                    slow: [slow; 3],
                    gates: [gate; 4],
                    takes_runs: true,
                }),
            }],
        }
    };
    let mut judge = Judge::default();
    let mut verdict = |tick, p95_ms, rests: bool| {
        let reading = reading(tick, p95_ms);
        let signals = judge.judge(&settings, Some(&reading), None, reading.at);
        if rests {
            // Since long before: every window of it was at rest.
            judge.observe(Some(&reading), origin);
        }
        let at = |s: &&Signal| s.source == "browse latency at other";
        (
            signals.iter().find(at).unwrap().verdict,
            judge.baseline_ms("other", Class::Browse),
        )
    };
    // 20 ms may be much or little; without a baseline nobody knows, and that is no reason to go on.
    assert_eq!(verdict(1, 20.0, false), (Verdict::Unknown, None));
    for tick in 2..5 {
        verdict(tick, 20.0, true);
    }
    let (_, baseline) = verdict(5, 20.0, false);
    assert!((baseline.unwrap() - 20.0).abs() < 1e-9);
    assert_eq!(verdict(6, 20.0, false).0, Verdict::Normal);
    assert_eq!(verdict(7, 90.0, false).0, Verdict::Cut);
}
