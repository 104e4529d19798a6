//! Whatever a migration's SQL does to its session: shoppers never notice.

use std::sync::atomic::{AtomicBool, Ordering};

use evenkeel::migration::governor::Sensors;
use evenkeel::migration::ledger::{self, Run, State};
use evenkeel::migration::runner::{End, Runner};
use pressure::settings::PaceSettings;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor};
use tokio_util::sync::CancellationToken;

use super::fixture::{PATIENCE, migration, of_t};
use crate::support::TestApp;

/// Product pages that are asked for after each statement; as many are under way at once as would use
/// every connection of the pool.
const PAGES: usize = 60;

/// Statements that would harm whoever got their session. All but the last can be done.
const STATEMENTS: [&str; 26] = [
    "SELECT pg_catalog.set_config('search_path', '', false)",
    "DO $$ BEGIN PERFORM set_config('search_path', '', false);
         CREATE TABLE public.imported (id bigint PRIMARY KEY); END $$",
    "SET search_path = pg_catalog",
    "SET LOCAL search_path = pg_catalog",
    "SET statement_timeout = '1ms'",
    "SET LOCAL statement_timeout = '1s'",
    "SET lock_timeout = '1ms'",
    "SET ROLE pg_monitor",
    "SET LOCAL ROLE pg_monitor",
    "SET SESSION AUTHORIZATION pg_monitor",
    "PREPARE sqlx_s_1 AS SELECT 1",
    "PREPARE sqlx_s_2 (int) AS SELECT $1",
    "DEALLOCATE ALL",
    "LISTEN news",
    "SELECT pg_advisory_lock(1)",
    "CREATE TEMP TABLE products (id text)",
    "CREATE TEMP VIEW variants AS SELECT 1 AS id",
    "DECLARE kept CURSOR WITH HOLD FOR SELECT * FROM products",
    "SET default_transaction_read_only = on",
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY",
    "SET session_replication_role = replica",
    "SET client_encoding = 'LATIN1'",
    "SET datestyle = 'German'",
    "SET TIME ZONE 'Pacific/Apia'",
    "LOAD 'auto_explain'",
    "DISCARD ALL",
];

/// A shop with a product, and an engine on the shop's own pool.
struct Shop {
    app: TestApp,
    runner: Runner,
    sql: PgConnection,
}

impl Shop {
    async fn open() -> Self {
        let app = TestApp::builder()
            .settings(|settings| {
                settings.migration.batch_first = 10;
                settings.migration.batch_max = 10;
            })
            .start()
            .await;
        app.product("mug", 1200, 7).await;
        let sensors = Sensors {
            latencies: None,
            pool: app.app.pool.clone(),
            surroundings: None,
        };
        let pace = PaceSettings {
            adaptive: false,
            ..PaceSettings::default()
        };
        let engine = app.app.settings.migration.clone();
        let runner = Runner::new(sensors, engine, pace, CancellationToken::new());
        let sql = app.sql().await;
        let shop = Self { app, runner, sql };
        shop.serve(PAGES).await;
        shop
    }

    async fn run(&mut self, sql: &str) {
        let done = self.sql.execute(AssertSqlSafe(sql.to_owned())).await;
        done.unwrap_or_else(|err| panic!("{err}: {sql}"));
    }

    /// Asks for `pages` product pages at once.
    async fn serve(&self, pages: usize) {
        let pages = (0..pages).map(|_| async {
            let page = self.app.get("/api/products/mug").await.expect(200);
            assert_eq!(page.json()["variants"][0]["stock"], 7);
        });
        futures_util::future::join_all(pages).await;
    }

    /// Queues `text` and drives it beside shoppers; returns the run when it has ended.
    async fn migrate(&mut self, name: &str, text: &str) -> (End, Run) {
        let run = ledger::enqueue(&mut self.sql, name, text, "tester").await;
        let run = run.unwrap();
        let ended = AtomicBool::new(false);
        let drive = async {
            let taken = self.runner.take().await.unwrap().unwrap();
            let end = tokio::time::timeout(PATIENCE, self.runner.drive(taken)).await;
            ended.store(true, Ordering::Relaxed);
            end.unwrap_or_else(|_| panic!("without an end: {text}"))
        };
        let (end, ()) = tokio::join!(drive, async {
            while !ended.load(Ordering::Relaxed) {
                self.serve(4).await;
            }
        });
        self.serve(PAGES).await;
        (end, ledger::find(&mut self.sql, run.id).await.unwrap())
    }
}

#[tokio::test]
async fn no_schema_step_reaches_the_shop_with_what_it_leaves_in_its_session() {
    let mut shop = Shop::open().await;
    for (number, sql) in STATEMENTS.iter().enumerate() {
        let text = format!("-- title: T\n-- owner: tests\n\n-- step: expand\n{sql};\n");
        let (end, run) = shop.migrate(&format!("step_{number}"), &text).await;
        if *sql == "DISCARD ALL" {
            // Not within a transaction.
            assert_eq!((end, run.state), (End::Failed, State::Failed), "{sql}");
            let reason = run.error.unwrap();
            assert!(reason.contains(sql), "{reason}");
        } else {
            assert_eq!(end, End::Completed, "{sql}: {run:?}");
            let done = ledger::statements(&mut shop.sql, run.id).await.unwrap();
            assert!(done[0].done_at.is_some(), "{sql}");
        }
    }
    // The session that kept it is gone.
    let locked = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 1
                  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let locked: i64 = sqlx::query_scalar(locked)
        .fetch_one(&mut shop.sql)
        .await
        .unwrap();
    assert_eq!(locked, 0);
}

