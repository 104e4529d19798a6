//! A batch deep in a large table touches as many pages as one at its beginning, by any key.

use evenkeel::migration::batch;
use evenkeel::migration::definition::Definition;
use evenkeel::migration::keyset::{KeyValue, Keyset};
use sqlx::AssertSqlSafe;

use super::fixture::{Fixture, UPDATE, migration};

const ROWS: i64 = 200_000;
const BATCH: u32 = 100;
/// Where the deep batch begins.
const DEEP: u32 = 170_000;

/// Pages that `sql` touches when it is run, which is undone.
async fn pages(
    fixture: &mut Fixture,
    sql: &str,
    lower: &KeyValue,
    upper: &KeyValue,
    limited: bool,
) -> i64 {
    let engine = fixture.engine.clone();
    let mut tx = batch::begin(&mut fixture.sql, &engine).await.unwrap();
    let explain = format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}");
    let mut query = sqlx::query_scalar::<_, serde_json::Value>(AssertSqlSafe(explain))
        .bind(lower)
        .bind(upper);
    if limited {
        query = query.bind(i64::from(BATCH));
    }
    let plan = query.fetch_one(&mut *tx).await.unwrap();
    tx.rollback().await.unwrap();
    let plan = &plan[0]["Plan"];
    let of = |what: &str| plan[what].as_i64().unwrap();
    of("Shared Hit Blocks") + of("Shared Read Blocks")
}

async fn assert_flat(fixture: &mut Fixture, header: &str) {
    let text = migration(&format!("{header}\n-- pending: NOT done"), UPDATE);
    let definition = Definition::parse("m", &text).unwrap();
    let keyset = Keyset::resolve(&mut fixture.sql, &definition)
        .await
        .unwrap();
    let end = keyset.last(&mut fixture.sql).await.unwrap().unwrap();
    let mut touched = Vec::new();
    for skipped in [BATCH, DEEP] {
        let conn = &mut fixture.sql;
        let skip = keyset.next(conn, None, &end, skipped, None).await.unwrap();
        let lower = skip.unwrap().upper;
        let next = keyset.next(conn, Some(&lower), &end, BATCH, None).await;
        let upper = next.unwrap().unwrap().upper;
        let read = keyset.next_sql(false, Some("NOT done"));
        let write = keyset.statement(&definition, false);
        touched.push([
            pages(fixture, &read, &lower, &end, true).await,
            pages(fixture, &write, &lower, &upper, false).await,
        ]);
    }
    let [[first_read, first_write], [deep_read, deep_write]] = touched[..] else {
        panic!("{touched:?}");
    };
    assert!(deep_read <= 2 * first_read + 20, "{header}: {touched:?}");
    assert!(deep_write <= 2 * first_write + 20, "{header}: {touched:?}");
    // A few pages for each row and index, of the thousands that there are.
    assert!(deep_read < i64::from(BATCH) * 4, "{header}: {touched:?}");
}

/// Groups of the composite keys are large, so that reading one from its beginning shows.
#[tokio::test]
async fn a_batch_deep_in_the_table_touches_as_little_as_the_first() {
    let mut fixture = Fixture::new().await;
    fixture
        .run(&format!(
            "CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext;
             CREATE TABLE t (id bigint, uuid uuid NOT NULL, name text NOT NULL, live boolean, g int NOT NULL, email ext.citext NOT NULL,
                 done boolean NOT NULL DEFAULT false, n integer NOT NULL DEFAULT 0)
                 WITH (autovacuum_enabled = false);
             INSERT INTO t SELECT i * 10007, md5(i::text)::uuid, 'n' || i * 7919 % 1000003, i % 16 > 0, i % 3, 'E' || i * 7919 % 1000003
               FROM generate_series(1, {ROWS}) AS i;
             ALTER TABLE t ADD PRIMARY KEY (id);
             CREATE UNIQUE INDEX ON t (uuid);
             CREATE UNIQUE INDEX ON t (name COLLATE \"de-x-icu\");
             CREATE UNIQUE INDEX ON t (g, id);
             CREATE UNIQUE INDEX ON t (g DESC, name DESC);
             CREATE UNIQUE INDEX ON t (g, uuid DESC);
             CREATE UNIQUE INDEX ON t (id DESC, g) WHERE live;
             CREATE UNIQUE INDEX ON t (g, email);
             CREATE UNIQUE INDEX ON t (g, name text_pattern_ops, id);
             ANALYZE t"
        ))
        .await;
    for header in [
        "-- table: t",
        "-- table: t\n-- key: uuid",
        "-- table: t\n-- key: name",
        "-- table: t\n-- key: g, id",
        "-- table: t\n-- key: g, name",
        "-- table: t\n-- key: g, uuid",
        "-- table: t\n-- key: id, g\n-- where: live",
        "-- table: t\n-- key: g, email",
        "-- table: t\n-- key: g, name, id",
    ] {
        assert_flat(&mut fixture, header).await;
    }
    fixture
        .run(&format!(
            "DROP TABLE t;
             CREATE TABLE t (g int, id bigint, done boolean NOT NULL DEFAULT false,
                 n integer NOT NULL DEFAULT 0, PRIMARY KEY (g, id)) PARTITION BY LIST (g);
             CREATE TABLE t_0 PARTITION OF t FOR VALUES IN (0);
             CREATE TABLE t_1 PARTITION OF t FOR VALUES IN (1, 2);
             INSERT INTO t SELECT i % 3, i FROM generate_series(1, {ROWS}) AS i;
             ANALYZE t"
        ))
        .await;
    assert_flat(&mut fixture, "-- table: t").await;
}
