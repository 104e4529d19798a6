//! What is kept in PostgreSQL.

use chrono::{DateTime, TimeDelta, Utc};
use evenkeel::watch::alerts::replay::Replay;
use evenkeel::watch::alerts::{Evaluator, Reading, Rules, Series, history};
use sqlx::postgres::PgConnection;

use super::week::{Weeks, monday};
use super::{LEARNT, STEP, first};
use crate::support::empty_shop;

/// Watches weeks as a service does: what is completed is saved each day.
async fn watch(conn: &mut PgConnection, weeks: &mut Weeks, to: DateTime<Utc>) -> Evaluator {
    let mut evaluator = Evaluator::new(Rules::load(None).unwrap());
    let mut day = monday(0);
    while day < to {
        let next = (day + TimeDelta::days(1)).min(to);
        for reading in weeks.readings(day, next, TimeDelta::minutes(5), |_| 1.0) {
            evaluator.observe(&reading);
        }
        history::save(conn, &evaluator.take_unsaved())
            .await
            .unwrap();
        day = next;
    }
    evaluator
}

#[tokio::test]
async fn what_is_usual_survives_a_restart() {
    let mut conn = empty_shop().await;
    let mut weeks = Weeks::new(1);
    let onset = monday(LEARNT) + TimeDelta::hours(10);
    let mut before = watch(&mut conn, &mut weeks, onset).await;

    let mut after = Evaluator::new(Rules::load(None).unwrap());
    after.restore(
        &history::load(&mut conn, DateTime::UNIX_EPOCH)
            .await
            .unwrap(),
    );

    // Hardly anybody orders any more: only who knows what is usual notices.
    let readings: Vec<_> = weeks
        .readings(onset, onset + TimeDelta::hours(1), STEP, |_| 1.0)
        .into_iter()
        .map(|reading| reading.with(Series::ORDERS, 0.01))
        .collect();
    let missed = |evaluator: &mut Evaluator| {
        let replay = Replay::run(evaluator, &readings, None).unwrap();
        first(&replay, "orders-missing").map(|fired| fired.at)
    };
    let noticed = missed(&mut before).unwrap();
    let again = missed(&mut after).unwrap();
    assert!(
        (again - noticed).abs() <= TimeDelta::minutes(5),
        "{noticed} and {again}"
    );
    let mut forgetful = Evaluator::new(Rules::load(None).unwrap());
    assert_eq!(missed(&mut forgetful), None);
}

#[tokio::test]
async fn a_point_of_time_is_written_once_and_pruned_by_age() {
    let mut conn = empty_shop().await;
    let mut weeks = Weeks::new(2);
    let to = monday(0) + TimeDelta::days(3);
    watch(&mut conn, &mut weeks, to).await;
    let count = async |conn: &mut PgConnection, resolution: i32| -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM evenkeel.watch_history WHERE resolution = $1")
            .bind(resolution)
            .fetch_one(conn)
            .await
            .unwrap()
    };
    let (fine, coarse) = (count(&mut conn, 60).await, count(&mut conn, 300).await);
    assert!(fine > 4000 && coarse > 800, "{fine} {coarse}");
    let first = history::load(&mut conn, DateTime::UNIX_EPOCH)
        .await
        .unwrap();
    // Another process saves the same time.
    watch(&mut conn, &mut Weeks::new(3), to).await;
    assert_eq!(count(&mut conn, 300).await, coarse);
    let second = history::load(&mut conn, DateTime::UNIX_EPOCH)
        .await
        .unwrap();
    let known = |readings: &[Reading]| readings.iter().map(Reading::known).collect::<Vec<_>>();
    assert_eq!(known(&first), known(&second));

    history::prune(&mut conn, to).await.unwrap();
    let kept = count(&mut conn, 60).await;
    assert!((2870..=2881).contains(&kept), "{kept} of two days' minutes");
    assert_eq!(count(&mut conn, 300).await, coarse);

    // Coarse until the fine begins, and every time once.
    let loaded = history::load(&mut conn, DateTime::UNIX_EPOCH)
        .await
        .unwrap();
    assert!(loaded.windows(2).all(|pair| pair[0].at < pair[1].at));
    assert!(loaded.len() as i64 > kept + coarse / 4, "{}", loaded.len());
    let minutes = loaded.last().unwrap().at - loaded[loaded.len() - 2].at;
    assert_eq!(minutes, TimeDelta::minutes(1));
}
