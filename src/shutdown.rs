//! An orderly end: one token that says stop, one tracker that says when all has stopped.

use std::future::Future;
use std::io;

use futures_util::future::BoxFuture;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Every long-lived task is spawned through this and ends when the token is cancelled.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    announced: CancellationToken,
    token: CancellationToken,
    tasks: TaskTracker,
}

/// Who asked for the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signalled {
    /// Somebody at the terminal.
    Interrupt,
    /// Whoever runs the service, such as systemd or Kubernetes.
    Terminate,
}

impl Shutdown {
    /// A shutdown that nobody has asked for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that the end is near: readiness fails from now on, everything else goes on.
    pub fn announce(&self) {
        self.announced.cancel();
    }

    /// Whether the end has been announced or has begun.
    pub fn is_announced(&self) -> bool {
        self.announced.is_cancelled() || self.token.is_cancelled()
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

    /// Runs tasks on a thread of their own, called `name`, for those that have to go on when the runtime
    /// of this one has more to do than it can. [`Shutdown::finish`] waits for them, too.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn_apart(&self, name: &str, tasks: Vec<BoxFuture<'static, ()>>) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (done, ended) = oneshot::channel::<()>();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    // One that panics does not end the others.
                    let mut running: JoinSet<()> = tasks.into_iter().collect();
                    while running.join_next().await.is_some() {}
                });
                drop(done);
            })?;
        self.spawn(ended);
        Ok(())
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

    /// Completes on Ctrl-C or SIGTERM and says which it was. Signals count from this call on, whenever the
    /// future is polled; the system's default action, which is to end the process or, for a job in the
    /// background of a shell, to ignore Ctrl-C, holds no longer.
    pub fn signalled() -> impl Future<Output = Signalled> + Send {
        let received = |kind: SignalKind| {
            let handler = signal(kind);
            async move {
                match handler {
                    Ok(mut handler) => drop(handler.recv().await),
                    // Without a handler the default action holds.
                    Err(_) => std::future::pending().await,
                }
            }
        };
        let interrupt = received(SignalKind::interrupt());
        let terminate = received(SignalKind::terminate());
        async move {
            tokio::select! {
                () = interrupt => Signalled::Interrupt,
                () = terminate => Signalled::Terminate,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::Shutdown;

    /// On a runtime of one thread, which this test does not leave for a moment.
    #[tokio::test]
    async fn what_is_spawned_apart_goes_on_while_the_runtime_is_busy() {
        let shutdown = Shutdown::new();
        let (sender, received) = mpsc::channel();
        let stop = shutdown.token().clone();
        let counting = async move {
            for n in 0..3 {
                tokio::time::sleep(Duration::from_millis(1)).await;
                sender.send(n).unwrap();
            }
            stop.cancelled().await;
            sender.send(3).unwrap();
        };
        let panicking = async { panic!("as a bug would") };
        let tasks = vec![panicking.boxed(), counting.boxed()];
        shutdown.spawn_apart("counting", tasks).unwrap();

        let next = || received.recv_timeout(Duration::from_secs(30)).unwrap();
        assert_eq!([next(), next(), next()], [0, 1, 2]);
        shutdown.finish().await;
        assert_eq!(received.try_recv(), Ok(3));
    }
}
