//! The way back, ranges that are tried again after a fix, and runs that go on where another ended.

use std::time::Duration;

use evenkeel::migration::certificate;
use evenkeel::migration::control::{start_from_last, undo};
use evenkeel::migration::definition::Definition;
use evenkeel::migration::ledger::{self, LedgerError, Run, State};
use evenkeel::migration::runner::End;
use evenkeel::migration::undo::Direction;

use super::fixture::{Fixture, migration, of_t};

/// Table `t` with a check that some rows break once they are done.
async fn with_bad_rows(rows: i64, bad: &str) -> Fixture {
    let mut fixture = Fixture::with_rows(rows).await;
    fixture
        .run("ALTER TABLE t ADD stock int NOT NULL DEFAULT 1")
        .await;
    fixture
        .run(&format!("UPDATE t SET stock = -1 WHERE id IN ({bad})"))
        .await;
    fixture
        .run("ALTER TABLE t ADD CONSTRAINT stock_kept CHECK (stock >= 0 OR NOT done)")
        .await;
    fixture
}

#[tokio::test]
async fn undo_returns_the_table_to_what_it_was() {
    let mut fixture = Fixture::with_rows(500).await;
    fixture.run("ALTER TABLE t ADD old int, ADD new int").await;
    fixture.run("UPDATE t SET old = id % 17").await;
    let before =
        "SELECT (sum(hashtextextended(ROW(id, old, new)::text, 0)) % 1000000007)::bigint FROM t";
    let fingerprint = fixture.count(before).await;
    let text = migration(
        "-- table: t\n-- pending: new IS NULL",
        "UPDATE t SET new = old * 2, old = NULL WHERE :range;\n\n-- down\n-- pending: new IS NOT NULL\n\
         UPDATE t SET old = new / 2, new = NULL WHERE :range",
    );
    let definition = Definition::parse("m", &text).unwrap();
    let never = undo(&mut fixture.sql, &definition, "tester", false).await;
    assert!(
        never
            .unwrap_err()
            .to_string()
            .contains("never been started")
    );
    assert_eq!(fixture.migrate(&text).await.0, End::Completed);
    let done = "SELECT count(*) FROM t WHERE old IS NULL AND new = id % 17 * 2";
    assert_eq!(fixture.count(done).await, 500);

    let back = undo(&mut fixture.sql, &definition, "tester", false)
        .await
        .unwrap();
    assert_eq!(back.direction, Direction::Down);
    assert_eq!(fixture.drive().await, End::Completed);
    assert_eq!(fixture.count(before).await, fingerprint);
    let proof = certificate::latest(&mut fixture.sql, "m").await.unwrap();
    let proof = proof.unwrap();
    assert_eq!(proof.direction, Direction::Down);
    assert_eq!((proof.sweep.rows, proof.ledger.rows_changed), (500, 500));
    assert_eq!(proof.columns, ["old", "new"]);
    assert_eq!(proof.pending, "new IS NOT NULL");
}

#[tokio::test]
async fn without_a_way_back_undo_is_refused() {
    let mut fixture = Fixture::with_rows(1).await;
    fixture.migrate(&of_t()).await;
    let definition = Definition::parse("m", &of_t()).unwrap();
    let refused = undo(&mut fixture.sql, &definition, "tester", false).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("`-- down`"), "{refused}");
}

#[tokio::test]
async fn a_sweep_that_finds_only_what_is_set_aside_ends_the_run_at_once_and_names_it() {
    let mut fixture = with_bad_rows(500, "237, 400").await;
    let (end, run) = fixture.migrate(&of_t()).await;
    assert_eq!((end, run.state), (End::Failed, State::Failed));
    assert_eq!(run.sweep_pass, 1, "one sweep is enough to know");
    let reason = run.error.unwrap();
    for part in [
        "after id 236 up to id 237",
        "after id 399 up to id 400",
        "stock_kept",
        "migrate quarantine m",
    ] {
        assert!(reason.contains(part), "{part}: {reason}");
    }
}

#[tokio::test]
async fn retry_runs_the_ranges_that_are_set_aside_and_proves_the_rest_by_one_sweep() {
    let mut fixture = with_bad_rows(500, "237, 400").await;
    let (_, run) = fixture.migrate(&of_t()).await;
    let batches = run.batches;
    // One is mended, the other is not.
    fixture.run("UPDATE t SET stock = 0 WHERE id = 237").await;
    retry(&mut fixture, &run).await;
    assert_eq!(fixture.drive().await, End::Failed);
    let half = fixture.find(&run).await;
    assert_eq!(
        half.batches,
        batches + 1,
        "no sweep for what is known to fail"
    );
    assert!(half.error.unwrap().contains("after id 399 up to id 400"));
    assert_eq!(fixture.quarantined().await, 1);

    fixture.run("UPDATE t SET stock = 0 WHERE id = 400").await;
    retry(&mut fixture, &run).await;
    assert_eq!(fixture.drive().await, End::Completed);
    let run = fixture.find(&run).await;
    assert_eq!((run.sweep_pass, run.rows_changed), (1, 500));
    let repairs = "SELECT count(*) FROM evenkeel.batches WHERE phase = 'repair'";
    assert_eq!(fixture.count(repairs).await, 2);
    let once = "SELECT count(*) FROM t WHERE done AND n = 1 AND changes = 1 AND stock >= 0";
    assert_eq!(fixture.count(once).await, 500);
    let nothing = ledger::retry(&mut fixture.sql, run.id, "tester").await;
    assert!(matches!(nothing, Err(LedgerError::NothingSetAside(_))));
}

async fn retry(fixture: &mut Fixture, run: &Run) {
    ledger::retry(&mut fixture.sql, run.id, "tester")
        .await
        .unwrap();
}

