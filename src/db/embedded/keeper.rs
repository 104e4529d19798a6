//! A server that ends although nobody stopped it is started again.
//!
//! When its postmaster is killed, sessions that are in the middle of something live on for a moment,
//! attached to shared memory in which nobody may start another server. They are ended first.

use std::path::Path;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use super::directory::{end_all_in, works_in_any};
use super::server::Server;
use super::{Cluster, EmbeddedError};

/// How often it is looked whether the server runs.
const LOOK: Duration = Duration::from_millis(100);
/// How often its log is looked at.
const LOG_LOOK: Duration = Duration::from_secs(5);
/// Starts that may fail in a row, the pauses between them up to [`LONGEST`].
const TRIES: usize = 10;
const LONGEST: Duration = Duration::from_secs(10);
/// A server that has run for so long had not failed to start.
const SETTLED: Duration = Duration::from_secs(30);
/// How long sessions without a postmaster have to end by themselves, and once they are told to.
const ORPHANS: [(Option<Signal>, Duration); 3] = [
    (None, Duration::from_millis(200)),
    (Some(Signal::SIGQUIT), Duration::from_millis(500)),
    (Some(Signal::SIGKILL), Duration::from_millis(500)),
];

impl Cluster {
    /// Starts the server again whenever it ends although nobody stopped it, and keeps its log small.
    /// Returns when it cannot be started any more. May be dropped at any time. What happens is told to
    /// `progress`.
    pub async fn keep(&mut self, progress: &(dyn Fn(&str) + Send + Sync)) -> EmbeddedError {
        let mut pauses = pauses();
        let mut started = Instant::now();
        let mut log_seen = Instant::now();
        loop {
            match self.server.exited() {
                Err(err) => return err,
                Ok(None) => {
                    if log_seen.elapsed() >= LOG_LOOK {
                        log_seen = Instant::now();
                        if let Err(err) = self.launch.keep_log_small() {
                            progress(&err.to_string());
                        }
                    }
                    sleep(LOOK).await;
                    continue;
                }
                Ok(Some(status)) => progress(&format!(
                    "PostgreSQL has ended although nobody stopped it ({status}); it is started again"
                )),
            }
            let ended = Instant::now();
            if started.elapsed() > SETTLED {
                pauses = self::pauses();
            }
            loop {
                end_orphans(&self.launch.pgdata).await;
                match Server::start(&self.launch, progress).await {
                    Ok(server) => {
                        self.server = server;
                        break;
                    }
                    Err(err) => {
                        let Some(pause) = pauses.next() else {
                            return err;
                        };
                        progress(&format!("{err}\nthe next try is in {pause:.1?}"));
                        sleep(pause).await;
                    }
                }
            }
            started = Instant::now();
            progress(&format!(
                "PostgreSQL serves again, {:.1} s after it had ended",
                ended.elapsed().as_secs_f64()
            ));
        }
    }
}

fn pauses() -> impl Iterator<Item = Duration> + Send {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(LONGEST)
        .with_max_times(TRIES)
        .build()
}

/// Ends the sessions of a server whose postmaster is gone.
async fn end_orphans(pgdata: &Path) {
    for (signal, patience) in ORPHANS {
        if let Some(signal) = signal {
            end_all_in(pgdata, signal);
        }
        let told = Instant::now();
        while works_in_any(pgdata) {
            if told.elapsed() > patience {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}
