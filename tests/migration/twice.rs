//! A run is proved twice, and each proof catches what the other cannot.

use std::time::{Duration, Instant};

use evenkeel::migration::certificate;
use evenkeel::migration::definition::Definition;
use evenkeel::migration::keyset::Keyset;
use evenkeel::migration::ledger::State;
use evenkeel::migration::physical::{Answer, Physical, Question, Share, read};
use evenkeel::migration::runner::End;
use evenkeel::migration::sweep::{Verification, verify};
use pool::Class;
use pressure::{Latencies, Outcome};
use tokio_util::sync::CancellationToken;

use super::fixture::{Fixture, PATIENCE, migration, of_t};
use super::process::evenkeel_on;

/// A type whose order is a lie: 10777 is greater than nothing, says `>`. A walk that asks for what comes
/// after a key never meets it, and the index is sound otherwise. Not in SQL: the planner would put what a function
/// does in the place of its operator, and no index has that.
const LIAR: &str = "
    CREATE TYPE k AS (v integer);
    CREATE FUNCTION k_cmp(a k, b k) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN btint4cmp(a.v, b.v); END';
    CREATE FUNCTION k_lt(a k, b k) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN a.v < b.v; END';
    CREATE FUNCTION k_le(a k, b k) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN a.v <= b.v; END';
    CREATE FUNCTION k_eq(a k, b k) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN a.v = b.v; END';
    CREATE FUNCTION k_ge(a k, b k) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN a.v >= b.v; END';
    CREATE FUNCTION k_gt(a k, b k) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN a.v > b.v AND a.v <> 10777; END';
    CREATE OPERATOR < (LEFTARG = k, RIGHTARG = k, FUNCTION = k_lt);
    CREATE OPERATOR <= (LEFTARG = k, RIGHTARG = k, FUNCTION = k_le);
    CREATE OPERATOR = (LEFTARG = k, RIGHTARG = k, FUNCTION = k_eq);
    CREATE OPERATOR >= (LEFTARG = k, RIGHTARG = k, FUNCTION = k_ge);
    CREATE OPERATOR > (LEFTARG = k, RIGHTARG = k, FUNCTION = k_gt);
    CREATE OPERATOR CLASS k_ops DEFAULT FOR TYPE k USING btree AS
        OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 k_cmp(k, k);
    CREATE TABLE t (id k PRIMARY KEY);
    INSERT INTO t SELECT ROW(i)::k FROM generate_series(1, 11000) AS i";

/// What both proofs say of `text`'s rows now.
async fn ask(fixture: &mut Fixture, text: &str) -> (Verification, Physical) {
    let definition = Definition::parse("m", text).unwrap();
    let keyset = Keyset::resolve(&mut fixture.sql, &definition)
        .await
        .unwrap();
    let by_key = verify(&fixture.pool, &fixture.engine, &definition, &keyset, None).await;
    let question = Question::new(&definition, &keyset, "evenkeel migration m".to_owned());
    let mut share = Share {
        duty: 1.0,
        target: fixture.engine.batch_target,
    };
    let limit = fixture.engine.proof_limit;
    let Ok(physical) = read(&fixture.pool, &fixture.engine, &question, limit, &mut share).await;
    (by_key.unwrap(), physical)
}

async fn certified(fixture: &mut Fixture) -> Option<Physical> {
    let certificate = certificate::latest(&mut fixture.sql, "m").await.unwrap();
    certificate.map(|certificate| certificate.physical)
}

#[tokio::test]
async fn a_run_is_completed_by_both_proofs_and_its_certificate_names_them() {
    let mut fixture = Fixture::with_rows(3000).await;
    let (end, run) = fixture.migrate(&of_t()).await;
    assert_eq!((end, run.sweep_pass), (End::Completed, 1));
    let proof = certified(&mut fixture).await.unwrap();
    assert_eq!(
        (proof.answer, proof.rows),
        (Answer::NonePending, 3000),
        "{proof:?}"
    );
    assert_eq!(proof.tables, ["public.t"]);
    assert!(proof.snapshot_at.unwrap() < chrono::Utc::now() && proof.took_s > 0.0);
    assert_eq!(run.second_proof(), Some(proof));
    assert!(
        run.time_spent["second proof"].as_f64().unwrap() > 0.0,
        "{run:?}"
    );
    // One of before there was a second proof.
    fixture
        .run("UPDATE evenkeel.certificates SET document = document - 'physical'")
        .await;
    let proof = certified(&mut fixture).await.unwrap();
    assert_eq!(proof.answer, Answer::Unknown);
    assert!(proof.reason.unwrap().contains("made no second proof"));
}

