//! Drives runs: takes the lease, walks the table batch by batch at the governor's pace, sweeps.
//!
//! The cursor in the ledger is the only truth. After anything unexpected (a cancelled batch, a lost
//! connection, a restart) the run is read again and goes on from there, so whether an interrupted
//! COMMIT took effect need not be known.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::batch::{Batch, Outcome, begin};
use super::definition::Definition;
use super::governor::{Governor, Sensors};
use super::keyset::{KeyValue, Keyset, KeysetError, Range};
use super::ledger::{self, Lease, Phase, Run, State};
use super::pace::{Order, Pace};
use super::retry::{Failure, Patience, Remedy};
use crate::class::Class;
use crate::config::{Engine, Pace as PaceSettings};
use crate::db::Pool;

/// The engine of one process.
#[derive(Clone)]
pub struct Runner {
    pool: Pool,
    sensors: Sensors,
    engine: Engine,
    pace: PaceSettings,
    /// Names this process in leases and events.
    holder: String,
    stop: CancellationToken,
    /// What the last drive has learnt of the shop, and when it ended.
    learnt: Arc<Mutex<Option<(Instant, Governor)>>>,
}

/// For this long what a drive has learnt of the shop is believed by the next.
const MEMORY: Duration = Duration::from_secs(60);

/// Why driving a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The sweep found nothing pending.
    Completed,
    /// It cannot go on by itself; the ledger says why.
    Failed,
    /// An operator paused or cancelled it.
    Stopped,
    /// Another process holds the lease.
    LeaseLost,
    /// This process shuts down; the lease was given back.
    ShutDown,
}

/// What interrupts the walk.
enum Interrupt {
    End(End),
    /// The run can never succeed as it is declared.
    Broken(String),
    /// The database failed; read the ledger and go on.
    Reread(Failure),
}

impl From<Failure> for Interrupt {
    fn from(failure: Failure) -> Self {
        if failure.is_permanent() {
            Self::Broken(format!(
                "the database refuses the migration's SQL: {failure}"
            ))
        } else {
            Self::Reread(failure)
        }
    }
}

/// A run under this process's lease.
struct Drive<'a> {
    runner: &'a Runner,
    lease: Lease,
    definition: Definition,
    keyset: Keyset,
    pace: watch::Receiver<Pace>,
    renewed: Instant,
}

/// A walk's position.
struct Walk {
    phase: Phase,
    cursor: Option<KeyValue>,
    end: KeyValue,
    rows: u32,
}

impl Runner {
    /// An engine that stops in order when `stop` is cancelled.
    pub fn new(
        sensors: Sensors,
        engine: Engine,
        pace: PaceSettings,
        stop: CancellationToken,
    ) -> Self {
        // The process id alone repeats across machines and containers.
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let holder = format!("evenkeel-{}-{}", std::process::id(), &unique[..8]);
        Self {
            pool: sensors.pool.clone(),
            sensors,
            engine,
            pace,
            holder,
            stop,
            learnt: Arc::default(),
        }
    }

    /// Takes and drives runs until the process shuts down.
    pub async fn run(&self) {
        while !self.stop.is_cancelled() {
            match self.take().await {
                Ok(Some(run)) => {
                    let end = self.drive(run).await;
                    if end == End::ShutDown {
                        return;
                    }
                }
                Ok(None) => self.pause(self.engine.poll).await,
                Err(failure) => {
                    warn!(error = %failure, "cannot look for runs");
                    self.pause(self.engine.poll).await;
                }
            }
        }
    }

    /// Takes the lease of the run that is due, if there is one.
    ///
    /// # Errors
    /// What the database or the pool says.
    pub async fn take(&self) -> Result<Option<Run>, Failure> {
        let take = async |conn: &mut PgConnection| {
            let mut tx = conn.begin().await?;
            let run = ledger::acquire(&mut tx, &self.holder, self.engine.lease).await?;
            tx.commit().await?;
            Ok(run)
        };
        self.pool.run(Class::Background, take).await
    }

