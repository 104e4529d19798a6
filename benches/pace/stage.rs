//! The database of the contest.

use embedded_postgres::{Cluster, ClusterOptions};
use evenkeel::config::directories;
use evenkeel::db::schema;
use evenkeel::demo;
use evenkeel::store::sample::{self, SampleSize};
use load::Credentials;
use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions, Executor};
use tempfile::TempDir;

const DATABASE: &str = "shop";
const SIZE: SampleSize = SampleSize {
    products: 2_000,
    accounts: 20_000,
    orders: 1_000_000,
};
/// Checkpoints far apart: one of them under one contestant and not under another says nothing of
/// either.
const SETTINGS: [(&str, &str); 4] = [
    ("shared_buffers", "512MB"),
    ("max_wal_size", "16GB"),
    ("checkpoint_timeout", "1h"),
    ("autovacuum", "off"),
];

/// A sample shop on a PostgreSQL server of its own.
pub struct Stage {
    cluster: Cluster,
    conn: PgConnection,
    _directory: TempDir,
}

impl Stage {
    /// Starts the server and fills the shop.
    pub async fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut options =
            ClusterOptions::new(directory.path().join("cluster"), directories::cache());
        options.bin_dir = std::env::var_os("PG_BIN_DIR").map(Into::into);
        options.settings = SETTINGS
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
        let cluster = Cluster::start(options, |note| eprintln!("{note}"))
            .await
            .unwrap();
        cluster.create_database(DATABASE).await.unwrap();
        let mut conn = cluster.connect_options(DATABASE).connect().await.unwrap();
        schema::apply(&mut conn, schema::latest()).await.unwrap();
        eprintln!("filling {} orders", SIZE.orders);
        sample::fill(&mut conn, SIZE, &|_, _| ()).await.unwrap();
        Self {
            cluster,
            conn,
            _directory: directory,
        }
    }

    pub fn url(&self) -> String {
        self.cluster.url(DATABASE)
    }

    /// Accounts that have ordered before.
    pub async fn shoppers(&self) -> Vec<Credentials> {
        let mut conn = self
            .cluster
            .connect_options(DATABASE)
            .connect()
            .await
            .unwrap();
        demo::shoppers(&mut conn).await.unwrap()
    }

    /// Rows that `name` has changed so far.
    pub async fn rows(&mut self, name: &str) -> i64 {
        let sql = "SELECT sum(rows_changed)::bigint FROM evenkeel.runs WHERE migration = $1";
        sqlx::query_scalar(sql)
            .bind(name)
            .fetch_one(&mut self.conn)
            .await
            .unwrap()
    }

    /// Removes what the updates have left behind, which otherwise would be one contestant's burden
    /// and another's gift.
    pub async fn tidy(&mut self) {
        self.conn.execute("VACUUM (ANALYZE)").await.unwrap();
        self.conn.execute("CHECKPOINT").await.unwrap();
    }

    /// Stops the server and removes everything.
    pub async fn close(self) {
        drop(self.conn);
        self.cluster.stop().await.unwrap();
    }
}
