//! Who may write to a run, and what an operator may ask of it.

use std::time::Duration;

use evenkeel::migration::batch::{Batch, Outcome};
use evenkeel::migration::definition::Definition;
use evenkeel::migration::keyset::Keyset;
use evenkeel::migration::ledger::{
    self, By, Lease, LedgerError, Phase, Run, State, TRANSITIONS, Tries,
};
use evenkeel::migration::runner::End;
use sqlx::Connection;
use tokio_util::sync::CancellationToken;

use super::fixture::{Fixture, PATIENCE, of_t};

const STATES: [State; 6] = [
    State::Queued,
    State::Running,
    State::Paused,
    State::Completed,
    State::Failed,
    State::Cancelled,
];

fn lease(run: &Run) -> Lease {
    Lease {
        run: run.id,
        token: run.lease_token,
    }
}

fn is_legal(from: State, to: State, by: By) -> bool {
    TRANSITIONS
        .iter()
        .any(|(f, t, b, _)| (*f, *t, *b) == (from, to, by))
}

/// Runs one batch of ten rows from the beginning of the table under `lease`.
async fn first_batch(fixture: &mut Fixture, text: &str, lease: Lease) -> Outcome {
    let definition = Definition::parse("m", text).unwrap();
    let engine = fixture.engine.clone();
    let conn = &mut fixture.sql;
    let keyset = Keyset::resolve(conn, &definition).await.unwrap();
    let end = keyset.last(conn).await.unwrap().unwrap();
    let batch = Batch {
        definition: &definition,
        keyset: &keyset,
        lease,
        number: 1,
        phase: Phase::Main,
        cursor: None,
        end: &end,
        rows: 10,
        target: Duration::from_millis(25),
        before: None,
        tries: &Tries::default(),
        proved: true,
    };
    batch.run(conn, &engine).await.unwrap()
}

async fn set_state(fixture: &mut Fixture, run: &Run, state: State) {
    let sql = format!(
        "UPDATE evenkeel.runs SET state = '{}' WHERE id = {}",
        state.name(),
        run.id
    );
    fixture.run(&sql).await;
}

#[tokio::test]
async fn one_run_has_one_holder_and_one_process_drives() {
    let mut fixture = Fixture::with_rows(10).await;
    fixture.enqueue(&of_t()).await;
    ledger::enqueue(&mut fixture.sql, "other", &of_t(), "tester")
        .await
        .unwrap();
    let (one, other) = (fixture.runner(), fixture.runner());
    let (first, second) = tokio::join!(one.take(), other.take());
    let taken: Vec<Run> = [first, second]
        .into_iter()
        .filter_map(Result::unwrap)
        .collect();
    assert_eq!(taken.len(), 1);
    assert_eq!(fixture.take_over().await.lease_token, 2);
}

#[tokio::test]
async fn whoever_lost_the_lease_writes_nothing() {
    let mut fixture = Fixture::with_rows(100).await;
    fixture.enqueue(&of_t()).await;
    let old = fixture.runner().take().await.unwrap().unwrap();
    let new = fixture.take_over().await;
    let stale = lease(&old);
    let outcome = first_batch(&mut fixture, &of_t(), stale).await;
    assert!(matches!(outcome, Outcome::LeaseLost), "{outcome:?}");
    assert_eq!(fixture.count("SELECT sum(changes) FROM t").await, 0);
    let sql = &mut fixture.sql;
    let length = Duration::from_secs(5);
    let pace = serde_json::Value::Null;
    let renewed = ledger::renew(sql, stale, length, &pace, &pace)
        .await
        .unwrap();
    assert_eq!(renewed, None);
    let end = vec!["100".to_owned()];
    let begun = ledger::begin_phase(sql, stale, Phase::Sweep, &end, None).await;
    assert!(!begun.unwrap());
    let finished = ledger::finish(sql, stale, State::Completed, None, "old").await;
    assert!(!finished.unwrap());
    assert_eq!(fixture.runner().drive(old).await, End::LeaseLost);
    let end = fixture.runner().drive(new.clone()).await;
    assert_eq!(end, End::Completed);
    fixture.assert_exactly_once("t", &new).await;
}

#[tokio::test]
async fn a_batch_whose_cursor_has_moved_writes_nothing() {
    let mut fixture = Fixture::with_rows(100).await;
    // Nothing but the cursor keeps this statement from changing a row twice.
    let text = of_t().replace("NOT done", "n >= 0");
    fixture.enqueue(&text).await;
    let run = fixture.runner().take().await.unwrap().unwrap();
    let first = first_batch(&mut fixture, &text, lease(&run)).await;
    assert!(matches!(first, Outcome::Committed { changed: 10, .. }));
    let again = first_batch(&mut fixture, &text, lease(&run)).await;
    assert!(matches!(again, Outcome::LeaseLost), "{again:?}");
    assert_eq!(fixture.count("SELECT sum(changes) FROM t").await, 10);
}

