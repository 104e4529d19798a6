//! SQL that an author wrote keeps what it sets to itself.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use evenkeel::store::StoreError;
use parking_lot::Mutex;
use pool::gate::{Admission, Gate};
use pool::settings::{Limits, Share};
use pool::{Author, Class, Pool, PoolError};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Row};
use tokio::time::timeout;

use crate::support::{eventually, server};

/// More than anything here takes; a bound for what would hang.
const PATIENCE: Duration = Duration::from_secs(120);
const PID: &str = "SELECT pg_backend_pid()";

/// What SQL can leave behind in its session.
pub const LEAVINGS: [&str; 21] = [
    "SELECT set_config('search_path', '', false)",
    "SET search_path = pg_catalog",
    "SET statement_timeout = '1ms'",
    "SET lock_timeout = 1",
    "SET ROLE pg_monitor",
    "SET SESSION AUTHORIZATION guest",
    "SET default_transaction_read_only = on",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE",
    "SET session_replication_role = replica",
    "SET client_encoding = 'LATIN1'",
    "SET datestyle = 'German'",
    "SET TIME ZONE 'Pacific/Apia'",
    "SET row_security = off",
    "SET evenkeel.own = 'x'",
    "LISTEN news",
    "SELECT pg_advisory_lock(42)",
    "CREATE TEMP TABLE products (id text)",
    "CREATE TEMP SEQUENCE products_id_seq",
    "DECLARE kept CURSOR WITH HOLD FOR SELECT 1",
    "DO $$ BEGIN PERFORM set_config('search_path', '', false); SET ROLE pg_monitor; \
     EXECUTE 'LISTEN news'; PERFORM pg_advisory_lock(7); END $$",
    "BEGIN; SET LOCAL search_path = ''; SELECT pg_advisory_lock(9)",
];

/// All that [`LEAVINGS`] could show in, as one text.
const STATE: &str = "SELECT concat_ws(' | ', session_user, current_user, current_setting('search_path'),
        current_setting('statement_timeout'), current_setting('lock_timeout'),
        current_setting('default_transaction_read_only'), current_setting('default_transaction_isolation'),
        current_setting('session_replication_role'), current_setting('client_encoding'),
        current_setting('datestyle'), current_setting('timezone'), current_setting('row_security'),
        nullif(current_setting('evenkeel.own', true), ''), (SELECT string_agg(c, ',') FROM pg_listening_channels() c),
        (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
        (SELECT count(*) FROM pg_cursors WHERE is_holdable),
        (SELECT count(*) FROM pg_class WHERE relpersistence = 't'
            AND relnamespace = pg_my_temp_schema()))";

fn pool_of(database: &PgConnectOptions, size: usize, background: usize) -> Pool {
    let limits = Limits {
        acquire: PATIENCE,
        hold: Some(PATIENCE),
    };
    let mut shares = [Share { min: 0, max: size }; 4];
    shares[Class::Background.index()].max = background;
    let gate = Gate::new(Admission::new(size, shares));
    let options = database.clone().application_name("shop");
    Pool::new(options, size, PATIENCE, gate, [limits; 4])
}

async fn fetch<T>(conn: &mut PgConnection, sql: &str) -> Result<T, StoreError>
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    let query = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()));
    Ok(query.fetch_one(conn).await?)
}

async fn author_fetches<T>(author: &Author, sql: &str) -> T
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    author
        .run(async |conn| fetch(conn, sql).await)
        .await
        .unwrap()
}

async fn shopper_fetches<T>(pool: &Pool, sql: &str) -> T
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    let found = pool.run(Class::Browse, async |conn| fetch(conn, sql).await);
    found.await.unwrap()
}

async fn leave(conn: &mut PgConnection, sql: &str) -> Result<i32, StoreError> {
    let pid = conn.fetch_one(PID).await?.try_get(0)?;
    conn.execute(AssertSqlSafe(sql.to_owned())).await?;
    Ok(pid)
}

#[tokio::test]
async fn whatever_a_session_can_keep_is_gone_with_the_use_that_has_set_it() {
    let database = server::empty_database().await;
    let mut admin = database.connect().await.unwrap();
    let guest = format!("guest_{}", uuid::Uuid::new_v4().simple());
    let create = format!("CREATE ROLE {guest}");
    admin.execute(AssertSqlSafe(create)).await.unwrap();
    let pool = pool_of(&database, 4, 2);
    let author = pool.author();
    let clean: String = author_fetches(&author, STATE).await;
    assert_eq!(shopper_fetches::<String>(&pool, STATE).await, clean);
    let backend: i32 = author_fetches(&author, PID).await;

    for sql in LEAVINGS {
        let sql = sql.replace("guest", &guest);
        let left = author.run(async |conn| leave(conn, &sql).await).await;
        assert_eq!(left.unwrap(), backend, "one connection does for all: {sql}");
        assert_eq!(
            author_fetches::<String>(&author, STATE).await,
            clean,
            "{sql}"
        );
        assert_eq!(author_fetches::<i32>(&author, PID).await, backend, "{sql}");
        assert_eq!(
            shopper_fetches::<String>(&pool, STATE).await,
            clean,
            "{sql}"
        );
        assert_ne!(shopper_fetches::<i32>(&pool, PID).await, backend, "{sql}");
    }
}

