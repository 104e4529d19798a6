//! Any table, any key, any settings of the session: one walk sees every row once, in order.

use evenkeel::migration::batch;
use evenkeel::migration::definition::Definition;
use evenkeel::migration::keyset::{KeyValue, Keyset};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use sqlx::AssertSqlSafe;

use super::fixture::{Fixture, migration};

/// Types of key columns, each with an expression that makes a value of it from the integers `i` and
/// `j`, some of them the type's odd ones.
const TYPES: [(&str, &str); 24] = [
    ("bigint", "(j - 500) * 18000000000000000"),
    ("smallint", "i"),
    ("uuid", "md5(j::text)::uuid"),
    (
        "text",
        "(ARRAY['', ' ', '{', '\"', 'Ä', 'ß', 'a', 'A', '\\', ',', 'NULL'])[1 + j % 11] || j % 17",
    ),
    ("varchar(9)", "chr(65 + i % 60) || j"),
    (
        "char(5)",
        "(ARRAY['a', 'a b', ' a', 'B', 'é'])[1 + j % 5] || i % 7",
    ),
    ("citext", "chr(65 + j % 26) || i"),
    ("name", "chr(97 + j % 26) || i"),
    (
        "numeric",
        "CASE WHEN j % 9 = 0 THEN 'NaN' ELSE (j / 7.0) * power(10::numeric, i % 20 - 10) END",
    ),
    ("numeric(12, 3)", "j / 7.0"),
    (
        "float8",
        "CASE j % 11 WHEN 0 THEN 'NaN' WHEN 1 THEN '-Infinity' ELSE 1e-300 * j / 3.0 END",
    ),
    ("float4", "(j / 3.0)::float4"),
    ("money", "(j - 400)::numeric / 7"),
    (
        "timestamptz",
        "CASE WHEN j % 13 = 0 THEN '-infinity' ELSE '2024-03-31'::timestamptz + j * interval '7.123457 minutes' END",
    ),
    (
        "timestamp",
        "'2024-10-27'::timestamp + j * interval '13.000001 minutes'",
    ),
    (
        "timetz",
        "(time '10:00' + j * interval '1.000001 s') AT TIME ZONE 'UTC'",
    ),
    ("date", "'4713-02-01 BC'::date + j * 9000"),
    (
        "interval",
        "make_interval(months => i % 5 - 2, days => j % 40 - 20, secs => 1.5 - j)",
    ),
    ("bytea", "decode(lpad(to_hex(j * 65521), 8, '0'), 'hex')"),
    ("boolean", "j % 2 = 0"),
    ("inet", "'10.0.0.0/8'::inet + j"),
    ("bit(10)", "j::bit(10)"),
    ("text[]", "ARRAY[j::text, NULL, '\"x\"', 'a,b']"),
    ("int4range", "int4range(j % 31, j % 31 + i % 5)"),
];

/// Settings under which the text forms of some types lose something or mean something else.
const SESSIONS: [&str; 6] = [
    "SET datestyle = 'German'; SET timezone = 'Asia/Kolkata'",
    "SET datestyle = 'SQL, DMY'; SET timezone = 'America/New_York'",
    "SET intervalstyle = 'sql_standard'; SET bytea_output = 'escape'",
    "SET intervalstyle = 'iso_8601'; SET extra_float_digits = -15",
    "SET extra_float_digits = 0; SET timezone = 'Pacific/Apia'",
    "RESET ALL",
];

#[derive(Clone, Debug)]
struct KeyColumn {
    type_name: &'static str,
    /// Makes a value from the integers `i` and `j`.
    value: &'static str,
    descending: bool,
    nulls_first: bool,
    /// How many different values of `j` there are.
    spread: i64,
}

#[derive(Clone, Debug)]
struct Case {
    columns: Vec<KeyColumn>,
    /// The index's collation, where the type has one.
    collation: &'static str,
    rows: i64,
    batches: Vec<u32>,
    sessions: Vec<Index>,
}

fn cases() -> impl Strategy<Value = Case> {
    let column = (select(&TYPES[..]), any::<bool>(), any::<bool>(), 1_i64..60);
    let column =
        column.prop_map(
            |((type_name, value), descending, nulls_first, spread)| KeyColumn {
                type_name,
                value,
                descending,
                nulls_first,
                spread,
            },
        );
    let collation = select(&["\"C\"", "\"und-x-icu\"", "\"default\"", "\"sv-x-icu\""][..]);
    let batches = vec(2_u32..40, 1..6);
    (
        vec(column, 1..4),
        collation,
        0_i64..90,
        batches,
        vec(any::<Index>(), 1..4),
    )
        .prop_map(|(columns, collation, rows, batches, sessions)| Case {
            columns,
            collation,
            rows,
            batches,
            sessions,
        })
}

impl Case {
    fn key(&self) -> Vec<String> {
        (0..self.columns.len()).map(|i| format!("k{i}")).collect()
    }

    /// The index's columns, as they are written in CREATE INDEX and in ORDER BY.
    fn order(&self) -> String {
        let item = |(i, column): (usize, &KeyColumn)| {
            let textual = ["text", "varchar(9)", "char(5)", "citext", "name", "text[]"];
            let collate = match textual.contains(&column.type_name) {
                true => format!(" COLLATE {}", self.collation),
                false => String::new(),
            };
            let direction = if column.descending { "DESC" } else { "ASC" };
            let nulls = if column.nulls_first { "FIRST" } else { "LAST" };
            format!("k{i}{collate} {direction} NULLS {nulls}")
        };
        let items = self.columns.iter().enumerate().map(item);
        items.collect::<Vec<_>>().join(", ")
    }

