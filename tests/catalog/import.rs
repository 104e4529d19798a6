//! Shopify's product files: what loads, what is rejected, and why.

use evenkeel::store::import::{Currency, ImportError, Report, Tally, import};
use sqlx::postgres::PgConnection;

use crate::support::empty_shop;

const APPAREL: &[u8] = include_bytes!("../fixtures/shopify-apparel.csv");
const HOME_AND_GARDEN: &[u8] = include_bytes!("../fixtures/shopify-home-and-garden.csv");
const JEWELERY: &[u8] = include_bytes!("../fixtures/shopify-jewelery.csv");

const HEADER: &str = "Handle,Title,Body (HTML),Type,Tags,Option1 Name,Option1 Value,Variant SKU,\
                      Variant Inventory Qty,Variant Price,Image Src,Image Position\n";

fn usd() -> Currency {
    "USD".parse().expect("a currency")
}

async fn load(conn: &mut PgConnection, file: impl AsRef<[u8]>) -> Report {
    let report = import(conn, file.as_ref(), usd()).await;
    report.expect("the file can be read")
}

fn added(added: u64) -> Tally {
    Tally {
        added,
        ..Tally::default()
    }
}

fn unchanged(unchanged: u64) -> Tally {
    Tally {
        unchanged,
        ..Tally::default()
    }
}

/// The lines and reasons of all rejections.
fn rejections(report: &Report) -> Vec<(u64, &str)> {
    let all = report.rejections.iter();
    all.map(|r| (r.line, r.reason.as_str())).collect()
}

/// Everything in the catalogue together with the places where its rows lie: a row that is written
/// again lies elsewhere.
async fn everything(conn: &mut PgConnection) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT p.ctid || (p.*)::text FROM products p
         UNION ALL SELECT v.ctid || (v.*)::text FROM variants v
         UNION ALL SELECT i.ctid || (i.*)::text FROM images i
         ORDER BY 1",
    )
    .fetch_all(conn)
    .await
    .expect("reads")
}

async fn column<T>(conn: &mut PgConnection, sql: &'static str) -> Vec<T>
where
    T: Send + Unpin + sqlx::Type<sqlx::Postgres> + for<'r> sqlx::Decode<'r, sqlx::Postgres>,
{
    sqlx::query_scalar(sql)
        .fetch_all(conn)
        .await
        .expect("reads")
}

#[tokio::test]
async fn the_sample_files_load_completely_and_loading_them_again_writes_nothing() {
    let mut conn = empty_shop().await;
    for (file, products, variants, images) in [
        (APPAREL, 20, 22, 20),
        (HOME_AND_GARDEN, 20, 21, 21),
        (JEWELERY, 20, 23, 41),
    ] {
        let report = load(&mut conn, file).await;
        assert_eq!(rejections(&report), []);
        assert_eq!(report.products, added(products));
        assert_eq!(report.variants, added(variants));
        assert_eq!(report.images, added(images));
    }
    let before = everything(&mut conn).await;
    for (file, variants, images) in [
        (APPAREL, 22, 20),
        (HOME_AND_GARDEN, 21, 21),
        (JEWELERY, 23, 41),
    ] {
        let report = load(&mut conn, file).await;
        assert_eq!(report.products, unchanged(20));
        assert_eq!(report.variants, unchanged(variants));
        assert_eq!(report.images, unchanged(images));
    }
    assert_eq!(everything(&mut conn).await, before);
}

#[tokio::test]
async fn variants_have_derived_skus_options_exact_prices_and_their_images() {
    let mut conn = empty_shop().await;
    load(&mut conn, JEWELERY).await;
    load(&mut conn, APPAREL).await;
    let rows = "SELECT concat_ws(' ', position, sku, options, price_minor, compare_at_minor, stock,
                                 substring(image_url FROM 'photos/(.*)_925x'))
                FROM variants WHERE sku LIKE 'leather-anchor/%' ORDER BY position";
    assert_eq!(
        column::<String>(&mut conn, rows).await,
        [
            r#"1 leather-anchor/gold {"Color": "Gold"} 6999 8500 1 anchor-bracelet-mens"#,
            r#"2 leather-anchor/silver {"Color": "Silver"} 5500 8500 0 anchor-bracelet-for-men"#,
        ]
    );
    let plain = "SELECT sku || title || options FROM variants WHERE sku = 'ocean-blue-shirt'";
    assert_eq!(
        column::<String>(&mut conn, plain).await,
        ["ocean-blue-shirt{}"]
    );
    let tags = "SELECT unnest(tags) FROM products WHERE handle = 'leather-anchor'";
    assert_eq!(
        column::<String>(&mut conn, tags).await,
        ["Anchor", "Gold", "Leather", "Silver"]
    );
    let category = "SELECT category FROM products WHERE handle = 'leather-anchor'";
    assert_eq!(column::<String>(&mut conn, category).await, ["Bracelet"]);
}

