//! The holder dies at each await of the runner in turn, and another takes over.

use std::future::{Future, poll_fn};
use std::task::Poll;

use evenkeel::migration::runner::End;

use super::fixture::Fixture;
use super::kinds::{KINDS, Kind};

/// Drives `future` until it has had to wait for the `waits`-th time, and drops it there; `None` when
/// it was dropped.
async fn dies_at<T>(waits: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = Box::pin(future);
    let mut waited = 0;
    poll_fn(move |context| match future.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => {
            waited += 1;
            match waited < waits {
                true => Poll::Pending,
                false => Poll::Ready(None),
            }
        }
    })
    .await
}

async fn survives_death_at_every_await(name: &str) {
    let kind: &Kind = KINDS.iter().find(|kind| kind.name == name).unwrap();
    let mut fixture = Fixture::new().await;
    fixture.answers_only_who_waits().await;
    kind.create(&mut fixture).await;
    for waits in 1.. {
        fixture.engine.batch_first = 3;
        fixture.engine.batch_max = 3;
        kind.fill(&mut fixture, 6).await;
        fixture.enqueue(&kind.definition()).await;
        let holder = fixture.runner();
        let taken = holder.take().await.unwrap().unwrap();
        let end = dies_at(waits, holder.drive(taken)).await;
        kind.grow(&mut fixture).await;
        if end.is_none() {
            if kind.resized {
                fixture.engine.batch_first = 1 + waits as u32 % 4;
                fixture.engine.batch_max = fixture.engine.batch_first;
            }
            if let Some(run) = fixture.try_take_over().await {
                assert_eq!(fixture.runner().drive(run).await, End::Completed);
                kind.assert_exactly_once(&mut fixture).await;
            }
            continue;
        }
        assert_eq!(end, Some(End::Completed));
        // However often the holder died: no run is certified by one proof alone.
        let unproved = "SELECT count(*) FROM evenkeel.certificates
            WHERE document -> 'physical' ->> 'answer' <> 'none_pending'";
        assert_eq!(fixture.count(unproved).await, 0);
        // At least one for each statement, of which each of the four batches has four.
        assert!(waits > 25, "{waits}");
        println!("{name}: {waits} awaits");
        return;
    }
}

#[tokio::test]
async fn bigint_survives_death_at_every_await() {
    survives_death_at_every_await("bigint").await;
}

#[tokio::test]
async fn uuid_survives_death_at_every_await() {
    survives_death_at_every_await("uuid").await;
}

#[tokio::test]
async fn text_survives_death_at_every_await() {
    survives_death_at_every_await("text").await;
}

#[tokio::test]
async fn a_composite_key_survives_death_at_every_await() {
    survives_death_at_every_await("composite").await;
}

#[tokio::test]
async fn mixed_directions_survive_death_at_every_await() {
    survives_death_at_every_await("mixed directions").await;
}

#[tokio::test]
async fn sparse_ids_survive_death_at_every_await() {
    survives_death_at_every_await("sparse").await;
}

#[tokio::test]
async fn a_growing_table_survives_death_at_every_await() {
    survives_death_at_every_await("growing").await;
}

#[tokio::test]
async fn resized_batches_survive_death_at_every_await() {
    survives_death_at_every_await("resized").await;
}