#[tokio::test]
async fn only_the_transitions_in_the_table_happen() {
    let mut fixture = Fixture::with_rows(1).await;
    let run = fixture.enqueue(&of_t()).await;
    for from in STATES {
        for to in STATES {
            set_state(&mut fixture, &run, from).await;
            let asked = ledger::command(&mut fixture.sql, run.id, to, "tester").await;
            match asked {
                Ok(changed) => {
                    assert!(is_legal(from, to, By::Operator), "{from:?} to {to:?}");
                    assert_eq!(changed.state, to);
                }
                Err(err @ LedgerError::Illegal { .. }) => {
                    assert!(!is_legal(from, to, By::Operator), "{from:?} to {to:?}");
                    let said = format!("is {}, so it cannot be", from.name());
                    assert!(err.to_string().contains(&said), "{err}");
                    assert_eq!(fixture.find(&run).await.state, from);
                }
                Err(err) => panic!("{err}"),
            }
            if [State::Queued, State::Completed, State::Failed].contains(&to) {
                set_state(&mut fixture, &run, from).await;
                let held = lease(&fixture.find(&run).await);
                let ended = ledger::finish(&mut fixture.sql, held, to, None, "me").await;
                assert_eq!(ended.unwrap(), is_legal(from, to, By::Holder));
            }
        }
        set_state(&mut fixture, &run, from).await;
        fixture
            .run("UPDATE evenkeel.runs SET lease_until = now() + interval '1 h'")
            .await;
        let taken = fixture.runner().take().await.unwrap();
        assert_eq!(
            taken.is_some(),
            is_legal(from, State::Running, By::Holder),
            "{from:?}"
        );
    }
}

#[tokio::test]
async fn a_run_that_is_paused_while_somebody_takes_it_stays_paused() {
    let mut fixture = Fixture::with_rows(10).await;
    let run = fixture.enqueue(&of_t()).await;
    let mut operator = fixture.connect().await;
    let mut pausing = operator.begin().await.unwrap();
    ledger::command(&mut pausing, run.id, State::Paused, "tester")
        .await
        .unwrap();
    let runner = fixture.runner();
    let waiting = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let (taken, ()) = tokio::join!(runner.take(), async {
        fixture.wait_until(waiting).await;
        pausing.commit().await.unwrap();
    });
    assert!(taken.unwrap().is_none());
    assert_eq!(fixture.find(&run).await.state, State::Paused);
}

#[tokio::test]
async fn a_second_run_of_a_migration_is_refused_while_one_is_under_way() {
    let mut fixture = Fixture::with_rows(10).await;
    let failed = fixture.enqueue(&of_t()).await;
    set_state(&mut fixture, &failed, State::Failed).await;
    let next = fixture.enqueue(&of_t()).await;
    let again = ledger::enqueue(&mut fixture.sql, "m", &of_t(), "tester").await;
    let said = again.unwrap_err().to_string();
    let active = format!("`m` is queued already (run {})", next.id);
    assert!(said.contains(&active), "{said}");
    let resumed = ledger::command(&mut fixture.sql, failed.id, State::Queued, "tester").await;
    let said = resumed.unwrap_err().to_string();
    assert!(said.contains(&active), "{said}");
}

#[tokio::test]
async fn an_operator_pauses_resumes_and_cancels_at_any_time() {
    let mut fixture = Fixture::with_rows(400).await;
    let run = fixture
        .enqueue(&of_t().replace("WHERE", "FROM pg_sleep(0.02) WHERE"))
        .await;
    let mut pauses = 0;
    for round in 0.. {
        let mut operator = fixture.connect().await;
        let runner = fixture.runner();
        let taken = runner.take().await.unwrap().unwrap();
        let before = fixture.find(&run).await.batches;
        let further = format!(
            "SELECT count(*) FROM evenkeel.runs WHERE state <> 'running' OR batches > {before}"
        );
        let drive = tokio::time::timeout(PATIENCE, runner.drive(taken));
        let (end, paused) = tokio::join!(drive, async {
            // Every second pause comes after a batch, so that the run ends however long a start takes.
            if round % 2 == 1 {
                fixture.wait_until(&further).await;
            }
            tokio::time::sleep(Duration::from_millis(round * 17 % 90)).await;
            ledger::command(&mut operator, run.id, State::Paused, "tester").await
        });
        if end.unwrap() == End::Completed {
            assert!(paused.is_err());
            break;
        }
        assert!(paused.is_ok());
        pauses += 1;
        let done = "SELECT count(*) FROM t WHERE done";
        let before = fixture.count(done).await;
        assert!(fixture.runner().take().await.unwrap().is_none());
        assert_eq!(fixture.count(done).await, before);
        fixture.command(&run, State::Queued).await;
    }
    assert!(pauses > 2, "{pauses}");
    fixture.assert_exactly_once("t", &run).await;

    fixture.run("UPDATE t SET done = false").await;
    let run = fixture.enqueue(&of_t()).await;
    fixture.command(&run, State::Cancelled).await;
    assert!(fixture.runner().take().await.unwrap().is_none());
}

#[tokio::test]
async fn a_shutdown_lets_the_batch_end_and_gives_the_lease_back() {
    let mut fixture = Fixture::with_rows(60).await;
    fixture.engine.batch_target = Duration::from_millis(200);
    let text = of_t().replace("WHERE", "FROM pg_sleep(0.1) WHERE");
    let run = fixture.enqueue(&text).await;
    let stop = CancellationToken::new();
    let runner = fixture.runner_with(None, stop.clone());
    let taken = runner.take().await.unwrap().unwrap();
    let drive = tokio::time::timeout(PATIENCE, runner.drive(taken));
    let (end, ()) = tokio::join!(drive, async {
        let sleeping = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event = 'PgSleep'";
        fixture.wait_until(sleeping).await;
        stop.cancel();
    });
    assert_eq!(end.unwrap(), End::ShutDown);
    let left = fixture.find(&run).await;
    assert_eq!((left.state, left.batches > 0), (State::Queued, true));
    assert_eq!(fixture.drive().await, End::Completed);
    fixture.assert_exactly_once("t", &run).await;
}
