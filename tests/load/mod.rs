//! The load generator against a shop whose behaviour the test decides.

mod fake_shop;
mod real_shop;

use std::sync::Arc;
use std::time::Duration;

use fake_shop::FakeShop;
use http::StatusCode;
use load::{
    CapacityLimits, ClassStats, Load, LoadError, Mix, Profile, Recording, Sessions, Shop, Target,
    measure_capacity,
};
use pool::Class;

const MS: fn(u64) -> Duration = Duration::from_millis;

async fn learn(fake: &FakeShop, profile: &Profile) -> Arc<Shop> {
    let shop = Shop::learn(fake.target(), profile, Sessions::Register(2)).await;
    Arc::new(shop.expect("the fake shop answers"))
}

async fn send(shop: &Arc<Shop>, profile: &Profile, rate: f64, lasting: Duration) -> Recording {
    let load = Load::start(shop, profile, rate).expect("the profile is valid");
    tokio::time::sleep(lasting).await;
    load.stop().await
}

fn all(recording: &Recording) -> ClassStats {
    recording.all_classes(Duration::ZERO, Duration::MAX)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stall_neither_lowers_the_rate_nor_hides_from_the_percentiles() {
    let fake = FakeShop::start().await;
    let profile = Profile::default();
    let shop = learn(&fake, &profile).await;
    let load = Load::start(&shop, &profile, 400.0).expect("valid");
    tokio::time::sleep(MS(500)).await;
    let from = load.began().elapsed();
    fake.stall(MS(1000));
    tokio::time::sleep(MS(900)).await;
    let under_way = load.live().in_flight;
    tokio::time::sleep(MS(600)).await;
    let recording = load.stop().await;

    // Shoppers kept coming although nobody was served ...
    let stalled = recording.all_classes(from, from + MS(1000));
    assert!((320..480).contains(&stalled.sent), "{stalled:?}");
    assert!(under_way > 250, "{under_way} under way");
    assert_eq!(stalled.failed, 0);
    // ... and each waited for the rest of the stall: half of it in the median.
    assert!((350.0..800.0).contains(&stalled.p50_ms), "{stalled:?}");
    assert!(stalled.p99_ms > 800.0, "{stalled:?}");
    let before = recording.all_classes(Duration::ZERO, from);
    assert!(before.p50_ms < 200.0, "{before:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_failure_is_told_apart_and_sold_out_is_none() {
    let fake = FakeShop::start().await;
    let profile = Profile::default();
    let shop = learn(&fake, &profile).await;
    type Count = fn(&ClassStats) -> u64;
    let cases: [(StatusCode, Count); 5] = [
        (StatusCode::OK, |stats| stats.ok),
        (StatusCode::CONFLICT, |stats| stats.refused),
        (StatusCode::SERVICE_UNAVAILABLE, |stats| stats.unavailable),
        (StatusCode::INTERNAL_SERVER_ERROR, |stats| {
            stats.server_error
        }),
        (StatusCode::NOT_FOUND, |stats| stats.unexpected),
    ];
    for (status, count) in cases {
        fake.answer(status);
        let recording = send(&shop, &profile, 500.0, MS(400)).await;
        let stats = all(&recording);
        assert!(stats.sent > 100, "{stats:?}");
        assert_eq!(count(&stats), stats.sent, "{status}: {stats:?}");
        let share = if status == StatusCode::OK || status == StatusCode::CONFLICT {
            0.0
        } else {
            1.0
        };
        for class in Class::SHOPPERS {
            assert_eq!(
                recording.total(class).failed_share(),
                share,
                "{status} {class}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_longer_than_the_deadline_has_timed_out() {
    let fake = FakeShop::start().await;
    let profile = Profile {
        deadline: MS(300),
        ..Profile::default()
    };
    let shop = learn(&fake, &profile).await;
    fake.stall(Duration::from_secs(3600));
    let load = Load::start(&shop, &profile, 200.0).expect("valid");
    tokio::time::sleep(MS(500)).await;
    let stopping = std::time::Instant::now();
    let stats = all(&load.stop().await);
    assert!(stopping.elapsed() < MS(2000), "stop waited too long");
    assert_eq!(stats.timeout, stats.sent, "{stats:?}");
    assert!(stats.p50_ms >= 300.0, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shop_that_is_gone_is_a_connection_failure() {
    let fake = FakeShop::start().await;
    let profile = Profile::default();
    let shop = learn(&fake, &profile).await;
    fake.end().await;
    let stats = all(&send(&shop, &profile, 200.0, MS(300)).await);
    assert!(stats.sent > 20);
    assert_eq!(stats.connection, stats.sent, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_exceeds_the_bound_in_flight_is_counted_as_failed() {
    let fake = FakeShop::start().await;
    let profile = Profile {
        max_in_flight: 10,
        deadline: MS(700),
        ..Profile::default()
    };
    let shop = learn(&fake, &profile).await;
    fake.stall(Duration::from_secs(3600));
    let load = Load::start(&shop, &profile, 1000.0).expect("valid");
    tokio::time::sleep(MS(500)).await;
    assert_eq!(load.live().in_flight, 10);
    let stats = all(&load.stop().await);
    assert_eq!((stats.timeout, stats.dropped), (10, stats.sent - 10));
    assert_eq!(stats.failed, stats.sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_can_change_under_way() {
    let fake = FakeShop::start().await;
    let profile = Profile::default();
    let shop = learn(&fake, &profile).await;
    let load = Load::start(&shop, &profile, 0.0).expect("valid");
    tokio::time::sleep(MS(300)).await;
    assert_eq!(load.live().class(Class::Browse).sent, 0);
    load.set_rate(1000.0);
    let from = load.began().elapsed();
    tokio::time::sleep(MS(500)).await;
    let to = load.began().elapsed();
    load.set_rate(0.0);
    tokio::time::sleep(MS(300)).await;
    let recording = load.stop().await;
    let due = recording.all_classes(from, to).sent as f64;
    let expected = (to - from).as_secs_f64() * 1000.0;
    assert!((due / expected - 1.0).abs() < 0.2, "{due} of {expected}");
    let later = recording.all_classes(to + MS(20), Duration::MAX).sent;
    assert_eq!(later, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_have_their_own_keys_and_one_to_three_different_lines() {
    let fake = FakeShop::start().await;
    let profile = Profile {
        mix: Mix::default().with_class(Class::Checkout, 900.0),
        ..Profile::default()
    };
    let shop = learn(&fake, &profile).await;
    let stats = send(&shop, &profile, 500.0, MS(400))
        .await
        .total(Class::Checkout);
    // A second load of the same seed places the same orders, again with keys of their own.
    let again = send(&shop, &profile, 500.0, MS(400))
        .await
        .total(Class::Checkout);
    let orders = fake.orders();
    assert_eq!(stats.failed + again.failed, 0, "{stats:?}");
    // Each of the two new accounts places one order before the load begins.
    assert_eq!(orders.len() as u64, stats.ok + again.ok + 2);
    let mut keys: Vec<_> = orders.iter().map(|order| order.key.clone()).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), orders.len());
    let mut counts = [0; 4];
    for order in &orders {
        let mut skus = order.skus.clone();
        skus.sort();
        skus.dedup();
        assert_eq!(skus.len(), order.skus.len(), "{skus:?}");
        counts[skus.len()] += 1;
    }
    assert!(
        counts[0] == 0 && counts[1..].iter().all(|count| *count > 10),
        "{counts:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_capacity_is_the_rate_that_the_shop_keeps_up_with() {
    let fake = FakeShop::start().await;
    let profile = Profile::default();
    let shop = learn(&fake, &profile).await;
    fake.serve_at_most(500.0);
    let limits = CapacityLimits {
        start: 150.0,
        factor: 1.7,
        step: MS(800),
        rest: MS(200),
        refinements: 2,
        ..CapacityLimits::default()
    };
    let capacity = measure_capacity(&shop, &profile, &limits)
        .await
        .expect("measured");
    assert!(capacity.found);
    assert!((300.0..580.0).contains(&capacity.rps), "{capacity:?}");
}

#[tokio::test]
async fn a_shop_that_cannot_be_loaded_is_refused_with_a_reason() {
    let fake = FakeShop::start().await;
    let profile = Profile::default();
    fake.sell_out();
    let err = Shop::learn(fake.target(), &profile, Sessions::Register(1)).await;
    assert!(matches!(err, Err(LoadError::NothingToBuy)), "{err:?}");
    let nobody: Target = "http://127.0.0.1:1".parse().expect("loopback");
    let err = Shop::learn(nobody, &profile, Sessions::Register(1)).await;
    assert!(matches!(err, Err(LoadError::Unreachable(_))), "{err:?}");
    let sessions = Sessions::Tokens(Vec::new());
    fake.restock();
    let err = Shop::learn(fake.target(), &profile, sessions).await;
    assert!(matches!(err, Err(LoadError::Profile(_))), "{err:?}");
}
