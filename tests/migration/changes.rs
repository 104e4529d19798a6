//! Changes of several steps: beside readers, killed anywhere, to their end.

use std::time::{Duration, Instant};

use evenkeel::migration::control;
use evenkeel::migration::definition::Definition;
use evenkeel::migration::keyset::Keyset;
use evenkeel::migration::ledger::{Run, State, Step};
use evenkeel::migration::lint;
use evenkeel::migration::runner::End;
use pool::Class;
use pressure::{Latencies, Outcome};
use sqlx::{Connection, Executor};
use tokio_util::sync::CancellationToken;

use super::fixture::{Fixture, PATIENCE};
use super::process::evenkeel_on;

/// A column that comes, is filled, required and indexed, and an index that goes.
const CHANGE: &str = "\
-- title: T
-- owner: tests
-- table: t
-- pending: day IS NULL

-- step: expand
ALTER TABLE t ADD COLUMN day date;
ALTER TABLE t ALTER COLUMN day SET DEFAULT '2024-06-20';

-- step: backfill
UPDATE t SET day = '2024-06-20', n = n + 1 WHERE :range;

-- step: contract
ALTER TABLE t ADD CONSTRAINT day_set CHECK (day IS NOT NULL) NOT VALID;
ALTER TABLE t VALIDATE CONSTRAINT day_set;
ALTER TABLE t ALTER COLUMN day SET NOT NULL;
ALTER TABLE t DROP CONSTRAINT day_set;
CREATE INDEX CONCURRENTLY t_day ON t (day);
DROP INDEX CONCURRENTLY t_old;
";
const STATEMENTS: i64 = 8;

/// A change whose contract is `contract` and no more.
fn with_contract(contract: &str) -> String {
    format!(
        "-- title: T\n-- owner: tests\n-- table: t\n-- pending: NOT done\n\n\
         -- step: backfill\nUPDATE t SET done = true, n = n + 1 WHERE :range;\n\n\
         -- step: contract\n{contract};\n"
    )
}

async fn with_rows(rows: i64) -> Fixture {
    let mut fixture = Fixture::with_rows(rows).await;
    fixture.run("CREATE INDEX t_old ON t (n)").await;
    fixture
}

/// The end state of [`CHANGE`], every row changed once, every statement done once.
async fn assert_changed(fixture: &mut Fixture, run: &Run) {
    let run = fixture.find(run).await;
    assert_eq!(run.state, State::Completed, "{run:?}");
    assert_eq!(run.step, Some(Step::Contract));
    for (what, sql) in [
        (
            "rows changed once",
            "SELECT count(*) - count(*) FILTER (WHERE n = 1 AND changes = 1 AND day IS NOT NULL) FROM t",
        ),
        (
            "NOT NULL",
            "SELECT count(*) FROM pg_attribute WHERE attrelid = 't'::regclass AND attname = 'day' AND NOT attnotnull",
        ),
        (
            "no constraint left",
            "SELECT count(*) FROM pg_constraint WHERE conname = 'day_set'",
        ),
        (
            "a valid index",
            "SELECT 1 - count(*) FROM pg_index WHERE indexrelid = to_regclass('t_day') AND indisvalid",
        ),
        (
            "no invalid index",
            "SELECT count(*) FROM pg_index WHERE NOT indisvalid",
        ),
        (
            "the old index gone",
            "SELECT count(*) FROM pg_class WHERE relname = 't_old'",
        ),
        (
            "no statement open",
            "SELECT count(*) FROM evenkeel.steps WHERE done_at IS NULL",
        ),
    ] {
        assert_eq!(fixture.count(sql).await, 0, "{what}");
    }
    let done = "SELECT count(*) FROM evenkeel.steps";
    assert_eq!(fixture.count(done).await, STATEMENTS);
}

#[tokio::test]
async fn a_change_ends_with_its_schema_its_rows_and_its_proof() {
    let mut fixture = with_rows(5000).await;
    fixture.engine.batch_max = 1000;
    let definition = Definition::parse("m", CHANGE).unwrap();
    assert_eq!(lint::definition(&definition), []);
    let (end, run) = fixture.migrate(CHANGE).await;
    assert_eq!(end, End::Completed, "{run:?}");
    assert_changed(&mut fixture, &run).await;
    assert_eq!((run.rows_changed, run.sweep_found), (5000, 0));
    let events = "SELECT count(*) FROM evenkeel.events WHERE action LIKE '%statement done'";
    assert_eq!(fixture.count(events).await, STATEMENTS);
}

