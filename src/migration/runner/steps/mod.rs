//! The steps of a change: schema statements, the walk between them, and schema statements again.
//!
//! A schema statement begins only while shoppers are within target, and gives up after
//! `lock_timeout`, because whoever asks for the same table after it waits behind it. It is tried
//! again with growing, jittered pauses, and meanwhile the run says who holds the lock. In a
//! transaction, the statement and its entry in the ledger commit together. CONCURRENTLY cannot be in
//! one: such a statement is looked for before it is tried again.

mod attempt;
mod wait;

use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use pressure::pace::Pace;
use tokio::sync::watch;
use tracing::{info, warn};

use super::{DEAF, End, Interrupt, Patience, Run, Runner};
use crate::migration::change::{Ddl, Manner};
use crate::migration::definition::Definition;
use crate::migration::ledger::{self, Lease, Step};
use crate::migration::retry::Failure;
use crate::migration::spent::Spent;

/// The first pause after a lock was not to be had; it doubles, and is jittered.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Why a try of a statement did not do it.
enum Miss {
    /// Try again later.
    Wait(String),
    /// Cancelled by a critical signal: try again when that is over.
    Cancelled,
    /// The ledger did not take its entry, although the lease is ours.
    Unheard,
    /// Somebody cancelled it, or it took too long.
    TooLong(Failure),
    /// The database will not do it.
    Refused(Failure),
    Interrupt(Interrupt),
}

impl From<Interrupt> for Miss {
    fn from(interrupt: Interrupt) -> Self {
        Self::Interrupt(interrupt)
    }
}

/// Schema statements under this process's lease.
struct Steps<'a> {
    runner: &'a Runner,
    migration: &'a str,
    /// The declared change, in which the statements stand.
    text: &'a str,
    lease: Lease,
    pace: watch::Receiver<Pace>,
    renewed: Instant,
    /// What the current statement waits for, as a limit of the pace.
    waits_for: Option<String>,
    /// What time was spent on since the last renewal.
    spent: Spent,
}

impl Runner {
    /// Takes the run through the steps that it still has before it.
    pub(super) async fn advance(
        &self,
        run: &Run,
        lease: Lease,
        pace: &watch::Receiver<Pace>,
        patience: &mut Patience,
    ) -> Interrupt {
        // Boxed, as its parts are: the states of all steps together are too much for a stack.
        let advance = Box::pin(async {
            let definition = run
                .declared()
                .map_err(|err| Interrupt::Broken(err.to_string()))?;
            let (expand, contract) = (definition.expand.clone(), definition.contract.clone());
            let mut steps = Steps {
                runner: self,
                migration: &run.migration,
                text: &run.definition,
                lease,
                pace: pace.clone(),
                renewed: Instant::now(),
                waits_for: None,
                spent: Spent::default(),
            };
            self.refuse_long(&definition)?;
            // A plain migration has nothing to note.
            let has_steps = !expand.is_empty() || !contract.is_empty();
            let at = if has_steps {
                steps.at().await?
            } else {
                Step::Backfill
            };
            if at == Step::Expand {
                steps.run(Step::Expand, &expand, 0).await?;
            }
            if at != Step::Contract && definition.has_backfill() {
                if has_steps {
                    steps.enter(Step::Backfill).await?;
                }
                let mut drive = self.prepare(definition, lease, pace.clone()).await?;
                loop {
                    match Box::pin(drive.walk(patience)).await {
                        Interrupt::End(End::Completed) => {}
                        interrupt => return Err(interrupt),
                    }
                    if Box::pin(drive.prove()).await? {
                        break;
                    }
                }
            }
            steps.run(Step::Contract, &contract, expand.len()).await?;
            Err(Interrupt::End(End::Completed))
        });
        let advanced: Result<std::convert::Infallible, Interrupt> = advance.await;
        match advanced {
            Ok(never) => match never {},
            Err(interrupt) => interrupt,
        }
    }
}

impl Runner {
    /// Refuses a change with a statement that holds a connection for long, where it cannot have one.
    fn refuse_long(&self, definition: &Definition) -> Result<(), Interrupt> {
        let mut all = definition.expand.iter().chain(&definition.contract);
        let Some(long) = all.find(|ddl| ddl.manner != Manner::Brief) else {
            return Ok(());
        };
        let refused = self.refuse_one_connection(&format!("`{}`", long.sql));
        refused.map_err(|why| {
            let name = &definition.name;
            Interrupt::Broken(format!(
                "{why}, start the process again, then `evenkeel migrate resume {name}`"
            ))
        })
    }
}

