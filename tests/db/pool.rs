//! The guard of the shared pool: what one borrower leaves behind never reaches the next.

use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use evenkeel::store::StoreError;
use pool::gate::{Admission, Gate};
use pool::settings::{Limits, Share};
use pool::{Class, Pool, PoolError};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Executor};
use tokio::time::timeout;

use crate::support::server;

const CLASS: Class = Class::Account;
/// More than anything here takes; a bound for what would hang.
const PATIENCE: Duration = Duration::from_secs(60);

struct Fixture {
    pool: Pool,
    /// A connection beside the pool.
    observer: PgConnection,
}

fn pool_of(database: &PgConnectOptions, size: usize, shares: [Share; 4], hold: Duration) -> Pool {
    let limits = Limits {
        acquire: PATIENCE,
        hold: Some(hold),
    };
    let gate = Gate::new(Admission::new(size, shares));
    Pool::new(database.clone(), size, PATIENCE, gate, [limits; 4])
}

impl Fixture {
    /// A pool of a single connection.
    async fn new() -> Self {
        Self::with_hold(PATIENCE).await
    }

    async fn with_hold(hold: Duration) -> Self {
        let database = server::empty_database().await;
        let pool = pool_of(&database, 1, [Share { min: 0, max: 1 }; 4], hold);
        let observer = database.connect().await.unwrap();
        Self { pool, observer }
    }

    /// The backend of the pool's connection.
    async fn backend(&self) -> Result<i32, StoreError> {
        let pid = "SELECT pg_backend_pid()";
        self.pool
            .run(CLASS, async |conn| {
                Ok(sqlx::query_scalar(pid).fetch_one(conn).await?)
            })
            .await
    }

    async fn observe<T>(&mut self, sql: &'static str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        let observed = sqlx::query_scalar(sql).fetch_one(&mut self.observer).await;
        observed.unwrap()
    }

    /// How many other sessions of this database do anything or are in a transaction.
    async fn busy_sessions(&mut self) -> i64 {
        self.observe(
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'",
        )
        .await
    }

    /// Waits until nothing is left of earlier work, although nobody has borrowed since.
    async fn settle(&mut self) {
        let settled = async {
            while self.busy_sessions().await > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, settled).await.expect("earlier work ends");
    }

    /// Runs `work`, which does not end, and drops it after a moment.
    async fn abandon(&self, work: impl AsyncFnOnce(&mut PgConnection)) {
        let run = self.pool.run(CLASS, async |conn| {
            work(conn).await;
            pending::<Result<(), StoreError>>().await
        });
        assert!(timeout(Duration::from_millis(100), run).await.is_err());
    }
}

