//! How many statements a request may cost, counted on the wire.

use std::time::Duration;

use serde_json::json;

use crate::support::app::{PASSWORD, fresh_key, order};
use crate::support::wire::CountingProxy;
use crate::support::{TestApp, server};

/// A shop that is reached through a counting proxy, with a product and a shopper.
async fn counted_shop() -> (TestApp, CountingProxy) {
    let database = server::empty_database().await;
    let proxy = CountingProxy::start(&database).await;
    let shop = TestApp::builder()
        .database(database)
        .reached_through(proxy.options.clone())
        // One connection per class, so that warming up reaches every one that is measured.
        .settings(|s| {
            s.pool.size = 4;
            for class in [
                &mut s.pool.checkout,
                &mut s.pool.account,
                &mut s.pool.browse,
            ] {
                (class.min, class.max) = (1, 1);
                class.acquire = Duration::from_secs(2);
            }
            s.pool.background.max = 1;
        })
        .start()
        .await;
    shop.product("chair", 4900, 100).await;
    (shop, proxy)
}

/// The statements that `request` costs once all is prepared.
async fn cost(proxy: &CountingProxy, mut request: impl AsyncFnMut()) -> u64 {
    for _ in 0..8 {
        request().await;
    }
    let before = proxy.statements();
    request().await;
    // A connection is given back, or mended, behind the answer's back.
    tokio::time::sleep(Duration::from_millis(50)).await;
    proxy.statements() - before
}

#[tokio::test]
async fn the_statement_budget_is_kept() {
    let (shop, proxy) = counted_shop().await;
    let ann = shop.shopper("ann@example.org").await;
    let wanted = order(&[("chair", 1)]);

    let detail = cost(&proxy, async || {
        shop.get("/api/products/chair").await.expect(200);
    });
    assert_eq!(detail.await, 1);
    let list = cost(&proxy, async || {
        shop.get("/api/products?category=Things&q=chair")
            .await
            .expect(200);
    });
    assert_eq!(list.await, 1);
    let place = cost(&proxy, async || {
        shop.place(&ann, &fresh_key(), &wanted).await.expect(201);
    });
    assert_eq!(place.await, 1);
    let replay = cost(&proxy, async || {
        shop.place(&ann, "one", &wanted).await.expect(201);
    });
    assert_eq!(replay.await, 3);
    let history = cost(&proxy, async || {
        shop.get_as(&ann, "/api/orders").await.expect(200);
    });
    assert_eq!(history.await, 2);
    let account = json!({"email": "ann@example.org", "password": PASSWORD});
    let log_in = cost(&proxy, async || {
        shop.post("/api/sessions", &account).await.expect(201);
    });
    assert_eq!(log_in.await, 2);
}
