//! Keys are compared as their index does, whatever the search path finds under an operator's name.

use evenkeel::migration::runner::End;

use super::fixture::{Fixture, UPDATE, migration};

/// The definition that migrates table `t` by `key`.
fn keyed(key: &str) -> String {
    let header = format!("-- table: t\n-- key: {key}\n-- pending: NOT done");
    migration(&header, UPDATE)
}

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

#[tokio::test]
async fn an_operator_class_that_is_not_the_types_own_is_walked_in_its_order() {
    let mut fixture = Fixture::new().await;
    fixture
        .run(
            "CREATE SCHEMA classes;
             CREATE FUNCTION classes.backwards(int4, int4) RETURNS int LANGUAGE sql IMMUTABLE STRICT
                 AS 'SELECT pg_catalog.btint4cmp($2, $1)';
             CREATE OPERATOR classes.< (FUNCTION = int4gt, LEFTARG = int4, RIGHTARG = int4);
             CREATE OPERATOR classes.<= (FUNCTION = int4ge, LEFTARG = int4, RIGHTARG = int4);
             CREATE OPERATOR classes.= (FUNCTION = int4eq, LEFTARG = int4, RIGHTARG = int4, MERGES);
             CREATE OPERATOR classes.>= (FUNCTION = int4le, LEFTARG = int4, RIGHTARG = int4);
             CREATE OPERATOR classes.> (FUNCTION = int4lt, LEFTARG = int4, RIGHTARG = int4);
             CREATE OPERATOR CLASS classes.backwards FOR TYPE int4 USING btree AS
                 OPERATOR 1 classes.<, OPERATOR 2 classes.<=, OPERATOR 3 classes.=, OPERATOR 4 classes.>=,
                 OPERATOR 5 classes.>, FUNCTION 1 classes.backwards(int4, int4);
             CREATE TABLE t (a int NOT NULL, b int NOT NULL, name text NOT NULL);
             INSERT INTO t SELECT i % 7, i, chr(65 + i * 7 % 58) || i FROM generate_series(1, 149) AS i;
             INSERT INTO t VALUES (0, 0, '{')",
        )
        .await;
    fixture.count_changes("t").await;
    // Backwards, the greatest number comes first and zero last; as bytes, `{` comes after every letter.
    for (index, key, last) in [
        ("name text_pattern_ops", "name", "{"),
        ("a classes.backwards, name text_pattern_ops", "a, name", "0"),
        ("a classes.backwards, b", "a, b", "0"),
        ("a classes.backwards, b classes.backwards DESC", "a, b", "0"),
        (
            "a classes.backwards DESC, b classes.backwards DESC",
            "a, b",
            "0",
        ),
    ] {
        let fresh = format!(
            "DROP INDEX IF EXISTS walked; CREATE UNIQUE INDEX walked ON t ({index});
             UPDATE t SET done = false; UPDATE t SET n = 0; UPDATE t SET changes = 0"
        );
        fixture.run(&fresh).await;
        let (end, run) = fixture.migrate(&keyed(key)).await;
        assert_eq!(end, End::Completed, "{index}: {run:?}");
        assert_eq!((run.rows_seen, run.rows_changed), (150, 150), "{index}");
        assert_eq!(run.end_key.unwrap()[0], last, "{index}");
        let once = "SELECT count(*) FROM t WHERE done AND n = 1 AND changes = 1";
        assert_eq!(fixture.count(once).await, 150, "{index}");
        assert_eq!(fixture.gaps().await, 0, "{index}");
    }
}

