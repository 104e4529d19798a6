//! Drives runs: takes the lease, walks the table batch by batch at the governor's pace, sweeps, and
//! proves a second time.
//!
//! The cursor in the ledger is the only truth. After anything unexpected (a cancelled batch, a lost
//! connection, a restart) the run is read again and goes on from there, so whether an interrupted
//! COMMIT took effect need not be known.

mod end;
mod prove;
mod repair;
mod rest;
mod shift;
mod steps;
mod trouble;
mod walk;

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pool::{Author, Class, Pool};
use pressure::pace::Pace;
use pressure::settings::PaceSettings;
use pressure::surroundings::{Driven, Driving};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::batch::begin;
use super::definition::Definition;
use super::fault::Fault;
use super::governor::{Governor, Sensors};
use super::keyset::{Keyset, KeysetError};
use super::ledger::{self, Lease, Run, State};
use super::retry::{Failure, Patience};
use super::spent::Spent;
use super::turns::{Seat, Turns};
use crate::config::Engine;
use trouble::Trouble;

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
    /// What the last shift has learnt of the shop, and when it ended.
    learnt: Arc<Mutex<Option<(Instant, Governor)>>>,
    /// The pace of the drives under way, or of the last.
    pace_now: watch::Sender<Pace>,
    turns: Turns,
    /// Connections that may be held for as long as a statement takes: all that background work may have but one,
    /// which is left for what is brief, the leases above all.
    long: Arc<Semaphore>,
}

/// A name for this process that no other has: its id alone repeats across machines and containers.
pub fn process_name() -> String {
    let unique = uuid::Uuid::new_v4().simple().to_string();
    format!("evenkeel-{}-{}", std::process::id(), &unique[..8])
}

/// Why an entry that the ledger has not taken is not tried for ever.
const DEAF: &str = "the ledger did not take it although this process holds the lease; see what keeps \
    rows of the schema evenkeel from being changed, a policy for example";

/// Why driving a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing is pending.
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
        match failure.fault() {
            Fault::Permanent => Self::Broken(match &failure {
                Failure::Database(_) => {
                    let why = failure.to_string();
                    format!("the database refuses the migration's SQL: {why}")
                }
                Failure::Pool(_) | Failure::Ledger(_) | Failure::Uncertified(_) => {
                    failure.to_string()
                }
            }),
            // Of a batch that would be smaller, or set aside; here there is none.
            Fault::Row | Fault::Unreadable => Self::Broken(failure.to_string()),
            Fault::Contention | Fault::Lost | Fault::Environment | Fault::Busy => {
                Self::Reread(failure)
            }
        }
    }
}

/// A run under this process's lease.
struct Drive<'a> {
    runner: &'a Runner,
    lease: Lease,
    definition: Definition,
    keyset: Keyset,
    /// For whatever evaluates the author's SQL.
    author: Author,
    /// The run's own pace: that of all, within what operators allow this one.
    pace: watch::Receiver<Pace>,
    /// The pace of all runs together.
    shared: watch::Receiver<Pace>,
    seat: Seat,
    renewed: Instant,
    spent: Spent,
    /// Why the last try came to nothing, until one does not.
    failed: Option<String>,
    /// The sweep before the last second proof, and pending rows that this one named.
    missed: Option<(i32, Vec<String>)>,
}

impl Runner {
    /// An engine that stops in order when `stop` is cancelled.
    pub fn new(
        sensors: Sensors,
        engine: Engine,
        pace: PaceSettings,
        stop: CancellationToken,
    ) -> Self {
        let holder = match &sensors.surroundings {
            Some(surroundings) => surroundings.process().to_owned(),
            None => process_name(),
        };
        let long = sensors.pool.gates()[Class::Background.index()]
            .max
            .saturating_sub(1);
        let (pace_now, _) = watch::channel(Pace::initial(&pace, Instant::now()));
        Self {
            pool: sensors.pool.clone(),
            sensors,
            engine,
            pace,
            pace_now,
            holder,
            stop,
            learnt: Arc::default(),
            turns: Turns::default(),
            long: Arc::new(Semaphore::new(long)),
        }
    }