#[tokio::test]
async fn ranges_set_aside_before_an_operator_resumed_are_not_held_against_the_run() {
    let mut fixture = with_bad_rows(500, "50, 100, 150, 200, 250").await;
    fixture.engine.quarantine_max = 2;
    let (end, run) = fixture.migrate(&of_t()).await;
    assert_eq!(end, End::Failed);
    assert_eq!(fixture.quarantined().await, 3);
    assert_eq!(run.cursor, Some(vec!["150".to_owned()]), "{run:?}");
    // Two more may be set aside now.
    fixture.command(&run, State::Queued).await;
    assert_eq!(fixture.drive().await, End::Failed);
    let run = fixture.find(&run).await;
    assert_eq!(fixture.quarantined().await, 5);
    assert!(
        run.error.unwrap().contains("are still pending"),
        "it came to its sweep"
    );
}

/// Cancels a run of `text` when some of it is done.
async fn cancelled_half_way(fixture: &mut Fixture, text: &str) -> Run {
    let run = fixture.enqueue(text).await;
    let (end, ()) = tokio::join!(fixture.drive(), async {
        let mut other = Fixture::beside(fixture).await;
        other
            .wait_until("SELECT count(*) FROM t WHERE done AND id > 200")
            .await;
        other.command(&run, State::Cancelled).await;
    });
    assert_eq!(end, End::Stopped);
    fixture.find(&run).await
}

#[tokio::test]
async fn a_run_begins_where_a_cancelled_one_of_the_same_definition_stopped() {
    let mut fixture = Fixture::with_rows(1000).await;
    let text = of_t().replace("WHERE", "FROM pg_sleep(0.01) WHERE");
    let first = cancelled_half_way(&mut fixture, &text).await;
    // The shop undid one row that was done, and added one beyond the end.
    fixture.run("UPDATE t SET done = false WHERE id = 7").await;
    fixture.run("INSERT INTO t VALUES (2000)").await;

    let other = Definition::parse("m", &of_t()).unwrap();
    let refused = start_from_last(&mut fixture.sql, &other, "tester").await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("exactly this definition"), "{refused}");

    let definition = Definition::parse("m", &text).unwrap();
    let run = start_from_last(&mut fixture.sql, &definition, "tester")
        .await
        .unwrap();
    assert_eq!((run.follows, &run.cursor), (Some(first.id), &first.cursor));
    assert_eq!(run.end_key, Some(vec!["2000".to_owned()]));
    assert_eq!(fixture.drive().await, End::Completed);
    let run = fixture.find(&run).await;
    let first_batch = format!(
        "SELECT lower_key[1]::bigint FROM evenkeel.batches WHERE run_id = {} ORDER BY number LIMIT 1",
        run.id
    );
    let cursor: i64 = first.cursor.unwrap()[0].parse().unwrap();
    assert_eq!(fixture.count(&first_batch).await, cursor);
    assert_eq!(
        fixture.count("SELECT count(*) FROM t WHERE NOT done").await,
        0
    );
    let once = "SELECT count(*) FROM t WHERE n = 1";
    assert_eq!(
        fixture.count(once).await,
        1000,
        "all but the row that was undone"
    );
    let proof = certificate::of_run(&mut fixture.sql, run.id).await.unwrap();
    let proof = proof.unwrap();
    assert_eq!(proof.runs, [run.id, first.id]);
    assert_eq!((proof.sweep.rows, proof.ledger.rows_changed), (1001, 1002));
}

#[tokio::test]
async fn progress_never_falls_whatever_happens_to_the_run() {
    use evenkeel::migration::progress::Progress;
    let mut fixture = Fixture::with_rows(1000).await;
    fixture.run("ANALYZE t").await;
    // The planner is wrong by a factor of five.
    fixture
        .run("INSERT INTO t SELECT generate_series(1001, 5000)")
        .await;
    let text = of_t().replace("WHERE", "FROM pg_sleep(0.005) WHERE");
    let run = fixture.enqueue(&text).await;
    let mut watcher = Fixture::beside(&fixture).await;
    let disturb = async {
        let mut shares = Vec::new();
        let mut paused_at = 0;
        for round in 0.. {
            let run = ledger::find(&mut watcher.sql, run.id).await.unwrap();
            let ended = run.state == State::Completed;
            let state = run.state;
            let progress = Progress::of(&mut watcher.sql, run.clone()).await.unwrap();
            shares.push(progress.done.unwrap_or(0.0));
            if ended {
                break;
            }
            match (round % 5, state) {
                // Not before it got on since the last pause: a start can take longer than a few rounds.
                (1, State::Running) if run.batches > paused_at => {
                    paused_at = run.batches;
                    // It may have completed since.
                    let _ = ledger::command(&mut watcher.sql, run.id, State::Paused, "t").await;
                }
                (_, State::Paused) => {
                    watcher.run("ANALYZE t").await;
                    watcher.command(&run, State::Queued).await;
                }
                _ => {}
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        shares
    };
    let drive = async {
        let mut leases = 0;
        loop {
            let runner = fixture.runner();
            match runner.take().await.unwrap() {
                Some(run) => {
                    leases += 1;
                    if runner.drive(run).await == End::Completed {
                        return leases;
                    }
                }
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let (shares, leases) = tokio::join!(disturb, drive);
    assert!(leases > 2, "it was never taken over: {leases}");
    assert!(shares.windows(2).all(|w| w[0] <= w[1]), "{shares:?}");
    assert!(
        shares.iter().all(|share| (0.0..=1.0).contains(share)),
        "{shares:?}"
    );
    assert_eq!(shares.last(), Some(&1.0));
}