#[tokio::test]
async fn bad_rows_are_rejected_with_their_line_and_the_rest_loads() {
    let mut conn = empty_shop().await;
    // CRLF, a byte order mark, blank lines, and line breaks inside quotes.
    let rows = "mug,Mug,\"two\nlines\",,,Size,S,,1,5.00,,\n\
                mug,,,,,,M,,-3,5.00,,\n\
                mug,,,,,,L,,1,five,,\n\
                mug,,,,,,XL,,1,6.00,javascript:alert(1),\n\
                \n\
                ,Nameless,,,,,,,1,5.00,,\n\
                cup,,,,,,,,1,5.00,,\n\
                cup,,,,,,,,1,5.00,,\n\
                a/b,Slash,,,,,,,1,5.00,,\n\
                jug,Jug,,,,,,,1,1.999,,\n\
                short,Short\n\
                mug,Mug again,,,,,,,1,5.00,,\n\
                pot,Pot,,,,,,,,7,https://example.com/p.png,\n";
    let file = format!("\u{feff}{HEADER}{rows}").replace('\n', "\r\n");
    let report = load(&mut conn, file).await;
    let lines: Vec<u64> = rejections(&report).iter().map(|(line, _)| *line).collect();
    assert_eq!(
        lines,
        [4, 5, 6, 8, 9, 10, 11, 12, 12, 13, 14],
        "{:#?}",
        report.rejections
    );
    for ((_, reason), wanted) in rejections(&report).into_iter().zip([
        "Variant Inventory Qty is -3: it cannot be negative",
        "Variant Price is `five`",
        "Image Src is `javascript:alert(1)`",
        "Handle is empty",
        "`cup` is not the product of the row above",
        "its product, in line 9, was rejected",
        "cannot stand in an address",
        "but USD has 2 decimals",
        "the product `jug` has no variant that can be sold",
        "has 2 fields, but the first line names 12 columns",
        "began in line 2",
    ]) {
        assert!(reason.contains(wanted), "{reason:?} lacks {wanted:?}");
    }
    // The jug has no variant left; the XL mug lost only its image.
    let skus = "SELECT sku FROM variants ORDER BY sku";
    assert_eq!(
        column::<String>(&mut conn, skus).await,
        ["mug/s", "mug/xl", "pot"]
    );
}

#[tokio::test]
async fn a_row_that_is_not_utf_8_is_rejected_alone() {
    let mut conn = empty_shop().await;
    let mut file = HEADER.as_bytes().to_vec();
    file.extend(b"caf\xe9,Latin One,,,,,,,1,5.00,,\nmug,Caf\xe9 Mug,,,,,,,1,5.00,,\n");
    file.extend("cup,Café Cup,,,,,,,1,5.00,,".as_bytes());
    let report = load(&mut conn, file).await;
    assert_eq!(
        rejections(&report),
        [
            (2, "Handle is not UTF-8: save the file as UTF-8"),
            (3, "Title is not UTF-8: save the file as UTF-8")
        ]
    );
    assert_eq!(
        column::<String>(&mut conn, "SELECT title FROM products").await,
        ["Café Cup"]
    );
}