impl Steps<'_> {
    /// The step that the ledger has; the first one when the run is new.
    async fn at(&self) -> Result<Step, Interrupt> {
        let run = self.runner.read(self.lease).await?;
        Ok(run.step.unwrap_or(Step::Expand))
    }

    async fn enter(&mut self, step: Step) -> Result<(), Interrupt> {
        let lease = self.lease;
        let entered = self
            .runner
            .query(async |conn| Ok(ledger::enter(conn, lease, step).await?));
        if entered.await? {
            return Ok(());
        }
        self.heed().await
    }

    /// Runs those of `statements` that are not done; `before` of the file come before them.
    async fn run(
        &mut self,
        step: Step,
        statements: &[Ddl],
        before: usize,
    ) -> Result<(), Interrupt> {
        for (number, ddl) in (before as i32 + 1..).zip(statements) {
            Box::pin(self.statement(step, number, ddl)).await?;
            self.waits_for = None;
        }
        Ok(())
    }

    /// Tries one statement until it is done.
    async fn statement(&mut self, step: Step, number: i32, ddl: &Ddl) -> Result<(), Interrupt> {
        let mut pauses = ExponentialBuilder::default()
            .with_min_delay(FIRST_PAUSE)
            .with_max_delay(LONGEST_PAUSE)
            .without_max_times()
            .with_jitter()
            .build();
        let (mut too_long, mut unheard) = (0, 0);
        loop {
            self.await_calm().await?;
            let mut long = None;
            if ddl.manner != Manner::Brief {
                long = self.long_connection().await?;
                if long.is_none() {
                    // Shoppers may suffer by now.
                    continue;
                }
            }
            let (lease, sql) = (self.lease, ddl.sql.as_str());
            let begun = self
                .runner
                .query(async |conn| {
                    Ok(ledger::begin_statement(conn, lease, number, step, sql).await?)
                })
                .await?;
            let tried = match begun {
                Some(begun) => Box::pin(self.attempt(number, ddl, begun)).await,
                None => self
                    .heed()
                    .await
                    .map_err(Miss::from)
                    .and(Err(Miss::Unheard)),
            };
            // What follows may be a rest.
            drop(long);
            let Err(miss) = tried else {
                info!(run = lease.run, step = step.name(), sql, "step done");
                return Ok(());
            };
            let why = match miss {
                Miss::Interrupt(interrupt) => return Err(interrupt),
                Miss::Refused(failure) => {
                    let failure = self.placed(ddl, failure);
                    return Err(Interrupt::Broken(format!("`{sql}` failed: {failure}")));
                }
                Miss::Cancelled => continue,
                Miss::Unheard => {
                    unheard += 1;
                    if unheard >= self.runner.engine.tries {
                        return Err(Interrupt::Broken(format!(
                            "`{sql}` came to nothing {unheard} times: {DEAF}"
                        )));
                    }
                    "the ledger did not take its entry".to_owned()
                }
                Miss::Wait(why) => why,
                Miss::TooLong(failure) => {
                    too_long += 1;
                    if too_long >= self.runner.engine.tries {
                        let why = match ddl.manner {
                            Manner::Brief => {
                                "it may keep everybody out of the table, so it has to be done \
                                 within migration.statement_timeout"
                            }
                            _ => {
                                "we set it no limit: see to the statement_timeout of the role and \
                                 of the database"
                            }
                        };
                        return Err(Interrupt::Broken(format!(
                            "`{sql}` was cancelled {too_long} times ({failure}): {why}"
                        )));
                    }
                    failure.to_string()
                }
            };
            warn!(run = lease.run, step = step.name(), sql, %why, "step waits");
            let noted = self
                .runner
                .query(async |conn| Ok(ledger::wait(conn, lease, number, &why).await?));
            noted.await?;
            self.waits_for = Some(why);
            self.rest(pauses.next().unwrap_or(LONGEST_PAUSE)).await?;
        }
    }

    /// `failure` of a statement with its place in the author's file.
    fn placed(&self, ddl: &Ddl, failure: Failure) -> Failure {
        match failure {
            Failure::Database(err) => {
                let file = format!("{}.sql", self.migration);
                Failure::Database(ddl.place(&file, self.text, err))
            }
            other => other,
        }
    }
}