#[tokio::test]
async fn a_change_goes_on_at_the_right_step_wherever_it_is_killed() {
    let mut died_in = std::collections::BTreeSet::new();
    // A little later every time, so that every step is met, at its beginning and within.
    let mut life = Duration::ZERO;
    for round in 0..6 {
        let mut fixture = with_rows(300).await;
        let run = fixture.enqueue(CHANGE).await;
        let mut holder = fixture.runner();
        let mut taken = holder.take().await.unwrap().unwrap();
        for kill in 0.. {
            let known = fixture.count("SELECT count(*) FROM evenkeel.steps").await;
            life = Duration::from_micros(1500 + 977 * round + 400 * kill);
            match tokio::time::timeout(life, holder.drive(taken)).await {
                Ok(end) => {
                    assert_eq!(end, End::Completed);
                    break;
                }
                Err(_died) => {
                    died_in.insert(known);
                    let Some(run) = fixture.try_take_over().await else {
                        break;
                    };
                    taken = run;
                    holder = fixture.runner();
                }
            }
        }
        assert_changed(&mut fixture, &run).await;
    }
    println!("longest life {life:?}; killed with so many statements begun: {died_in:?}");
    // Concurrent statements and the walk take longest; some brief ones may never be met.
    assert!(died_in.len() > 3, "{died_in:?}");
}

#[tokio::test]
async fn a_change_that_is_killed_within_each_of_its_statements_goes_on_there() {
    let mut fixture = with_rows(50).await;
    // Every statement of ours waits for the gate of its number before it does anything.
    fixture
        .run(
            "CREATE FUNCTION gate() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF current_setting('application_name') = 'engine' THEN
                     PERFORM pg_advisory_xact_lock(1, count(*)::int) FROM evenkeel.steps;
                 END IF; END $$;
             CREATE EVENT TRIGGER gate ON ddl_command_start EXECUTE FUNCTION gate()",
        )
        .await;
    let mut keeper = fixture.connect().await;
    keeper
        .execute("SELECT pg_advisory_lock(1, n) FROM generate_series(1, 8) AS n")
        .await
        .unwrap();
    let run = fixture.enqueue(CHANGE).await;
    let mut taken = fixture.runner().take().await.unwrap().unwrap();
    for number in 1..=STATEMENTS {
        let at_gate = format!(
            "SELECT count(*) FROM pg_stat_activity, evenkeel.steps
              WHERE application_name = 'engine' AND datname = current_database()
                AND wait_event = 'advisory' AND number = {number}"
        );
        {
            let holder = fixture.runner();
            tokio::select! {
                end = holder.drive(taken) => {
                    panic!("{end:?} before statement {number}: {:?}", fixture.find(&run).await)
                }
                () = fixture.wait_until(&at_gate) => {}
            }
        }
        let open = "SELECT count(*) FROM evenkeel.steps WHERE done_at IS NULL";
        assert_eq!(fixture.count(open).await, 1, "statement {number}");
        taken = fixture.take_over().await;
        let open_gate = format!("SELECT pg_advisory_unlock(1, {number})");
        keeper
            .execute(sqlx::AssertSqlSafe(open_gate))
            .await
            .unwrap();
    }
    let runner = fixture.runner();
    let end = tokio::time::timeout(PATIENCE, runner.drive(taken));
    assert_eq!(end.await.unwrap(), End::Completed);
    assert_changed(&mut fixture, &run).await;
}

