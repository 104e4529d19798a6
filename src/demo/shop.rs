//! The shop, as a process of its own: load generator and shop share no runtime.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Uri;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use load::Target;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::DemoError;
use super::stage::Stage;

const START_PATIENCE: Duration = Duration::from_secs(20);
const STOP_PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);
/// How long `/metrics` may take before a sample goes without it.
const METRICS_PATIENCE: Duration = Duration::from_millis(400);
const LOG_TAIL_LINES: usize = 12;

/// A running shop. Dropped, it is killed; it also ends by itself when this process is gone.
#[derive(Debug)]
pub struct Shop {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
    pages: Pages,
}

/// Whether the shop has what it lacked on June 20.
#[derive(Clone, Debug)]
pub enum Safeguards {
    /// One pool without classes, and nobody who watches.
    Off,
    /// A bulkhead and a watch.
    On {
        /// Where the watch writes down what happens.
        journal: PathBuf,
        /// Settings in TOML.
        settings: String,
    },
}

/// Reads the shop's pages for operators. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pages {
    client: Client<HttpConnector, Empty<Bytes>>,
    address: SocketAddr,
}

impl Shop {
    /// Starts `evenkeel serve` on the stage's database and waits until it is ready. Its log is
    /// called `name`.
    ///
    /// # Errors
    /// [`DemoError::Shop`] with the end of its log.
    pub async fn start(
        stage: &Stage,
        name: &str,
        safeguards: Safeguards,
    ) -> Result<Self, DemoError> {
        let program = std::env::current_exe().map_err(DemoError::file("find", "this program"))?;
        let free = || free_address().map_err(DemoError::file("find a free port of", "127.0.0.1"));
        let (address, ops) = (free()?, free()?);
        let log = stage.log(&format!("{name}.log"));
        let create = || DemoError::file("create", &log);
        let output = File::create(&log).map_err(create())?;
        let errors = output.try_clone().map_err(create())?;
        let mut command = Command::new(&program);
        // Settings of whoever plays the demo would make it another demo.
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"EVENKEEL_") {
                command.env_remove(name);
            }
        }
        let on = matches!(safeguards, Safeguards::On { .. });
        if let Safeguards::On { journal, settings } = safeguards {
            let file = stage.log(&format!("{name}.toml"));
            std::fs::write(&file, settings).map_err(DemoError::file("write", &file))?;
            command
                .env("EVENKEEL_CONFIG", file)
                .env("EVENKEEL_WATCH__JOURNAL", journal)
                .env("EVENKEEL_WATCH__PUBLIC_URL", format!("http://{address}"))
                .env("EVENKEEL_WATCH__OPS_URL", format!("http://{ops}"));
        }
        let child = command
            .args(["serve", "--die-with-stdin", "--listen"])
            .arg(address.to_string())
            .arg("--ops-listen")
            .arg(ops.to_string())
            .current_dir(stage.directory())
            .env("DATABASE_URL", stage.url())
            .env("EVENKEEL_DATABASE__APPLY_SCHEMA", "false")
            .env("EVENKEEL_DATABASE__SAMPLE_SHOP", "false")
            // No load balancer has to notice that it ends.
            .env("EVENKEEL_HTTP__NOTICE", "0s")
            .env("EVENKEEL_POOL__SAFEGUARDS", on.to_string())
            .env("EVENKEEL_WATCH__ENABLED", on.to_string())
            .env("EVENKEEL_LOG", "info,evenkeel::http=off")
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            // Ctrl-C in a terminal reaches this process alone, which then stops the shop.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(DemoError::file("run", program))?;
        let pages = Pages {
            client: Client::builder(TokioExecutor::new()).build_http(),
            address: ops,
        };
        let mut shop = Self {
            child,
            address,
            log,
            pages,
        };
        shop.wait_until_ready().await?;
        Ok(shop)
    }

    /// Where it listens.
    ///
    /// # Errors
    /// Never: it listens on a loopback address.
    pub fn target(&self) -> Result<Target, DemoError> {
        Ok(Target::new(self.address)?)
    }

    /// Its pages for operators.
    pub fn pages(&self) -> Pages {
        self.pages.clone()
    }

    /// Stops it in order.
    ///
    /// # Errors
    /// [`DemoError::Shop`] when it does not end; it is killed then.
    pub async fn stop(mut self) -> Result<(), DemoError> {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            // It may have ended a moment ago; waiting tells.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        match tokio::time::timeout(STOP_PATIENCE, self.child.wait()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(err)) => Err(self.failed(format!("cannot be waited for ({err})"))),
            Err(_) => Err(self.failed(format!("did not stop within {STOP_PATIENCE:?}"))),
        }
    }

    async fn wait_until_ready(&mut self) -> Result<(), DemoError> {
        let began = Instant::now();
        while began.elapsed() < START_PATIENCE {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.failed(format!("ended at once ({status})")));
            }
            if self.pages.get("/health/ready").await.is_some() {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
        Err(self.failed(format!("was not ready within {START_PATIENCE:?}")))
    }

    fn failed(&self, problem: String) -> DemoError {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
        DemoError::Shop {
            problem,
            log: tail.join("\n"),
        }
    }
}

impl Pages {
    /// The body of `path`, when it is answered with 200 soon.
    pub async fn get(&self, path: &str) -> Option<String> {
        let uri: Uri = format!("http://{}{path}", self.address).parse().ok()?;
        let answer = async {
            let response = self.client.get(uri).await.ok()?;
            let found = response.status().is_success();
            let body = response.into_body().collect().await.ok()?.to_bytes();
            found.then(|| String::from_utf8_lossy(&body).into_owned())
        };
        tokio::time::timeout(METRICS_PATIENCE, answer).await.ok()?
    }
}

/// A port that was free a moment ago; if another process takes it, the shop says so in its log.
fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
