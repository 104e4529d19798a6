//! Placing orders and looking at them.

use std::collections::HashSet;

use futures_util::future::join_all;
use serde_json::json;

use crate::support::TestApp;
use crate::support::app::{fresh_key, order};

#[tokio::test]
async fn an_order_takes_the_stock_and_keeps_what_was_bought() {
    let shop = TestApp::start().await;
    shop.product("chair", 4900, 10).await;
    shop.product("table", 19900, 5).await;
    let ann = shop.shopper("ann@example.org").await;

    let wanted = order(&[("table", 1), ("chair", 4)]);
    let placed = shop.place(&ann, &fresh_key(), &wanted).await.expect(201);

    let placed = placed.json();
    assert_eq!(placed["total_minor"], 19900 + 4 * 4900);
    assert_eq!(placed["currency"], "EUR");
    assert_eq!(placed["status"], "placed");
    assert_eq!(placed["lines"][1]["sku"], "chair");
    assert_eq!(placed["lines"][1]["quantity"], 4);
    assert_eq!(placed["lines"][1]["title"], "Chair / Standard");
    assert_eq!(
        (shop.stock("chair").await, shop.stock("table").await),
        (6, 4)
    );

    // A later price is not the price that was agreed on.
    sqlx::query("UPDATE variants SET price_minor = 1")
        .execute(&mut shop.sql().await)
        .await
        .unwrap();
    let path = format!("/api/orders/{}", placed["id"]);
    let shown = shop.get_as(&ann, &path).await.expect(200);
    assert_eq!(shown.json(), placed);
}