    /// Drives `run`, whose lease this process has just taken, until it ends or the lease does.
    pub async fn drive(&self, run: Run) -> End {
        let (publish, pace) = watch::channel(Pace::initial(&self.pace, Instant::now()));
        let mut governor = self.governor(Instant::now());
        info!(run = run.id, migration = %run.migration, token = run.lease_token, "run taken");
        let end = tokio::select! {
            end = self.drive_at(run.clone(), pace) => end,
            // Publishes for as long as the drive lasts.
            () = governor.run(&self.sensors, publish) => End::ShutDown,
        };
        *self.learnt.lock() = Some((Instant::now(), governor));
        info!(run = run.id, migration = %run.migration, ?end, "run left");
        end
    }

    /// The governor of the last drive, unless that is long ago.
    fn governor(&self, now: Instant) -> Governor {
        match self.learnt.lock().take() {
            Some((ended, mut governor)) if now.saturating_duration_since(ended) < MEMORY => {
                governor.resume(now);
                governor
            }
            _ => Governor::new(self.pace.clone(), now),
        }
    }

    async fn drive_at(&self, run: Run, pace: watch::Receiver<Pace>) -> End {
        let lease = Lease {
            run: run.id,
            token: run.lease_token,
        };
        let mut patience = Patience::default();
        loop {
            let interrupt = match self.prepare(&run, lease, pace.clone()).await {
                Ok(mut drive) => drive.walk(&mut patience).await,
                Err(interrupt) => interrupt,
            };
            match interrupt {
                Interrupt::End(End::Completed) => {
                    if self.finish(lease, State::Completed, None).await {
                        return End::Completed;
                    }
                }
                Interrupt::End(End::ShutDown) => {
                    self.finish(lease, State::Queued, None).await;
                    return End::ShutDown;
                }
                Interrupt::End(end) => return end,
                Interrupt::Broken(why) => {
                    warn!(run = lease.run, %why, "run failed");
                    if self.finish(lease, State::Failed, Some(&why)).await {
                        return End::Failed;
                    }
                }
                Interrupt::Reread(failure) => {
                    warn!(run = lease.run, error = %failure, "reading the ledger again");
                    if self.stop.is_cancelled() {
                        self.finish(lease, State::Queued, None).await;
                        return End::ShutDown;
                    }
                    self.pause(patience.pause()).await;
                }
            }
            // What could not be written above is decided by what the ledger says now.
            match self.reread(lease).await {
                Ok(Some(State::Running)) => {}
                Ok(Some(_)) => return End::Stopped,
                Ok(None) => return End::LeaseLost,
                Err(failure) => warn!(run = lease.run, error = %failure, "no ledger"),
            }
        }
    }

    async fn prepare(
        &self,
        run: &Run,
        lease: Lease,
        pace: watch::Receiver<Pace>,
    ) -> Result<Drive<'_>, Interrupt> {
        let definition = Definition::parse(&run.migration, &run.definition)
            .map_err(|err| Interrupt::Broken(err.to_string()))?;
        let resolve = async |conn: &mut PgConnection| {
            let mut tx = begin(conn, &self.engine).await?;
            let keyset = match Keyset::resolve(&mut tx, &definition).await {
                Err(KeysetError::Database(err)) => return Err(Failure::from(err)),
                resolved => resolved,
            };
            tx.commit().await?;
            Ok(keyset)
        };
        let resolved = self.pool.run(Class::Background, resolve).await;
        let keyset = resolved
            .map_err(Interrupt::from)?
            .map_err(|err| Interrupt::Broken(err.to_string()))?;
        Ok(Drive {
            runner: self,
            lease,
            definition,
            keyset,
            pace,
            renewed: Instant::now(),
        })
    }

    async fn reread(&self, lease: Lease) -> Result<Option<State>, Failure> {
        let run = self
            .pool
            .run(Class::Background, async |conn: &mut PgConnection| {
                ledger::find(conn, lease.run).await.map_err(Failure::from)
            })
            .await?;
        Ok((run.lease_token == lease.token).then_some(run.state))
    }

    /// Ends the work on a run in the ledger; `false` when that was not possible.
    async fn finish(&self, lease: Lease, to: State, error: Option<&str>) -> bool {
        let finish = async |conn: &mut PgConnection| {
            let mut tx = conn.begin().await?;
            let done = ledger::finish(&mut tx, lease, to, error, &self.holder).await?;
            tx.commit().await?;
            Ok::<_, Failure>(done)
        };
        match self.pool.run(Class::Background, finish).await {
            Ok(done) => done,
            Err(failure) => {
                warn!(run = lease.run, error = %failure, "cannot write the end of a run");
                false
            }
        }
    }

    /// Sleeps, but not into a shutdown.
    async fn pause(&self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.stop.cancelled() => {}
        }
    }
}

