//! Waiting for shoppers, for a lock, for an operator.

use std::time::{Duration, Instant};

use pressure::pace::Order;
use pressure::signal::Verdict;
use tokio::sync::OwnedSemaphorePermit;

use super::super::{End, Interrupt, rest};
use super::Steps;
use crate::migration::spent::{RETRYING, TURNS, waited_for};

/// A statement waits this long for what cannot be known, which may slow a migration down but not stop
/// it for good.
const DOUBT: Duration = Duration::from_secs(5);

impl Steps<'_> {
    /// Waits until shoppers are within target, as far as that can be known.
    pub(super) async fn await_calm(&mut self) -> Result<(), Interrupt> {
        let mut doubtful_since = None;
        loop {
            if self.runner.stop.is_cancelled() {
                return Err(Interrupt::End(End::ShutDown));
            }
            let (worst, reason) = {
                let pace = self.pace.borrow_and_update();
                let worst = pace.causes.iter().map(|cause| cause.verdict).max();
                // Nothing is known while the engine rests, whatever the cause is called.
                let worst = (pace.order == Order::Work).then(|| worst.unwrap_or(Verdict::Normal));
                (worst, waited_for(&pace))
            };
            self.renew_if_due().await?;
            match worst {
                Some(Verdict::Idle | Verdict::Normal) => return Ok(()),
                Some(Verdict::Unknown) => {
                    let since = *doubtful_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= DOUBT {
                        return Ok(());
                    }
                }
                Some(_) => doubtful_since = None,
                None => {}
            }
            let since = Instant::now();
            tokio::select! {
                _ = self.pace.changed() => {}
                () = self.runner.stop.cancelled() => {}
            }
            self.spent.on(&reason, since.elapsed());
        }
    }

    /// Waits for a while until a connection may be held for long beside what other runs of this process hold;
    /// `None` when it may not yet.
    pub(super) async fn long_connection(
        &mut self,
    ) -> Result<Option<OwnedSemaphorePermit>, Interrupt> {
        let since = Instant::now();
        let permit = self.runner.long_connection().await;
        if permit.is_none() {
            self.spent.on(TURNS, since.elapsed());
            let why = "other runs hold all connections but one of pool.background.max for their second proofs and \
                       long statements";
            self.waits_for = Some(why.to_owned());
            self.renew_if_due().await?;
        }
        Ok(permit)
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
            let slept = Instant::now();
            self.runner.pause(left.min(self.runner.renew_every())).await;
            self.spent.on(RETRYING, slept.elapsed());
        }
    }

    pub(super) async fn renew_if_due(&mut self) -> Result<(), Interrupt> {
        if self.renewed.elapsed() < self.runner.renew_every() {
            return Ok(());
        }
        self.heed().await
    }

    /// Renews the lease now, says what is waited for, and hears what an operator wants.
    pub(super) async fn heed(&mut self) -> Result<(), Interrupt> {
        let mut pace = self.pace.borrow().clone();
        if let Some(why) = &self.waits_for {
            pace = pace.waiting("lock", why, Instant::now());
        }
        let state = self.runner.renew(self.lease, &pace, &self.spent).await?;
        self.spent.clear();
        self.renewed = Instant::now();
        rest::heed(state)
    }
}
