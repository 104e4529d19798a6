//! The sample shop.

use evenkeel::store::sample::{self, SampleError, SampleSize};
use sqlx::Executor;
use sqlx::postgres::PgConnection;

use crate::support::empty_shop;

const SMALL: SampleSize = SampleSize {
    products: 40,
    accounts: 30,
    orders: 700,
};

async fn number(conn: &mut PgConnection, sql: &'static str) -> i64 {
    let number = sqlx::query_scalar(sql).fetch_one(conn).await;
    number.expect("reads")
}

async fn fill(conn: &mut PgConnection, size: SampleSize) -> u64 {
    let last = std::sync::atomic::AtomicU64::new(0);
    let progress = |done, total| {
        assert!(done <= total);
        last.store(done, std::sync::atomic::Ordering::Relaxed);
    };
    sample::fill(conn, size, &progress).await.expect("fills");
    last.into_inner()
}

#[tokio::test]
async fn a_filled_shop_has_what_was_asked_for_and_all_of_it_can_be_bought() {
    let mut conn = empty_shop().await;
    assert!(sample::is_wanted(&mut conn, SMALL).await.expect("reads"));
    assert_eq!(fill(&mut conn, SMALL).await, 40 + 30 + 700);
    assert!(!sample::is_wanted(&mut conn, SMALL).await.expect("reads"));
    for (sql, wanted) in [
        (
            "SELECT count(*) FROM products WHERE published AND description <> ''",
            40,
        ),
        (
            "SELECT count(*) FROM variants WHERE stock = 1000000 AND price_minor > 0",
            120,
        ),
        ("SELECT count(DISTINCT category) FROM products", 8),
        ("SELECT count(*) FROM accounts", 30),
        (
            "SELECT count(*) FROM orders WHERE total_minor IS NULL AND placed_day IS NULL",
            700,
        ),
        ("SELECT count(DISTINCT account_id) FROM orders", 30),
        (
            "SELECT count(DISTINCT lines) FROM (
              SELECT count(*) AS lines FROM order_lines GROUP BY account_id, order_id) l",
            4,
        ),
        // Foreign keys are not checked while the sample is written.
        (
            "SELECT count(*) FROM order_lines l
          WHERE NOT EXISTS (SELECT FROM orders o
                            WHERE o.account_id = l.account_id AND o.id = l.order_id)
             OR NOT EXISTS (SELECT FROM variants v WHERE v.id = l.variant_id AND v.sku = l.sku)",
            0,
        ),
        (
            "SELECT count(*) FROM orders o LEFT JOIN accounts a ON a.id = o.account_id
          WHERE a.id IS NULL OR a.created_at > o.placed_at",
            0,
        ),
        (
            "SELECT count(*) FROM orders WHERE placed_at > now() OR placed_at < now() - interval '91 days'",
            0,
        ),
        // In an account's history, higher numbers are newer.
        (
            "SELECT count(*) FROM orders a JOIN orders b USING (account_id)
          WHERE a.id < b.id AND a.placed_at > b.placed_at",
            0,
        ),
    ] {
        assert_eq!(number(&mut conn, sql).await, wanted, "{sql}");
    }
    let legacy = "SELECT count(*) FROM accounts WHERE email_key IS NULL";
    assert!((3..27).contains(&number(&mut conn, legacy).await));
    // Folding the letter case of old addresses must not make two of them equal.
    let folded = "SELECT count(DISTINCT lower(email)) FROM accounts";
    assert_eq!(number(&mut conn, folded).await, 30);
    let mixed = "SELECT count(*) FROM accounts WHERE email <> lower(email)";
    assert!(number(&mut conn, mixed).await > 0);
    // The next real order is none of the sample's.
    assert_eq!(
        number(&mut conn, "SELECT nextval('orders_id_seq')").await,
        701
    );
}

#[tokio::test]
async fn filling_twice_changes_nothing_and_an_interrupted_fill_is_completed() {
    let mut conn = empty_shop().await;
    fill(&mut conn, SMALL).await;
    let everything = "SELECT count(*) + sum(length(o::text)) FROM (
        SELECT (p.*)::text FROM products p UNION ALL SELECT (v.*)::text FROM variants v
        UNION ALL SELECT (a.*)::text FROM accounts a UNION ALL SELECT (l.*)::text FROM order_lines l
        UNION ALL SELECT account_id || ' ' || id FROM orders) o";
    let before = number(&mut conn, everything).await;
    assert_eq!(fill(&mut conn, SMALL).await, 0);
    assert_eq!(number(&mut conn, everything).await, before);
    // As if the process had died before the orders.
    conn.execute("DELETE FROM orders").await.expect("deletes");
    assert!(sample::is_wanted(&mut conn, SMALL).await.expect("reads"));
    fill(&mut conn, SMALL).await;
    assert_eq!(number(&mut conn, everything).await, before);
}

#[tokio::test]
async fn a_shop_with_products_of_its_own_is_left_alone() {
    let mut conn = empty_shop().await;
    conn.execute("INSERT INTO products (handle, title) VALUES ('mug', 'Mug')")
        .await
        .expect("inserts");
    assert!(!sample::is_wanted(&mut conn, SMALL).await.expect("reads"));
    let refused = sample::fill(&mut conn, SMALL, &|_, _| {}).await;
    assert!(matches!(refused, Err(SampleError::NotEmpty)), "{refused:?}");
    assert_eq!(number(&mut conn, "SELECT count(*) FROM products").await, 1);
}

/// Run by hand: `SAMPLE_ORDERS=2000000 cargo test --test suite -- --ignored --nocapture speed`.
#[tokio::test]
#[ignore = "a measurement"]
async fn speed_of_a_large_fill() {
    let orders = std::env::var("SAMPLE_ORDERS").expect("set");
    let size = SampleSize {
        products: 20_000,
        accounts: 20_000,
        orders: orders.parse().expect("a number"),
    };
    let mut conn = empty_shop().await;
    let began = std::time::Instant::now();
    let progress = |done, total| println!("{:8.1?} {done} of {total}", began.elapsed());
    sample::fill(&mut conn, size, &progress)
        .await
        .expect("fills");
    println!("{:8.1?} vacuumed", began.elapsed());
}
