//! Waiting: for permission, between batches, before another try; the lease is renewed meanwhile.

use std::time::{Duration, Instant};

use pressure::Verdict;
use pressure::pace::{Cause, Order, Pace};

use super::{Drive, End, Interrupt, Runner};
use crate::migration::ledger::{self, Lease, State};
use crate::migration::spent::{RETRYING, Spent, TURNS, waited_for};
use crate::migration::turns::Turn;

impl Drive<'_> {
    /// Waits until the pace lets a batch begin, renewing the lease meanwhile.
    pub(super) async fn await_permission(&mut self) -> Result<(), Interrupt> {
        loop {
            if self.runner.stop.is_cancelled() {
                return Err(Interrupt::End(End::ShutDown));
            }
            let reason = {
                let pace = self.pace.borrow_and_update();
                (pace.order != Order::Work).then(|| waited_for(&pace))
            };
            self.renew_if_due().await?;
            let Some(reason) = reason else {
                return Ok(());
            };
            let since = Instant::now();
            tokio::select! {
                _ = self.pace.changed() => {}
                () = self.runner.stop.cancelled() => {}
            }
            self.spent.on(&reason, since.elapsed());
        }
    }

    /// Waits until the pace lets a batch begin and it is this run's turn.
    pub(super) async fn await_turn(&mut self) -> Result<Turn, Interrupt> {
        let stop = self.runner.stop.clone();
        loop {
            self.await_permission().await?;
            let since = Instant::now();
            let turn = tokio::select! {
                turn = self.seat.turn() => Some(turn),
                // Others may rest for long.
                () = tokio::time::sleep(self.runner.renew_every()) => None,
                () = stop.cancelled() => None,
            };
            self.spent.on(TURNS, since.elapsed());
            if let Some(turn) = turn.filter(|_| self.pace.borrow().order == Order::Work) {
                return Ok(turn);
            }
        }
    }

    /// Rests after a batch that took `took`, for as long as the pace says by then: a pace that has
    /// recovered ends a long rest early, and one that has fallen makes it longer. The turn lasts for
    /// the rest that the pace of all asks for; whatever this run owes beyond it keeps nobody else.
    pub(super) async fn rest_after(&mut self, took: Duration, turn: Turn) -> Result<(), Interrupt> {
        let since = Instant::now();
        let mut turn = Some(turn);
        loop {
            self.renew_if_due().await?;
            let shared = self.shared.borrow().rest(took);
            let (own, reason) = {
                let pace = self.pace.borrow_and_update();
                (pace.rest(took).max(shared), waited_for(&pace))
            };
            let rested = since.elapsed();
            turn = turn.filter(|_| rested < shared);
            let left = if turn.is_some() { shared } else { own }.saturating_sub(rested);
            if left.is_zero() || self.runner.stop.is_cancelled() {
                return Ok(());
            }
            let slept = Instant::now();
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                _ = self.pace.changed() => {}
                () = self.runner.stop.cancelled() => {}
            }
            self.spent.on(&reason, slept.elapsed());
        }
    }

    /// Sleeps before another try, renewing the lease; a shutdown ends the sleep. The time counts as
    /// spent on `reason`.
    pub(super) async fn rest(&mut self, reason: &str, time: Duration) -> Result<(), Interrupt> {
        let until = Instant::now() + time;
        loop {
            self.renew_if_due().await?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.runner.stop.is_cancelled() {
                return Ok(());
            }
            let slept = Instant::now();
            self.runner
                .pause(left.min(self.runner.engine.lease / 3))
                .await;
            self.spent.on(reason, slept.elapsed());
        }
    }

    /// Extends the lease once a third of it has gone, says how fast we go and why and what time was
    /// spent on, and hears whether an operator wants something else. A batch extends the lease as
    /// well, but says nothing of the pace: so this is due however often batches commit.
    async fn renew_if_due(&mut self) -> Result<(), Interrupt> {
        if self.renewed.elapsed() < self.runner.renew_every() {
            return Ok(());
        }
        heed(self.renew().await?)
    }

    async fn renew(&mut self) -> Result<Option<State>, Interrupt> {
        let mut pace = self.pace.borrow().clone();
        pace.causes.extend(self.company());
        let failed = self.failed.iter().map(|reason| Cause {
            source: RETRYING.to_owned(),
            verdict: Verdict::Normal,
            reason: reason.clone(),
        });
        pace.causes.extend(failed);
        let state = self.runner.renew(self.lease, &pace, &self.spent).await?;
        self.spent.clear();
        self.renewed = Instant::now();
        Ok(state)
    }

    /// Tells the ledger what time was spent on since the last renewal, when the work on the run ends
    /// in order. What cannot be told is lost: it is under a second.
    pub(super) async fn tell_at_end(&mut self, interrupt: &Interrupt) {
        let in_order = matches!(
            interrupt,
            Interrupt::Broken(_) | Interrupt::End(End::Completed | End::Stopped | End::ShutDown)
        );
        if in_order {
            let _ = self.renew().await;
        }
    }
}

/// What to do when the ledger says `state` of a run that this process drives.
pub(super) fn heed(state: Option<State>) -> Result<(), Interrupt> {
    match state {
        Some(State::Running) => Ok(()),
        Some(_) => Err(Interrupt::End(End::Stopped)),
        None => Err(Interrupt::End(End::LeaseLost)),
    }
}

impl Drive<'_> {
    /// Who else uses the budget.
    fn company(&self) -> Option<Cause> {
        let others = self.seat.others();
        (others > 0).then(|| Cause {
            source: TURNS.to_owned(),
            verdict: Verdict::Normal,
            reason: format!("takes turns with {others} other migrations"),
        })
    }
}

impl Runner {
    /// Extends the lease, says how fast we go and why and what time was spent on, and returns what an
    /// operator wants of the run; `None` when the lease is lost.
    pub(super) async fn renew(
        &self,
        lease: Lease,
        pace: &Pace,
        spent: &Spent,
    ) -> Result<Option<State>, Interrupt> {
        let pace = serde_json::to_value(pace).unwrap_or_default();
        let (length, spent) = (self.engine.lease, spent.to_json());
        self.query(async |conn| Ok(ledger::renew(conn, lease, length, &pace, &spent).await?))
            .await
    }

    /// How long a lease is kept before it is extended.
    pub(super) fn renew_every(&self) -> Duration {
        (self.engine.lease / 3).min(Duration::from_millis(500))
    }
}