#[tokio::test]
async fn what_sql_has_prepared_is_in_no_later_use() {
    let database = server::empty_database().await;
    let pool = pool_of(&database, 2, 1);
    let author = pool.author();
    for _ in 0..3 {
        let prepare = "PREPARE sqlx_s_99 AS SELECT 'not ours'";
        author
            .run(async |conn| leave(conn, prepare).await)
            .await
            .unwrap();
        assert_eq!(
            author_fetches::<String>(&author, "SELECT 'ours'").await,
            "ours"
        );
    }
    let prepared = "SELECT count(*) FROM pg_prepared_statements WHERE from_sql";
    assert_eq!(author_fetches::<i64>(&author, prepared).await, 0);
}

#[tokio::test]
async fn a_session_of_its_own_is_closed_after_its_use() {
    let database = server::empty_database().await;
    let mut observer = database.connect().await.unwrap();
    let pool = pool_of(&database, 2, 2);
    for end in ["SELECT 1", "SELECT 1 / 0"] {
        let pid = Mutex::new(0);
        let alone: Result<(), StoreError> = pool
            .run_alone(async |conn| {
                *pid.lock() = leave(conn, "SELECT pg_advisory_lock(42)").await?;
                leave(conn, end).await.map(drop)
            })
            .await;
        assert_eq!(alone.is_ok(), !end.contains('/'));
        let alive = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE pid = {}",
            pid.lock()
        );
        eventually("the session ends", async || {
            let alive: i64 = fetch(&mut observer, &alive).await.unwrap();
            (alive == 0).then_some(())
        })
        .await;
    }
    let free: bool = shopper_fetches(&pool, "SELECT pg_try_advisory_lock(42)").await;
    assert!(free);
}

#[tokio::test]
async fn an_abandoned_use_ends_on_the_server_and_its_session_is_nobodys_any_more() {
    let database = server::empty_database().await;
    let mut observer = database.connect().await.unwrap();
    let pool = pool_of(&database, 1, 1);
    let author = pool.author();
    let pid = Mutex::new(0);
    let abandoned = author.run(async |conn| {
        *pid.lock() = leave(conn, "SET search_path = ''").await?;
        leave(conn, "SELECT pg_catalog.pg_sleep(600)").await
    });
    assert!(
        timeout(Duration::from_millis(300), abandoned)
            .await
            .is_err()
    );

    // The pool's only permit is free again once the statement has ended.
    let shoppers: i32 = shopper_fetches(&pool, PID).await;
    let pid = *pid.lock();
    assert_ne!(shoppers, pid);
    assert_ne!(author_fetches::<i32>(&author, PID).await, pid);
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'
                  AND datname = current_database()";
    assert_eq!(fetch::<i64>(&mut observer, asleep).await.unwrap(), 0);
}

#[tokio::test]
async fn a_use_that_failed_or_fell_silent_is_not_built_upon() {
    let database = server::empty_database().await;
    let pool = pool_of(&database, 2, 1);
    let author = pool.author();
    let before: i32 = author_fetches(&author, PID).await;
    let failed = author
        .run(async |conn| leave(conn, "SELECT 1 / 0").await)
        .await;
    failed.unwrap_err();
    let after: i32 = author_fetches(&author, PID).await;
    assert_ne!(after, before);
    // Killed while idle: found out before it is lent.
    let kill = format!("SELECT pg_terminate_backend({after}, 5000)");
    assert!(shopper_fetches::<bool>(&pool, &kill).await);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_ne!(author_fetches::<i32>(&author, PID).await, after);
}

