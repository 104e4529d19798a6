//! The database that is measured, and pgbench on it.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use embedded_postgres::{Cluster, ClusterOptions};
use evenkeel::config::directories;
use evenkeel::db::schema;
use evenkeel::store::catalog::DETAIL;
use evenkeel::store::orders::PLACE;
use evenkeel::store::sample::{self, SampleSize};
use evenkeel::store::sessions::{self, Token};
use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions, Executor};
use tempfile::TempDir;

use super::client::THREADS;

const DATABASE: &str = "shop";
/// Products of the sample shop.
pub const PRODUCTS: u32 = 2_000;
/// Their variants.
pub const VARIANTS: u32 = 3 * PRODUCTS;
/// The token hash of pgbench's sessions.
const HASH: &str = "\\x00";

/// A sample shop on a PostgreSQL server of its own.
pub struct Shop {
    cluster: Cluster,
    pgbench: PathBuf,
    directory: TempDir,
    /// A session per client.
    pub tokens: Vec<String>,
}

impl Shop {
    /// Starts the server and fills the shop.
    pub async fn open(clients: usize) -> Result<Self, String> {
        let directory = tempfile::tempdir().unwrap();
        let mut options =
            ClusterOptions::new(directory.path().join("cluster"), directories::cache());
        options.bin_dir = std::env::var_os("PG_BIN_DIR").map(PathBuf::from);
        for (name, value) in [("shared_buffers", "256MB"), ("max_wal_size", "4GB")] {
            options.settings.push((name.to_owned(), value.to_owned()));
        }
        let cluster = Cluster::start(options, |note| eprintln!("{note}")).await;
        let cluster = cluster.map_err(|err| err.to_string())?;
        let pgbench = cluster.bin_dir().join("pgbench");
        if !pgbench.is_file() {
            return Err(format!(
                "there is no pgbench in {}: the benchmark needs an installed PostgreSQL (on Debian \
                 the package `postgresql`), or PG_BIN_DIR that names the directory of one. The \
                 packages that Evenkeel fetches by itself do not have it",
                cluster.bin_dir().display()
            ));
        }
        cluster.create_database(DATABASE).await.unwrap();
        let mut conn = cluster.connect_options(DATABASE).connect().await.unwrap();
        let tokens = fill(&mut conn, clients).await;
        Ok(Self {
            cluster,
            pgbench,
            directory,
            tokens,
        })
    }

    /// Where the shop's database is.
    pub fn url(&self) -> String {
        self.cluster.url(DATABASE)
    }

    /// Transactions per second of `script` in pgbench.
    pub fn pgbench(&self, script: &str, clients: usize, lasting: Duration) -> f64 {
        let file = self.directory.path().join("script.sql");
        std::fs::write(&file, script).unwrap();
        let output = Command::new(&self.pgbench)
            .args(["--no-vacuum", "--protocol=prepared", "--username=postgres"])
            .arg(format!("--host={}", self.cluster.socket_dir().display()))
            .arg(format!("--client={clients}"))
            .arg(format!("--jobs={THREADS}"))
            .arg(format!("--time={}", lasting.as_secs()))
            .arg(format!("--file={}", file.display()))
            .arg(DATABASE)
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}{errors}");
        let rate = text.lines().find_map(|line| line.strip_prefix("tps = "));
        rate.unwrap()
            .split_whitespace()
            .next()
            .unwrap()
            .parse()
            .unwrap()
    }

    /// Stops the server and removes everything.
    pub async fn close(self) {
        self.cluster.stop().await.unwrap();
    }
}

async fn fill(conn: &mut PgConnection, clients: usize) -> Vec<String> {
    schema::apply(conn, schema::latest()).await.unwrap();
    let size = SampleSize {
        products: PRODUCTS,
        ..SampleSize::default()
    };
    sample::fill(conn, size, &|_, _| ()).await.unwrap();
    // pgbench can make names out of numbers and cannot look them up.
    conn.execute(
        "UPDATE products p SET handle = 'product-' || n FROM
             (SELECT id, row_number() OVER (ORDER BY id) AS n FROM products) o WHERE o.id = p.id;
         UPDATE variants v SET sku = 'sku-' || n FROM
             (SELECT id, row_number() OVER (ORDER BY id) AS n FROM variants) o WHERE o.id = v.id;
         INSERT INTO sessions (account_id, token_hash, expires_at)
             SELECT id, '\\x00', now() + interval '1 day' FROM accounts;",
    )
    .await
    .unwrap();
    conn.execute("VACUUM FULL products, variants")
        .await
        .unwrap();
    conn.execute("VACUUM ANALYZE").await.unwrap();
    let accounts: Vec<i64> = sqlx::query_scalar("SELECT id FROM accounts ORDER BY id LIMIT $1")
        .bind(i64::try_from(clients).unwrap())
        .fetch_all(&mut *conn)
        .await
        .unwrap();
    // The order script counts on it: without a session the statement would do nothing, very fast.
    assert!(
        accounts
            .iter()
            .copied()
            .eq(1..=i64::try_from(clients).unwrap())
    );
    let mut tokens = Vec::new();
    for account in accounts {
        let token = Token::generate(account);
        sessions::open(conn, &token, Duration::from_secs(24 * 3600))
            .await
            .unwrap();
        tokens.push(token.reveal());
    }
    tokens
}

/// The statement of product detail for a random product.
pub fn detail_script() -> String {
    let statement = DETAIL.replace("$1", "'product-' || :n::integer");
    format!("\\set n random(1, {PRODUCTS})\n{statement};\n")
}

/// The statement of placing an order of two random variants, by an account per client.
pub fn order_script() -> String {
    // pgbench counts its clients from 0, the accounts of the sample from 1.
    let parameters = [
        ("$1", "(:client_id::bigint + 1)".to_owned()),
        ("$2", format!("'{HASH}'::bytea")),
        ("$3", ":key::text".to_owned()),
        ("$4", format!("'\\x{}'::bytea", "00".repeat(32))),
        (
            "$5",
            "ARRAY['sku-' || :first::integer, 'sku-' || :second::integer]".to_owned(),
        ),
        ("$6", "ARRAY[1, 2]".to_owned()),
    ];
    let statement = parameters
        .iter()
        .fold(PLACE.to_owned(), |sql, (name, value)| {
            sql.replace(name, value)
        });
    let (half, all) = (VARIANTS / 2, VARIANTS);
    format!(
        "\\set key random(1, 9000000000000000000)\n\\set first random(1, {half})\n\
         \\set second random({half} + 1, {all})\n{statement};\n"
    )
}
