//! The read by physical position: what it sees under its one snapshot, and that whatever it cannot know
//! is not taken for done.

use std::convert::Infallible;
use std::time::Duration;

use evenkeel::migration::definition::Definition;
use evenkeel::migration::physical::{Answer, Physical, Polite, Question, read};
use futures_util::future::join_all;
use sqlx::Executor;
use sqlx::postgres::PgConnection;

use super::fixture::{Fixture, migration};

const HOUR: Duration = Duration::from_secs(3600);
const STATEMENT: &str = "UPDATE t SET done = true WHERE :range";

/// Runs SQL of its own between two portions, which are as small as can be.
struct Between {
    conn: PgConnection,
    sql: &'static str,
    /// After which of the portions.
    at: fn(usize) -> bool,
    portions: usize,
}

impl Polite for Between {
    type Stop = Infallible;

    async fn permission(&mut self) -> Result<(), Infallible> {
        Ok(())
    }

    async fn rest(&mut self, _: Duration) -> Result<(), Infallible> {
        self.portions += 1;
        if (self.at)(self.portions) {
            self.conn.execute(self.sql).await.unwrap();
        }
        Ok(())
    }

    fn target(&self) -> Duration {
        Duration::ZERO
    }
}

/// Table `t` of `rows` done rows, seven in a block.
async fn wide(rows: i64) -> Fixture {
    let mut fixture = Fixture::new().await;
    fixture
        .run(
            "CREATE TABLE t (id bigint PRIMARY KEY, done boolean NOT NULL, filler text NOT NULL,
                             kind integer NOT NULL DEFAULT 0)",
        )
        .await;
    let rows = format!(
        "INSERT INTO t SELECT i, true, repeat('x', 1000) FROM generate_series(1, {rows}) AS i"
    );
    fixture.run(&rows).await;
    fixture
}

fn declared(header: &str) -> Definition {
    Definition::parse("m", &migration(header, STATEMENT)).unwrap()
}

async fn ask(fixture: &Fixture, header: &str, polite: &mut Between, limit: Duration) -> Physical {
    let definition = declared(header);
    let question = Question {
        definition: &definition,
        key: vec!["id".to_owned()],
        session: "evenkeel migration m run 1 second proof".to_owned(),
    };
    let Ok(found) = read(&fixture.pool, &fixture.engine, &question, limit, polite).await;
    found
}

const HEADER: &str = "-- table: t\n-- pending: NOT done";

/// Reads `t` while `sql` is run after those of the portions that `at` picks.
async fn read_while(
    fixture: &Fixture,
    sql: &'static str,
    at: fn(usize) -> bool,
) -> (Physical, usize) {
    let mut between = Between {
        conn: fixture.connect().await,
        sql,
        at,
        portions: 0,
    };
    let found = ask(fixture, HEADER, &mut between, HOUR).await;
    (found, between.portions)
}

/// Reads the rows of `header` at rest.
async fn read_quietly(fixture: &Fixture, header: &str) -> Physical {
    let mut between = Between {
        conn: fixture.connect().await,
        sql: "",
        at: |_| false,
        portions: 0,
    };
    ask(fixture, header, &mut between, HOUR).await
}

#[tokio::test]
async fn rows_that_move_into_blocks_already_read_are_counted_once() {
    let mut fixture = wide(250).await;
    // Room in the first blocks, and pending rows in the last.
    fixture.run("DELETE FROM t WHERE id <= 60").await;
    fixture
        .run("UPDATE t SET done = false WHERE id > 240")
        .await;
    fixture.run("VACUUM t").await;
    let moved = "SELECT count(*) FROM t WHERE NOT done AND (ctid::text::point)[0] < 10";
    assert_eq!(fixture.count(moved).await, 0);
    let (found, portions) = read_while(
        &fixture,
        "UPDATE t SET filler = filler || 'y' WHERE NOT done",
        |portion| portion == 1,
    )
    .await;
    assert!(fixture.count(moved).await > 0, "nothing has moved");
    assert!(portions > 5, "{portions}");
    assert_eq!((found.rows, found.pending), (190, 10), "{found:?}");
    assert_eq!(found.answer, Answer::Pending);
    assert!(
        !found.named.is_empty() && found.examples().contains("id 24"),
        "{found:?}"
    );
}

#[tokio::test]
async fn what_is_written_during_the_read_is_not_in_its_snapshot() {
    let fixture = wide(250).await;
    let (found, _) = read_while(
        &fixture,
        "INSERT INTO t SELECT coalesce(max(id), 0) + 1, false, '' FROM t",
        |portion| portion < 5,
    )
    .await;
    assert_eq!((found.rows, found.pending), (250, 0), "{found:?}");
    assert_eq!(found.answer, Answer::NonePending);
}

