//! No table only grows: what has been kept for long enough is deleted, and nothing else.

use chrono::{DateTime, TimeDelta, Utc};
use evenkeel::migration::physical::Share;
use evenkeel::retention::sweep;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor};
use std::time::Duration;

use crate::support::TestApp;
use crate::support::app::{fresh_key, order};

/// Tables whose rows are what the shop is there for: they stay until somebody removes them.
const KEPT: [&str; 6] = [
    "accounts",
    "images",
    "order_lines",
    "orders",
    "products",
    "variants",
];
/// Tables that bound themselves, and how.
const BOUNDED: [(&str, &str); 5] = [
    ("evenkeel.order_marks", "27 weeks, by whoever writes one"),
    ("evenkeel.readings", "a row per process, until it is gone"),
    ("evenkeel.schema_steps", "a row per file"),
    ("evenkeel.watch_history", "27 weeks, by the watch"),
    ("evenkeel.watch_lease", "one row"),
];
/// Tables of which old rows are deleted.
const SWEPT: [&str; 13] = [
    "evenkeel.batches",
    "evenkeel.certificates",
    "evenkeel.changes",
    "evenkeel.events",
    "evenkeel.incident_events",
    "evenkeel.incidents",
    "evenkeel.proofs",
    "evenkeel.quarantine",
    "evenkeel.runs",
    "evenkeel.steps",
    "evenkeel.throttles",
    "idempotency_keys",
    "log_in_attempts",
];
const SESSIONS: &str = "sessions";
const DEVICES: &str = "devices";

/// Without pauses.
const AT_ONCE: Share = Share {
    duty: 1.0,
    target: Duration::from_millis(50),
};

fn after(days: i64) -> DateTime<Utc> {
    Utc::now() + TimeDelta::days(days)
}

async fn count(conn: &mut PgConnection, table: &str) -> i64 {
    let count = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
    sqlx::query_scalar(count).fetch_one(conn).await.unwrap()
}

/// `rows` of every kind that are over by now.
async fn fill(conn: &mut PgConnection, rows: i64) {
    let runs = format!(
        "INSERT INTO evenkeel.runs (migration, definition, state, started_by, finished_at)
         SELECT 'often', '', 'completed', 'test', now() FROM generate_series(1, {rows})"
    );
    conn.execute(AssertSqlSafe(runs)).await.unwrap();
    for (table, columns, values) in [
        (
            "evenkeel.batches",
            "run_id, number, phase, upper_key, rows_seen, rows_changed, lease_token",
            "id, 1, 'main', '{1}', 1, 1, 1",
        ),
        (
            "evenkeel.events",
            "run_id, actor, action",
            "id, 'test', 'test'",
        ),
        ("evenkeel.events", "actor, action", "'test', 'test'"),
        (
            "evenkeel.quarantine",
            "run_id, upper_key, error, resolved_at",
            "id, '{1}', 'test', now()",
        ),
        (
            "evenkeel.steps",
            "run_id, number, step, statement",
            "id, 1, 'expand', ''",
        ),
        (
            "evenkeel.certificates",
            "run_id, migration, direction, definition_sha256, started_by, rows, rows_changed, document",
            "id, 'often', 'forward', '', 'test', 1, 1, '{}'",
        ),
        (
            "evenkeel.proofs",
            "run_id, actor, rows, pending, document",
            "id, 'test', 1, 0, '{}'",
        ),
        (
            "evenkeel.throttles",
            "duty, actor, reason, until",
            "0.5, 'test', 'test', now()",
        ),
        (
            "evenkeel.changes",
            "at, kind, summary, source",
            "now(), 'deploy', 'test', 'test'",
        ),
        (
            "evenkeel.incidents",
            "id, opened_at, title, severity, stage, key",
            "md5(id::text)::uuid, now(), 'test', 'critical', 'resolved', 'test'",
        ),
        (
            "evenkeel.incident_events",
            "id, incident, at, by, what, body",
            "gen_random_uuid(), md5(id::text)::uuid, now(), 'test', 'note', '{}'",
        ),
        (
            "sessions",
            "account_id, token_hash, expires_at",
            "(SELECT min(id) FROM accounts), decode(md5(id::text), 'hex'), now()",
        ),
        (
            "devices",
            "account_id, token_hash",
            "(SELECT min(id) FROM accounts), decode(md5(id::text), 'hex')",
        ),
        (
            "log_in_attempts",
            "email_hash, failures, next_at, spent_until",
            "decode(md5(id::text), 'hex'), 1, now(), now()",
        ),
        (
            "idempotency_keys",
            "account_id, key, request_hash, order_id",
            "(SELECT min(id) FROM accounts), id::text, '', 1",
        ),
    ] {
        let filled = format!("INSERT INTO {table} ({columns}) SELECT {values} FROM evenkeel.runs");
        conn.execute(AssertSqlSafe(filled)).await.unwrap();
    }
}