#[tokio::test]
async fn what_changed_in_the_file_changes_in_the_shop_but_stock_belongs_to_the_shop() {
    let mut conn = empty_shop().await;
    let images = "https://example.com/1.png,1\nmug,,,,,,,,,,https://example.com/2.png,2\n";
    let first = format!(
        "{HEADER}mug,Mug,,,,Size,S,,10,5,{images}mug,,,,,,M,,10,6,,\ncup,Cup,,,,,,CUP-1,3,4,,\n"
    );
    load(&mut conn, first).await;
    let sale = "UPDATE variants SET stock = stock - 2";
    sqlx::query(sale).execute(&mut conn).await.expect("sells");
    // M comes first now and costs less, L is new, S is gone from the file, and so is an image.
    let second = format!(
        "{HEADER}mug,Mug,,,,Size,M,,99,5.50,https://example.com/2.png,1\nmug,,,,,,L,,9,7,,\n\
         cup,Cup,,,,,,CUP-1,3,4,,\n"
    );
    let report = load(&mut conn, second.clone()).await;
    assert_eq!(rejections(&report), []);
    assert_eq!(report.products, unchanged(2));
    let moved = Tally {
        added: 1,
        changed: 1,
        removed: 0,
        unchanged: 1,
    };
    assert_eq!(report.variants, moved);
    let images = Tally {
        added: 0,
        changed: 1,
        removed: 1,
        unchanged: 0,
    };
    assert_eq!(report.images, images);
    let variants = "SELECT position || ' ' || sku || ' ' || price_minor || ' ' || stock
                    FROM variants ORDER BY product_id, position";
    let wanted = [
        "1 mug/m 550 8",
        "2 mug/l 700 9",
        "3 mug/s 500 8",
        "1 CUP-1 400 1",
    ];
    assert_eq!(column::<String>(&mut conn, variants).await, wanted);
    let before = everything(&mut conn).await;
    let again = load(&mut conn, second).await;
    assert_eq!(
        (again.products, again.variants),
        (unchanged(2), unchanged(3))
    );
    assert_eq!(everything(&mut conn).await, before);
}

#[tokio::test]
async fn a_sku_of_another_product_is_refused_and_nothing_of_the_thief_is_stored() {
    let mut conn = empty_shop().await;
    let rows = "mug,Mug,,,,,,X-1,1,5,,\ncup,Cup,,,,,,X-1,1,5,,\njug,Jug,,,,,,X-2,1,5,,\n";
    let report = load(&mut conn, format!("{HEADER}{rows}")).await;
    assert_eq!(
        rejections(&report),
        [(3, "SKU `X-1` belongs to the product `mug`")]
    );
    let handles = "SELECT handle FROM products ORDER BY id";
    assert_eq!(column::<String>(&mut conn, handles).await, ["mug", "jug"]);
}

#[tokio::test]
async fn descriptions_are_text_and_never_markup() {
    let mut conn = empty_shop().await;
    let body = "<p>Fine &amp; <b>dry</b></p><script>alert(1)</script><img src=x onerror=alert(2)>";
    load(&mut conn, format!("{HEADER}mug,Mug,{body},,,,,,1,5,,\n")).await;
    let text = &column::<String>(&mut conn, "SELECT description FROM products").await[0];
    assert_eq!(text.trim(), "Fine & dry");
}

#[tokio::test]
async fn a_file_that_is_no_product_file_is_refused_by_the_names_it_lacks() {
    let mut conn = empty_shop().await;
    for file in ["", "Handle,Name,Price\nmug,Mug,5\n", "\n\n", "PK\u{3}\u{4}"] {
        let err = import(&mut conn, file.as_bytes(), usd())
            .await
            .expect_err("no columns");
        assert!(matches!(err, ImportError::NoColumns(_)), "{err}");
        assert!(err.to_string().contains("Variant Price"), "{err}");
    }
}

#[tokio::test]
async fn oversized_fields_are_rejected_by_name() {
    let mut conn = empty_shop().await;
    let long = "x".repeat(300);
    let body = "y".repeat(70_000);
    let rows = format!(
        "{long},Mug,,,,,,,1,5,,\nmug,{long},,,,,,,1,5,,\ncup,Cup,{body},,,,,,1,5,,\n\
         jug,Jug,,,,,,,99999999999,5,,\npot,Pot,,,,,,,1,5,,\n"
    );
    let report = load(&mut conn, format!("{HEADER}{rows}")).await;
    let lines: Vec<u64> = report.rejections.iter().map(|r| r.line).collect();
    assert_eq!(lines, [2, 3, 4, 5, 5], "{:#?}", report.rejections);
    assert_eq!(report.products, added(1));
}
