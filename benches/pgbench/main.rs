//! What the service costs over the database alone: product detail and order placement over HTTP
//! beside the same statements in pgbench, and beside the least that axum and sqlx can do.
//!
//! `cargo bench --bench pgbench` runs it; `docs/benchmarks.md` says how to read it. Everything runs
//! on this machine against a database made for it, in interleaved rounds: rates on a shared machine
//! drift, and ratios within one round drift less.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on ends here"
)]

mod bare;
mod client;
mod database;
mod report;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use client::Request;
use database::Shop;
use pool::settings::PoolSettings;
use report::{Report, Round};

/// Connections of every client.
const CONNECTIONS: usize = 16;
const ROUNDS: usize = 5;
/// How long each measurement of a round lasts, after its warm-up.
const LASTING: Duration = Duration::from_secs(3);

/// A server in a process of its own, ended with this value.
struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts `command`, which is to listen on the port that it is told by `tell`.
    fn start(mut command: Command, tell: impl FnOnce(&mut Command, SocketAddr)) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        tell(&mut command, address);
        let process = command.stdout(Stdio::null()).spawn().unwrap();
        let mut server = Self { process, address };
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            let ended = server.process.try_wait().unwrap();
            assert!(ended.is_none(), "{command:?} ended: {ended:?}");
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "{command:?} does not listen"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    /// `evenkeel serve`, with the settings that it has by default.
    fn service(database: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
        command.arg("serve").env("DATABASE_URL", database);
        command.env("EVENKEEL_DATABASE__SAMPLE_SHOP", "false");
        Self::start(command, |command, address| {
            command.env("EVENKEEL_HTTP__LISTEN", address.to_string());
        })
    }

    /// This program as the bare server.
    fn bare(database: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([bare::ARGUMENT, database]);
        Self::start(command, |command, address| {
            command.arg(address.to_string());
        })
    }

    /// Memory that the process occupies, in MiB.
    fn resident_mib(&self) -> Option<f64> {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(path).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib / 1024.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, argument, database, address] = arguments.as_slice()
        && argument == bare::ARGUMENT
    {
        return bare::serve(database, address);
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let shop = match runtime.block_on(Shop::open(CONNECTIONS)) {
        Ok(shop) => shop,
        Err(why) => {
            eprintln!("{why}");
            std::process::exit(1);
        }
    };
    let service = Server::service(&shop.url());
    let bare = Server::bare(&shop.url());
    let report = Report {
        connections: CONNECTIONS,
        seconds: LASTING.as_secs_f64(),
        rounds: (1..=ROUNDS)
            .map(|n| round(n, &shop, &service, &bare))
            .collect(),
        service_resident_mib: service.resident_mib(),
        bare_resident_mib: bare.resident_mib(),
    };
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pgbench.json");
    report.print(&file);
    drop((service, bare));
    runtime.block_on(shop.close());
}

/// One measurement of everything.
fn round(n: usize, shop: &Shop, service: &Server, bare: &Server) -> Round {
    eprintln!("round {n} of {ROUNDS}");
    let detail =
        |server: &Server| client::rate(server.address, CONNECTIONS, LASTING, |_| Request::Detail);
    let order = |client: usize| Request::Order {
        token: &shop.tokens[client],
    };
    // However many ask, the bulkhead lets only so many checkouts at the database at once.
    let admitted = PoolSettings::default().checkout.max;
    Round {
        detail_service: detail(service),
        detail_bare: detail(bare),
        detail_pgbench: shop.pgbench(&database::detail_script(), CONNECTIONS, LASTING),
        order_service: client::rate(service.address, CONNECTIONS, LASTING, order),
        order_pgbench: shop.pgbench(&database::order_script(), CONNECTIONS, LASTING),
        order_pgbench_gated: shop.pgbench(&database::order_script(), admitted, LASTING),
    }
}
