//! When the next portion may be read.

use std::convert::Infallible;
use std::future::Future;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use pressure::pace::{Order, Pace};

/// Whoever decides when the next portion is read, and for how long the read rests after one.
pub trait Polite: Send {
    /// Why the read is given up at once.
    type Stop: Send;

    /// Waits until a portion may be read.
    ///
    /// # Errors
    /// When there will be no more.
    fn permission(&mut self) -> impl Future<Output = Result<(), Self::Stop>> + Send;

    /// Rests after a portion that took `took`.
    ///
    /// # Errors
    /// When there will be no more.
    fn rest(&mut self, took: Duration) -> impl Future<Output = Result<(), Self::Stop>> + Send;

    /// How long a portion should take.
    fn target(&self) -> Duration;
}

/// Works a fixed share of the time, where nobody tells how shoppers are.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// Above 0 and at most 1.
    pub duty: f64,
    /// How long a portion should take.
    pub target: Duration,
}

impl Polite for Share {
    type Stop = Infallible;

    async fn permission(&mut self) -> Result<(), Infallible> {
        Ok(())
    }

    async fn rest(&mut self, took: Duration) -> Result<(), Infallible> {
        tokio::time::sleep(took.mul_f64((1.0 - self.duty) / self.duty)).await;
        Ok(())
    }

    fn target(&self) -> Duration {
        self.target
    }
}

/// Works as a pace says that somebody else publishes.
#[derive(Clone, Debug)]
pub struct Paced {
    /// What shoppers allow.
    pub pace: watch::Receiver<Pace>,
    /// How long a portion should take at full duty.
    pub target: Duration,
}

impl Polite for Paced {
    type Stop = Infallible;

    async fn permission(&mut self) -> Result<(), Infallible> {
        while self.pace.borrow_and_update().order != Order::Work {
            if self.pace.changed().await.is_err() {
                // Nobody publishes any longer: what waits here is dropped with its limit.
                std::future::pending::<()>().await;
            }
        }
        Ok(())
    }

    async fn rest(&mut self, took: Duration) -> Result<(), Infallible> {
        let since = Instant::now();
        loop {
            let wanted = self.pace.borrow_and_update().rest(took);
            let left = wanted.saturating_sub(since.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                changed = self.pace.changed() => if changed.is_err() {
                    tokio::time::sleep(left).await;
                },
            }
        }
    }

    fn target(&self) -> Duration {
        self.pace.borrow().batch_target(self.target)
    }
}
