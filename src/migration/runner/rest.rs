//! Waiting: for permission, between batches, before another try; the lease is renewed meanwhile.

use std::time::{Duration, Instant};

use super::{Drive, End, Interrupt};
use crate::migration::ledger::{self, State};
use crate::migration::pace::Order;

impl Drive<'_> {
    /// Waits until the pace lets a batch begin, renewing the lease meanwhile.
    pub(super) async fn await_permission(&mut self) -> Result<(), Interrupt> {
        loop {
            if self.runner.stop.is_cancelled() {
                return Err(Interrupt::End(End::ShutDown));
            }
            if self.pace.borrow_and_update().order == Order::Work {
                return self.renew_if_due().await;
            }
            self.renew_if_due().await?;
            tokio::select! {
                _ = self.pace.changed() => {}
                () = self.runner.stop.cancelled() => {}
            }
        }
    }

    /// Rests after a batch that took `took`, for as long as the pace says by then: a pace that has
    /// recovered ends a long rest early, and one that has fallen makes it longer.
    pub(super) async fn rest_after(&mut self, took: Duration) -> Result<(), Interrupt> {
        let since = Instant::now();
        loop {
            self.renew_if_due().await?;
            let rest = self.pace.borrow_and_update().rest(took);
            let left = rest.saturating_sub(since.elapsed());
            if left.is_zero() || self.runner.stop.is_cancelled() {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                _ = self.pace.changed() => {}
                () = self.runner.stop.cancelled() => {}
            }
        }
    }

    /// Sleeps before another try, renewing the lease; a shutdown ends the sleep.
    pub(super) async fn rest(&mut self, time: Duration) -> Result<(), Interrupt> {
        let until = Instant::now() + time;
        loop {
            self.renew_if_due().await?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.runner.stop.is_cancelled() {
                return Ok(());
            }
            self.runner
                .pause(left.min(self.runner.engine.lease / 3))
                .await;
        }
    }

    /// Extends the lease once a third of it has gone, says how fast we go and why, and hears
    /// whether an operator wants something else. A batch extends the lease as well, but says nothing
    /// of the pace: so this is due however often batches commit.
    async fn renew_if_due(&mut self) -> Result<(), Interrupt> {
        let length = self.runner.engine.lease;
        if self.renewed.elapsed() < (length / 3).min(Duration::from_millis(500)) {
            return Ok(());
        }
        let pace = serde_json::to_value(&*self.pace.borrow()).unwrap_or_default();
        let lease = self.lease;
        let state = self
            .query(async |conn| Ok(ledger::renew(conn, lease, length, &pace).await?))
            .await?;
        self.renewed = Instant::now();
        match state {
            Some(State::Running) => Ok(()),
            Some(_) => Err(Interrupt::End(End::Stopped)),
            None => Err(Interrupt::End(End::LeaseLost)),
        }
    }
}
