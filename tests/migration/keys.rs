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
async fn partitions_are_walked_as_one_table() {
    let create =
        "CREATE TABLE t (day date, id bigint, PRIMARY KEY (day, id)) PARTITION BY RANGE (day);
        CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
        CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM ('2024-02-01') TO ('2024-03-01')
            PARTITION BY HASH (id);
        CREATE TABLE t_2_0 PARTITION OF t_2 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
        CREATE TABLE t_2_1 PARTITION OF t_2 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
        CREATE TABLE t_rest PARTITION OF t DEFAULT;
        INSERT INTO t SELECT date '2023-12-01' + i % 120, i FROM generate_series(1, 150) AS i";
    walk(create, "t", "").await;
}

#[tokio::test]
async fn descending_and_mixed_directions_are_walked() {
    let rows = "INSERT INTO t SELECT i % 9, 'n' || i % 4, i FROM generate_series(1, 150) AS i";
    for index in [
        "a DESC, b DESC, c DESC",
        "a DESC NULLS LAST, b DESC, c DESC NULLS LAST",
        "a NULLS FIRST, b, c",
        "a, b DESC, c",
        "a DESC, b, c DESC NULLS LAST",
        "a, b COLLATE \"C\" NULLS FIRST, c DESC",
    ] {
        let create = format!(
            "CREATE TABLE t (a int NOT NULL, b text NOT NULL, c bigint NOT NULL);
             CREATE UNIQUE INDEX ON t ({index}); {rows}"
        );
        walk(&create, "t", "-- key: a, b, c").await;
    }
    let create = "CREATE TABLE t (id bigint NOT NULL); CREATE UNIQUE INDEX ON t (id DESC);
        INSERT INTO t SELECT i * i FROM generate_series(1, 150) AS i";
    walk(create, "t", "-- key: id").await;
}

#[tokio::test]
async fn an_index_with_a_collation_of_its_own_is_walked_in_its_order() {
    for (column, index) in [
        ("\"und-x-icu\"", "\"C\""),
        ("\"C\"", "\"de-x-icu\""),
        ("\"C\"", "\"default\""),
        ("blind", "\"C\""),
        ("blind", "blind"),
    ] {
        let create = format!(
            "CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
             CREATE TABLE t (name text COLLATE {column} NOT NULL);
             CREATE UNIQUE INDEX ON t (name COLLATE {index});
             INSERT INTO t SELECT chr((CASE WHEN i % 2 = 0 THEN 65 ELSE 97 END) + i * 7 % 26) || i
               FROM generate_series(1, 150) AS i"
        );
        walk(&create, "t", "-- key: name").await;
    }
}

#[tokio::test]
async fn a_partial_unique_index_is_walked_and_what_it_leaves_out_stays() {
    let create = "CREATE TABLE t (sku text NOT NULL, state text, deleted_at timestamptz);
        CREATE UNIQUE INDEX t_live ON t (sku) WHERE deleted_at IS NULL AND state = 'on sale';
        INSERT INTO t SELECT 'sku-' || i % 130, 'on sale', CASE WHEN i > 130 THEN now() END
          FROM generate_series(1, 200) AS i";
    for (alias, scope) in [
        ("", "(deleted_at IS NULL) AND (state = 'on sale'::text)"),
        ("o", "o.state = 'on sale' AND o.deleted_at IS NULL"),
        (
            "",
            "state = 'on sale' AND deleted_at IS NULL AND sku <> 'sku-7'",
        ),
    ] {
        let mut fixture = Fixture::new().await;
        fixture.run(create).await;
        fixture.count_changes("t").await;
        fixture.run("ANALYZE t").await;
        let header = "-- table: t\n-- key: sku\n-- pending: NOT done\n-- where: ";
        let header = match alias {
            "" => format!("{header}{scope}"),
            alias => format!("{header}{scope}\n-- alias: {alias}"),
        };
        let statement = format!("UPDATE t {alias} SET done = true, n = n + 1 WHERE :range");
        let (end, run) = fixture.migrate(&migration(&header, &statement)).await;
        assert_eq!(end, End::Completed, "{run:?}");
        assert_eq!(run.rows_estimate, Some(130));
        let within = scope.replace("o.", "");
        let once = format!("SELECT count(*) FROM t WHERE changes = 1 AND ({within})");
        let all = format!("SELECT count(*) FROM t WHERE {within}");
        let all = fixture.count(&all).await;
        assert!(all >= 129);
        assert_eq!(fixture.count(&once).await, all);
        assert_eq!(fixture.count("SELECT sum(changes) FROM t").await, all);
        assert_eq!((run.rows_seen, run.rows_changed), (all, all));
    }
}

#[tokio::test]
async fn domains_enums_and_extension_types_are_walked() {
    // The domain forbids old values, which are there all the same.
    let create = "CREATE EXTENSION IF NOT EXISTS citext;
        CREATE DOMAIN amount AS numeric(12, 2);
        CREATE DOMAIN price AS amount;
        CREATE TYPE size AS ENUM ('xl', 'small', 'm', 'Odd \"one\"');
        CREATE TABLE t (name citext, price price, size size, raw bytea, PRIMARY KEY (size, name, price, raw));
        INSERT INTO t SELECT CASE WHEN i % 2 = 0 THEN 'N' ELSE 'n' END || i % 7, i / 7.0, size, decode(to_hex(i + 4096), 'hex')
          FROM generate_series(256, 300) AS i, unnest(enum_range(NULL::size)) AS size;
        ALTER DOMAIN price ADD CONSTRAINT above_zero CHECK (VALUE > 40) NOT VALID";
    walk(create, "t", "").await;
}

#[tokio::test]
async fn generated_columns_triggers_and_foreign_keys_are_kept() {
    let mut fixture = Fixture::with_rows(150).await;
    fixture
        .run(
            "ALTER TABLE t ADD twice bigint GENERATED ALWAYS AS (n * 2) STORED NOT NULL;
             CREATE TABLE child (t bigint REFERENCES t);
             INSERT INTO child SELECT id FROM t",
        )
        .await;
    let (end, run) = fixture.migrate(&super::fixture::of_t()).await;
    assert_eq!(end, End::Completed);
    fixture.assert_exactly_once("t", &run).await;
    let generated = "SELECT count(*) FROM t WHERE twice = 2";
    assert_eq!(fixture.count(generated).await, 150);
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
