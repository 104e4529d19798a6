//! An orderly end: one token that says stop, one tracker that says when all has stopped.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Every long-lived task is spawned through this and ends when the token is cancelled.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// A shutdown that nobody has asked for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The token that tasks watch.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Spawns a task that [`Shutdown::finish`] waits for.
    pub fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// Asks every task to stop.
    pub fn begin(&self) {
        self.token.cancel();
    }

    /// Asks every task to stop and waits until all have.
    pub async fn finish(&self) {
        self.token.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Completes on Ctrl-C or SIGTERM.
    pub async fn signalled() {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut terminate) = signal(SignalKind::terminate()) else {
            // Without a handler the default action of SIGTERM ends the process all the same.
            let _ = tokio::signal::ctrl_c().await;
            return;
        };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    }
}
