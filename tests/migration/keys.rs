//! Any unique key is walked, every row once.

use std::collections::BTreeSet;

use evenkeel::migration::runner::End;

use super::fixture::{Fixture, migration};

/// Migrates `table`, made by `create`, whose migration's header is completed by `header`.
async fn walk(create: &str, table: &str, header: &str) {
    let mut fixture = Fixture::new().await;
    fixture.run(create).await;
    fixture.count_changes(table).await;
    let alias = header.lines().find_map(|l| l.strip_prefix("-- alias: "));
    let alias = alias.map_or(String::new(), |alias| format!(" AS {alias}"));
    let text = migration(
        &format!("-- table: {table}\n-- pending: NOT done\n{header}"),
        &format!("UPDATE {table}{alias} SET done = true, n = n + 1 WHERE :range"),
    );
    let (end, run) = fixture.migrate(&text).await;
    assert_eq!(end, End::Completed, "{run:?}");
    assert!(run.rows_seen >= 100, "{run:?}");
    fixture.assert_exactly_once(table, &run).await;
}

#[tokio::test]
async fn bigints_with_large_gaps_are_walked() {
    let create = "CREATE TABLE t (id bigint PRIMARY KEY);
        INSERT INTO t SELECT (i - 60) * (i % 7 + 1) * 7000000000000000 + i
          FROM generate_series(1, 120) AS i ON CONFLICT DO NOTHING;
        INSERT INTO t VALUES (9223372036854775807), (-9223372036854775808)";
    walk(create, "t", "").await;
}

#[tokio::test]
async fn uuids_are_walked() {
    let create = "CREATE TABLE t (id uuid PRIMARY KEY);
        INSERT INTO t SELECT gen_random_uuid() FROM generate_series(1, 150)";
    walk(create, "t", "").await;
}

#[tokio::test]
async fn text_is_walked_whatever_its_characters_and_collation() {
    let odd = r#"('') , (' ') , ('''') , ('"') , ('\') , ('{}') , ('{a,b}') , (',') , ('NULL') , ('null') ,
        ('straße') , ('Straße') , ('ÄÖÜ') , ('äöü') , ('日本') , ('🛒') , (E'a\nb') , (E'\t') , ('%') , ('$1')"#;
    for collation in ["\"C\"", "\"und-x-icu\"", "\"de-x-icu\"", "\"default\""] {
        let create = format!(
            "CREATE TABLE t (id text COLLATE {collation} PRIMARY KEY);
             INSERT INTO t SELECT chr(97 + i % 26) || chr(65 + i * 7 % 26) || i
               FROM generate_series(1, 120) AS i;
             INSERT INTO t VALUES {odd}"
        );
        walk(&create, "t", "").await;
    }
}

#[tokio::test]
async fn types_with_a_length_are_walked() {
    let create = "CREATE TABLE t (id char(6), bits bit(8), at timestamptz(3), price numeric(9, 2),
            PRIMARY KEY (id, bits, at, price));
        INSERT INTO t SELECT 'k' || i % 9, (i % 200)::bit(8), now() + i * interval '1.234567 s', i / 7.0
          FROM generate_series(1, 150) AS i";
    walk(create, "t", "").await;
}

#[tokio::test]
async fn composite_keys_are_walked() {
    let create = "CREATE TABLE t (account bigint, id bigint, PRIMARY KEY (account, id));
        INSERT INTO t SELECT a, i FROM generate_series(1, 12) AS a, generate_series(1, a * 3) AS i";
    walk(create, "t", "").await;
}

#[tokio::test]
async fn composite_keys_of_mixed_types_are_walked() {
    let create = "CREATE TABLE t (name text, id uuid, at timestamptz, PRIMARY KEY (name, id, at));
        INSERT INTO t SELECT 'shop ' || i % 5, gen_random_uuid(), at
          FROM generate_series(1, 60) AS i,
               unnest(ARRAY[now(), '-infinity', '2024-06-20 12:00:00.123456+02']::timestamptz[]) AS at";
    walk(create, "t", "").await;
}

#[tokio::test]
async fn quoted_identifiers_in_another_schema_are_walked() {
    let create = r#"CREATE SCHEMA "Old Shop";
        CREATE TABLE "Old Shop"."Order" ("Id; --" bigint, "select" text, PRIMARY KEY ("Id; --", "select"));
        INSERT INTO "Old Shop"."Order" SELECT i, 'x' FROM generate_series(1, 110) AS i"#;
    walk(create, r#""Old Shop"."Order""#, "").await;
    let create = "CREATE SCHEMA archive; CREATE TABLE archive.t (id bigint PRIMARY KEY);
        INSERT INTO archive.t SELECT generate_series(1, 110)";
    walk(create, "archive.t", "").await;
}

#[tokio::test]
async fn another_unique_index_than_the_primary_key_is_walked() {
    let create = r#"CREATE TABLE t (id bigint PRIMARY KEY, "Shop" bigint NOT NULL, sku text NOT NULL);
        CREATE UNIQUE INDEX t_sku ON t ("Shop", sku) INCLUDE (id);
        INSERT INTO t SELECT i, i % 3, 'sku-' || i FROM generate_series(1, 120) AS i"#;
    walk(create, "t", "-- key: Shop, sku").await;
    walk(create, "t", "-- key: \"Shop\", sku").await;
}

#[tokio::test]
async fn a_table_without_a_primary_key_is_walked_by_its_declared_key() {
    let create = "CREATE TABLE t (sku text NOT NULL UNIQUE);
        INSERT INTO t SELECT 'sku-' || i FROM generate_series(1, 120) AS i";
    walk(create, "t", "-- key: sku").await;
}

#[tokio::test]
async fn an_alias_names_the_table_in_the_statement() {
    let create = "CREATE TABLE t (id bigint PRIMARY KEY);
        INSERT INTO t SELECT generate_series(1, 120)";
    walk(create, "t", "-- alias: o").await;
}

#[tokio::test]
async fn a_partitioned_table_is_walked() {
    let create = "CREATE TABLE t (id bigint PRIMARY KEY) PARTITION BY HASH (id);
        CREATE TABLE t_0 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 0);
        CREATE TABLE t_1 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 1);
        INSERT INTO t SELECT generate_series(1, 120)";
    walk(create, "t", "").await;
}

#[tokio::test]
async fn an_empty_table_completes_at_once() {
    let mut fixture = Fixture::with_rows(0).await;
    let (end, run) = fixture.migrate(&super::fixture::of_t()).await;
    assert_eq!((end, run.rows_seen), (End::Completed, 0));
}

#[tokio::test]
async fn a_delete_removes_what_is_pending_and_nothing_else() {
    let mut fixture = Fixture::with_rows(200).await;
    fixture.run("UPDATE t SET done = id % 3 = 0").await;
    let text = migration(
        "-- table: t\n-- pending: NOT done",
        "DELETE FROM t WHERE :range",
    );
    let (end, run) = fixture.migrate(&text).await;
    assert_eq!((end, run.rows_seen), (End::Completed, 200));
    let left: Vec<i64> = sqlx::query_scalar("SELECT id FROM t ORDER BY id")
        .fetch_all(&mut fixture.sql)
        .await
        .unwrap();
    let kept: BTreeSet<i64> = (1..=200).filter(|id| id % 3 == 0).collect();
    assert_eq!(left.into_iter().collect::<BTreeSet<_>>(), kept);
}