#[tokio::test]
async fn a_row_that_a_lying_order_hides_fails_the_run_and_is_named() {
    let mut fixture = Fixture::new().await;
    fixture.run(LIAR).await;
    fixture.count_changes("t").await;
    fixture.engine.batch_first = 2000;
    fixture.engine.batch_max = 2000;
    let (end, run) = fixture.migrate(&of_t()).await;
    assert_eq!((end, run.state), (End::Failed, State::Failed));
    let why = run.error.unwrap();
    for word in [
        "1 rows",
        "`NOT done`",
        "id '(10777)'",
        "t_pkey",
        "REINDEX",
        "migrate resume m",
    ] {
        assert!(why.contains(word), "{word}: {why}");
    }
    assert_eq!(run.sweep_pass, 2, "not more often than it takes to know");
    assert!(certified(&mut fixture).await.is_none());
    let left = "SELECT count(*) FROM t WHERE NOT done AND (id).v = 10777";
    assert_eq!(fixture.count(left).await, 1);
    // The walk by key is content; the other proof is not, and that decides.
    let (by_key, physical) = ask(&mut fixture, &of_t()).await;
    assert_eq!((by_key.rows, by_key.pending), (10999, 0), "{by_key:?}");
    assert_eq!(
        (physical.rows, physical.pending),
        (11000, 1),
        "{physical:?}"
    );
    let (code, said) = verify_by_command(&fixture, "1h").await;
    assert_eq!(code, 1, "{said}");
    for word in [
        "10999 rows, none pending by key",
        "11000 rows, 1 pending",
        "id '(10777)'",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }

    // Once the order is honest, the run goes on and is certified.
    fixture
        .run(
            "CREATE OR REPLACE FUNCTION k_gt(a k, b k) RETURNS boolean LANGUAGE plpgsql IMMUTABLE
                  AS 'BEGIN RETURN a.v > b.v; END'",
        )
        .await;
    fixture
        .command(&run_of(&fixture).await, State::Queued)
        .await;
    assert_eq!(fixture.drive().await, End::Completed);
    assert_eq!(certified(&mut fixture).await.unwrap().rows, 11000);
    let once = "SELECT count(*) FROM t WHERE done AND n = 1 AND changes = 1";
    assert_eq!(fixture.count(once).await, 11000);
}

/// What `evenkeel migrate verify` ends with and says, the second proof having `limit`.
async fn verify_by_command(fixture: &Fixture, limit: &str) -> (i32, String) {
    let definitions = tempfile::tempdir().unwrap();
    std::fs::write(definitions.path().join("m.sql"), of_t()).unwrap();
    let directory = definitions.path().to_str().unwrap();
    let asked = ["migrate", "--dir", directory, "verify", "m"];
    let said = evenkeel_on(&fixture.database, &asked)
        .env("EVENKEEL_MIGRATION__PROOF_LIMIT", limit)
        .stdout(std::process::Stdio::piped())
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&said.stdout) + String::from_utf8_lossy(&said.stderr);
    (said.status.code().unwrap(), text.into_owned())
}

/// The newest run.
async fn run_of(fixture: &Fixture) -> evenkeel::migration::ledger::Run {
    let mut conn = fixture.connect().await;
    evenkeel::migration::ledger::latest(&mut conn, "m")
        .await
        .unwrap()
}

/// Makes a walk take its time.
const SLOWLY: &str = "CREATE FUNCTION slowly() RETURNS boolean LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_sleep(0.001); RETURN true; END $$";