#[tokio::test]
async fn every_table_is_the_shops_own_or_has_a_bound() {
    let shop = TestApp::start().await;
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT CASE WHEN n.nspname = 'public' THEN '' ELSE n.nspname || '.' END || c.relname
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE c.relkind IN ('r', 'p') AND n.nspname IN ('public', 'evenkeel')
          ORDER BY 1",
    )
    .fetch_all(&mut shop.sql().await)
    .await
    .unwrap();
    let bounded = BOUNDED.iter().map(|(table, _)| *table);
    let mut known: Vec<&str> = KEPT.into_iter().chain(bounded).chain(SWEPT).collect();
    known.extend([SESSIONS, DEVICES]);
    known.sort_unstable();
    let mut tables: Vec<&str> = tables.iter().map(String::as_str).collect();
    tables.sort_unstable();
    assert_eq!(tables, known, "a table without a bound");
}

#[tokio::test]
async fn what_is_younger_than_its_life_stays_and_what_is_older_goes() {
    let shop = TestApp::start().await;
    shop.shopper("ann@example.org").await;
    let mut sql = shop.sql().await;
    // More than a batch, so that several are needed.
    fill(&mut sql, 1_200).await;
    let mut before = Vec::new();
    for table in SWEPT.into_iter().chain([SESSIONS, DEVICES]) {
        before.push((table, count(&mut sql, table).await));
    }
    assert!(before.iter().all(|(_, rows)| *rows >= 1_200), "{before:?}");
    let settings = &shop.app.settings.retention;

    sweep(&shop.app.pool, settings, Utc::now(), AT_ONCE).await;
    for (table, rows) in &before {
        assert_eq!(count(&mut sql, table).await, *rows, "{table}: too early");
    }
    // Two weeks: repeated orders and expired sessions; records are kept for longer.
    sweep(&shop.app.pool, settings, after(14), AT_ONCE).await;
    assert_eq!(count(&mut sql, "idempotency_keys").await, 0);
    assert_eq!(count(&mut sql, "log_in_attempts").await, 0);
    let alive = "SELECT count(*) FROM sessions WHERE expires_at > now()";
    let alive: i64 = sqlx::query_scalar(alive).fetch_one(&mut sql).await.unwrap();
    assert_eq!((count(&mut sql, SESSIONS).await, alive), (1, 1));
    for table in [
        "evenkeel.batches",
        "evenkeel.incidents",
        "evenkeel.throttles",
    ] {
        assert_eq!(count(&mut sql, table).await, 1_200, "{table}: too early");
    }
    sweep(&shop.app.pool, settings, after(100), AT_ONCE).await;
    for table in ["evenkeel.batches", "evenkeel.throttles"] {
        assert_eq!(count(&mut sql, table).await, 0, "{table}");
    }
    // For ever: what the newest completed run of a migration has to say.
    sweep(&shop.app.pool, settings, after(3_660), AT_ONCE).await;
    for (table, _) in before {
        let left = count(&mut sql, table).await;
        let newest = [
            "evenkeel.certificates",
            "evenkeel.events",
            "evenkeel.proofs",
            "evenkeel.quarantine",
            "evenkeel.runs",
            "evenkeel.steps",
        ];
        assert_eq!(left, i64::from(newest.contains(&table)), "{table}");
    }
}

#[tokio::test]
async fn what_a_change_that_is_not_complete_has_done_is_kept_for_its_certificate() {
    let shop = TestApp::start().await;
    let mut sql = shop.sql().await;
    sql.execute(
        "INSERT INTO evenkeel.runs (migration, definition, state, started_by, finished_at) VALUES
             ('half', '', 'failed', 'test', now()), ('half', '', 'cancelled', 'test', now());
         INSERT INTO evenkeel.batches
                (run_id, number, phase, upper_key, rows_seen, rows_changed, lease_token)
         SELECT id, 1, 'main', '{1}', 1, 1, 1 FROM evenkeel.runs",
    )
    .await
    .unwrap();
    let settings = &shop.app.settings.retention;
    for days in [100, 3_660] {
        sweep(&shop.app.pool, settings, after(days), AT_ONCE).await;
        assert_eq!(count(&mut sql, "evenkeel.batches").await, 2);
    }
}

