//! A shop as its users run it, on a database of its own.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use embedded_postgres::{Cluster, ClusterOptions};
use evenkeel::config::directories;
use evenkeel::db::schema;
use evenkeel::demo::{self, trouble};
use evenkeel::store::sample::{self, SampleSize};
use load::Credentials;
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tempfile::TempDir;

/// The role whose sessions may be ended, and one whose may not.
pub const MAINTENANCE: &str = "cron";
pub const PERSON: &str = "analyst";
const DATABASE: &str = "shop";
const SIZE: SampleSize = SampleSize {
    products: 1_000,
    accounts: 5_000,
    orders: 100_000,
};
const SETTINGS: &str = "
[watch]
resolve_after = '1s'
[watch.breaker]
maintenance_roles = ['cron']
";

pub struct Stage {
    shop: Child,
    address: SocketAddr,
    cluster: Cluster,
    directory: TempDir,
}

impl Stage {
    /// A shop, watched or not.
    pub async fn open(watched: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut options =
            ClusterOptions::new(directory.path().join("cluster"), directories::cache());
        options.bin_dir = std::env::var_os("PG_BIN_DIR").map(Into::into);
        let cluster = Cluster::start(options, |note| eprintln!("{note}"))
            .await
            .unwrap();
        cluster.create_database(DATABASE).await.unwrap();
        let mut conn = cluster.connect_options(DATABASE).connect().await.unwrap();
        schema::apply(&mut conn, schema::latest()).await.unwrap();
        sample::fill(&mut conn, SIZE, &|_, _| ()).await.unwrap();
        for role in [MAINTENANCE, PERSON] {
            trouble::create_role(&mut conn, role).await.unwrap();
        }
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let settings = directory.path().join("evenkeel.toml");
        std::fs::write(&settings, SETTINGS).unwrap();
        let shop = Command::new(env!("CARGO_BIN_EXE_evenkeel"))
            .args([
                "serve",
                "--die-with-stdin",
                "--listen",
                &address.to_string(),
            ])
            .env("DATABASE_URL", cluster.url(DATABASE))
            .env("EVENKEEL_CONFIG", settings)
            .env("EVENKEEL_WATCH__JOURNAL", directory.path().join("journal"))
            .env("EVENKEEL_DATABASE__SAMPLE_SHOP", "false")
            .env(
                "EVENKEEL_LOG",
                std::env::var("EVENKEEL_LOG").unwrap_or_else(|_| "error".to_owned()),
            )
            .env("EVENKEEL_WATCH__ENABLED", watched.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Self {
            shop,
            address,
            cluster,
            directory,
        }
    }

    /// The processes of the shop and of its database.
    pub fn processes(&self) -> [u32; 2] {
        [self.shop.id(), self.cluster.postmaster_pid()]
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn options(&self) -> PgConnectOptions {
        self.cluster.connect_options(DATABASE)
    }

    pub fn journal(&self) -> PathBuf {
        self.directory.path().join("journal")
    }

    /// Accounts that have ordered before.
    pub async fn shoppers(&self) -> Vec<Credentials> {
        let mut conn: PgConnection = self.options().connect().await.unwrap();
        demo::shoppers(&mut conn).await.unwrap()
    }

    pub async fn close(mut self) {
        self.shop.kill().unwrap();
        self.shop.wait().unwrap();
        self.cluster.stop().await.unwrap();
    }
}