/// A sweep of `t` that takes its time, and what is run as soon as it has passed the first rows.
async fn complete_while_swept(fixture: &mut Fixture, meanwhile: &'static str) {
    fixture.run(SLOWLY).await;
    let text = migration(
        "-- table: t\n-- pending: slowly() AND NOT done",
        "UPDATE t SET done = true, n = n + 1 WHERE :range",
    );
    fixture.enqueue(&text).await;
    let mut other = fixture.connect().await;
    let ((), end) = tokio::join!(
        async {
            let passed = "SELECT count(*) FROM evenkeel.batches WHERE phase = 'sweep'";
            while sqlx::query_scalar::<_, i64>(passed)
                .fetch_one(&mut other)
                .await
                .unwrap()
                < 2
            {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            sqlx::Executor::execute(&mut other, meanwhile)
                .await
                .unwrap();
        },
        fixture.drive()
    );
    assert_eq!(end, End::Completed);
    let run = run_of(fixture).await;
    assert!(
        run.sweep_pass > 1,
        "the second proof has seen nothing: {run:?}"
    );
    let proof = certified(fixture).await.unwrap();
    assert_eq!(proof.answer, Answer::NonePending, "{proof:?}");
    assert_eq!(
        fixture.count("SELECT count(*) FROM t WHERE NOT done").await,
        0
    );
    let twice = "SELECT count(*) FROM t WHERE n <> 1";
    assert_eq!(fixture.count(twice).await, 0);
}

#[tokio::test]
async fn rows_that_come_behind_the_last_sweep_are_found_and_changed_by_the_same_run() {
    let mut fixture = Fixture::with_rows(400).await;
    complete_while_swept(
        &mut fixture,
        "INSERT INTO t (id) SELECT -i FROM generate_series(1, 30) AS i",
    )
    .await;
    let rows = certified(&mut fixture).await.unwrap().rows;
    assert_eq!(rows, 430);
}

#[tokio::test]
async fn a_partition_that_is_attached_behind_the_sweep_is_found_and_changed_by_the_same_run() {
    let mut fixture = Fixture::new().await;
    fixture
        .run(
            "CREATE TABLE t (id bigint PRIMARY KEY, done boolean NOT NULL DEFAULT false,
                             n integer NOT NULL DEFAULT 0) PARTITION BY RANGE (id);
             CREATE TABLE t_new PARTITION OF t FOR VALUES FROM (0) TO (1000);
             INSERT INTO t SELECT generate_series(1, 400);
             CREATE TABLE t_old (LIKE t INCLUDING ALL);
             INSERT INTO t_old SELECT generate_series(-100, -1)",
        )
        .await;
    complete_while_swept(
        &mut fixture,
        "ALTER TABLE t ATTACH PARTITION t_old FOR VALUES FROM (-1000) TO (0)",
    )
    .await;
    let proof = certified(&mut fixture).await.unwrap();
    assert_eq!((proof.rows, proof.tables.len()), (500, 2), "{proof:?}");
}

#[tokio::test]
async fn a_shop_that_never_stops_writing_such_rows_fails_the_run() {
    let mut fixture = Fixture::with_rows(200).await;
    fixture.run(SLOWLY).await;
    fixture.engine.sweeps_max = 3;
    fixture.engine.batch_first = 50;
    fixture.engine.batch_max = 50;
    let mut shop = fixture.connect().await;
    // Every other sweep finds nothing, and a row that it has passed is undone behind it: always the
    // same, for which the walk by key is not to blame.
    let undoes = async {
        loop {
            sqlx::Executor::execute(
                &mut shop,
                "UPDATE t SET done = false WHERE id = 1 AND done AND EXISTS (
                     SELECT FROM evenkeel.runs
                      WHERE phase = 'sweep' AND sweep_pass % 2 = 1 AND cursor IS NOT NULL)",
            )
            .await
            .unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let text = of_t().replace("NOT done", "slowly() AND NOT done");
    let why = tokio::select! {
        why = fixture.refusal(&text) => why,
        () = undoes => unreachable!(),
    };
    assert!(
        why.contains("1 rows for which `slowly() AND NOT done` is true"),
        "{why}"
    );
    assert!(
        why.contains("goes on writing") && why.contains("id 1;"),
        "{why}"
    );
    assert!(certified(&mut fixture).await.is_none());
}

#[tokio::test]
async fn a_run_whose_second_proof_is_unknown_is_completed_by_the_first_and_says_so() {
    let mut fixture = Fixture::with_rows(20_000).await;
    fixture.engine.proof_limit = Duration::from_nanos(1);
    let (end, run) = fixture.migrate(&of_t()).await;
    assert_eq!(end, End::Completed);
    assert!(run.error.is_none());
    let proof = certified(&mut fixture).await.unwrap();
    assert_eq!(proof.answer, Answer::Unknown);
    assert!(proof.reason.unwrap().contains("migration.proof_limit"));
    // Asked again it is still not known, which is said; given time, it is.
    let (code, said) = verify_by_command(&fixture, "1ms").await;
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("20000 rows, none pending by key; second proof unknown: "),
        "{said}"
    );
    let (code, said) = verify_by_command(&fixture, "1h").await;
    assert!(
        code == 0 && said.contains("20000 rows, none pending\n"),
        "{said}"
    );
    let run = run_of(&fixture).await;
    let later = certificate::newest_later(&mut fixture.sql, run.id)
        .await
        .unwrap();
    assert_eq!(later.unwrap().physical.answer, Answer::NonePending);
    assert_eq!(
        fixture.count("SELECT count(*) FROM evenkeel.proofs").await,
        2
    );

    let mut fixture = Fixture::with_rows(300).await;
    fixture.with_connections(1);
    let (end, _) = fixture.migrate(&of_t()).await;
    assert_eq!(end, End::Completed);
    let proof = certified(&mut fixture).await.unwrap();
    assert_eq!(proof.answer, Answer::Unknown);
    assert!(proof.reason.unwrap().contains("pool.background.max is 1"));
}