#[tokio::test]
async fn how_the_rows_stand_is_known_after_an_undo_that_was_cancelled() {
    let shop = TestApp::start().await;
    let mut sql = shop.sql().await;
    sql.execute(
        "INSERT INTO evenkeel.runs (migration, definition, state, started_by, finished_at) VALUES
             ('m', '', 'failed', 'test', now()), ('m', '', 'completed', 'test', now()),
             ('m', '', 'cancelled', 'test', now())",
    )
    .await
    .unwrap();
    let settings = &shop.app.settings.retention;
    sweep(&shop.app.pool, settings, after(3_660), AT_ONCE).await;
    let states: Vec<String> = sqlx::query_scalar("SELECT state FROM evenkeel.runs ORDER BY id")
        .fetch_all(&mut sql)
        .await
        .unwrap();
    assert_eq!(states, ["completed", "cancelled"]);
}

#[tokio::test]
async fn what_is_kept_for_ever_is_no_fault() {
    let shop = TestApp::start().await;
    shop.shopper("ann@example.org").await;
    let mut sql = shop.sql().await;
    fill(&mut sql, 3).await;
    let mut settings = shop.app.settings.retention.clone();
    settings.idempotency_keys = Duration::MAX;
    sweep(&shop.app.pool, &settings, after(30), AT_ONCE).await;
    assert_eq!(count(&mut sql, "idempotency_keys").await, 3);
    assert_eq!(count(&mut sql, SESSIONS).await, 0);
}

#[tokio::test]
async fn an_order_that_is_repeated_within_a_day_is_recognised_after_a_sweep() {
    let shop = TestApp::start().await;
    shop.product("chair", 4900, 10).await;
    let ann = shop.shopper("ann@example.org").await;
    let (key, wanted) = (fresh_key(), order(&[("chair", 1)]));
    let placed = shop.place(&ann, &key, &wanted).await.expect(201).json();
    let settings = &shop.app.settings.retention;
    sweep(&shop.app.pool, settings, after(1), AT_ONCE).await;
    let again = shop.place(&ann, &key, &wanted).await.expect(201);
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(again.json()["id"], placed["id"]);
}

#[tokio::test]
async fn rows_that_somebody_holds_are_left_and_hold_nobody_up() {
    let shop = TestApp::start().await;
    shop.shopper("ann@example.org").await;
    let mut sql = shop.sql().await;
    fill(&mut sql, 10).await;
    let mut holder = shop.sql().await;
    holder
        .execute("BEGIN; SELECT FROM idempotency_keys WHERE key = '3' FOR UPDATE")
        .await
        .unwrap();
    let settings = &shop.app.settings.retention;
    sweep(&shop.app.pool, settings, after(30), AT_ONCE).await;
    assert_eq!(count(&mut sql, "idempotency_keys").await, 1);
}

#[tokio::test]
async fn a_pass_is_made_at_the_pace_that_shoppers_allow() {
    let shop = TestApp::start().await;
    shop.shopper("ann@example.org").await;
    let mut sql = shop.sql().await;
    fill(&mut sql, 1_200).await;
    let sweeper = shop.app.sweeper();
    sweeper.build_indexes().await;
    let built = "SELECT count(*) FROM pg_index JOIN pg_class ON oid = indexrelid
                  WHERE indisvalid AND relname ~ '_at_idx$|_until_idx$|_without_run_idx$'
                    AND relname !~ '^(incident|changes)'";
    let built: i64 = sqlx::query_scalar(built).fetch_one(&mut sql).await.unwrap();
    assert_eq!(built, 9);
    // They are there: nothing is left to do.
    sweeper.build_indexes().await;
    let pass = sweeper.pass(after(30));
    tokio::time::timeout(Duration::from_secs(60), pass)
        .await
        .expect("nobody is in the shop who could hold it up");
    assert_eq!(count(&mut sql, "idempotency_keys").await, 0);
}
