//! Any table, by any unique index that a B-tree can be: every row is changed exactly once, or the
//! definition is refused before the first.
//!
//! Tables are drawn at random from types, operator classes, collations, directions, domains,
//! partitions, partial indexes and names, and are migrated by the engine under search paths that find
//! the right operators, none, or others. What was done is checked without any key.

mod types;

use std::collections::BTreeMap;

use evenkeel::migration::runner::End;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::AssertSqlSafe;
use sqlx::Executor;

use self::types::{DECOYS, SETUP, TYPES, Type};
use super::fixture::{Fixture, PATIENCE, migration};

/// Tables of each search path.
const TABLES: usize = 110;
/// A table whose index PostgreSQL does not make is drawn again.
const DRAWS: usize = 20;

/// What a refusal may say, and the share of the tables that each may refuse.
const REASONS: [(&str, f64); 3] = [
    // An operator class without `<=`, and one whose operators are another's.
    ("by operator class classes.int4_", 0.1),
    // ORDER BY … USING takes no domain for an operator of all enums.
    ("sizes classes.", 0.1),
    // Names of roles in an array.
    ("holds names of tables", 0.1),
];

/// A table that was drawn.
struct Case {
    table: String,
    /// What makes and fills it.
    statements: Vec<String>,
    definition: String,
    partial: bool,
}

struct KeyColumn {
    of: &'static Type,
    name: String,
    /// How many different values there are.
    spread: i64,
    /// As CREATE INDEX has it.
    index: String,
}

fn one_of<'a, T>(random: &mut StdRng, list: &'a [T]) -> &'a T {
    &list[random.random_range(0..list.len())]
}

impl KeyColumn {
    fn draw(random: &mut StdRng, number: usize) -> Self {
        let of = one_of(random, TYPES);
        let name = match random.random_range(0..8) {
            0 => format!("\"Key; -- {number}\""),
            1 => format!("\"select{number}\""),
            2 => format!("\"$1 [{number}]\""),
            _ => format!("k{number}"),
        };
        let collations = ["\"C\"", "\"und-x-icu\"", "\"default\"", "public.blind"];
        let mut index = name.clone();
        if of.collatable && random.random_bool(0.5) {
            index += &format!(" COLLATE {}", one_of(random, &collations));
        }
        if !of.classes.is_empty() && random.random_bool(0.6) {
            index += &format!(" {}", one_of(random, of.classes));
        }
        index.push_str(one_of::<&str>(random, &["", " ASC", " DESC", " DESC"]));
        index.push_str(one_of::<&str>(random, &["", " NULLS FIRST", " NULLS LAST"]));
        Self {
            of,
            name,
            spread: random.random_range(2..60),
            index,
        }
    }

    /// Its value in row `i`.
    fn value(&self) -> String {
        let j = format!("((i * 7919 % {})::int)", self.spread);
        let mut value = String::new();
        // Only where `j` stands for itself.
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let mut before = ' ';
        let mut rest = self.of.value.chars().peekable();
        while let Some(c) = rest.next() {
            let alone = c == 'j' && !word(before) && !rest.peek().is_some_and(|next| word(*next));
            if alone {
                value += &j
            } else {
                value.push(c)
            }
            before = c;
        }
        format!("({value})::{}", self.of.name)
    }
}

impl Case {
    fn draw(random: &mut StdRng, number: usize) -> Self {
        let table = match random.random_range(0..4) {
            0 => format!("\"Odd \"\"Schema\".\"Table {number}\""),
            _ => format!("public.t{number}"),
        };
        let columns = *one_of(random, &[1, 1, 1, 2, 2, 3, 4]);
        let mut columns: Vec<_> = (0..columns).map(|i| KeyColumn::draw(random, i)).collect();
        // Few values in the leading columns, so that there is something to tell apart in the last.
        if let Some(last) = columns.last_mut() {
            last.spread = random.random_range(30..90);
        }
        let partial = random.random_bool(0.2);
        let list = |item: fn(&KeyColumn) -> String| {
            columns.iter().map(item).collect::<Vec<_>>().join(", ")
        };
        let names = list(|c| c.name.clone());
        let defined = list(|c| format!("{} {} NOT NULL", c.name, c.of.name));
        let rows = random.random_range(25..80);
        let [head, parts] = partitions(random, &table, &columns[0]);
        let statements = vec![
            format!(
                "CREATE TABLE {table} ({defined}, live boolean NOT NULL, done boolean NOT NULL DEFAULT false,
                     n integer NOT NULL DEFAULT 0) {head}"
            ),
            parts,
            format!(
                "CREATE UNIQUE INDEX ON {table} ({}){}",
                list(|c| c.index.clone()),
                if partial { " WHERE live" } else { "" }
            ),
            format!(
                "INSERT INTO {table} ({names}, live) SELECT {}, i % 5 > 0 FROM generate_series(1, {rows}) AS i
                     ORDER BY md5(i::text) ON CONFLICT DO NOTHING",
                list(KeyColumn::value)
            ),
        ];
        let key = columns.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
        let (alias, scope) = (
            one_of(random, &["", "-- alias: o\n"]),
            if partial { "-- where: live\n" } else { "" },
        );
        let target = if alias.is_empty() { "" } else { " AS o" };
        let definition = migration(
            &format!(
                "-- table: {table}\n-- key: {}\n{alias}{scope}-- batch_first: {}\n-- pending: NOT done",
                key.join(", "),
                random.random_range(3..20)
            ),
            &format!("UPDATE {table}{target} SET done = true, n = n + 1 WHERE :range"),
        );
        Self {
            table,
            statements,
            definition,
            partial,
        }
    }

    /// Makes the table; `false` when PostgreSQL has no such index.
    async fn create(&self, fixture: &mut Fixture) -> bool {
        let sql = &mut fixture.sql;
        for statement in &self.statements {
            if let Err(err) = sql.execute(AssertSqlSafe(statement.clone())).await {
                assert!(!statement.starts_with("INSERT"), "{err}: {statement}");
                let drop = format!("DROP TABLE IF EXISTS {}", self.table);
                fixture.run(&drop).await;
                return false;
            }
        }
        true
    }
}

