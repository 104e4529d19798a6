//! `--fresh` deletes nobody's data without a word.

use super::{count, directory, embedded_shop, execute, said, serve, started, stop};

#[tokio::test]
async fn it_wants_a_yes_and_says_what_would_be_lost() {
    let dir = directory();
    let data = dir.path().join("data");
    let data = data.to_str().unwrap();
    // Where there is nothing to lose nobody is asked.
    let (shop, database) = embedded_shop(data, &["--fresh"]).await;
    assert_eq!(count(&database, "products").await, 0);
    execute(
        &database,
        "INSERT INTO products (handle, title) VALUES ('a', 'A'), ('b', 'B');
         INSERT INTO accounts (email, password_hash) VALUES ('ana@shop.test', '')",
    )
    .await;
    stop(shop).await;

    let (code, refused) = said(serve(&["--data-dir", data, "--fresh"])).await;
    assert_eq!(code, Some(1), "{refused}");
    assert!(
        refused.contains("2 products, 0 orders, 1 accounts"),
        "{refused}"
    );
    assert!(
        refused.contains("--yes") && refused.contains(data),
        "{refused}"
    );

    let (shop, database) = embedded_shop(data, &[]).await;
    assert_eq!(count(&database, "products").await, 2);
    stop(shop).await;
    let (shop, database) = embedded_shop(data, &["--fresh", "--yes"]).await;
    assert_eq!(count(&database, "products").await, 0);
    stop(shop).await;
}

#[tokio::test]
async fn a_journal_that_is_to_be_in_the_data_directory_does_not_make_that_somebodys() {
    let dir = directory();
    let data = dir.path().join("data");
    let data = data.to_str().unwrap();
    let journal = dir.path().join("data/incidents");
    let mut serve = serve(&["--data-dir", data]);
    serve.env("EVENKEEL_WATCH__JOURNAL", &journal);
    let (shop, _) = started(serve, data).await;
    stop(shop).await;
    assert!(journal.is_dir());
}