#[tokio::test]
async fn an_order_that_no_query_can_name_is_refused_before_a_row_is_touched() {
    let mut fixture = Fixture::new().await;
    fixture
        .run(
            r#"CREATE SCHEMA "Own";
             CREATE FUNCTION "Own".backwards(int4, int4) RETURNS int LANGUAGE sql IMMUTABLE STRICT
                 AS 'SELECT pg_catalog.btint4cmp($2, $1)';
             CREATE OPERATOR CLASS "Own".swapped FOR TYPE int4 USING btree AS
                 OPERATOR 1 >, OPERATOR 2 >=, OPERATOR 3 =, OPERATOR 4 <=, OPERATOR 5 <,
                 FUNCTION 1 "Own".backwards(int4, int4);
             CREATE OPERATOR CLASS "Own".without_equal FOR TYPE int4 USING btree AS
                 OPERATOR 1 >, OPERATOR 2 >=, OPERATOR 4 <=, OPERATOR 5 <,
                 FUNCTION 1 "Own".backwards(int4, int4);
             CREATE TYPE size AS ENUM ('s', 'm', 'l');
             CREATE OPERATOR "Own".<< (FUNCTION = enum_lt, LEFTARG = anyenum, RIGHTARG = anyenum);
             CREATE OPERATOR "Own".<<= (FUNCTION = enum_le, LEFTARG = anyenum, RIGHTARG = anyenum);
             CREATE OPERATOR "Own".== (FUNCTION = enum_eq, LEFTARG = anyenum, RIGHTARG = anyenum);
             CREATE OPERATOR "Own".>>= (FUNCTION = enum_ge, LEFTARG = anyenum, RIGHTARG = anyenum);
             CREATE OPERATOR "Own".>> (FUNCTION = enum_gt, LEFTARG = anyenum, RIGHTARG = anyenum);
             CREATE OPERATOR CLASS "Own".enums FOR TYPE anyenum USING btree AS
                 OPERATOR 1 "Own".<<, OPERATOR 2 "Own".<<=, OPERATOR 3 "Own".==, OPERATOR 4 "Own".>>=,
                 OPERATOR 5 "Own".>>, FUNCTION 1 enum_cmp(anyenum, anyenum);
             CREATE FUNCTION "Own".never(size, size) RETURNS boolean LANGUAGE sql AS 'SELECT false';
             CREATE OPERATOR "Own".>> (FUNCTION = "Own".never, LEFTARG = size, RIGHTARG = size);
             CREATE TABLE t (a int NOT NULL, b int NOT NULL, "C" int NOT NULL, size size NOT NULL, at regclass[] NOT NULL);
             INSERT INTO t SELECT i, i, i, 's', ARRAY['t'::regclass] FROM generate_series(1, 3) AS i;
             CREATE UNIQUE INDEX ON t (a "Own".swapped);
             CREATE UNIQUE INDEX ON t (b, "C" "Own".without_equal);
             CREATE UNIQUE INDEX ON t (size "Own".enums, a);
             CREATE UNIQUE INDEX ON t (at, a)"#,
        )
        .await;
    fixture.count_changes("t").await;
    for (key, why) in [
        (
            "a",
            r#"sorts a by operator class "Own".swapped, and PostgreSQL has no query"#,
        ),
        (
            "b, C",
            r#"sorts "C" by operator class "Own".without_equal, whose family lacks one of the operators"#,
        ),
        (
            "size, a",
            r#"sorts size by operator class "Own".enums, an operator of which is hidden"#,
        ),
        ("at, a", "has at, which holds names of tables"),
    ] {
        let reason = fixture.refusal(&keyed(key)).await;
        assert!(reason.contains(why), "{reason}");
        assert!(reason.contains("CREATE UNIQUE INDEX"), "{reason}");
    }
    assert_eq!(fixture.count("SELECT sum(changes) FROM t").await, 0);
}

/// `a & (b & c)` and `(a & b) & c` are not the same to PostgreSQL, and have the same text.
#[tokio::test]
async fn a_key_that_its_text_does_not_give_back_ends_the_run() {
    let mut fixture = Fixture::new().await;
    fixture
        .run(
            "CREATE TABLE t (q tsquery PRIMARY KEY);
             INSERT INTO t SELECT ('a' || i)::tsquery && (('b' || i)::tsquery && 'c') FROM generate_series(1, 150) AS i",
        )
        .await;
    fixture.count_changes("t").await;
    let reason = fixture.refusal(&keyed("q")).await;
    assert!(reason.contains("column q has the value"), "{reason}");
    assert!(
        reason.contains("as text no longer is the same tsquery"),
        "{reason}"
    );
    assert!(reason.contains("-- key: "), "{reason}");
    assert_eq!(fixture.count("SELECT sum(changes) FROM t").await, 0);
}

#[tokio::test]
async fn settings_of_the_database_change_no_key() {
    let mut made = Fixture::new().await;
    made.run(
        "CREATE TABLE t (names text[], k float8[], PRIMARY KEY (names, k));
         INSERT INTO t SELECT ARRAY[NULL, 'NULL', chr(65 + i % 20)], ARRAY[i / 3.0]
           FROM generate_series(1, 150) AS i",
    )
    .await;
    made.count_changes("t").await;
    let database = made.database.get_database().unwrap().to_owned();
    for setting in [
        "array_nulls = off",
        "extra_float_digits = -15",
        "quote_all_identifiers = on",
    ] {
        let alter = format!("ALTER DATABASE {database} SET {setting}");
        made.run(&alter).await;
    }
    let mut fixture = Fixture::beside(&made).await;
    let (end, run) = fixture.migrate(&keyed("names, k")).await;
    assert_eq!(end, End::Completed, "{run:?}");
    fixture.assert_exactly_once("t", &run).await;
}