#[tokio::test]
async fn an_index_whose_build_was_killed_half_way_is_built_anew() {
    let mut fixture = with_rows(100).await;
    let build = with_contract("CREATE INDEX CONCURRENTLY t_n ON t (n)");
    let run = fixture.enqueue(&build).await;
    let mut writer = fixture.connect().await;
    let mut writing = writer.begin().await.unwrap();
    // The build has made its entry and waits for everybody who writes to the table.
    writing
        .execute("INSERT INTO t (id, done) VALUES (1000, true)")
        .await
        .unwrap();
    let taken = fixture.runner().take().await.unwrap().unwrap();
    let invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";
    {
        let holder = fixture.runner();
        tokio::select! {
            end = holder.drive(taken) => panic!("{end:?} beside a writer"),
            () = fixture.wait_until(invalid) => {}
        }
    }
    let taken = fixture.take_over().await;
    assert_eq!(fixture.count(invalid).await, 1);
    let runner = fixture.runner();
    let (end, ()) = tokio::join!(tokio::time::timeout(PATIENCE, runner.drive(taken)), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        writing.rollback().await.unwrap();
    });
    assert_eq!(end.unwrap(), End::Completed);
    assert_eq!(fixture.count(invalid).await, 0);
    let valid = "SELECT count(*) FROM pg_index WHERE indexrelid = to_regclass('t_n')";
    assert_eq!(fixture.count(valid).await, 1);
    assert_eq!(fixture.find(&run).await.state, State::Completed);
}

