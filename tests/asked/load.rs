//! `evenkeel load` and the sample shop leave real shops alone, and nothing behind.

use evenkeel::store::sample::{self, SampleSize};
use tokio::process::Command;

use super::{count, said};
use crate::migration::process::{evenkeel, url};
use crate::support::app::{fresh_key, order};
use crate::support::{TestApp, eventually, server};

const SIZE: SampleSize = SampleSize {
    products: 20,
    accounts: 5,
    orders: 50,
};

async fn shop() -> TestApp {
    let shop = TestApp::start().await;
    let filled = sample::fill(&mut shop.sql().await, SIZE, &|_, _| {}).await;
    filled.unwrap();
    shop
}

fn load(shop: &TestApp, more: &[&str]) -> Command {
    let address = format!("http://{}", shop.address);
    let to = ["load", "--url", &address, "--rate", "40", "--accounts", "2"];
    let database = url(&shop.database());
    evenkeel(&[&to[..], &["--database-url", &database], more].concat())
}

/// All that an order changes.
async fn state(shop: &TestApp) -> (Vec<(String, i64)>, i64) {
    let stock = "SELECT sum(stock)::bigint FROM variants";
    let mut sql = shop.sql().await;
    let stock = sqlx::query_scalar(stock).fetch_one(&mut sql).await;
    (shop.row_counts().await, stock.unwrap())
}

#[tokio::test]
async fn a_load_leaves_the_shop_as_it_was() {
    let shop = shop().await;
    let before = state(&shop).await;
    let (code, told) = said(load(&shop, &["--duration", "2s"])).await;
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("checkout"), "{told}");
    assert!(
        told.contains("removed: the accounts of this load (2)"),
        "{told}"
    );
    assert!(!told.contains("their orders (0)"), "{told}");
    assert_eq!(state(&shop).await, before);
}

#[tokio::test]
async fn what_a_killed_load_leaves_is_removed_by_the_next_or_by_clean() {
    let shop = shop().await;
    let before = state(&shop).await;
    for removal in [&["--clean"][..], &["--duration", "1s"]] {
        let orders = count(&shop.database(), "orders").await;
        let mut killed = load(&shop, &["--duration", "1h"]).spawn().unwrap();
        eventually("orders of the load", async || {
            (count(&shop.database(), "orders").await > orders + 3).then_some(())
        })
        .await;
        // Two loads at once would be in each other's way.
        let (code, told) = said(load(&shop, removal)).await;
        assert!(
            code == Some(1) && told.contains("another load is sent"),
            "{told}"
        );
        killed.kill().await.unwrap();
        eventually("the end of the load's session", async || {
            let (code, told) = said(load(&shop, removal)).await;
            assert!(code == Some(0) || told.contains("another load"), "{told}");
            (code == Some(0)).then_some(())
        })
        .await;
        assert_eq!(state(&shop).await, before);
    }
}

#[tokio::test]
async fn an_interrupted_load_tidies_up() {
    let shop = shop().await;
    let before = state(&shop).await;
    let load = load(&shop, &["--duration", "1h"]).spawn().unwrap();
    eventually("orders of the load", async || {
        (count(&shop.database(), "orders").await > 53).then_some(())
    })
    .await;
    super::stop(load).await;
    assert_eq!(state(&shop).await, before);
}

#[tokio::test]
async fn a_real_shop_gets_a_load_only_when_asked_and_its_orders_stay() {
    let shop = shop().await;
    let ana = shop.shopper("ana@shop.test").await;
    shop.product("mug", 500, 10).await;
    let placed = shop.place(&ana, &fresh_key(), &order(&[("mug", 2)])).await;
    placed.expect(201);
    let before = state(&shop).await;
    let (code, told) = said(load(&shop, &["--duration", "1s"])).await;
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("1 accounts that are no load's"), "{told}");
    assert!(told.contains("--place-orders"), "{told}");
    assert_eq!(state(&shop).await, before);

    let (code, told) = said(load(&shop, &["--duration", "1s", "--place-orders"])).await;
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(state(&shop).await, before);
}

#[tokio::test]
async fn a_database_that_is_another_shops_is_found_out_before_an_order() {
    let (shop, other) = (shop().await, server::empty_database().await);
    let before = state(&shop).await;
    let address = format!("http://{}", shop.address);
    let arguments = ["load", "--url", &address, "--database-url", &url(&other)];
    let (code, told) = said(evenkeel(&arguments)).await;
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("another shop's"), "{told}");
    // That somebody tried to log in is all that is left.
    let mut sql = shop.sql().await;
    sqlx::query("DELETE FROM log_in_attempts")
        .execute(&mut sql)
        .await
        .unwrap();
    assert_eq!(state(&shop).await, before);
    assert_eq!(count(&other, "accounts").await, 0);
}

#[tokio::test]
async fn the_sample_is_removed_and_nothing_else() {
    let shop = shop().await;
    let ana = shop.shopper("ana@shop.test").await;
    shop.product("mug", 500, 10).await;
    let mut sql = shop.sql().await;
    let sku = "SELECT sku FROM variants ORDER BY id LIMIT 1";
    let sku: String = sqlx::query_scalar(sku).fetch_one(&mut sql).await.unwrap();
    // The sample is sold in another currency, and an order has one.
    let sold = shop.place(&ana, &fresh_key(), &order(&[(&sku, 1)])).await;
    let sold = sold.expect(201).json();
    let mug = shop.place(&ana, &fresh_key(), &order(&[("mug", 1)])).await;
    mug.expect(201);
    let change =
        "UPDATE products SET title = 'My own' WHERE id = (SELECT max(id) - 1 FROM products)
                  RETURNING handle";
    let changed: String = sqlx::query_scalar(change)
        .fetch_one(&mut sql)
        .await
        .unwrap();

    let removed = sample::remove(&mut sql).await.unwrap();
    assert_eq!((removed.products, removed.kept), (19, 1));
    assert_eq!(removed.changed, [changed]);
    assert_eq!((removed.erased.accounts, removed.erased.orders), (5, 50));
    let order = sold["id"].as_i64().unwrap();
    assert_eq!(removed.orders, [(ana.account, order)]);
    let rows = shop.row_counts().await;
    let rows = rows.iter().map(|(name, n)| (name.as_str(), *n));
    // How often Ana has logged in is no matter here.
    let rows: Vec<_> = rows
        .filter(|(name, _)| !["devices", "log_in_attempts"].contains(name))
        .collect();
    let left = [
        ("accounts", 1),
        ("idempotency_keys", 2),
        ("images", 1),
        ("order_lines", 2),
        ("orders", 2),
        ("products", 2),
        ("sessions", 1),
        ("variants", 4),
    ];
    assert_eq!(rows, left);
    shop.get_as(&ana, &format!("/api/orders/{order}"))
        .await
        .expect(200);
    // The sample's orders took nothing out of stock, so nothing is put back.
    let stock = "SELECT min(stock) || ' ' || max(stock) FROM variants WHERE sku <> 'mug'";
    let stock: String = sqlx::query_scalar(stock).fetch_one(&mut sql).await.unwrap();
    assert_eq!(stock, format!("{0} {0}", sample::STOCK));
    assert_eq!(shop.stock("mug").await, 9);

    // Once more finds nothing, and no start fills the shop again.
    let again = sample::remove(&mut sql).await.unwrap();
    assert_eq!(
        (again.products, again.kept, again.erased.accounts),
        (0, 1, 0)
    );
    assert!(!sample::is_wanted(&mut sql, SIZE).await.unwrap());
}