/// Between two portions nobody waits, and another one's snapshot is as old as the read.
#[tokio::test]
async fn between_two_portions_no_lock_is_held_and_the_table_can_be_altered() {
    let fixture = wide(250).await;
    let (found, portions) = read_while(
        &fixture,
        "DO $$ BEGIN
             IF EXISTS (SELECT FROM pg_locks JOIN pg_stat_activity AS a USING (pid)
                         WHERE relation IS NOT NULL AND a.datname = current_database()
                           AND a.application_name LIKE '%second proof') THEN
                 RAISE EXCEPTION 'a lock is held';
             END IF;
             IF NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_xmin IS NOT NULL
                               AND state = 'idle in transaction' AND datname = current_database()
                               AND application_name LIKE '%second proof') THEN
                 RAISE EXCEPTION 'no snapshot is held';
             END IF;
             SET LOCAL lock_timeout = 50;
             ALTER TABLE t SET (fillfactor = 90);
             LOCK TABLE t IN ACCESS EXCLUSIVE MODE;
         END $$",
        |_| true,
    )
    .await;
    assert_eq!(found.answer, Answer::NonePending, "{found:?}");
    assert_eq!(found.rows, 250);
    assert!(portions > 5, "{portions}");
    assert_eq!(found.tables, ["public.t"]);
    assert!(found.snapshot_at.is_some());
}

#[tokio::test]
async fn a_table_that_is_changed_during_each_read_is_unknown() {
    let changes = [
        ("VACUUM FULL t", "rewritten"),
        ("CLUSTER t USING t_pkey", "rewritten"),
        (
            "CREATE TABLE c AS TABLE t; TRUNCATE t; INSERT INTO t TABLE c; DROP TABLE c",
            "truncated",
        ),
        (
            "ALTER TABLE t ALTER kind TYPE bigint; ALTER TABLE t ALTER kind TYPE integer",
            "rewritten",
        ),
        (
            "CREATE TABLE u (LIKE t INCLUDING ALL); INSERT INTO u TABLE t;
             DROP TABLE t; ALTER TABLE u RENAME TO t",
            "",
        ),
    ];
    let all = changes.iter().map(|(sql, word)| async move {
        let fixture = wide(250).await;
        let (found, _) = read_while(&fixture, sql, |portion| portion % 3 == 0).await;
        assert_eq!(found.answer, Answer::Unknown, "{sql}: {found:?}");
        let reason = found.reason.clone().unwrap();
        assert!(
            reason.contains("attempts") && reason.contains(word),
            "{sql}: {reason}"
        );
        assert_eq!((found.rows, found.pending), (0, 0), "{sql}: {found:?}");
        // Once is not the end: it is read again.
        let (found, _) = read_while(&fixture, sql, |portion| portion == 3).await;
        assert_eq!(
            (found.answer, found.rows),
            (Answer::NonePending, 250),
            "{sql}: {found:?}"
        );
    });
    join_all(all).await;
}

#[tokio::test]
async fn columns_that_change_during_the_read_begin_it_anew() {
    let mut fixture = wide(250).await;
    fixture
        .run("ALTER TABLE t ADD ready boolean NOT NULL DEFAULT false")
        .await;
    // What the predicate means changes half-way: all rows before that were done, none after it is.
    let swap = "ALTER TABLE t RENAME done TO was; ALTER TABLE t RENAME ready TO done";
    let (found, _) = read_while(&fixture, swap, |portion| portion == 3).await;
    assert_eq!((found.rows, found.pending), (250, 250), "{found:?}");
}