#[tokio::test]
async fn an_index_that_somebody_is_building_is_waited_for_and_not_dropped() {
    let mut fixture = with_rows(100).await;
    let build = "CREATE INDEX CONCURRENTLY t_n ON t (n)";
    let run = fixture.enqueue(&with_contract(build)).await;
    let mut writer = fixture.connect().await;
    let mut writing = writer.begin().await.unwrap();
    writing
        .execute("INSERT INTO t (id, done) VALUES (1000, true)")
        .await
        .unwrap();
    // As a holder that was stopped for longer than its lease and goes on.
    let mut other = fixture.connect().await;
    let driven = async {
        let mut sql = fixture.connect().await;
        let begun = "SELECT EXISTS (SELECT FROM pg_index WHERE NOT indisvalid)";
        while !sqlx::query_scalar::<_, bool>(begun)
            .fetch_one(&mut sql)
            .await
            .unwrap()
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        fixture.drive().await
    };
    let (built, end, ()) = tokio::join!(other.execute(build), driven, async {
        let mut sql = fixture.connect().await;
        let said = async |sql: &mut sqlx::postgres::PgConnection| {
            let waits = sqlx::query_scalar("SELECT max(waits_for) FROM evenkeel.steps");
            let waits: Option<String> = waits.fetch_one(sql).await.unwrap();
            waits.is_some_and(|waits| waits.contains("builds the index public.t_n"))
        };
        let began = Instant::now();
        while !said(&mut sql).await {
            assert!(began.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        writing.rollback().await.unwrap();
    });
    built.unwrap();
    assert_eq!(end, End::Completed, "{:?}", fixture.find(&run).await);
    let valid = "SELECT count(*) FROM pg_index WHERE indexrelid = 't_n'::regclass AND indisvalid";
    assert_eq!(fixture.count(valid).await, 1);
}

#[tokio::test]
async fn a_statement_begins_only_while_shoppers_are_within_target() {
    let mut fixture = with_rows(10).await;
    fixture.pace.adaptive = true;
    let run = fixture.enqueue(CHANGE).await;
    let latencies = Latencies::new(Instant::now());
    let runner = fixture.runner_with(Some(latencies.clone()), CancellationToken::new());
    let taken = runner.take().await.unwrap().unwrap();
    let stuck: Vec<_> = (0..3)
        .map(|_| latencies.arrive(Class::Checkout, Instant::now() - Duration::from_secs(1)))
        .collect();
    let drive = tokio::time::timeout(PATIENCE, runner.drive(taken));
    let (end, ()) = tokio::join!(drive, async {
        tokio::time::sleep(Duration::from_millis(800)).await;
        let begun = "SELECT count(*) FROM evenkeel.steps";
        assert_eq!(fixture.count(begun).await, 0, "shoppers are stuck");
        for request in stuck {
            request.finish(Outcome::Ok, Instant::now());
        }
    });
    assert_eq!(end.unwrap(), End::Completed);
    assert_changed(&mut fixture, &run).await;
}

#[tokio::test]
async fn the_command_line_plans_runs_and_shows_a_change() {
    let mut fixture = with_rows(30).await;
    let definitions = tempfile::tempdir().unwrap();
    std::fs::write(definitions.path().join("day.sql"), CHANGE).unwrap();
    let said = async |arguments: &[&str]| {
        let done = evenkeel_on(&fixture.database, arguments)
            .env("EVENKEEL_MIGRATION__DEFINITIONS", definitions.path())
            .stdout(std::process::Stdio::piped())
            .output()
            .await
            .unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    let plan = said(&["migrate", "plan", "day"]).await;
    assert!(
        plan.contains("expand    ALTER TABLE t ADD COLUMN day date"),
        "{plan}"
    );
    assert!(plan.contains("none before the expand step"), "{plan}");
    said(&["migrate", "run", "day", "--standalone"]).await;
    let status = said(&["migrate", "status", "day"]).await;
    assert!(
        status.contains("contract: DROP INDEX CONCURRENTLY t_old: done"),
        "{status}"
    );
    let list = said(&["migrate", "list"]).await;
    assert!(list.contains("completed"), "{list}");
    let run = evenkeel::migration::ledger::latest(&mut fixture.sql, "day")
        .await
        .unwrap();
    assert_changed(&mut fixture, &run).await;
}

#[tokio::test]
async fn a_statement_behind_a_long_reader_gives_up_before_a_convoy_forms() {
    let mut fixture = with_rows(100).await;
    let run = fixture
        .enqueue(&with_contract("ALTER TABLE t ADD COLUMN extra int"))
        .await;
    let options = fixture.database.clone().application_name("long report");
    let mut reader = sqlx::postgres::PgConnection::connect_with(&options)
        .await
        .unwrap();
    let mut report = reader.begin().await.unwrap();
    report.execute("SELECT count(*) FROM t").await.unwrap();
    let mut shopper = fixture.connect().await;
    let (end, slowest) = tokio::join!(fixture.drive(), async {
        let mut sql = fixture.connect().await;
        let tried = "SELECT coalesce(max(tries), 0)::bigint FROM evenkeel.steps";
        let began = Instant::now();
        let mut slowest = Duration::ZERO;
        loop {
            let asked = Instant::now();
            shopper
                .execute("SELECT n FROM t WHERE id = 50")
                .await
                .unwrap();
            slowest = slowest.max(asked.elapsed());
            let tries: i64 = sqlx::query_scalar(tried).fetch_one(&mut sql).await.unwrap();
            if tries >= 4 {
                break;
            }
            assert!(began.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let waits: String = sqlx::query_scalar("SELECT waits_for FROM evenkeel.steps")
            .fetch_one(&mut sql)
            .await
            .unwrap();
        assert!(
            waits.contains("long report, idle in transaction"),
            "{waits}"
        );
        let cause = "SELECT pace #>> '{causes,0,reason}' FROM evenkeel.runs";
        let shown: String = sqlx::query_scalar(cause).fetch_one(&mut sql).await.unwrap();
        assert!(shown.contains("long report"), "{shown}");
        report.rollback().await.unwrap();
        slowest
    });
    assert_eq!(end, End::Completed);
    println!("slowest shopper {slowest:?}");
    // A shopper waits behind the statement for as long as that waits, and not for the reader.
    assert!(
        slowest >= Duration::from_millis(20),
        "nobody was in the way: {slowest:?}"
    );
    assert!(slowest < fixture.engine.lock_timeout * 3, "{slowest:?}");
    let added =
        "SELECT count(*) FROM pg_attribute WHERE attrelid = 't'::regclass AND attname = 'extra'";
    assert_eq!(fixture.count(added).await, 1);
    assert_eq!(fixture.find(&run).await.state, State::Completed);
}

#[tokio::test]
async fn an_invalid_index_of_an_earlier_try_is_dropped_and_built_anew() {
    let mut fixture = with_rows(100).await;
    // As a build leaves it that was killed: the same name, and not valid.
    fixture
        .run("INSERT INTO t (id) VALUES (1000), (1001)")
        .await;
    let mut other = fixture.connect().await;
    let build = "CREATE UNIQUE INDEX CONCURRENTLY t_n ON t (n)";
    assert!(other.execute(build).await.is_err());
    let invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";
    assert_eq!(fixture.count(invalid).await, 1);
    let (end, run) = fixture
        .migrate(&with_contract("CREATE INDEX CONCURRENTLY t_n ON t (n)"))
        .await;
    assert_eq!(end, End::Completed, "{run:?}");
    assert_eq!(fixture.count(invalid).await, 0);
    let built =
        "SELECT count(*) FROM pg_index WHERE indexrelid = 't_n'::regclass AND NOT indisunique";
    assert_eq!(fixture.count(built).await, 1);
}

#[tokio::test]
async fn a_change_may_be_of_the_schema_alone() {
    let mut fixture = with_rows(10).await;
    let text = "-- title: T\n-- owner: tests\n\n-- step: expand\n\
                CREATE INDEX CONCURRENTLY t_n ON t (n);\nCREATE TABLE u (id bigint PRIMARY KEY);\n";
    let definition = Definition::parse("m", text).unwrap();
    assert_eq!(lint::definition(&definition), []);
    let run = control::start(&mut fixture.sql, &definition, "tester")
        .await
        .unwrap();
    assert_eq!(fixture.drive().await, End::Completed);
    assert_eq!(fixture.find(&run).await.state, State::Completed);
    let there =
        "SELECT (to_regclass('t_n') IS NOT NULL AND to_regclass('u') IS NOT NULL)::int::bigint";
    assert_eq!(fixture.count(there).await, 1);
    let refused = Keyset::resolve(&mut fixture.sql, &definition)
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("`m` has no backfill"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_long_build_is_refused_at_the_start_where_nothing_could_renew_the_lease_beside_it() {
    let mut fixture = with_rows(10).await;
    fixture.with_connections(1);
    let run = fixture.enqueue(CHANGE).await;
    assert_eq!(fixture.drive().await, End::Failed);
    let error = fixture.find(&run).await.error.unwrap();
    for part in ["pool.background.max is 1", "set it to 2", "migrate resume"] {
        assert!(error.contains(part), "{error}");
    }
    let begun = "SELECT count(*) FROM evenkeel.steps";
    assert_eq!(fixture.count(begun).await, 0, "nothing was half done");
    // What is brief needs no second one.
    let text =
        with_contract("ALTER TABLE t ALTER COLUMN n SET DEFAULT 7").replace("title: T", "title: U");
    fixture.run("TRUNCATE evenkeel.runs CASCADE").await;
    fixture.enqueue(&text).await;
    assert_eq!(fixture.drive().await, End::Completed);
}

#[tokio::test]
async fn a_change_that_takes_its_own_key_away_ends_and_says_why_it_is_not_certified() {
    let mut fixture = Fixture::with_rows(10).await;
    let contract = "-- lint: allow ban-drop-table because this is a test\nDROP TABLE t";
    let run = fixture.enqueue(&with_contract(contract)).await;
    assert_eq!(fixture.drive().await, End::Failed);
    let error = fixture.find(&run).await.error.unwrap();
    assert!(
        error.contains("cannot be certified") && error.contains("no table `t`"),
        "{error}"
    );
}

#[tokio::test]
async fn the_rows_of_a_change_can_be_taken_back() {
    let mut fixture = with_rows(30).await;
    let text = CHANGE.replace(
        "-- step: contract",
        "-- down\nUPDATE t SET day = NULL WHERE :range;\n\n-- step: contract",
    );
    let text = text.split("ALTER TABLE t ADD CONSTRAINT").next().unwrap();
    let definition = Definition::parse("m", text).unwrap();
    assert_eq!(lint::definition(&definition), []);
    let run = control::start(&mut fixture.sql, &definition, "tester").await;
    assert_eq!(fixture.drive().await, End::Completed);
    assert_eq!(fixture.find(&run.unwrap()).await.rows_changed, 30);
    let back = control::undo(&mut fixture.sql, &definition, "tester", false).await;
    assert_eq!(fixture.drive().await, End::Completed);
    assert_eq!(fixture.find(&back.unwrap()).await.rows_changed, 30);
    let left = "SELECT count(*) FROM t WHERE day IS NOT NULL";
    assert_eq!(fixture.count(left).await, 0);
    // The schema has stayed, so the change can be made again.
    let again = control::start(&mut fixture.sql, &definition, "tester").await;
    let end = fixture.drive().await;
    let again = fixture.find(&again.unwrap()).await;
    assert_eq!((end, again.rows_changed), (End::Completed, 30), "{again:?}");
    let elsewhere = format!("{CHANGE}-- down\nUPDATE t SET day = NULL WHERE :range;\n");
    let refused = Definition::parse("m", &elsewhere).unwrap_err().to_string();
    assert!(refused.contains("belongs to the backfill"), "{refused}");
}

#[tokio::test]
async fn an_index_that_cannot_be_built_leaves_nothing_behind_and_can_be_built_after_a_fix() {
    let mut fixture = with_rows(2).await;
    fixture.run("UPDATE t SET n = 5").await;
    let unique = "CREATE UNIQUE INDEX CONCURRENTLY t_n ON t (n)";
    let error = fixture.refusal(&with_contract(unique)).await;
    assert!(
        error.contains(unique) && error.contains("could not create unique index"),
        "{error}"
    );
    assert_eq!(
        fixture
            .count("SELECT count(*) FROM pg_class WHERE relname = 't_n'")
            .await,
        0
    );
    fixture.run("UPDATE t SET n = id").await;
    let run = evenkeel::migration::ledger::latest(&mut fixture.sql, "m")
        .await
        .unwrap();
    fixture.command(&run, State::Queued).await;
    assert_eq!(fixture.drive().await, End::Completed);
    assert_eq!(
        fixture
            .count("SELECT count(*) FROM pg_class WHERE relname = 't_n'")
            .await,
        1
    );
}

#[tokio::test]
async fn rows_that_were_written_wrong_after_the_sweep_are_found_when_a_failed_contract_is_resumed()
{
    let mut fixture = with_rows(50).await;
    let contract = "ALTER TABLE t ADD CONSTRAINT c CHECK (done) NOT VALID;
                    ALTER TABLE t ADD COLUMN extra int;
                    ALTER TABLE t VALIDATE CONSTRAINT c";
    let text = with_contract(contract);
    let run = fixture.enqueue(&text).await;
    // A process of the version before goes on writing until the constraint is there.
    fixture
        .run(
            "CREATE FUNCTION old_process() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
                  IF NOT EXISTS (SELECT FROM t WHERE id = 999) AND NOT EXISTS
                     (SELECT FROM pg_constraint WHERE conname = 'c') THEN
                      INSERT INTO t (id) VALUES (999);
                  END IF; END $$;
              CREATE EVENT TRIGGER old_process ON ddl_command_start EXECUTE FUNCTION old_process()",
        )
        .await;
    assert_eq!(fixture.drive().await, End::Failed);
    let failed = fixture.find(&run).await;
    assert!(
        failed
            .error
            .as_ref()
            .unwrap()
            .contains("VALIDATE CONSTRAINT c"),
        "{failed:?}"
    );
    let queued = fixture.command(&run, State::Queued).await;
    assert_eq!(queued.step, Some(Step::Backfill));
    assert_eq!(fixture.drive().await, End::Completed);
    assert_eq!(
        fixture.count("SELECT count(*) FROM t WHERE NOT done").await,
        0
    );
    assert_eq!(
        fixture
            .count("SELECT count(*) FROM pg_constraint WHERE conname = 'c' AND convalidated")
            .await,
        1
    );
}

#[tokio::test]
async fn a_run_after_a_cancelled_one_does_not_repeat_its_statements() {
    run_after_a_cancelled_one(false).await;
}

#[tokio::test]
async fn a_run_from_where_a_cancelled_one_stopped_does_not_repeat_them_either() {
    run_after_a_cancelled_one(true).await;
}

async fn run_after_a_cancelled_one(from_last: bool) {
    let mut fixture = with_rows(2000).await;
    // So that the backfill lasts until it is cancelled.
    (fixture.engine.batch_first, fixture.engine.batch_max) = (1, 1);
    let run = fixture.enqueue(CHANGE).await;
    let (end, ()) = tokio::join!(fixture.drive(), async {
        let mut sql = fixture.connect().await;
        loop {
            let walks: bool = sqlx::query_scalar(
                "SELECT step IS NOT DISTINCT FROM 'backfill' AND cursor IS NOT NULL FROM evenkeel.runs",
            )
            .fetch_one(&mut sql)
            .await
            .unwrap();
            if walks {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        evenkeel::migration::ledger::command(&mut sql, run.id, State::Cancelled, "tester")
            .await
            .unwrap();
    });
    assert_eq!(end, End::Stopped);
    fixture.engine.batch_max = 1000;
    let definition = Definition::parse("m", CHANGE).unwrap();
    let run = if from_last {
        control::start_from_last(&mut fixture.sql, &definition, "tester").await
    } else {
        control::start(&mut fixture.sql, &definition, "tester").await
    };
    let run = run.unwrap();
    assert_eq!(run.cursor.is_some(), from_last);
    let end = fixture.drive().await;
    assert_eq!(end, End::Completed, "{:?}", fixture.find(&run).await);
    // Those of the first run are there twice, both times done.
    fixture
        .run(&format!(
            "DELETE FROM evenkeel.steps WHERE run_id <> {}",
            run.id
        ))
        .await;
    assert_changed(&mut fixture, &run).await;
}

#[tokio::test]
async fn a_statement_that_keeps_everybody_out_for_too_long_is_given_up() {
    let mut fixture = with_rows(10).await;
    fixture.engine.statement_timeout = Duration::from_millis(100);
    fixture.engine.tries = 2;
    fixture
        .run(
            "CREATE FUNCTION slow() RETURNS integer LANGUAGE sql AS 'SELECT 1 FROM pg_sleep(0.05)'",
        )
        .await;
    let error = fixture
        .refusal(&with_contract(
            "ALTER TABLE t ADD COLUMN extra int DEFAULT slow()",
        ))
        .await;
    assert!(error.contains("was cancelled 2 times"), "{error}");
    let added =
        "SELECT count(*) FROM pg_attribute WHERE attrelid = 't'::regclass AND attname = 'extra'";
    assert_eq!(fixture.count(added).await, 0);
}

#[test]
fn the_example_of_the_handbook_is_a_safe_change() {
    let page = include_str!("../../docs/migrations.md");
    let mut blocks = page.split("```sql\n").skip(1);
    let example = blocks
        .find(|block| block.contains("-- step: expand"))
        .unwrap();
    let example = example.split("```").next().unwrap();
    let definition = Definition::parse("day", example).unwrap();
    assert_eq!((definition.expand.len(), definition.contract.len()), (2, 5));
    assert_eq!(lint::definition(&definition), []);
}

#[test]
fn what_is_wrong_with_the_steps_of_a_file_is_said() {
    let problem = |body: &str| {
        let text = format!("-- title: T\n-- owner: o\n-- table: t\n-- pending: p\n\n{body}");
        Definition::parse("m", &text).unwrap_err().to_string()
    };
    let backfill = "-- step: backfill\nUPDATE t SET a = 1 WHERE :range;\n";
    for (body, expected) in [
        (
            format!("-- step: expnd\n{backfill}"),
            "`-- step: expnd` is not known",
        ),
        (
            format!("{backfill}-- step: expand\nALTER TABLE t ADD a int;"),
            "comes too late",
        ),
        (format!("SELECT 1;\n{backfill}"), "SQL before the first"),
        (
            "-- step: expand\nALTER TABLE t ADD a int;".to_owned(),
            "there is no backfill",
        ),
        (
            "-- step: expand\n-- later\n".to_owned(),
            "no statement below",
        ),
        (
            format!("{backfill}-- step: contract\nALTER TABLE;"),
            "m.sql:9: expected table",
        ),
        (
            format!("{backfill}-- step: contract\nCOMMIT;"),
            "transaction of its own",
        ),
        (
            format!("{backfill}-- step: contract\nANALYZE t; ANALYZE t;"),
            "appears twice",
        ),
        (
            format!("{backfill}-- step: contract\nCREATE INDEX CONCURRENTLY ON t (a);"),
            "give the index a name",
        ),
        (
            format!(
                "{backfill}-- step: contract\nALTER TABLE t VALIDATE CONSTRAINT c, DROP COLUMN a;"
            ),
            "statement of its own",
        ),
    ] {
        let problem = problem(&body);
        assert!(problem.contains(expected), "{problem}");
    }
}
