//! The load generator against the real shop with its sample products.

use std::sync::Arc;
use std::time::Duration;

use evenkeel::store::sample::{self, DEMO_PASSWORD, SampleSize};
use evenkeel::store::sessions::{self, Token};
use load::{Credentials, Load, Profile, Sessions, Shop, Target};
use pool::Class;
use sqlx::postgres::PgConnection;

use crate::support::TestApp;

const SIZE: SampleSize = SampleSize {
    products: 50,
    accounts: 10,
    orders: 200,
};

async fn filled() -> (TestApp, PgConnection, Target) {
    let shop = TestApp::start().await;
    let mut conn = shop.sql().await;
    let filled = sample::fill(&mut conn, SIZE, &|_, _| {}).await;
    filled.expect("the sample is written");
    let target = Target::new(shop.address).expect("loopback");
    (shop, conn, target)
}

async fn orders(conn: &mut PgConnection) -> u64 {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM orders")
        .fetch_one(conn)
        .await
        .expect("reads");
    count.unsigned_abs()
}

/// Sends a second of everything and returns how many orders were acknowledged.
async fn send(target: Target, sessions: Sessions) -> u64 {
    let profile = Profile::default();
    let shop = Shop::learn(target, &profile, sessions).await;
    let shop = Arc::new(shop.expect("the shop answers as the generator expects"));
    let load = Load::start(&shop, &profile, 150.0).expect("valid");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let recording = load.stop().await;
    for class in Class::SHOPPERS {
        let stats = recording.total(class);
        // Overload is possible on a busy machine; a request that the shop does not understand is not.
        assert_eq!(
            (stats.unexpected, stats.server_error),
            (0, 0),
            "{class} {stats:?}"
        );
        assert!(stats.ok > 0, "{class} {stats:?}");
    }
    recording.total(Class::Checkout).ok
}

#[tokio::test(flavor = "multi_thread")]
async fn new_shoppers_browse_look_at_their_orders_and_place_some() {
    let (_shop, mut conn, target) = filled().await;
    let before = orders(&mut conn).await;
    let placed = send(target, Sessions::Register(2)).await;
    // Each new account places one order before the load. An order whose answer came too late was
    // placed all the same.
    assert!(orders(&mut conn).await >= before + 2 + placed);
}

#[tokio::test(flavor = "multi_thread")]
async fn sample_accounts_can_log_in_and_sessions_can_be_handed_over() {
    let (_shop, mut conn, target) = filled().await;
    let emails = "SELECT email FROM accounts ORDER BY email_key NULLS FIRST";
    let emails: Vec<String> = sqlx::query_scalar(emails)
        .fetch_all(&mut conn)
        .await
        .expect("reads");
    let credentials = emails.into_iter().map(|email| Credentials {
        email,
        password: DEMO_PASSWORD.to_owned(),
    });
    send(target, Sessions::LogIn(credentials.take(2).collect())).await;

    let account = "SELECT min(id) FROM accounts";
    let account: i64 = sqlx::query_scalar(account)
        .fetch_one(&mut conn)
        .await
        .expect("reads");
    let token = Token::generate(account);
    let opened = sessions::open(&mut conn, &token, Duration::from_secs(60)).await;
    opened.expect("opens");
    send(target, Sessions::Tokens(vec![token.reveal()])).await;
}