    /// Takes and drives runs until the process shuts down.
    pub async fn run(&self) {
        // Asked before a lease is held, so that no run waits for it. A refusal ends the run that needs it.
        let _ = self.pool.refuse_shared_sessions().await;
        let mut failed = false;
        while !self.stop.is_cancelled() {
            let taken = self.take().await;
            let recovered = taken.is_ok() && std::mem::replace(&mut failed, taken.is_err());
            if recovered {
                info!("runs can be looked for again");
            }
            match taken {
                Ok(Some(run)) => self.govern(self.drive_all(run)).await,
                Ok(None) => self.pause(self.engine.poll).await,
                Err(failure) => {
                    if !std::mem::replace(&mut failed, true) {
                        warn!(error = %failure, "cannot look for runs");
                    }
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
        // A process that freezes here must not keep the others from taking over.
        let bounded = format!(
            "BEGIN; SET LOCAL statement_timeout = {timeout}; \
             SET LOCAL idle_in_transaction_session_timeout = {timeout}",
            timeout = self.engine.statement_timeout.as_millis()
        );
        let take = async |conn: &mut PgConnection| {
            let mut tx = conn.begin_with(AssertSqlSafe(bounded.clone())).await?;
            let run = ledger::acquire(&mut tx, &self.holder, self.engine.lease).await?;
            tx.commit().await?;
            Ok(run)
        };
        self.pool.run(Class::Background, take).await
    }

    /// Drives `run`, whose lease this process has just taken, until it ends or the lease does. It has
    /// the budget to itself.
    pub async fn drive(&self, run: Run) -> End {
        self.govern(self.drive_one(run)).await
    }

    async fn drive_one(&self, run: Run) -> End {
        let _driving = self.announce(&run);
        info!(run = run.id, migration = %run.migration, token = run.lease_token, "run taken");
        let (own, pace) = watch::channel(self.pace().borrow().clone());
        let end = tokio::select! {
            end = self.drive_at(run.clone(), pace) => end,
            never = self.cap(&run.migration, &own) => match never {},
        };
        info!(run = run.id, migration = %run.migration, ?end, "run left");
        end
    }

    /// Has the surroundings watched closely for as long as `run` is driven.
    fn announce(&self, run: &Run) -> Option<Driving> {
        let surroundings = self.sensors.surroundings.as_ref()?;
        // A definition that cannot be read fails the run a moment later, with a reason.
        let definition = Definition::parse(&run.migration, &run.definition).ok()?;
        Some(surroundings.drive(Driven {
            migration: run.migration.clone(),
            table: definition.table,
        }))
    }

    /// The pace at which this process drives, as it changes.
    pub fn pace(&self) -> watch::Receiver<Pace> {
        self.pace_now.subscribe()
    }

    async fn drive_at(&self, run: Run, pace: watch::Receiver<Pace>) -> End {
        let lease = Lease {
            run: run.id,
            token: run.lease_token,
        };
        let mut patience = Patience::default();
        let mut trouble = Trouble::default();
        let why = loop {
            let failure = match self.advance(&run, lease, &pace, &mut patience).await {
                Interrupt::End(End::Completed) => match self.complete(lease).await {
                    Ok(end) => return end,
                    Err(Interrupt::Reread(failure)) => failure,
                    Err(Interrupt::Broken(why)) => break why,
                    Err(Interrupt::End(end)) => return end,
                },
                Interrupt::End(End::ShutDown) => {
                    self.finish(lease, State::Queued, None).await;
                    return End::ShutDown;
                }
                Interrupt::End(end) => return end,
                Interrupt::Broken(why) => break why,
                Interrupt::Reread(failure) => failure,
            };
            if let Some(end) = self.endure(lease, failure, &pace, &mut trouble).await {
                return end;
            }
        };
        let pace = pace.borrow().clone();
        self.fail(lease, &why, &pace, &mut trouble).await
    }

    async fn prepare(
        &self,
        definition: Definition,
        lease: Lease,
        pace: watch::Receiver<Pace>,
    ) -> Result<Drive<'_>, Interrupt> {
        let resolve = async |conn: &mut PgConnection| {
            let mut tx = begin(conn, &self.engine).await?;
            let keyset = match Keyset::resolve(&mut tx, &definition).await {
                Err(KeysetError::Database(err)) => return Err(Failure::from(err)),
                resolved => resolved,
            };
            if let Ok(keyset) = &keyset {
                keyset.read_statement(&mut tx, &definition).await?;
            }
            let other = ledger::other_table(&mut tx, lease.run, &definition.table).await?;
            tx.commit().await?;
            Ok((keyset, other))
        };
        // The planner is asked about the author's conditions.
        let author = self.pool.author();
        let resolved = author.run(resolve).await;
        let (keyset, other) = resolved.map_err(Interrupt::from)?;
        let keyset = keyset.map_err(|err| Interrupt::Broken(err.to_string()))?;
        if let Some((then, now)) = other {
            return Err(Interrupt::Broken(format!(
                "the run was started for {then}, and to the process that drives it `{}` is {now}, because \
                 their search paths differ: write `-- table: {then}` into the file and into its \
                 statement, cancel the run and start it anew",
                definition.table
            )));
        }
        Ok(Drive {
            runner: self,
            lease,
            definition,
            keyset,
            author,
            pace,
            shared: self.pace(),
            seat: self.turns.join(lease.run),
            renewed: Instant::now(),
            spent: Spent::default(),
            failed: None,
            missed: None,
        })
    }

    /// The right to hold a connection for long; `None` when there is none before a lease is to be renewed.
    async fn long_connection(&self) -> Option<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.long).acquire_owned();
        let permit = tokio::time::timeout(self.renew_every(), permit).await;
        permit.ok()?.ok()
    }

    /// Refuses `what`, which holds a connection for as long as it lasts, where the lease could not be renewed
    /// beside it.
    fn refuse_one_connection(&self, what: &str) -> Result<(), String> {
        let max = self.pool.gates()[Class::Background.index()].max;
        if max > 1 {
            return Ok(());
        }
        Err(format!(
            "{what} holds a connection for as long as it lasts, and a second one renews the lease meanwhile, \
             but pool.background.max is {max}: set it to 2 or more"
        ))
    }

    /// Sleeps, but not into a shutdown.
    async fn pause(&self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Does `work`, which is on the ledger alone.
    async fn query<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, Failure>,
    ) -> Result<T, Interrupt> {
        let done = self.pool.run(Class::Background, work).await;
        done.map_err(Interrupt::from)
    }

    /// The run of `lease` as the ledger has it.
    async fn read(&self, lease: Lease) -> Result<Run, Interrupt> {
        self.query(async |conn| Ok(ledger::find(conn, lease.run).await?))
            .await
    }
}