async fn insert_category(conn: &mut PgConnection) {
    sqlx::query("INSERT INTO products (handle, title) VALUES ('a', 'A')")
        .execute(conn)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_dropped_transaction_is_rolled_back_before_the_connection_is_lent_again() {
    let mut fixture = Fixture::new().await;
    let backend = fixture.backend().await.unwrap();

    fixture
        .abandon(async |conn| {
            let mut tx = conn.begin().await.unwrap();
            insert_category(&mut tx).await;
            pending().await
        })
        .await;

    fixture.settle().await;
    assert_eq!(fixture.backend().await.unwrap(), backend, "it is kept");
    let rows: i64 = fixture.observe("SELECT count(*) FROM products").await;
    assert_eq!(rows, 0);
}

#[tokio::test]
async fn a_dropped_query_is_cancelled_on_the_server_and_its_connection_kept() {
    let mut fixture = Fixture::new().await;
    let backend = fixture.backend().await.unwrap();

    fixture
        .abandon(async |conn| {
            let sleep = sqlx::query("SELECT pg_sleep(600)").execute(conn);
            sleep.await.unwrap();
        })
        .await;

    fixture.settle().await;
    assert_eq!(fixture.backend().await.unwrap(), backend);
}

#[tokio::test]
async fn work_that_outstays_its_limit_is_cancelled() {
    let mut fixture = Fixture::with_hold(Duration::from_millis(200)).await;
    let backend = fixture.backend().await.unwrap();

    let refused: Result<(), StoreError> = fixture
        .pool
        .run(CLASS, async |conn| {
            sqlx::query("SELECT pg_sleep(600)").execute(conn).await?;
            Ok(())
        })
        .await;

    let timed_out = matches!(refused, Err(StoreError::Pool(PoolError::TimedOut { .. })));
    assert!(timed_out, "{refused:?}");
    fixture.settle().await;
    assert_eq!(fixture.backend().await.unwrap(), backend);
}

/// sqlx does not know of a transaction whose BEGIN was cancelled (launchbadge/sqlx#4393).
#[tokio::test]
async fn a_transaction_whose_begin_was_dropped_does_not_swallow_the_next_borrowers_rows() {
    let mut fixture = Fixture::new().await;
    fixture.backend().await.unwrap();

    fixture
        .abandon(async |conn| {
            // Until the answer to one of them takes longer than asking for it.
            while futures_util::poll!(pin!(conn.begin())).is_ready() {}
            assert!(!conn.is_in_transaction(), "sqlx does not know");
        })
        .await;
    let inserted: Result<(), StoreError> = fixture
        .pool
        .run(CLASS, async |conn| {
            insert_category(conn).await;
            Ok(())
        })
        .await;

    inserted.unwrap();
    let rows: i64 = fixture.observe("SELECT count(*) FROM products").await;
    assert_eq!(rows, 1, "committed");
    assert_eq!(fixture.busy_sessions().await, 0);
}

#[tokio::test]
async fn a_failed_transaction_does_not_fail_the_next_borrower() {
    let mut fixture = Fixture::new().await;
    let backend = fixture.backend().await.unwrap();

    let failed: Result<(), StoreError> = fixture
        .pool
        .run(CLASS, async |conn| {
            let mut tx = conn.begin().await?;
            sqlx::query("SELECT 1 / 0").execute(&mut *tx).await?;
            Ok(tx.commit().await?)
        })
        .await;

    assert!(matches!(failed, Err(StoreError::Sql(_))), "{failed:?}");
    fixture.settle().await;
    assert_eq!(fixture.backend().await.unwrap(), backend);
}

#[tokio::test]
async fn a_backend_that_was_killed_at_work_is_replaced() {
    let fixture = Fixture::new().await;
    let backend = fixture.backend().await.unwrap();

    let killed: Result<(), StoreError> = fixture
        .pool
        .run(CLASS, async |conn| {
            let suicide = sqlx::query("SELECT pg_terminate_backend(pg_backend_pid())");
            suicide.execute(conn).await?;
            Ok(())
        })
        .await;

    killed.unwrap_err();
    assert_ne!(fixture.backend().await.unwrap(), backend);
}

#[tokio::test]
async fn a_backend_that_was_killed_while_idle_is_not_lent_again() {
    let mut fixture = Fixture::new().await;
    let backend = fixture.backend().await.unwrap();
    let killed: bool = fixture
        .observe(
            "SELECT bool_and(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await;
    assert!(killed);
    // From then on a connection is asked whether it lives before it is lent.
    tokio::time::sleep(Duration::from_millis(1100)).await;

    assert_ne!(fixture.backend().await.unwrap(), backend);
}

#[tokio::test]
async fn a_pool_full_of_background_work_still_serves_shoppers() {
    let database = server::empty_database().await;
    let shopper = Share { min: 1, max: 4 };
    // Forced open: background may take all that is not reserved.
    let background = Share { min: 0, max: 8 };
    let shares = [shopper, shopper, shopper, background];
    let pool = pool_of(&database, 8, shares, PATIENCE);
    let mut sleepers = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let pool = pool.clone();
        sleepers.spawn(async move {
            let sleep = sqlx::query("SELECT pg_sleep(600)");
            let work =
                async |conn: &mut PgConnection| sleep.execute(conn).await.map_err(StoreError::from);
            pool.run(Class::Background, work).await
        });
    }
    while pool.gates()[Class::Background.index()].in_use < 5 {
        tokio::task::yield_now().await;
    }

    for class in Class::SHOPPERS.into_iter().cycle().take(60) {
        let served: Result<i32, StoreError> = timeout(
            Duration::from_secs(2),
            pool.run(class, async |conn| {
                Ok(sqlx::query_scalar("SELECT 1").fetch_one(conn).await?)
            }),
        )
        .await
        .expect("a shopper does not wait for background work");
        served.unwrap();
    }
    assert_eq!(pool.gates()[Class::Background.index()].in_use, 5);

    // Everyone gives up; the server gets rid of their work, the pool keeps its connections.
    sleepers.shutdown().await;
    timeout(PATIENCE, pool.close())
        .await
        .expect("all connections come back");
}

#[tokio::test]
async fn nothing_is_rolled_back_where_no_transaction_is_open() {
    let own = server::OwnServer::start("rollbacks").await;
    let mut observer = own.database.connect().await.unwrap();
    // As servers of others are set up.
    let warn = "ALTER DATABASE shop SET log_min_messages = warning";
    observer.execute(warn).await.unwrap();
    let pool = pool_of(&own.database, 1, [Share { min: 0, max: 1 }; 4], PATIENCE);
    for sql in [
        "SELECT 1",
        "SELECT 1 / 0",
        "BEGIN",
        "BEGIN; SELECT 1 / 0",
        "BEGIN; CREATE TABLE left_open ()",
    ] {
        let failed: Result<(), StoreError> = pool
            .run(CLASS, async |conn| {
                let _ = conn.execute(sql).await;
                // As a refusal by the domain does.
                Err(sqlx::Error::RowNotFound.into())
            })
            .await;
        assert!(failed.is_err());
        // A transaction of the driver's that is dropped half-way.
        let failed: Result<(), StoreError> = pool
            .run(CLASS, async |conn| {
                let mut tx = conn.begin().await?;
                tx.execute("SELECT 1 / 0").await?;
                Ok(())
            })
            .await;
        assert!(failed.is_err());
        let author = pool.author();
        author
            .run(async |conn| Ok::<_, StoreError>(conn.execute("SELECT 1").await.map(drop)?))
            .await
            .unwrap();
        let open: bool = pool
            .run(CLASS, async |conn| {
                let is_left = "SELECT to_regclass('left_open') IS NOT NULL";
                Ok::<_, StoreError>(sqlx::query_scalar(is_left).fetch_one(conn).await?)
            })
            .await
            .unwrap();
        assert!(!open, "{sql}");
    }
    let log = server::directory("rollbacks").join("postgres.log");
    let log = std::fs::read_to_string(log).unwrap();
    // The errors that were provoked show that warnings would be here.
    assert!(log.contains("division by zero"), "{log}");
    assert!(!log.contains("no transaction in progress"), "{log}");
    drop((pool, observer));
    own.stop().await;
}