/// How a table is partitioned by its first column, if it is, and its partitions.
fn partitions(random: &mut StdRng, table: &str, column: &KeyColumn) -> [String; 2] {
    let (name, parted) = (&column.name, table.replace(".t", ".part_"));
    let parted = parted.replace("Table", "Part");
    let part = |i: usize| match parted.strip_suffix('"') {
        Some(quoted) => format!("{quoted} {i}\""),
        None => format!("{parted}_{i}"),
    };
    let of =
        |i: usize, bound: &str| format!("CREATE TABLE {} PARTITION OF {table} {bound};", part(i));
    let at = |i: i64| column.value().replace("(i * ", &format!("({i} * "));
    match random.random_range(0..12) {
        0 => [
            format!("PARTITION BY HASH ({name})"),
            of(0, "FOR VALUES WITH (MODULUS 2, REMAINDER 0)")
                + &of(1, "FOR VALUES WITH (MODULUS 2, REMAINDER 1)"),
        ],
        1 => [
            format!("PARTITION BY LIST ({name})"),
            of(0, &format!("FOR VALUES IN ({})", at(1))) + &of(1, "DEFAULT"),
        ],
        2 => [
            format!("PARTITION BY RANGE ({name})"),
            of(0, &format!("FOR VALUES FROM (MINVALUE) TO ({})", at(2)))
                + &of(1, &format!("FOR VALUES FROM ({}) TO (MAXVALUE)", at(2))),
        ],
        _ => Default::default(),
    }
}

/// Migrates the tables that `seed` draws under `search_path`.
async fn migrate_any(search_path: &str, decoys: bool) {
    let seed: u64 =
        std::env::var("TABLES_SEED").map_or_else(|_| rand::random(), |s| s.parse().unwrap());
    // Said so that a failure can be repeated.
    println!("TABLES_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut made = Fixture::new().await;
    made.run(SETUP).await;
    if decoys {
        made.run(DECOYS).await;
    }
    let database = made.database.get_database().unwrap();
    let alter = format!("ALTER DATABASE {database} SET search_path = {search_path}");
    made.run(&alter).await;
    made.run("SET synchronous_commit = off").await;
    let mut fixture = Fixture::beside(&made).await;
    let mut refused: BTreeMap<&str, usize> = BTreeMap::new();
    for number in 0..TABLES {
        let mut draws = 0;
        let case = loop {
            let case = Case::draw(&mut random, number);
            if case.create(&mut made).await {
                break case;
            }
            draws += 1;
            assert!(
                draws < DRAWS,
                "PostgreSQL makes none: {:?}",
                case.statements
            );
        };
        if let Some(why) = play(&mut fixture, &mut made, &case).await {
            *refused.entry(why).or_default() += 1;
        }
    }
    println!("{search_path}: of {TABLES} tables refused {refused:?}");
    for (why, share) in REASONS {
        let tables = refused.get(why).copied().unwrap_or_default();
        assert!(tables as f64 <= share * TABLES as f64, "{why}: {tables}");
    }
}

/// Migrates the table of `case` and checks it; the reason when it is refused.
async fn play(engine: &mut Fixture, made: &mut Fixture, case: &Case) -> Option<&'static str> {
    let what = format!("{}\n{}", case.statements.join(";\n"), case.definition);
    let migrated = tokio::time::timeout(PATIENCE * 9 / 10, engine.migrate(&case.definition)).await;
    let (end, run) = migrated.unwrap_or_else(|_| panic!("no end: {what}"));
    let scope = if case.partial { "live" } else { "true" };
    let counted: (i64, i64, i64) = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT count(*) FILTER (WHERE {scope}), count(*) FILTER (WHERE {scope} AND done AND n = 1),
                coalesce(sum(n), 0) FROM {}",
        case.table
    )))
    .fetch_one(&mut made.sql)
    .await
    .unwrap();
    let (rows, once, changes) = counted;
    if end == End::Failed {
        let error = run.error.unwrap();
        let known = REASONS.iter().find(|(why, _)| error.contains(why));
        assert!(known.is_some(), "{error}\n{what}");
        assert_eq!(changes, 0, "{error}\n{what}");
        return known.map(|(why, _)| *why);
    }
    assert_eq!(end, End::Completed, "{run:?}\n{what}");
    assert_eq!((once, changes), (rows, rows), "{run:?}\n{what}");
    assert_eq!(
        (run.rows_seen, run.rows_changed),
        (rows, rows),
        "{run:?}\n{what}"
    );
    assert!(rows > 0, "{what}");
    None
}

#[tokio::test]
async fn any_table_is_migrated_or_refused_without_a_search_path() {
    migrate_any("''", false).await;
}

#[tokio::test]
async fn any_table_is_migrated_or_refused_where_no_extension_is_in_the_search_path() {
    migrate_any("\"$user\", public", false).await;
}

#[tokio::test]
async fn any_table_is_migrated_or_refused_where_extensions_come_first() {
    migrate_any("ext, public", false).await;
}

#[tokio::test]
async fn any_table_is_migrated_or_refused_where_other_operator_classes_come_first() {
    migrate_any("classes, ext, public", false).await;
}

#[tokio::test]
async fn any_table_is_migrated_or_refused_where_others_hide_what_is_postgresqls() {
    migrate_any("decoy, ext, public, pg_catalog", true).await;
}
