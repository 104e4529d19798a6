//! The shop's tables go into a database that is empty or the shop's, or where somebody asked for them.

use sqlx::ConnectOptions;

use super::{count, dump, execute, said, serve, stop};
use crate::migration::process::{evenkeel_on, url};
use crate::support::{eventually, server};

#[tokio::test]
async fn beside_somebody_elses_tables_they_go_only_when_asked() {
    let database = server::blank_database().await;
    let theirs =
        "CREATE TABLE invoices (x int); CREATE TABLE ledgers (x int); CREATE VIEW v AS SELECT 1";
    execute(&database, theirs).await;
    let Some(before) = dump(&database) else {
        return;
    };
    let address = url(&database);
    let mut command = serve(&[]);
    command.env("DATABASE_URL", &address);
    let (code, refused) = said(command).await;
    assert_eq!(code, Some(1), "{refused}");
    for words in [
        "public.invoices",
        "public.ledgers",
        "--create",
        "empty database",
    ] {
        assert!(refused.contains(words), "{words}: {refused}");
    }
    let fixture = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/shopify-apparel.csv"
    );
    let (code, refused) = said(evenkeel_on(&database, &["catalog", "import", fixture])).await;
    assert!(
        code == Some(1) && refused.contains("public.invoices"),
        "{refused}"
    );
    assert_eq!(dump(&database).unwrap(), before);

    let shop = serve(&["--create", "--database-url", &address])
        .spawn()
        .unwrap();
    eventually("the shop's tables", async || {
        let mut conn = database.connect().await.ok()?;
        let ready = "SELECT count(*) > 0 FROM evenkeel.readings";
        let ready: bool = sqlx::query_scalar(ready).fetch_one(&mut conn).await.ok()?;
        ready.then_some(())
    })
    .await;
    stop(shop).await;
    // It is the shop's now, and no database of somebody's gets sample products.
    assert_eq!(count(&database, "products").await, 0);
    let (code, imported) = said(evenkeel_on(&database, &["catalog", "import", fixture])).await;
    assert!(
        code == Some(0) && imported.contains("products: 20 added"),
        "{imported}"
    );
}

#[tokio::test]
async fn a_table_of_the_same_name_is_never_overwritten_and_nothing_is_left_behind() {
    let database = server::blank_database().await;
    execute(&database, "CREATE TABLE orders (x int)").await;
    let Some(before) = dump(&database) else {
        return;
    };
    let (code, refused) = said(serve(&["--create", "--database-url", &url(&database)])).await;
    assert_eq!(code, Some(1), "{refused}");
    assert!(
        refused.contains("relation \"orders\" already exists"),
        "{refused}"
    );
    assert!(refused.contains("Evenkeel did not make that"), "{refused}");
    assert_eq!(dump(&database).unwrap(), before);
}