#[tokio::test]
async fn the_contract_step_waits_for_the_second_proof() {
    let mut fixture = Fixture::new().await;
    fixture.run(LIAR).await;
    fixture.count_changes("t").await;
    fixture.engine.batch_first = 2000;
    fixture.engine.batch_max = 2000;
    let text = of_t().replace("UPDATE t", "-- step: backfill\nUPDATE t")
        + "\n-- step: contract\nALTER TABLE t ADD CONSTRAINT all_done CHECK (done) NOT VALID;\n";
    let why = fixture.refusal(&text).await;
    assert!(why.contains("id '(10777)'"), "{why}");
    let constraint = "SELECT count(*) FROM pg_constraint WHERE conname = 'all_done'";
    assert_eq!(fixture.count(constraint).await, 0);
}

#[tokio::test]
async fn an_operator_can_stop_the_second_proof_and_the_run_gets_it_later() {
    let mut fixture = Fixture::with_rows(300).await;
    fixture
        .run(
            "CREATE FUNCTION slowly() RETURNS boolean LANGUAGE plpgsql AS $$
             BEGIN
                 IF current_setting('application_name') LIKE '%second proof' THEN
                     PERFORM pg_sleep(0.004);
                 END IF;
                 RETURN true;
             END $$",
        )
        .await;
    let text = of_t().replace("NOT done", "slowly() AND NOT done");
    // One portion, and then a rest of a minute and more.
    fixture.pace.duty_max = 0.02;
    fixture.engine.batch_first = 300;
    fixture.engine.batch_max = 300;
    let run = fixture.enqueue(&text).await;
    let mut other = Fixture::beside(&fixture).await;
    let (end, ()) = tokio::join!(fixture.drive(), async {
        other
            .wait_until(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                    AND application_name LIKE 'evenkeel migration m run % second proof'",
            )
            .await;
        other.command(&run, State::Paused).await;
    });
    assert_eq!(end, End::Stopped);
    assert!(certified(&mut fixture).await.is_none());
    let left = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE '%second proof'";
    fixture
        .wait_until(&format!("SELECT (({left}) = 0)::int::bigint"))
        .await;
    fixture.command(&run, State::Queued).await;
    fixture.pace.duty_max = 1.0;
    assert_eq!(fixture.drive().await, End::Completed);
    let proof = certified(&mut fixture).await.unwrap();
    assert_eq!(
        (proof.answer, proof.rows),
        (Answer::NonePending, 300),
        "{proof:?}"
    );
}

#[tokio::test]
async fn the_second_proof_waits_while_shoppers_suffer_and_goes_on_under_its_snapshot() {
    let mut fixture = Fixture::with_rows(300).await;
    fixture.pace.adaptive = true;
    fixture
        .run(
            "ALTER TABLE t ADD filler text;
             UPDATE t SET filler = repeat('x', 1000);
             CREATE FUNCTION slowly() RETURNS boolean LANGUAGE plpgsql AS $$
             BEGIN
                 IF current_setting('application_name') LIKE '%second proof' THEN
                     PERFORM pg_sleep(0.004);
                 END IF;
                 RETURN true;
             END $$",
        )
        .await;
    let run = fixture
        .enqueue(&of_t().replace("NOT done", "slowly() AND NOT done"))
        .await;
    let latencies = Latencies::new(Instant::now());
    let runner = fixture.runner_with(Some(latencies.clone()), CancellationToken::new());
    let taken = runner.take().await.unwrap().unwrap();
    let drive = tokio::time::timeout(PATIENCE, runner.drive(taken));
    let reads = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND application_name LIKE '%second proof' AND wait_event = 'PgSleep'";
    let (end, held_at) = tokio::join!(drive, async {
        fixture.wait_until(reads).await;
        let stuck: Vec<_> = (0..3)
            .map(|_| latencies.arrive(Class::Checkout, Instant::now() - Duration::from_secs(1)))
            .collect();
        let waits = "SELECT count(*) FROM evenkeel.runs WHERE pace ->> 'order' <> 'work'";
        fixture.wait_until(waits).await;
        fixture.wait_until(&format!("SELECT 1 - ({reads})")).await;
        let held_at = chrono::Utc::now();
        for _ in 0..40 {
            assert_eq!(fixture.count(reads).await, 0, "it reads all the same");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let now = fixture.find(&run).await;
        assert!(now.second_proof().unwrap().is_under_way(), "{now:?}");
        for request in stuck {
            request.finish(Outcome::Ok, Instant::now());
        }
        held_at
    });
    assert_eq!(end.unwrap(), End::Completed);
    let proof = certified(&mut fixture).await.unwrap();
    assert_eq!(
        (proof.answer, proof.rows),
        (Answer::NonePending, 300),
        "{proof:?}"
    );
    assert!(proof.snapshot_at.unwrap() < held_at, "{proof:?}");
}