#[tokio::test]
async fn idle_sessions_of_authors_give_way_to_shoppers_at_once() {
    const SIZE: usize = 6;
    let database = server::empty_database().await;
    let pool = pool_of(&database, SIZE, SIZE);
    let authors: Vec<_> = (0..SIZE).map(|_| pool.author()).collect();
    let mut tagged = HashSet::new();
    for author in &authors {
        tagged.insert(author_fetches::<i32>(author, PID).await);
    }
    assert_eq!(
        (tagged.len(), pool.open()),
        (SIZE, SIZE),
        "all slots hold one"
    );

    let mut shoppers = tokio::task::JoinSet::new();
    for _ in 0..SIZE {
        let pool = pool.clone();
        let sleep = "SELECT pg_backend_pid() FROM pg_sleep(0.2)";
        shoppers.spawn(async move { shopper_fetches::<i32>(&pool, sleep).await });
    }
    let served = timeout(PATIENCE / 2, shoppers.join_all()).await;
    let served: HashSet<_> = served
        .expect("no shopper waits for an author")
        .into_iter()
        .collect();
    assert_eq!(served.len(), SIZE);
    assert!(served.is_disjoint(&tagged));
    assert!(pool.open() <= SIZE);
}

#[tokio::test]
async fn the_sessions_of_an_author_end_with_it() {
    let database = server::empty_database().await;
    let pool = pool_of(&database, 3, 3);
    let author = pool.author();
    author_fetches::<i32>(&author, PID).await;
    assert_eq!(pool.open(), 1);
    drop(author);
    assert_eq!(pool.open(), 0);
    pool.close().await;
    let refused: Result<(), StoreError> = pool.author().run(async |_| Ok(())).await;
    let closed = matches!(refused, Err(StoreError::Pool(PoolError::Closed)));
    assert!(closed, "{refused:?}");
}

#[tokio::test]
async fn an_author_gets_no_session_once_the_pool_is_closed() {
    let database = server::empty_database().await;
    let pool = pool_of(&database, 3, 3);
    let author = pool.author();
    let closing = async |_: &mut _| {
        pool.close().await;
        Ok::<_, StoreError>(())
    };
    author.run(closing).await.unwrap();
    assert_eq!(pool.open(), 0);
    let refused: Result<(), StoreError> = author.run(async |_| Ok(())).await;
    let closed = matches!(refused, Err(StoreError::Pool(PoolError::Closed)));
    assert!(closed, "{refused:?}");
}

/// Shoppers, authors and schema steps at once, some of them abandoned, with more of everybody than
/// there are connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_shopper_gets_a_session_of_an_authors_and_no_more_are_open_than_the_pool_has() {
    const SIZE: usize = 5;
    let database = server::empty_database().await;
    let mut observer = database.connect().await.unwrap();
    let pool = pool_of(&database, SIZE, 3);
    let seen_by_authors = Arc::new(Mutex::new(HashSet::new()));
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..6_u64 {
        let (pool, seen, stop) = (pool.clone(), seen_by_authors.clone(), stop.clone());
        tasks.spawn(async move {
            let mut author = pool.author();
            for turn in number.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let sql = LEAVINGS[turn as usize % 5];
                let work = async |conn: &mut PgConnection| {
                    let pid: i32 = conn.fetch_one(PID).await?.try_get(0)?;
                    seen.lock().insert(pid);
                    leave(conn, sql).await
                };
                let life = Duration::from_micros(turn * 7919 % 6000);
                // Some are dropped half-way, some authors go for good.
                let _ = match turn % 3 {
                    0 => timeout(life, author.run(work)).await,
                    1 => Ok(author.run(work).await),
                    _ => Ok(pool.run_alone(work).await),
                };
                if turn % 11 == 0 {
                    author = pool.author();
                }
            }
        });
    }
    for _ in 0..8 {
        let (pool, seen, stop) = (pool.clone(), seen_by_authors.clone(), stop.clone());
        tasks.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let state = "SELECT pg_backend_pid() FROM pg_sleep(0.001)
                              WHERE current_setting('search_path') LIKE '%public%'";
                let pid: i32 = shopper_fetches(&pool, state).await;
                assert!(
                    !seen.lock().contains(&pid),
                    "{pid} has seen an author's SQL"
                );
            }
        });
    }
    for _ in 0..150 {
        assert!(pool.open() <= SIZE);
        // A session that was closed a moment ago may still be on its way out.
        let live = "SELECT count(*) FROM pg_stat_activity
                     WHERE datname = current_database() AND application_name = 'shop'
                       AND (state <> 'idle' OR state_change < now() - interval '1 s')";
        let live: i64 = fetch(&mut observer, live).await.unwrap();
        // Beside the pool there is one that cancels.
        assert!(live <= SIZE as i64 + 1, "{live}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.store(true, Ordering::Relaxed);
    for done in tasks.join_all().await {
        let () = done;
    }
    assert!(!seen_by_authors.lock().is_empty());
    timeout(PATIENCE, pool.close())
        .await
        .expect("all come back");
    assert_eq!(pool.open(), 0);
}
