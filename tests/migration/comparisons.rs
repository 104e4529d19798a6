//! Keys are compared as their index does, whatever the search path finds under an operator's name.

use evenkeel::migration::runner::End;

use super::fixture::{Fixture, migration};

/// 501 people whose addresses a comparison as text puts in another order than the index.
const PEOPLE: &str = "CREATE SCHEMA extensions; CREATE EXTENSION citext SCHEMA extensions;
    CREATE TABLE public.people (email extensions.citext PRIMARY KEY, n int);
    INSERT INTO people (email)
        SELECT chr(97 + i % 26) || 'user' || i || '@shop.example' FROM generate_series(1, 500) AS i;
    INSERT INTO people (email) VALUES ('ZZ-Top@shop.example'); ANALYZE people";

#[tokio::test]
async fn a_type_of_an_extension_is_compared_by_its_own_operators_under_any_search_path() {
    for (search_path, table) in [
        ("\"$user\", public", "people"),
        ("\"$user\", public", "public.people"),
        ("''", "public.people"),
        ("public, extensions", "people"),
        ("extensions, public", "people"),
        ("pg_catalog, public, extensions", "people"),
        ("public, extensions, pg_catalog", "people"),
    ] {
        let mut made = Fixture::new().await;
        made.run(PEOPLE).await;
        let database = made.database.get_database().unwrap();
        let alter = format!("ALTER DATABASE {database} SET search_path = {search_path}");
        made.run(&alter).await;
        let mut fixture = Fixture::beside(&made).await;
        let (end, run) = fixture
            .migrate(&migration(
                &format!("-- table: {table}\n-- pending: n IS NULL"),
                &format!("UPDATE {table} SET n = 1 WHERE :range"),
            ))
            .await;
        assert_eq!(end, End::Completed, "{run:?}");
        assert_eq!(
            (run.rows_seen, run.rows_changed),
            (501, 501),
            "{search_path}"
        );
        let pending = made
            .count("SELECT count(*) FROM people WHERE n IS NULL")
            .await;
        assert_eq!(pending, 0, "{search_path}");
    }
}
