//! A server that ends although nobody stopped it is started again.
//!
//! When its postmaster is killed, sessions that are in the middle of something live on for a moment,
//! attached to shared memory in which nobody may start another server. They are ended first.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use crate::directory::processes_of;
use crate::server::{Launch, Server, StopMode};
use crate::{Cluster, EmbeddedError};

/// How often it is looked whether the server runs.
const LOOK: Duration = Duration::from_millis(100);
/// How often its log is looked at.
const LOG_LOOK: Duration = Duration::from_secs(5);
/// Starts that may fail in a row, and the longest pause between them.
const TRIES: usize = 10;
const LONGEST: Duration = Duration::from_secs(10);
/// A server that ends sooner after its start is started again after a pause, longer each time up to
/// [`LONGEST_QUICK`]: what ends it may do so again.
const SETTLED: Duration = Duration::from_secs(1);
const LONGEST_QUICK: Duration = Duration::from_secs(2);
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
        let mut quick = pauses(LONGEST_QUICK).without_max_times().build();
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
                quick = pauses(LONGEST_QUICK).without_max_times().build();
            } else if let Some(pause) = quick.next() {
                sleep(pause).await;
            }
            let mut pauses = pauses(LONGEST).with_max_times(TRIES).build();
            loop {
                end_orphans(&self.launch).await;
                match self.start_again(progress).await {
                    Ok(()) => break,
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

impl Cluster {
    /// Starts the server. Whatever comes of it, [`Cluster::stop`] waits for this one from now on.
    async fn start_again(
        &mut self,
        progress: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<(), EmbeddedError> {
        self.server = Server::spawn(&self.launch).await?;
        let ready = self.server.wait_until_ready(&self.launch, progress).await;
        if ready.is_err() {
            self.server.stop(StopMode::Immediate).await?;
        }
        ready
    }
}

fn pauses(longest: Duration) -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(longest)
}

/// Ends the sessions of a server whose postmaster is gone.
async fn end_orphans(launch: &Launch) {
    let orphans = || processes_of(&launch.bin_dir.join("postgres"), &launch.pgdata);
    for (signal, patience) in ORPHANS {
        if let Some(signal) = signal {
            for pid in orphans() {
                // It may have ended a moment ago.
                let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
            }
        }
        let told = Instant::now();
        while !orphans().is_empty() {
            if told.elapsed() > patience {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}
