//! Looking at products.

use evenkeel::store::catalog::Product;

use crate::support::TestApp;

#[tokio::test]
async fn the_list_pages_through_every_published_product_once() {
    let shop = TestApp::start().await;
    for i in 0..7 {
        shop.product(&format!("thing-{i}"), 1000 + i, 5).await;
    }
    sqlx::query("UPDATE products SET published = false WHERE handle = 'thing-3'")
        .execute(&mut shop.sql().await)
        .await
        .unwrap();

    let mut seen = Vec::new();
    let mut path = "/api/products?limit=2".to_owned();
    loop {
        let page = shop.get(&path).await.expect(200).json();
        for item in page["items"].as_array().unwrap() {
            seen.push(item["handle"].as_str().unwrap().to_owned());
        }
        match page["next"].as_str() {
            Some(next) => path = format!("/api/products?limit=2&after={next}"),
            None => break,
        }
    }

    let expected = [0, 1, 2, 4, 5, 6].map(|i| format!("thing-{i}"));
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_listed_product_shows_its_lowest_price_and_whether_it_is_in_stock() {
    let shop = TestApp::start().await;
    shop.product("chair", 9900, 0).await;
    sqlx::query(
        "INSERT INTO variants (product_id, position, sku, title, price_minor, currency, stock)
         SELECT id, 2, 'chair-2', 'Small', 4900, 'USD', 1 FROM products",
    )
    .execute(&mut shop.sql().await)
    .await
    .unwrap();

    let page = shop.get("/api/products").await.expect(200).json();

    let chair = &page["items"][0];
    assert_eq!(chair["from_price_minor"], 4900);
    assert_eq!(chair["currency"], "USD");
    assert_eq!(chair["in_stock"], true);
    assert_eq!(chair["image"], "/images/chair");
}

#[tokio::test]
async fn the_list_is_narrowed_by_category_and_by_words() {
    let shop = TestApp::start().await;
    shop.product("red lamp", 1, 1).await;
    shop.product("green lamp", 1, 1).await;
    sqlx::query("UPDATE products SET category = 'Lights' WHERE handle = 'green lamp'")
        .execute(&mut shop.sql().await)
        .await
        .unwrap();
    let handles = async |query: &str| {
        let page = shop.get(&format!("/api/products?{query}")).await;
        let page = page.expect(200).json();
        let items = page["items"].as_array().unwrap().clone();
        let handles = items.iter().map(|item| item["handle"].as_str().unwrap());
        handles.collect::<Vec<_>>().join(", ")
    };

    assert_eq!(handles("q=lamp").await, "red lamp, green lamp");
    assert_eq!(handles("q=red+lamp").await, "red lamp");
    assert_eq!(handles("category=Lights").await, "green lamp");
    assert_eq!(handles("category=Lights&q=red").await, "");
    assert_eq!(
        handles("q=%22%3A*%26%7C%21%28").await,
        "",
        "no syntax error"
    );
    let categories = shop.get("/api/categories").await.expect(200);
    assert_eq!(categories.text, r#"["Lights","Things"]"#);
}

#[tokio::test]
async fn the_detail_is_the_documented_product() {
    let shop = TestApp::start().await;
    shop.product("chair", 9900, 3).await;

    let answer = shop.get("/api/products/chair").await.expect(200);

    assert_eq!(answer.header("content-type"), "application/json");
    let product: Product = serde_json::from_str(&answer.text).unwrap();
    assert_eq!(product.variants[0].sku, "chair");
    assert_eq!(product.variants[0].price_minor, 9900);
    assert_eq!(product.images[0].url, "/images/chair");
    assert_eq!(product.tags, ["new"]);
}

#[tokio::test]
async fn what_is_not_on_sale_is_not_found() {
    let shop = TestApp::start().await;
    shop.product("chair", 9900, 3).await;
    sqlx::query("UPDATE products SET published = false")
        .execute(&mut shop.sql().await)
        .await
        .unwrap();

    shop.get("/api/products/chair").await.expect(404);
    shop.get("/api/products/table").await.expect(404);
    shop.get("/api/nothing-here").await.expect(404);
}
