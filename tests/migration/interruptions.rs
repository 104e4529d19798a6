//! Whatever interrupts a run, and however often, every row is changed exactly once.

use std::time::Duration;

use evenkeel::migration::runner::End;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::fixture::{Fixture, of_t};

#[derive(Clone, Debug)]
struct Case {
    keys: std::collections::BTreeSet<i64>,
    first: u32,
    max: u32,
    /// How long the holder lives, in microseconds, over and over.
    lives: Vec<u64>,
}

fn cases() -> impl Strategy<Value = Case> {
    let sparse = btree_set(any::<i64>(), 0..200);
    let dense = btree_set(-150_i64..150, 0..200);
    let batches = (1_u32..80).prop_flat_map(|max| (1..=max, Just(max)));
    let lives = vec(0_u64..40_000, 1..8);
    (prop_oneof![sparse, dense], batches, lives).prop_map(|(keys, (first, max), lives)| Case {
        keys,
        first,
        max,
        lives,
    })
}

async fn play(fixture: &mut Fixture, case: &Case) -> Result<(), TestCaseError> {
    fixture
        .run("TRUNCATE t; TRUNCATE evenkeel.runs CASCADE")
        .await;
    let keys: Vec<i64> = case.keys.iter().copied().collect();
    sqlx::query("INSERT INTO t SELECT unnest($1::bigint[])")
        .bind(&keys)
        .execute(&mut fixture.sql)
        .await
        .unwrap();
    fixture.engine.batch_first = case.first;
    fixture.engine.batch_max = case.max;
    let run = fixture.enqueue(&of_t()).await;
    let mut holder = fixture.runner();
    let mut taken = holder.take().await.unwrap().unwrap();
    // Each life is longer than the one before by a share, so that the last one sees the end soon, however
    // long a start takes.
    let longer = (0..).map(|i| 1.15_f64.powi(i));
    for (life, longer) in case.lives.iter().cycle().zip(longer) {
        let life = Duration::from_micros(life + 2_000).mul_f64(longer);
        let end = tokio::time::timeout(life, holder.drive(taken)).await;
        match end {
            Ok(end) => {
                prop_assert_eq!(end, End::Completed);
                break;
            }
            Err(_died) => {
                let Some(run) = fixture.try_take_over().await else {
                    break;
                };
                taken = run;
                holder = fixture.runner();
            }
        }
    }
    fixture.assert_exactly_once("t", &run).await;
    Ok(())
}

#[test]
fn a_run_that_dies_again_and_again_changes_every_row_once() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let mut fixture = runtime.block_on(Fixture::with_rows(0));
    let fixture = std::cell::RefCell::new(&mut fixture);
    let config = Config {
        cases: 24,
        max_shrink_iters: 50,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&cases(), |case| {
            let fixture = &mut *fixture.borrow_mut();
            runtime.block_on(play(fixture, &case))
        })
        .unwrap();
}