#[tokio::test]
async fn a_partition_that_comes_or_goes_during_the_read_begins_it_anew() {
    let mut fixture = Fixture::new().await;
    fixture
        .run(
            "CREATE TABLE t (id bigint, shop text, done boolean NOT NULL, PRIMARY KEY (shop, id))
                 PARTITION BY LIST (shop);
             CREATE TABLE t_a PARTITION OF t FOR VALUES IN ('a');
             -- Columns in another order, and one that is gone.
             CREATE TABLE t_b (gone int, done boolean NOT NULL, shop text NOT NULL, id bigint NOT NULL);
             ALTER TABLE t_b DROP COLUMN gone;
             ALTER TABLE t ATTACH PARTITION t_b FOR VALUES IN ('b');
             INSERT INTO t SELECT i, 'a', true FROM generate_series(1, 5000) AS i;
             INSERT INTO t SELECT i, 'b', i <> 17 FROM generate_series(1, 500) AS i;
             CREATE TABLE t_c (LIKE t); INSERT INTO t_c SELECT i, 'c', i > 3 FROM generate_series(1, 500) AS i",
        )
        .await;
    let found = read_quietly(&fixture, HEADER).await;
    assert_eq!((found.rows, found.pending), (5500, 1), "{found:?}");
    assert_eq!(found.named, ["id 17"]);
    assert_eq!(found.tables, ["public.t_a", "public.t_b"]);
    let attach = "ALTER TABLE t ATTACH PARTITION t_c FOR VALUES IN ('c')";
    let (found, _) = read_while(&fixture, attach, |portion| portion == 1).await;
    assert_eq!((found.rows, found.pending), (6000, 4), "{found:?}");
    let detach = "ALTER TABLE t DETACH PARTITION t_b";
    let (found, _) = read_while(&fixture, detach, |portion| portion == 1).await;
    assert_eq!((found.rows, found.pending), (5500, 3), "{found:?}");
    let drop = "DROP TABLE t_c";
    let (found, _) = read_while(&fixture, drop, |portion| portion == 1).await;
    assert_eq!(
        (found.rows, found.answer),
        (5000, Answer::NonePending),
        "{found:?}"
    );
}

#[tokio::test]
async fn a_partition_whose_name_another_table_gets_during_the_read_begins_it_anew() {
    let mut fixture = Fixture::new().await;
    fixture
        .run(
            "CREATE TABLE t (id bigint, done boolean NOT NULL) PARTITION BY RANGE (id);
             CREATE TABLE t_a PARTITION OF t DEFAULT;
             INSERT INTO t SELECT i, i <> 5000 FROM generate_series(1, 5000) AS i",
        )
        .await;
    let swap = "ALTER TABLE t_a RENAME TO t_old; CREATE TABLE t_a (LIKE t_old)";
    let (found, _) = read_while(&fixture, swap, |portion| portion == 1).await;
    assert_eq!((found.rows, found.pending), (5000, 1), "{found:?}");
    assert_eq!(found.tables, ["public.t_old"]);
}

/// Gives the read up when it asks for the third time.
struct Impatient(u32);

impl Polite for Impatient {
    type Stop = ();

    async fn permission(&mut self) -> Result<(), ()> {
        self.0 += 1;
        if self.0 == 3 { Err(()) } else { Ok(()) }
    }

    async fn rest(&mut self, _: Duration) -> Result<(), ()> {
        Ok(())
    }

    fn target(&self) -> Duration {
        Duration::ZERO
    }
}

#[tokio::test]
async fn permission_is_asked_before_each_try_at_a_table_that_somebody_locks() {
    let mut fixture = wide(10).await;
    fixture.engine.lock_timeout = Duration::from_millis(10);
    let mut other = fixture.connect().await;
    other.execute("BEGIN; LOCK TABLE t").await.unwrap();
    let definition = declared(HEADER);
    let question = Question {
        definition: &definition,
        key: vec!["id".to_owned()],
        session: "evenkeel migration m run 1 second proof".to_owned(),
    };
    let limit = Duration::from_secs(60);
    let mut polite = Impatient(0);
    let found = read(
        &fixture.pool,
        &fixture.engine,
        &question,
        limit,
        &mut polite,
    )
    .await;
    assert_eq!(found, Err(()));
}

