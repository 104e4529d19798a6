//! The walk over the table, batch by batch, phase by phase.

use std::time::Instant;

use pressure::pace::Order;
use sqlx::postgres::PgConnection;
use tracing::warn;

use super::trouble::after;
use super::{DEAF, Drive, End, Interrupt};
use crate::migration::batch::{APPLICATION, Batch, Outcome, begin, regain};
use crate::migration::fault::Fault;
use crate::migration::keyset::{KeyValue, Range};
use crate::migration::ledger::{self, Phase, Run, State, Tries};
use crate::migration::retry::{Failure, Patience, Remedy};
use crate::migration::sizing::Work;
use crate::migration::spent::{RETRYING, WORKING, waited_for};

/// A walk's position.
pub(super) struct Walk {
    phase: Phase,
    cursor: Option<KeyValue>,
    end: KeyValue,
    rows: u32,
    /// The batch before.
    before: Option<Work>,
    /// Batches of the run that were committed before.
    batches: i64,
    /// Whether one of them changed something since this was begun or resumed.
    proved: bool,
}

impl Drive<'_> {
    /// Walks from where the ledger says until something ends or interrupts it.
    pub(super) async fn walk(&mut self, patience: &mut Patience) -> Interrupt {
        let interrupt = match self.try_walk(patience).await {
            Ok(never) => match never {},
            Err(interrupt) => interrupt,
        };
        self.tell_at_end(&interrupt).await;
        interrupt
    }

    async fn try_walk(
        &mut self,
        patience: &mut Patience,
    ) -> Result<std::convert::Infallible, Interrupt> {
        self.repair_if_asked(patience).await?;
        let mut walk = self.resume().await?;
        loop {
            let mut turn = self.await_turn().await?;
            let began = Instant::now();
            let done = self.batch(&walk, patience.tries()).await;
            turn.worked(began.elapsed());
            match done {
                None => {
                    drop(turn);
                    // Cancelled in flight: the ledger knows whether it was in time.
                    patience.note_cancelled();
                    let reason = waited_for(&self.pace.borrow());
                    self.spent.on(&reason, began.elapsed());
                    let rows = (walk.rows / 2).max(self.runner.engine.batch_min);
                    walk = self.resume().await?;
                    walk.rows = rows;
                }
                Some(Ok(Outcome::LeaseLost)) => {
                    drop(turn);
                    walk = self.unheard(&walk, patience).await?;
                }
                Some(Ok(Outcome::StillPending(why))) => return Err(Interrupt::Broken(why)),
                Some(Ok(Outcome::Exhausted)) => walk = self.next_phase(walk.phase).await?,
                Some(Ok(Outcome::Committed {
                    range,
                    next_rows,
                    measured,
                    state,
                    changed,
                })) => {
                    patience.reset();
                    patience.told();
                    self.failed = None;
                    self.spent.on(WORKING, began.elapsed());
                    if state != State::Running {
                        return Err(Interrupt::End(End::Stopped));
                    }
                    walk.cursor = Some(range.upper);
                    walk.rows = next_rows;
                    walk.before = Some(measured.work());
                    walk.batches += 1;
                    walk.proved |= changed > 0;
                    self.rest_after(began.elapsed(), turn).await?;
                }
                Some(Err(failure)) => {
                    drop(turn);
                    self.spent.on(RETRYING, began.elapsed());
                    walk = self.recover(walk, failure, patience).await?;
                }
            }
        }
    }

    /// The position that the ledger has; begins the main phase when the run is new.
    pub(super) async fn resume(&self) -> Result<Walk, Interrupt> {
        let run = self.runner.read(self.lease).await?;
        if run.lease_token != self.lease.token {
            return Err(Interrupt::End(End::LeaseLost));
        }
        if run.state != State::Running {
            return Err(Interrupt::End(End::Stopped));
        }
        match &run.end_key {
            // After a failed sweep, or instead of a run that stopped in one: from the beginning, to
            // where the table ends by now.
            Some(_) if run.phase == Phase::Sweep && run.sweep_pass == 0 => {
                self.begin(Phase::Sweep, &run).await
            }
            Some(end) => Ok(Walk {
                phase: run.phase,
                cursor: run.cursor.clone(),
                end: end.clone(),
                rows: self.next_rows(&run),
                before: None,
                batches: run.batches,
                proved: false,
            }),
            None => self.begin(Phase::Main, &run).await,
        }
    }

    /// The ledger has not taken an entry of `walk`. Where the lease is ours and the cursor elsewhere by now,
    /// a COMMIT that was given up had arrived; where it is not, something else is in the way.
    async fn unheard(&mut self, walk: &Walk, patience: &mut Patience) -> Result<Walk, Interrupt> {
        let mut resumed = self.resume().await?;
        if resumed.phase == walk.phase && resumed.cursor == walk.cursor {
            let pause = patience.pause();
            if patience.failures() >= self.runner.engine.tries {
                return Err(Interrupt::Broken(format!("{}: {DEAF}", self.after(walk))));
            }
            // Smaller batches begin the count anew.
            resumed.rows = walk.rows;
            self.rest(RETRYING, pause).await?;
        }
        Ok(resumed)
    }

    /// Rows for the next batch of `run`.
    fn next_rows(&self, run: &Run) -> u32 {
        let known = run.batch_rows.and_then(|rows| u32::try_from(rows).ok());
        let first = self.definition.batch_first;
        known.unwrap_or_else(|| first.unwrap_or(self.runner.engine.batch_first))
    }

    /// Begins a phase of `run` at the beginning of the table. An empty table completes the run.
    pub(super) async fn begin(&self, phase: Phase, run: &Run) -> Result<Walk, Interrupt> {
        let (lease, keyset, engine) = (self.lease, &self.keyset, &self.runner.engine);
        let begun = self
            .author
            .run(async |conn| {
                let mut tx = begin(conn, engine).await?;
                let last = keyset.last(&mut tx).await?;
                regain(&mut tx, engine, APPLICATION).await?;
                let Some(end) = last else {
                    ledger::resolve_quarantine(&mut tx, lease.run).await?;
                    ledger::find_empty(&mut tx, lease).await?;
                    tx.commit().await?;
                    return Ok(None);
                };
                let estimate = match phase {
                    Phase::Main => Some(keyset.estimate(&mut tx).await?.max(0)),
                    Phase::Sweep => None,
                };
                let held = ledger::begin_phase(&mut tx, lease, phase, &end, estimate).await?;
                tx.commit().await?;
                Ok::<_, Failure>(Some((end, held)))
            })
            .await;
        match begun.map_err(|err| self.give_up_or_retry("at the end of the table", err))? {
            None => Err(Interrupt::End(End::Completed)),
            Some((_, false)) => Err(Interrupt::End(End::LeaseLost)),
            Some((end, true)) => Ok(Walk {
                phase,
                cursor: None,
                end,
                rows: self.next_rows(run),
                before: None,
                batches: run.batches,
                proved: false,
            }),
        }
    }

    /// A phase has reached its end: sweep, sweep again, or be done.
    async fn next_phase(&self, phase: Phase) -> Result<Walk, Interrupt> {
        let run = self.runner.read(self.lease).await?;
        let engine = &self.runner.engine;
        if phase == Phase::Sweep {
            let found = run.sweep_found;
            if found == 0 {
                self.runner
                    .query(async |conn| Ok(ledger::resolve_quarantine(conn, run.id).await?))
                    .await?;
                return Err(Interrupt::End(End::Completed));
            }
            if found == run.sweep_aside {
                return Err(self.stuck(found).await?);
            }
            if i64::from(run.sweep_pass) >= i64::from(engine.sweeps_max) {
                return Err(Interrupt::Broken(format!(
                    "sweep {} still found {found} rows pending: either the shop goes on writing rows \
                     that are, or `{}` asks for what others change, or rows were locked and left out, \
                     or set aside (see the quarantine). Mend that, then `evenkeel migrate resume {}`",
                    run.sweep_pass, self.definition.pending, self.definition.name
                )));
            }
        }
        self.begin(Phase::Sweep, &run).await
    }

    /// Where `walk` is, for people.
    fn after(&self, walk: &Walk) -> String {
        after(&self.keyset.names(), walk.cursor.as_deref(), walk.phase)
    }

    /// Rows that a batch of `walk` covers.
    fn rows(&self, walk: &Walk) -> u32 {
        walk.rows.min(self.definition.batch_max.unwrap_or(u32::MAX))
    }

    /// Runs one batch; `None` when it was cancelled in flight by a critical signal.
    async fn batch(&mut self, walk: &Walk, tries: &Tries) -> Option<Result<Outcome, Failure>> {
        let engine = &self.runner.engine;
        let batch = Batch {
            definition: &self.definition,
            keyset: &self.keyset,
            lease: self.lease,
            number: walk.batches + 1,
            phase: walk.phase,
            cursor: walk.cursor.as_ref(),
            end: &walk.end,
            rows: self.rows(walk),
            target: self.pace.borrow().batch_target(engine.batch_target),
            before: walk.before,
            tries,
            proved: walk.proved,
        };
        let work =
            async |conn: &mut PgConnection| batch.run(conn, engine).await.map_err(Failure::from);
        let mut pace = self.pace.clone();
        tokio::select! {
            biased;
            done = self.author.run(work) => Some(done),
            _ = pace.wait_for(|pace| pace.order == Order::Cancel) => None,
        }
    }

    /// After a batch that failed: smaller, later, or without this range.
    async fn recover(
        &mut self,
        mut walk: Walk,
        failure: Failure,
        patience: &mut Patience,
    ) -> Result<Walk, Interrupt> {
        patience.note(&failure);
        self.failed = Some(failure.to_string());
        let engine = &self.runner.engine;
        let smallest = self.rows(&walk) <= engine.batch_min;
        match failure.remedy(smallest, patience.failures(), engine.tries) {
            Remedy::Reread => return Err(failure.into()),
            Remedy::GiveUp => {
                let place = self.after(&walk);
                return Err(self.give_up(&place, &failure));
            }
            Remedy::Halve => {
                walk.rows = (self.rows(&walk) / 2).max(engine.batch_min);
                walk.before = None;
                if failure.is_contention() {
                    self.rest(RETRYING, patience.pause()).await?;
                }
                // Tries are counted at the smallest size.
                patience.reset();
            }
            Remedy::Wait => self.rest(RETRYING, patience.pause()).await?,
            Remedy::SetAside if self.set_aside(&mut walk, &failure, patience).await? => {
                patience.reset();
                patience.told();
                self.failed = None;
            }
            Remedy::SetAside => walk = self.unheard(&walk, patience).await?,
        }
        Ok(walk)
    }

    /// Reports the range and goes on behind it; `false` when the ledger did not take that.
    async fn set_aside(
        &self,
        walk: &mut Walk,
        failure: &Failure,
        patience: &Patience,
    ) -> Result<bool, Interrupt> {
        let (keyset, lease, engine) = (&self.keyset, self.lease, &self.runner.engine);
        let (rows, tries) = (self.rows(walk), patience.tries());
        let pending = (walk.phase == Phase::Sweep).then_some(self.definition.pending.as_str());
        let (code, error) = (failure.sqlstate(), failure.to_string());
        let (cursor, end) = (&walk.cursor, &walk.end);
        let aside = self
            .author
            .run(async |conn| {
                let mut tx = begin(conn, engine).await?;
                let range = keyset
                    .next(&mut tx, cursor.as_ref(), end, rows, pending)
                    .await?;
                let Some(range) = range else {
                    tx.rollback().await?;
                    return Ok(None);
                };
                regain(&mut tx, engine, APPLICATION).await?;
                let contended = failure.is_contention();
                let (code, error) = (code.as_deref(), error.as_str());
                let held =
                    ledger::quarantine(&mut tx, lease, &range, code, error, contended, tries)
                        .await?;
                let open = ledger::quarantined(&mut tx, lease.run).await?;
                tx.commit().await?;
                Ok::<_, Failure>(Some((range, held, open)))
            })
            .await;
        // It may be that not even its keys can be read, or not which of its rows are pending.
        let aside = aside.map_err(|err| {
            let place = self.after(walk);
            let place = format!("{place}, where the rows cannot be set aside ({error}),");
            self.give_up_or_retry(&place, err)
        })?;
        let Some((Range { lower, upper, .. }, held, open)) = aside else {
            return Ok(true);
        };
        if !held {
            return Ok(false);
        }
        let range = keyset.names().range(lower.as_ref(), &upper);
        warn!(run = lease.run, range, %error, "range set aside");
        if open > i64::from(engine.quarantine_max) {
            return Err(Interrupt::Broken(format!(
                "{open} ranges could not be changed, the last because: {error}"
            )));
        }
        walk.cursor = Some(upper);
        Ok(true)
    }

    /// What follows a failure at `place` where there is nothing that could be set aside.
    fn give_up_or_retry(&self, place: &str, failure: Failure) -> Interrupt {
        match failure.fault() {
            Fault::Row | Fault::Unreadable | Fault::Permanent => self.give_up(place, &failure),
            _ => failure.into(),
        }
    }

    /// The end of a run by a failure, with where it happened and what to do.
    fn give_up(&self, place: &str, failure: &Failure) -> Interrupt {
        let (name, why) = (&self.definition.name, failure.to_string());
        Interrupt::Broken(if failure.is_of_encoding() {
            format!(
                "{place} a key or a value cannot be told in UTF-8: {why}. Correct it, or walk by \
                 another unique key (`-- key: ...`); then `evenkeel migrate resume {name}`, or cancel \
                 the run and start it anew where its file has changed"
            )
        } else if matches!(failure, Failure::Database(_)) {
            format!("{place} the database refuses the migration's SQL: {why}")
        } else {
            format!("{place} {why}")
        })
    }
}