#[tokio::test]
async fn the_history_shows_ones_own_orders_newest_first() {
    let shop = TestApp::start().await;
    shop.product("chair", 4900, 10).await;
    let ann = shop.shopper("ann@example.org").await;
    let bob = shop.shopper("bob@example.org").await;
    let mut placed = Vec::new();
    for _ in 0..3 {
        let answer = shop
            .place(&ann, &fresh_key(), &order(&[("chair", 1)]))
            .await;
        placed.push(answer.expect(201).json()["id"].clone());
    }
    // From before totals were stored.
    sqlx::query("UPDATE orders SET total_minor = NULL")
        .execute(&mut shop.sql().await)
        .await
        .unwrap();

    let first = shop.get_as(&ann, "/api/orders?limit=2").await.expect(200);
    let first = first.json();
    assert_eq!(first["items"][0]["id"], placed[2]);
    assert_eq!(first["items"][0]["total_minor"], 4900);
    assert_eq!(first["items"][1]["id"], placed[1]);
    let path = format!("/api/orders?after={}", first["next"].as_str().unwrap());
    let second = shop.get_as(&ann, &path).await.expect(200).json();
    assert_eq!(second["items"][0]["id"], placed[0]);
    assert_eq!(second["items"].as_array().unwrap().len(), 1);
    assert!(second["next"].is_null());
    let others = shop.get_as(&bob, "/api/orders").await.expect(200);
    assert_eq!(others.text, r#"{"items":[]}"#);
}

#[tokio::test]
async fn a_foreign_order_answers_like_one_that_does_not_exist() {
    let shop = TestApp::start().await;
    shop.product("chair", 4900, 10).await;
    let ann = shop.shopper("ann@example.org").await;
    let bob = shop.shopper("bob@example.org").await;
    let placed = shop
        .place(&ann, &fresh_key(), &order(&[("chair", 1)]))
        .await;
    let id = &placed.expect(201).json()["id"];

    let foreign = shop.get_as(&bob, &format!("/api/orders/{id}")).await;
    let absent = shop.get_as(&bob, "/api/orders/999999").await;

    let (mut foreign, mut absent) = (foreign.expect(404), absent.expect(404));
    for answer in [&mut foreign, &mut absent] {
        answer.headers.remove("x-request-id").unwrap();
        answer.headers.remove("date").unwrap();
    }
    assert_eq!(foreign.text, absent.text);
    assert_eq!(foreign.headers, absent.headers);
}

#[tokio::test]
async fn what_cannot_be_sold_is_named_and_nothing_is_stored() {
    let shop = TestApp::start().await;
    shop.product("chair", 4900, 10).await;
    shop.product("table", 19900, 1).await;
    shop.product("hidden", 1, 10).await;
    shop.product("dollar", 1, 10).await;
    shop.product("gold", i64::MAX, 10).await;
    let ann = shop.shopper("ann@example.org").await;
    let mut sql = shop.sql().await;
    for change in [
        "UPDATE products SET published = false WHERE handle = 'hidden'",
        "UPDATE variants SET currency = 'USD' WHERE sku = 'dollar'",
    ] {
        sqlx::query(change).execute(&mut sql).await.unwrap();
    }
    let before = shop.row_counts().await;
    let refused = async |lines: &[(&str, i64)], status| {
        let answer = shop.place(&ann, &fresh_key(), &order(lines)).await;
        answer.expect(status).json()
    };

    let unknown = refused(&[("chair", 1), ("bed", 1), ("hidden", 1)], 409).await;
    assert_eq!(unknown["type"], "/problems/not-on-sale");
    assert_eq!(unknown["errors"][0]["field"], "lines[1].sku");
    assert_eq!(unknown["errors"][1]["field"], "lines[2].sku");
    let short = refused(&[("chair", 1), ("table", 2)], 409).await;
    assert_eq!(short["type"], "/problems/out-of-stock");
    assert!(
        short["detail"].as_str().unwrap().contains("table"),
        "{short}"
    );
    let mixed = refused(&[("chair", 1), ("dollar", 1)], 409).await;
    assert!(mixed.to_string().contains("currencies"), "{mixed}");
    let twice = refused(&[("chair", 1), ("table", 1), ("chair", 1)], 422).await;
    assert_eq!(twice["errors"][0]["field"], "lines[2].sku");
    let vast = refused(&[("gold", 2)], 409).await;
    assert!(vast.to_string().contains("too large"), "{vast}");

    assert_eq!(shop.row_counts().await, before);
    assert_eq!(
        (shop.stock("chair").await, shop.stock("table").await),
        (10, 1)
    );
}

#[tokio::test]
async fn a_repeated_request_gets_the_order_that_was_placed() {
    let shop = TestApp::start().await;
    shop.product("chair", 4900, 1).await;
    let ann = shop.shopper("ann@example.org").await;
    let wanted = order(&[("chair", 1)]);

    let first = shop.place(&ann, "once", &wanted).await.expect(201);
    // Sold out by now, which is no reason to refuse what has been sold already.
    let second = shop.place(&ann, "once", &wanted).await.expect(201);

    assert_eq!(first.text, second.text);
    assert_eq!(first.header("idempotent-replayed"), "");
    assert_eq!(second.header("idempotent-replayed"), "true");
    let other = shop.place(&ann, "once", &order(&[("chair", 2)])).await;
    assert_eq!(
        other.expect(422).json()["type"],
        "/problems/idempotency-key-reused"
    );
    let bob = shop.shopper("bob@example.org").await;
    let foreign = shop.place(&bob, "once", &wanted).await.expect(409);
    assert_eq!(
        foreign.json()["type"],
        "/problems/out-of-stock",
        "keys are per account"
    );
    assert_eq!(shop.stock("chair").await, 0);
}

#[tokio::test]
async fn a_refused_order_leaves_its_key_unused() {
    let shop = TestApp::start().await;
    shop.product("chair", 4900, 0).await;
    let ann = shop.shopper("ann@example.org").await;
    let wanted = order(&[("chair", 1)]);

    shop.place(&ann, "again", &wanted).await.expect(409);
    sqlx::query("UPDATE variants SET stock = 1")
        .execute(&mut shop.sql().await)
        .await
        .unwrap();
    let placed = shop.place(&ann, "again", &wanted).await.expect(201);
    assert_eq!(placed.header("idempotent-replayed"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_buyers_at_once_share_a_stock_of_a_hundred() {
    let shop = TestApp::start().await;
    shop.product("chair", 4900, 100).await;
    let mut buyers = Vec::new();
    for i in 0..10 {
        buyers.push(shop.shopper(&format!("buyer{i}@example.org")).await);
    }
    let wanted = order(&[("chair", 1)]);

    let requests = (0..1000).map(|i| {
        let (shop, wanted, buyer) = (&shop, &wanted, &buyers[i % buyers.len()]);
        async move { shop.place_with_patience(buyer, &fresh_key(), wanted).await }
    });
    let answers = join_all(requests).await;

    let (sold, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer.status == 201);
    assert_eq!(sold.len(), 100);
    for answer in refused {
        assert_eq!(answer.expect(409).json()["type"], "/problems/out-of-stock");
    }
    assert_eq!(shop.stock("chair").await, 0);
    let orders: i64 = sqlx::query_scalar("SELECT count(*) FROM orders")
        .fetch_one(&mut shop.sql().await)
        .await
        .unwrap();
    assert_eq!(orders, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_for_the_same_things_in_another_order_do_not_deadlock() {
    let shop = TestApp::start().await;
    for sku in ["a", "b", "c"] {
        shop.product(sku, 100, 1000).await;
    }
    let ann = shop.shopper("ann@example.org").await;
    let orders = [
        order(&[("a", 1), ("b", 1), ("c", 1)]),
        order(&[("c", 1), ("b", 1), ("a", 1)]),
        order(&[("b", 1), ("a", 1)]),
    ];

    let requests = (0..150).map(|i| {
        let (shop, ann, wanted) = (&shop, &ann, &orders[i % 3]);
        async move { shop.place_with_patience(ann, &fresh_key(), wanted).await }
    });
    for answer in join_all(requests).await {
        answer.expect(201);
    }

    assert_eq!(shop.stock("a").await, 850);
    let deadlocks: i64 = sqlx::query_scalar(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()",
    )
    .fetch_one(&mut shop.sql().await)
    .await
    .unwrap();
    assert_eq!(deadlocks, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_requests_with_one_key_are_one_order() {
    let shop = TestApp::start().await;
    shop.product("chair", 4900, 1000).await;
    let ann = shop.shopper("ann@example.org").await;
    let wanted = order(&[("chair", 3)]);

    let requests = (0..100).map(|_| shop.place_with_patience(&ann, "one", &wanted));
    let answers = join_all(requests).await;

    let mut bodies = HashSet::new();
    let mut fresh = 0;
    for answer in answers {
        let answer = answer.expect(201);
        fresh += usize::from(answer.header("idempotent-replayed").is_empty());
        bodies.insert(answer.text);
    }
    assert_eq!((bodies.len(), fresh), (1, 1));
    assert_eq!(shop.stock("chair").await, 997);
    let history = shop.get_as(&ann, "/api/orders").await.expect(200).json();
    assert_eq!(history["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn orders_are_for_those_who_are_logged_in() {
    let shop = TestApp::start().await;
    shop.post("/api/orders", &json!({})).await.expect(401);
    shop.get("/api/orders").await.expect(401);
    shop.get("/api/orders/1").await.expect(401);
}
