//! Failures that other engines are known for, each with the test that keeps it out of this one.
//!
//! | failure | known from | test |
//! |---|---|---|
//! | a frozen signal speeds up, or changes nothing | gh-ost's heartbeat, Vitess' throttler | [`a_frozen_signal_slows_down`] |
//! | a throttler that cannot be reached lets everything pass | Vitess, gh-ost's HTTP throttle | [`a_throttler_that_cannot_be_reached_stops_the_climb`] |
//! | the cursor is saved before, or without, its batch | cursors kept by a job queue | [`the_cursor_is_saved_with_its_batch_or_not_at_all`] |
//! | a worker that died stays "running" | GitLab, job queues | [`a_run_whose_worker_died_is_not_running_for_ever`] |
//! | progress above 100 %, an ETA below zero | gh-ost, GitLab | [`progress_never_exceeds_the_whole`] |
//! | rows inserted behind the cursor are missed | most | `completeness::rows_that_arrive_during_the_walk_are_swept_up` |
//! | rows that are locked are skipped | `SKIP LOCKED` batches | `contention::a_row_that_is_held_for_longer_is_set_aside_and_swept_up` |
//! | batches by OFFSET slow down | find-in-batches scripts | `flat::a_batch_deep_in_the_table_touches_as_little_as_the_first` |
//! | a process that slept past its lease goes on writing | lock services without fencing | `freeze::a_holder_that_was_frozen_past_its_lease_writes_nothing_when_it_wakes` |
//! | gaps in the ids make empty batches | id-range batches | `keys::bigints_with_large_gaps_are_walked` |

use std::time::{Duration, Instant};

use evenkeel::migration::ledger::State;
use evenkeel::migration::progress::Progress;
use evenkeel::migration::runner::End;
use pressure::pace::Pace;
use pressure::settings::PaceSettings as Settings;
use pressure::{Signal, Verdict};

use super::fixture::{Fixture, PATIENCE, of_t};

/// Duties over ten seconds in which every sample shows `signals`, beginning at a half.
fn duties(signals: &[Signal], from: Instant) -> Vec<f64> {
    let settings = Settings::default();
    let mut pace = Pace::initial(&settings, from);
    pace.duty = 0.5;
    let samples = (1..100).map(|i| from + settings.sample * i);
    let duties = samples.map(|now| {
        pace = pace.next(&settings, signals, now);
        pace.duty
    });
    duties.collect()
}

#[test]
fn a_frozen_signal_slows_down() {
    let began = Instant::now();
    let frozen = Signal {
        source: "replica lag".to_owned(),
        verdict: Verdict::Normal,
        at: began,
        reason: String::new(),
    };
    let duties = duties(&[frozen], began);
    let settings = Settings::default();
    // It is believed for as long as it is fresh, and no longer.
    let fresh = (settings.stale_after.as_millis() / settings.sample.as_millis()) as usize;
    let stale = &duties[fresh + 1..];
    assert!(stale.is_sorted_by(|a, b| a >= b), "{duties:?}");
    assert!(stale.last().unwrap() < &0.05, "{duties:?}");
}

#[test]
fn a_throttler_that_cannot_be_reached_stops_the_climb() {
    let duties = duties(&[], Instant::now());
    assert!(duties.is_sorted_by(|a, b| a >= b), "{duties:?}");
    assert!(duties.last().unwrap() < &0.05, "{duties:?}");
}

/// The commit itself fails, after the rows and the cursor were written.
#[tokio::test]
async fn the_cursor_is_saved_with_its_batch_or_not_at_all() {
    let mut fixture = Fixture::with_rows(60).await;
    fixture
        .run(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
                 AS 'BEGIN IF NEW.id > 20 THEN RAISE EXCEPTION ''not now''; END IF; RETURN NULL; END';
             CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON t DEFERRABLE INITIALLY DEFERRED
                 FOR EACH ROW EXECUTE FUNCTION refuse()",
        )
        .await;
    fixture.engine.quarantine_max = 3;
    let (end, run) = fixture.migrate(&of_t()).await;
    assert_eq!((end, run.state), (End::Failed, State::Failed));
    let changed = "SELECT count(*) FROM t WHERE done";
    assert_eq!(fixture.count(changed).await, 20);
    assert_eq!(run.rows_changed, 20, "{run:?}");
    let furthest = "SELECT max(upper_key[1]::bigint) FROM evenkeel.batches";
    assert_eq!(fixture.count(furthest).await, 20);
    fixture.run("DROP TRIGGER refuse ON t").await;
    fixture.command(&run, State::Queued).await;
    assert_eq!(fixture.drive().await, End::Completed);
    let once = "SELECT count(*) FROM t WHERE done AND n = 1 AND changes = 1";
    assert_eq!(fixture.count(once).await, 60);
}

#[tokio::test]
async fn a_run_whose_worker_died_is_not_running_for_ever() {
    let mut fixture = Fixture::with_rows(60).await;
    fixture.engine.lease = Duration::from_millis(300);
    let run = fixture.enqueue(&of_t()).await;
    // It takes the lease and is never heard of again.
    fixture.runner().take().await.unwrap().unwrap();
    let next = fixture.runner();
    let taken = async {
        loop {
            if let Some(run) = next.take().await.unwrap() {
                return run;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let taken = tokio::time::timeout(PATIENCE, taken).await.unwrap();
    assert_eq!(taken.lease_token, 2);
    fixture.engine.lease = Duration::from_secs(5);
    tokio::time::sleep(Duration::from_millis(350)).await;
    // Meanwhile whoever asks is told that nobody works on it.
    let silent = fixture.find(&run).await;
    let silent = Progress::of(&mut fixture.sql, silent).await.unwrap();
    assert!(!silent.driven && silent.run.state == State::Running);
    assert_eq!(fixture.drive().await, End::Completed);
    fixture.assert_exactly_once("t", &run).await;
}

#[tokio::test]
async fn progress_never_exceeds_the_whole() {
    let mut fixture = Fixture::with_rows(20).await;
    // The planner knows of 20 rows; there are 600.
    fixture
        .run(
            "ALTER TABLE t SET (autovacuum_enabled = false); ANALYZE t;
             INSERT INTO t SELECT generate_series(21, 600)",
        )
        .await;
    fixture.engine.batch_max = 20;
    let run = fixture
        .enqueue(&of_t().replace("WHERE", "FROM pg_sleep(0.005) WHERE"))
        .await;
    let mut watcher = fixture.connect().await;
    let id = run.id;
    let watch = async {
        let mut shares = Vec::new();
        loop {
            let run = evenkeel::migration::ledger::find(&mut watcher, id).await;
            let progress = Progress::of(&mut watcher, run.unwrap()).await.unwrap();
            for left in progress.eta.iter().flat_map(|eta| [eta.p50_s, eta.p90_s]) {
                assert!(left.is_none_or(|s| s.is_finite() && s >= 0.0));
            }
            shares.extend(progress.done);
            if progress.run.state == State::Completed {
                return shares;
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    };
    let (end, shares) = tokio::join!(fixture.drive(), watch);
    assert_eq!(end, End::Completed);
    assert!(shares.is_sorted(), "{shares:?}");
    assert_eq!(shares.last(), Some(&1.0));
    assert!(shares.len() > 5 && shares.iter().all(|s| (0.0..=1.0).contains(s)));
}