#[tokio::test]
async fn nothing_that_a_batch_sets_reaches_the_shop_or_the_ledger() {
    let mut shop = Shop::open().await;
    shop.run(
        "CREATE TABLE t (id bigint PRIMARY KEY, done boolean NOT NULL DEFAULT false,
                         n int NOT NULL DEFAULT 0);
         INSERT INTO t SELECT generate_series(1, 40);
         CREATE SCHEMA evil;
         CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE sql
             AS $$ SELECT 'epoch'::timestamptz $$;
         CREATE FUNCTION evil.no(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT false';
         CREATE OPERATOR evil.= (FUNCTION = evil.no, LEFTARG = bigint, RIGHTARG = bigint)",
    )
    .await;
    for hostile in [
        "SET search_path = ''",
        "SET search_path = evil, pg_catalog, public",
        "SET LOCAL search_path = evil, pg_catalog",
        "SET statement_timeout = '90ms'",
        "SET LOCAL statement_timeout = 0",
        "SET ROLE pg_monitor",
        "SET SESSION AUTHORIZATION pg_monitor",
        "EXECUTE format('PREPARE sqlx_s_77%s AS SELECT 1', NEW.id)",
        "EXECUTE 'LISTEN news'",
        "PERFORM pg_advisory_lock(NEW.id)",
        "EXECUTE 'CREATE TEMP TABLE IF NOT EXISTS products (id text)'",
        "SET default_transaction_read_only = on",
        "SET LOCAL session_replication_role = replica",
        "SET client_encoding = 'LATIN1'",
        "SET datestyle = 'German'",
        "SET TIME ZONE 'Pacific/Apia'",
        "SET application_name = 'evenkeel'",
    ] {
        let body = hostile.replace('\'', "''");
        shop.run(&format!(
            "UPDATE t SET done = false, n = 0; TRUNCATE evenkeel.runs CASCADE;
             CREATE OR REPLACE FUNCTION public.hostile() RETURNS trigger LANGUAGE plpgsql
                 AS 'BEGIN {body}; RETURN NEW; END';
             CREATE OR REPLACE TRIGGER hostile AFTER UPDATE ON t FOR EACH ROW
                 WHEN (NEW.done) EXECUTE FUNCTION public.hostile()"
        ))
        .await;
        let (end, run) = shop.migrate("m", &of_t()).await;
        assert_eq!(end, End::Completed, "{hostile}: {run:?}");
        assert_eq!((run.rows_seen, run.rows_changed), (40, 40), "{hostile}");
        let recent = run.finished_at.unwrap() - run.created_at;
        assert!(recent.to_std().unwrap() < PATIENCE, "{hostile}: {run:?}");
    }
}

#[tokio::test]
async fn what_a_pending_condition_sets_reaches_neither_the_shop_nor_the_ledger() {
    let mut shop = Shop::open().await;
    shop.run(
        "CREATE TABLE t (id bigint PRIMARY KEY, done boolean NOT NULL DEFAULT false,
                         n int NOT NULL DEFAULT 0);
         INSERT INTO t SELECT generate_series(1, 40);
         CREATE FUNCTION public.todo(done boolean) RETURNS boolean LANGUAGE plpgsql AS $$
             BEGIN PERFORM set_config('search_path', '', false); SET ROLE pg_monitor; RESET ROLE;
                   SET statement_timeout = '90ms'; RETURN NOT done; END $$",
    )
    .await;
    let text = migration(
        "-- table: t\n-- pending: public.todo(t.done)",
        "UPDATE t SET done = true, n = n + 1 WHERE :range",
    );
    let (end, run) = shop.migrate("m", &text).await;
    assert_eq!(end, End::Completed, "{run:?}");
    assert_eq!(run.rows_changed, 40);
}

#[tokio::test]
async fn a_batch_that_forgets_what_the_engine_has_prepared_goes_on_in_another_session() {
    let mut shop = Shop::open().await;
    shop.run(
        "CREATE TABLE t (id bigint PRIMARY KEY, done boolean NOT NULL DEFAULT false,
                         n int NOT NULL DEFAULT 0);
         INSERT INTO t SELECT generate_series(1, 40);
         CREATE FUNCTION public.forget() RETURNS trigger LANGUAGE plpgsql
             AS 'BEGIN EXECUTE ''DEALLOCATE ALL''; RETURN NEW; END';
         CREATE TRIGGER forget BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION public.forget()",
    )
    .await;
    let (end, run) = shop.migrate("m", &of_t()).await;
    assert_eq!(
        (end, run.state),
        (End::Completed, State::Completed),
        "{run:?}"
    );
    let changed: (i64, i32) = sqlx::query_as("SELECT sum(n), max(n) FROM t")
        .fetch_one(&mut shop.sql)
        .await
        .unwrap();
    assert_eq!(changed, (40, 1));
}