#[tokio::test]
async fn a_key_may_be_written_quoted_or_not() {
    let mut fixture = Fixture::new().await;
    fixture
        .run(
            r#"CREATE TABLE t (id int NOT NULL, "Shop" int NOT NULL, "a ""b""" int NOT NULL);
             CREATE UNIQUE INDEX ON t ("Shop", id, "a ""b""");
             INSERT INTO t SELECT i, i, i FROM generate_series(1, 3) AS i"#,
        )
        .await;
    fixture.count_changes("t").await;
    for key in [
        r#"Shop, id, a "b""#,
        r#""Shop", "id", "a ""b""""#,
        r#"Shop, "id", "a ""b""""#,
    ] {
        let (end, run) = fixture.migrate(&keyed(key)).await;
        assert_eq!(end, End::Completed, "{key}: {run:?}");
    }
}

#[tokio::test]
async fn partitions_that_have_their_columns_in_another_order_are_walked() {
    let mut fixture = Fixture::new().await;
    fixture
        .run(
            r#"CREATE SCHEMA "Ext"; CREATE EXTENSION citext SCHEMA "Ext";
             CREATE DOMAIN "Ext"."Email" AS "Ext".citext COLLATE "und-x-icu";
             CREATE TABLE t (shop int NOT NULL, email "Ext"."Email" NOT NULL) PARTITION BY RANGE (shop);
             CREATE TABLE early (gone text, email "Ext"."Email" NOT NULL, shop int NOT NULL);
             ALTER TABLE early DROP gone;
             ALTER TABLE t ATTACH PARTITION early FOR VALUES FROM (MINVALUE) TO (3);
             CREATE TABLE late PARTITION OF t FOR VALUES FROM (3) TO (MAXVALUE);
             CREATE UNIQUE INDEX ON t (shop DESC, email COLLATE "C" "Ext".citext_pattern_ops);
             INSERT INTO t SELECT i % 5, chr(65 + i * 7 % 58) || i FROM generate_series(1, 150) AS i"#,
        )
        .await;
    fixture.count_changes("t").await;
    let (end, run) = fixture.migrate(&keyed("shop, email")).await;
    assert_eq!(end, End::Completed, "{run:?}");
    fixture.assert_exactly_once("t", &run).await;
}

#[tokio::test]
async fn values_that_are_added_to_an_enum_meanwhile_find_their_place() {
    let mut fixture = Fixture::new().await;
    fixture
        .run(
            "CREATE TYPE size AS ENUM ('s', 'l');
             CREATE TABLE t (size size NOT NULL, id int NOT NULL, PRIMARY KEY (size, id));
             INSERT INTO t SELECT 'l', i FROM generate_series(1, 120) AS i",
        )
        .await;
    fixture.count_changes("t").await;
    let run = fixture.enqueue(&keyed("size, id")).await;
    fixture
        .run("ALTER TYPE size ADD VALUE 'm' BEFORE 'l'")
        .await;
    fixture
        .run("INSERT INTO t SELECT 'm', i FROM generate_series(1, 30) AS i")
        .await;
    assert_eq!(fixture.drive().await, End::Completed);
    fixture.assert_exactly_once("t", &run).await;
}

/// PostgreSQL 15 plans such a comparison of rows by the wrong class and then fails to scan the index.
#[tokio::test]
async fn rows_are_not_compared_by_operators_that_have_another_place_in_another_class() {
    let mut fixture = Fixture::new().await;
    fixture
        .run(
            "CREATE FUNCTION down(int, int) RETURNS int LANGUAGE sql IMMUTABLE STRICT
                 AS 'SELECT pg_catalog.btint4cmp($2, $1)';
             CREATE OPERATOR CLASS int4_swapped FOR TYPE int4 USING btree AS OPERATOR 1 >,
                 OPERATOR 2 >=, OPERATOR 3 =, OPERATOR 4 <=, OPERATOR 5 <, FUNCTION 1 down(int4, int4);
             CREATE TABLE t (shop int, id int, PRIMARY KEY (shop, id));
             INSERT INTO t SELECT i % 5, i FROM generate_series(1, 150) AS i",
        )
        .await;
    fixture.count_changes("t").await;
    let (end, run) = fixture.migrate(&keyed("shop, id")).await;
    assert_eq!(end, End::Completed, "{run:?}");
    fixture.assert_exactly_once("t", &run).await;
}