impl Drive<'_> {
    /// Walks from where the ledger says until something ends or interrupts it.
    async fn walk(&mut self, patience: &mut Patience) -> Interrupt {
        match self.try_walk(patience).await {
            Ok(never) => match never {},
            Err(interrupt) => interrupt,
        }
    }

    async fn try_walk(
        &mut self,
        patience: &mut Patience,
    ) -> Result<std::convert::Infallible, Interrupt> {
        let mut walk = self.resume().await?;
        loop {
            self.await_permission().await?;
            let began = Instant::now();
            match self.batch(&walk).await {
                None => {
                    // Cancelled in flight: the ledger knows whether it was in time.
                    let rows = (walk.rows / 2).max(self.runner.engine.batch_min);
                    walk = self.resume().await?;
                    walk.rows = rows;
                }
                Some(Ok(Outcome::LeaseLost)) => walk = self.resume().await?,
                Some(Ok(Outcome::Exhausted)) => walk = self.turn(walk.phase).await?,
                Some(Ok(Outcome::Committed {
                    range,
                    next_rows,
                    state,
                    ..
                })) => {
                    patience.reset();
                    self.renewed = Instant::now();
                    if state != State::Running {
                        return Err(Interrupt::End(End::Stopped));
                    }
                    walk.cursor = Some(range.upper);
                    walk.rows = next_rows;
                    self.rest_after(began.elapsed()).await?;
                }
                Some(Err(failure)) => walk = self.recover(walk, failure, patience).await?,
            }
        }
    }

    /// The position that the ledger has; begins the main phase when the run is new.
    async fn resume(&self) -> Result<Walk, Interrupt> {
        let id = self.lease.run;
        let run = self
            .query(async |conn| Ok(ledger::find(conn, id).await?))
            .await?;
        if run.lease_token != self.lease.token {
            return Err(Interrupt::End(End::LeaseLost));
        }
        if run.state != State::Running {
            return Err(Interrupt::End(End::Stopped));
        }
        let engine = &self.runner.engine;
        let first = self.definition.batch_first.unwrap_or(engine.batch_first);
        let rows = run.batch_rows.and_then(|rows| u32::try_from(rows).ok());
        match run.end_key {
            Some(end) => Ok(Walk {
                phase: run.phase,
                cursor: run.cursor,
                end,
                rows: rows.unwrap_or(first),
            }),
            None => self.begin(Phase::Main, first).await,
        }
    }

    /// Begins a phase at the beginning of the table. An empty table completes the run.
    async fn begin(&self, phase: Phase, rows: u32) -> Result<Walk, Interrupt> {
        let (lease, keyset, engine) = (self.lease, &self.keyset, &self.runner.engine);
        let begun = self
            .query(async |conn| {
                let mut tx = begin(conn, engine).await?;
                let Some(end) = keyset.last(&mut tx).await? else {
                    ledger::resolve_quarantine(&mut tx, lease.run).await?;
                    tx.commit().await?;
                    return Ok(None);
                };
                let estimate = match phase {
                    Phase::Main => Some(keyset.estimate(&mut tx).await?.max(0)),
                    Phase::Sweep => None,
                };
                let held = ledger::begin_phase(&mut tx, lease, phase, &end, estimate).await?;
                tx.commit().await?;
                Ok(Some((end, held)))
            })
            .await?;
        match begun {
            None => Err(Interrupt::End(End::Completed)),
            Some((_, false)) => Err(Interrupt::End(End::LeaseLost)),
            Some((end, true)) => Ok(Walk {
                phase,
                cursor: None,
                end,
                rows,
            }),
        }
    }

    /// A phase has reached its end: sweep, sweep again, or be done.
    async fn turn(&self, phase: Phase) -> Result<Walk, Interrupt> {
        let id = self.lease.run;
        let run = self
            .query(async |conn| Ok(ledger::find(conn, id).await?))
            .await?;
        let engine = &self.runner.engine;
        if phase == Phase::Sweep {
            let found = run.sweep_found;
            if found == 0 {
                self.query(async |conn| Ok(ledger::resolve_quarantine(conn, id).await?))
                    .await?;
                return Err(Interrupt::End(End::Completed));
            }
            if i64::from(run.sweep_pass) >= i64::from(engine.sweeps_max) {
                return Err(Interrupt::Broken(format!(
                    "sweep {} still found {found} rows pending: either the statement does not make \
                     `{}` false, or rows are set aside (see the quarantine), or the shop goes on \
                     writing such rows",
                    run.sweep_pass, self.definition.pending
                )));
            }
        }
        let rows = run.batch_rows.and_then(|rows| u32::try_from(rows).ok());
        self.begin(Phase::Sweep, rows.unwrap_or(engine.batch_first))
            .await
    }

    /// Rows that a batch of `walk` covers.
    fn rows(&self, walk: &Walk) -> u32 {
        walk.rows.min(self.definition.batch_max.unwrap_or(u32::MAX))
    }

    /// Runs one batch; `None` when it was cancelled in flight by a critical signal.
    async fn batch(&mut self, walk: &Walk) -> Option<Result<Outcome, Failure>> {
        let engine = &self.runner.engine;
        let batch = Batch {
            definition: &self.definition,
            keyset: &self.keyset,
            lease: self.lease,
            phase: walk.phase,
            cursor: walk.cursor.as_ref(),
            end: &walk.end,
            rows: self.rows(walk),
            target: self.pace.borrow().batch_target(engine.batch_target),
        };
        let work =
            async |conn: &mut PgConnection| batch.run(conn, engine).await.map_err(Failure::from);
        let mut pace = self.pace.clone();
        tokio::select! {
            biased;
            done = self.runner.pool.run(Class::Background, work) => Some(done),
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
        let engine = &self.runner.engine;
        let smallest = self.rows(&walk) <= engine.batch_min;
        match failure.remedy(smallest, patience.failures(), engine.tries) {
            Remedy::Reread | Remedy::GiveUp => return Err(failure.into()),
            Remedy::Halve => {
                walk.rows = (self.rows(&walk) / 2).max(engine.batch_min);
                if failure.is_contention() {
                    self.rest(patience.pause()).await?;
                }
                // Tries are counted at the smallest size.
                patience.reset();
            }
            Remedy::Wait => self.rest(patience.pause()).await?,
            Remedy::SetAside => {
                self.set_aside(&mut walk, &failure).await?;
                patience.reset();
            }
        }
        Ok(walk)
    }

    async fn set_aside(&self, walk: &mut Walk, failure: &Failure) -> Result<(), Interrupt> {
        let (keyset, lease, engine) = (&self.keyset, self.lease, &self.runner.engine);
        let rows = self.rows(walk);
        let pending = (walk.phase == Phase::Sweep).then_some(self.definition.pending.as_str());
        let (code, error) = (failure.sqlstate(), failure.to_string());
        let (cursor, end) = (&walk.cursor, &walk.end);
        let aside = self
            .query(async |conn| {
                let mut tx = begin(conn, engine).await?;
                let range = keyset
                    .next(&mut tx, cursor.as_ref(), end, rows, pending)
                    .await?;
                let Some(range) = range else {
                    tx.rollback().await?;
                    return Ok(None);
                };
                let held =
                    ledger::quarantine(&mut tx, lease, &range, code.as_deref(), &error).await?;
                let open = ledger::quarantined(&mut tx, lease.run).await?;
                tx.commit().await?;
                Ok(Some((range, held, open)))
            })
            .await?;
        let Some((Range { lower, upper, .. }, held, open)) = aside else {
            return Ok(());
        };
        if !held {
            *walk = self.resume().await?;
            return Ok(());
        }
        warn!(run = lease.run, ?lower, ?upper, %error, "range set aside");
        if open > i64::from(engine.quarantine_max) {
            return Err(Interrupt::Broken(format!(
                "{open} ranges could not be changed, the last because: {error}"
            )));
        }
        walk.cursor = Some(upper);
        Ok(())
    }

    /// Waits until the pace lets a batch begin, renewing the lease meanwhile.
    async fn await_permission(&mut self) -> Result<(), Interrupt> {
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
    async fn rest_after(&mut self, took: Duration) -> Result<(), Interrupt> {
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
    async fn rest(&mut self, time: Duration) -> Result<(), Interrupt> {
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
    /// whether an operator wants something else.
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

    async fn query<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, Failure>,
    ) -> Result<T, Interrupt> {
        let done = self.runner.pool.run(Class::Background, work).await;
        done.map_err(Interrupt::from)
    }
}
