//! `evenkeel catalog import`.

use std::process::ExitCode;

use clap::Parser;
use evenkeel::cli::catalog::Import;
use sqlx::postgres::PgConnection;

use crate::support::empty_shop;

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    import: Import,
}

async fn import(conn: &mut PgConnection, files: &[&str]) -> String {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/");
    let files = files.iter().map(|file| format!("{fixtures}{file}"));
    let words = ["import".to_owned()].into_iter();
    let args = CommandLine::try_parse_from(words.chain(files)).expect("parses");
    format!("{:?}", args.import.run(conn).await)
}

#[tokio::test]
async fn a_file_that_cannot_be_read_fails_the_command_but_not_the_other_files() {
    let mut conn = empty_shop().await;
    let (success, failure) = (ExitCode::SUCCESS, ExitCode::FAILURE);
    let all = ["shopify-apparel.csv", "shopify-home-and-garden.csv"];
    assert_eq!(import(&mut conn, &all).await, format!("{success:?}"));
    let some = ["missing.csv", "../suite.rs", "shopify-jewelery.csv"];
    assert_eq!(import(&mut conn, &some).await, format!("{failure:?}"));
    let products = "SELECT count(*) FROM products";
    let products: i64 = sqlx::query_scalar(products)
        .fetch_one(&mut conn)
        .await
        .expect("reads");
    assert_eq!(products, 60);
}
