//! A batch reads its range by index, whatever the planner believes of the table.

use evenkeel::migration::batch;
use evenkeel::migration::definition::Definition;
use evenkeel::migration::keyset::Keyset;
use sqlx::AssertSqlSafe;

use super::fixture::{Fixture, of_t};

const ROWS: i64 = 200_000;

async fn assert_reads_by_index(fixture: &mut Fixture, key: &[[&str; 2]], what: &str) {
    let definition = Definition::parse("m", &of_t()).unwrap();
    let engine = fixture.engine.clone();
    let keyset = Keyset::resolve(&mut fixture.sql, &definition)
        .await
        .unwrap();
    let side = |i: usize| -> Vec<String> { key.iter().map(|k| k[i].to_owned()).collect() };
    let (lower, upper) = (side(0), side(1));
    let pending = Some(definition.pending.as_str());
    let statements = [
        (keyset.next_sql(true, None), true, true),
        (keyset.next_sql(true, pending), true, true),
        (keyset.next_sql(false, None), false, true),
        (keyset.next_sql(false, pending), false, true),
        (keyset.statement(&definition, true), true, false),
        (keyset.statement(&definition, false), false, false),
    ];
    for (sql, from_start, limited) in statements {
        let mut tx = batch::begin(&mut fixture.sql, &engine).await.unwrap();
        let explain = AssertSqlSafe(format!("EXPLAIN {sql}"));
        let mut query = sqlx::query_scalar::<_, String>(explain)
            .bind((!from_start).then_some(&lower))
            .bind(&upper);
        if limited {
            query = query.bind(100_i64);
        }
        let plan = query.fetch_all(&mut *tx).await.unwrap().join("\n");
        tx.rollback().await.unwrap();
        assert!(!plan.contains("Seq Scan"), "{what}: {sql}\n{plan}");
        assert!(plan.contains("t_pkey"), "{what}: {sql}\n{plan}");
        assert!(plan.contains("Index Cond"), "{what}: {sql}\n{plan}");
        // The inner query stops after its rows instead of sorting all that follow.
        if limited {
            let inner = plan.split("Limit").last().unwrap();
            assert!(!inner.contains("Sort"), "{what}: {sql}\n{plan}");
        }
    }
}

async fn filled(columns: &str, keys: &str, analysed: bool) -> Fixture {
    let mut fixture = Fixture::new().await;
    let create = format!("CREATE TABLE t ({columns}) WITH (autovacuum_enabled = false)");
    fixture.run(&create).await;
    fixture.count_changes("t").await;
    let rows = format!("INSERT INTO t SELECT {keys} FROM generate_series(1, {ROWS}) AS i");
    fixture.run(&rows).await;
    if analysed {
        fixture.run("ANALYZE t").await;
    }
    fixture
}

#[tokio::test]
async fn a_single_key_is_read_by_index() {
    for analysed in [true, false] {
        let mut fixture = filled("id bigint PRIMARY KEY", "i", analysed).await;
        assert_reads_by_index(
            &mut fixture,
            &[["1000", "1100"]],
            &format!("analysed: {analysed}"),
        )
        .await;
    }
}

#[tokio::test]
async fn a_composite_key_is_read_by_index() {
    for analysed in [true, false] {
        let columns = "account bigint, id bigint, PRIMARY KEY (account, id)";
        let mut fixture = filled(columns, "i % 1000, i", analysed).await;
        // From account 500 into account 501.
        let key = [["500", "501"], ["150500", "20501"]];
        assert_reads_by_index(&mut fixture, &key, &format!("analysed: {analysed}")).await;
    }
}