#[tokio::test]
async fn a_predicate_is_understood_however_it_names_the_table() {
    let mut fixture = Fixture::new().await;
    fixture
        .run(
            "CREATE SCHEMA \"Old Shop\";
             CREATE TABLE \"Old Shop\".\"T\" (id bigint, part int, \"Done\" boolean)
                 PARTITION BY LIST (part);
             CREATE TABLE \"Old Shop\".p1 (\"Done\" boolean, part int, id bigint);
             ALTER TABLE \"Old Shop\".\"T\" ATTACH PARTITION \"Old Shop\".p1 FOR VALUES IN (1);
             CREATE TABLE \"Old Shop\".p2 PARTITION OF \"Old Shop\".\"T\" FOR VALUES IN (2);
             INSERT INTO \"Old Shop\".\"T\" SELECT i, 1 + i % 2, i % 10 <> 0
               FROM generate_series(1, 1000) AS i;
             CREATE TABLE plain (id bigint, \"Done\" boolean);
             INSERT INTO plain SELECT i, i % 10 <> 0 FROM generate_series(1, 1000) AS i;
             CREATE FUNCTION whole(\"Old Shop\".\"T\") RETURNS boolean LANGUAGE sql IMMUTABLE
                 AS 'SELECT NOT ($1).\"Done\"'",
        )
        .await;
    let wide = r#"-- table: "Old Shop"."T""#;
    for (header, rows, pending) in [
        (
            format!("{wide}\n-- pending: \"Done\" IS NOT TRUE"),
            1000,
            100,
        ),
        (format!("{wide}\n-- pending: NOT \"T\".\"Done\""), 1000, 100),
        (
            format!("{wide}\n-- pending: NOT \"Old Shop\".\"T\".\"Done\""),
            1000,
            100,
        ),
        (
            format!("{wide}\n-- alias: o\n-- pending: NOT o.\"Done\""),
            1000,
            100,
        ),
        (format!("{wide}\n-- pending: whole(\"T\")"), 1000, 100),
        (
            format!("{wide}\n-- where: part = 2\n-- pending: NOT \"Done\""),
            500,
            0,
        ),
        (
            format!("{wide}\n-- where: \"Old Shop\".\"T\".part = 1\n-- pending: NOT \"Done\""),
            500,
            100,
        ),
        (
            "-- table: plain\n-- pending: NOT \"Done\"".to_owned(),
            1000,
            100,
        ),
        (
            "-- table: public.plain\n-- pending: NOT public.plain.\"Done\"".to_owned(),
            1000,
            100,
        ),
        (
            "-- table: PLAIN\n-- alias: p\n-- pending: NOT p.\"Done\"".to_owned(),
            1000,
            100,
        ),
        (
            "-- table: plain\n-- pending: EXISTS (SELECT FROM \"Old Shop\".\"T\" AS o \
             WHERE o.id = plain.id AND NOT o.\"Done\")"
                .to_owned(),
            1000,
            100,
        ),
    ] {
        let found = read_quietly(&fixture, &header).await;
        assert_eq!(
            (found.rows, found.pending),
            (rows, pending),
            "{header}: {found:?}"
        );
        assert_eq!(found.named.is_empty(), pending == 0, "{header}: {found:?}");
        assert_eq!(found.reason, None, "{header}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_so_is_unknown_and_says_why() {
    let mut fixture = Fixture::new().await;
    fixture
        .run(
            "CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
             CREATE TABLE t (id bigint, shop text, done boolean) PARTITION BY LIST (shop);
             CREATE TABLE t_a PARTITION OF t FOR VALUES IN ('a');
             CREATE FOREIGN TABLE t_b PARTITION OF t FOR VALUES IN ('b')
                 SERVER files OPTIONS (filename '/nowhere');
             INSERT INTO t SELECT i, 'a', true FROM generate_series(1, 100) AS i;
             CREATE VIEW v AS SELECT * FROM t_a",
        )
        .await;
    let found = read_quietly(&fixture, HEADER).await;
    assert_eq!(
        (found.answer, found.rows),
        (Answer::Unknown, 100),
        "{found:?}"
    );
    assert!(
        found
            .reason
            .unwrap()
            .contains("public.t_b is a foreign table")
    );
    // What is found elsewhere is pending all the same.
    fixture
        .run("UPDATE t_a SET done = false WHERE id = 7")
        .await;
    let found = read_quietly(&fixture, HEADER).await;
    assert_eq!(
        (found.answer, found.pending),
        (Answer::Pending, 1),
        "{found:?}"
    );
    assert!(found.reason.is_some());

    for (header, word) in [
        ("-- table: v\n-- pending: NOT done", "is no table"),
        (
            "-- table: nothing\n-- pending: NOT done",
            "there is no table",
        ),
        ("-- table: t_a\n-- pending: NOT nothing", "nothing"),
        (
            "-- table: t_a\n-- pending: 1 / (id - 50) > 5",
            "division by zero",
        ),
        ("-- table: t_a\n-- pending: nextval('s') > 5", "read-only"),
        (
            "-- table: t_a\n-- pending: pg_sleep(0.1) IS NULL",
            "single block",
        ),
    ] {
        fixture.run("CREATE SEQUENCE IF NOT EXISTS s").await;
        fixture.engine.statement_timeout = Duration::from_millis(300);
        fixture.engine.tries = 1;
        let found = read_quietly(&fixture, header).await;
        assert_eq!(found.answer, Answer::Unknown, "{header}: {found:?}");
        let reason = found.reason.unwrap();
        assert!(reason.contains(word), "{header}: {reason}");
    }
}

#[tokio::test]
async fn rows_that_a_policy_hides_are_not_taken_for_rows_that_are_not_there() {
    let mut fixture = Fixture::new().await;
    let role = format!("clerk_{}", uuid::Uuid::new_v4().simple());
    fixture
        .run(&format!(
            "CREATE ROLE {role} LOGIN;
             CREATE TABLE t (id bigint, shop text, done boolean) PARTITION BY LIST (shop);
             CREATE TABLE t_a PARTITION OF t FOR VALUES IN ('a');
             INSERT INTO t SELECT i, 'a', i <> 5 FROM generate_series(1, 100) AS i;
             GRANT SELECT ON t TO {role}"
        ))
        .await;
    let mut clerk = Fixture::beside(&fixture).await;
    clerk.act_as(&role).await;
    // The right to read the table is enough, though there is none to read its partition.
    let found = read_quietly(&clerk, HEADER).await;
    assert_eq!((found.rows, found.pending), (100, 1), "{found:?}");
    fixture
        .run(&format!(
            "GRANT SELECT ON t_a TO {role}; ALTER TABLE t ENABLE ROW LEVEL SECURITY;
             ALTER TABLE t_a ENABLE ROW LEVEL SECURITY"
        ))
        .await;
    let found = read_quietly(&clerk, HEADER).await;
    assert_eq!(found.answer, Answer::Unknown, "{found:?}");
    assert!(found.reason.unwrap().contains("row-level security"));
}

#[tokio::test]
async fn over_its_time_limit_the_answer_is_unknown() {
    let fixture = wide(250).await;
    let mut between = Between {
        conn: fixture.connect().await,
        sql: "SELECT pg_sleep(0.1)",
        at: |portion| portion > 2,
        portions: 0,
    };
    let found = ask(&fixture, HEADER, &mut between, Duration::from_millis(250)).await;
    assert_eq!(found.answer, Answer::Unknown, "{found:?}");
    assert!(found.rows > 0 && found.rows < 250, "{found:?}");
    let reason = found.reason.unwrap();
    assert!(reason.contains("migration.proof_limit, 250ms"), "{reason}");
}

#[tokio::test]
async fn a_lock_that_somebody_holds_is_waited_for() {
    let mut fixture = wide(250).await;
    fixture.engine.lock_timeout = Duration::from_millis(20);
    let mut other = fixture.connect().await;
    other
        .execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let ((found, _), ()) = tokio::join!(read_while(&fixture, "", |_| false), async {
        // More often than there are attempts.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        other.execute("ROLLBACK").await.unwrap();
    });
    assert_eq!(
        (found.answer, found.rows),
        (Answer::NonePending, 250),
        "{found:?}"
    );
}

#[tokio::test]
async fn a_long_rest_keeps_the_snapshot_and_a_holder_that_freezes_loses_it() {
    let mut fixture = wide(250).await;
    fixture.engine.lease = Duration::from_millis(300);
    fixture.engine.statement_timeout = Duration::from_millis(100);
    // Longer than the session may be idle.
    let (found, _) = read_while(&fixture, "SELECT pg_sleep(1.2)", |portion| portion == 2).await;
    assert_eq!(
        (found.answer, found.rows),
        (Answer::NonePending, 250),
        "{found:?}"
    );
    let taken = found.snapshot_at.unwrap();
    let asked = chrono::Utc::now() - taken;
    assert!(
        asked.num_milliseconds() >= 1200,
        "the snapshot was taken anew"
    );

    struct Frozen(Between);
    impl Polite for Frozen {
        type Stop = Infallible;

        async fn permission(&mut self) -> Result<(), Infallible> {
            Ok(())
        }

        async fn rest(&mut self, took: Duration) -> Result<(), Infallible> {
            self.0.rest(took).await?;
            if self.0.portions == 2 {
                std::thread::sleep(Duration::from_millis(1200));
            }
            Ok(())
        }

        fn target(&self) -> Duration {
            self.0.target()
        }
    }
    let mut frozen = Frozen(Between {
        conn: fixture.connect().await,
        sql: "",
        at: |_| false,
        portions: 0,
    });
    let definition = declared(HEADER);
    let question = Question {
        definition: &definition,
        key: Vec::new(),
        session: "evenkeel migration m run 1 second proof".to_owned(),
    };
    let Ok(found) = read(&fixture.pool, &fixture.engine, &question, HOUR, &mut frozen).await;
    assert_eq!(
        (found.answer, found.rows),
        (Answer::NonePending, 250),
        "{found:?}"
    );
    assert!(chrono::Utc::now() - found.snapshot_at.unwrap() < chrono::Duration::milliseconds(1200));
}