    async fn create(&self, fixture: &mut Fixture) {
        let columns = self.columns.iter().enumerate();
        let columns = columns.map(|(i, c)| format!("k{i} {} NOT NULL", c.type_name));
        let columns: Vec<_> = columns.collect();
        let values = self.columns.iter().map(|column| {
            let j = format!("(i * 7919 % {})", column.spread);
            column.value.replace('j', &j)
        });
        let values: Vec<_> = values.collect();
        fixture
            .run(&format!(
                "DROP TABLE IF EXISTS t;
                 CREATE TABLE t ({}, done boolean NOT NULL DEFAULT false, n int NOT NULL DEFAULT 0, batch int);
                 CREATE UNIQUE INDEX ON t ({});
                 UPDATE step SET number = 0",
                columns.join(", "),
                self.order()
            ))
            .await;
        let insert = format!(
            "INSERT INTO t SELECT {} FROM generate_series(1, {}) AS i ON CONFLICT DO NOTHING",
            values.join(", "),
            self.rows
        );
        fixture.run(&insert).await;
    }
}

async fn play(fixture: &mut Fixture, case: &Case) -> Result<(), TestCaseError> {
    fixture.run("RESET ALL").await;
    case.create(fixture).await;
    let text = migration(
        &format!(
            "-- table: t\n-- key: {}\n-- pending: true",
            case.key().join(", ")
        ),
        "UPDATE t SET n = n + 1, batch = (SELECT number FROM step) WHERE :range",
    );
    let definition = Definition::parse("m", &text).unwrap();
    let engine = fixture.engine.clone();
    let keyset = Keyset::resolve(&mut fixture.sql, &definition)
        .await
        .unwrap();
    let rows = fixture.count("SELECT count(*) FROM t").await;
    let (mut cursor, mut seen): (Option<KeyValue>, i64) = (None, 0);
    let mut sizes = case.batches.iter().cycle();
    let mut sessions = case.sessions.iter().cycle();
    // More batches than rows would go round in circles.
    for number in 1..=rows + 1 {
        let session = SESSIONS[sessions.next().unwrap().index(SESSIONS.len())];
        fixture.run(session).await;
        let step = format!("UPDATE step SET number = {number}");
        fixture.run(&step).await;
        let mut tx = batch::begin(&mut fixture.sql, &engine).await.unwrap();
        let Some(end) = keyset.last(&mut tx).await.unwrap() else {
            break;
        };
        let size = *sizes.next().unwrap();
        let range = keyset.next(&mut tx, cursor.as_ref(), &end, size, Some("n = 0"));
        let Some(range) = range.await.unwrap() else {
            break;
        };
        prop_assert_eq!(range.todo, Some(range.seen));
        let changed = sqlx::query(AssertSqlSafe(
            keyset.statement(&definition, cursor.is_none()),
        ))
        .bind(&range.lower)
        .bind(&range.upper)
        .execute(&mut *tx)
        .await
        .unwrap();
        prop_assert_eq!(changed.rows_affected() as i64, range.seen);
        tx.commit().await.unwrap();
        seen += range.seen;
        cursor = Some(range.upper);
    }
    prop_assert_eq!(seen, rows);
    let once = "SELECT count(*) FROM t WHERE n = 1";
    prop_assert_eq!(fixture.count(once).await, rows);
    let backwards = format!(
        "SELECT count(*) FROM (SELECT batch, lag(batch) OVER (ORDER BY {}) AS before FROM t) AS b
          WHERE batch <> before",
        case.order()
    );
    // Either way round, each batch is one stretch of the index.
    let batches = fixture.count("SELECT count(DISTINCT batch) FROM t").await;
    prop_assert_eq!(fixture.count(&backwards).await, (batches - 1).max(0));
    Ok(())
}

#[test]
fn any_key_in_any_session_is_walked_once_and_in_order() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut fixture = runtime.block_on(async {
        let mut fixture = Fixture::new().await;
        fixture
            .run("CREATE EXTENSION IF NOT EXISTS citext; CREATE TABLE step (number int); INSERT INTO step VALUES (0)")
            .await;
        fixture
    });
    let fixture = std::cell::RefCell::new(&mut fixture);
    let config = Config {
        cases: 24,
        max_shrink_iters: 40,
        failure_persistence: None,
        ..Config::default()
    };
    // A new seed each time, and said so that a failure can be repeated.
    let seed: [u8; 32] = std::array::from_fn(|_| rand::random());
    println!("seed {seed:?}");
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    TestRunner::new_with_rng(config, random)
        .run(&cases(), |case| {
            let fixture = &mut *fixture.borrow_mut();
            runtime.block_on(play(fixture, &case))
        })
        .unwrap();
}

#[tokio::test]
async fn a_session_goes_on_when_the_keys_collation_is_changed_under_it() {
    let mut fixture = Fixture::new().await;
    fixture
        .run(
            "CREATE TABLE t (k text COLLATE \"POSIX\" NOT NULL, done boolean);
             CREATE UNIQUE INDEX ON t (k COLLATE \"C\"); INSERT INTO t VALUES ('a'), ('b')",
        )
        .await;
    let text = migration(
        "-- table: t\n-- key: k\n-- pending: NOT done",
        "UPDATE t SET done = true WHERE :range",
    );
    let definition = Definition::parse("m", &text).unwrap();
    let keyset = Keyset::resolve(&mut fixture.sql, &definition)
        .await
        .unwrap();
    for alter in ["SELECT", "ALTER TABLE t ALTER k TYPE text COLLATE \"C\""] {
        fixture.run(alter).await;
        let end = keyset.last(&mut fixture.sql).await.unwrap().unwrap();
        let next = keyset.next(&mut fixture.sql, None, &end, 9, None).await;
        assert_eq!(next.unwrap().unwrap().upper, end);
    }
}
