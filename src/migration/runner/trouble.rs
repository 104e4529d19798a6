//! What becomes of a run whose work fails: it goes on, or it ends in a state with a reason.
//!
//! A failure counts once the ledger can be written again. When as many in a row as its kind is allowed
//! came to nothing at the same place of the run, it has failed. Waiting is no failure: for a
//! connection that shoppers need, and for a database that cannot be reached, where nothing could be
//! written down anyway.

use std::time::Instant;

use pool::PoolError;
use pressure::pace::Pace;
use tokio::sync::watch;
use tracing::warn;

use super::{End, Interrupt, Runner, rest};
use crate::migration::fault::Fault;
use crate::migration::keyset::KeyNames;
use crate::migration::ledger::{self, Lease, Phase, Run, State, Statement, Step};
use crate::migration::retry::{Failure, Patience};
use crate::migration::spent::{RETRYING, Spent};

/// Failures in a row of a session, or of work that is no batch, at one place: with the pauses between
/// them about seven seconds.
const TRIES: u32 = 8;
/// The same of what the server lacks, such as disk space, which somebody may be mending: about a minute.
const TRIES_OF_ENVIRONMENT: u32 = 30;

/// Failures since the run last came on.
#[derive(Default)]
pub(super) struct Trouble {
    place: Option<Place>,
    failures: u32,
    pauses: Patience,
}

/// How far a run is. While that stays the same, nothing was achieved.
#[derive(PartialEq)]
struct Place {
    step: Option<Step>,
    statements: usize,
    phase: Phase,
    pass: i32,
    batches: i64,
    cursor: Option<Vec<String>>,
}

impl Place {
    fn of(run: &Run, statements: &[Statement]) -> Self {
        Self {
            step: run.step,
            statements: statements.iter().filter(|s| s.done_at.is_some()).count(),
            phase: run.phase,
            pass: run.sweep_pass,
            batches: run.batches,
            cursor: run.cursor.clone(),
        }
    }
}

impl Trouble {
    /// One more failure at `place`.
    fn count(&mut self, place: Place) -> u32 {
        if self.place.as_ref() != Some(&place) {
            self.place = Some(place);
            self.failures = 0;
            self.pauses.reset();
        }
        self.failures += 1;
        self.failures
    }
}

/// Where in its work `run` is, for people.
fn describe(run: &Run, names: &KeyNames) -> String {
    match (run.step, &run.cursor, &run.end_key) {
        (Some(step @ (Step::Expand | Step::Contract)), ..) => {
            format!("in the {} step", step.name())
        }
        (_, _, None) => "before the first batch".to_owned(),
        (_, cursor, Some(_)) => after(names, cursor.as_deref(), run.phase),
    }
}

/// Where in its table a walk is, for people.
pub(super) fn after(names: &KeyNames, cursor: Option<&[String]>, phase: Phase) -> String {
    let what = match phase {
        Phase::Main => "batch",
        Phase::Sweep => "batch of the sweep",
    };
    match cursor {
        Some(key) => format!("in the {what} after {}", names.key(key)),
        None => format!("in the first {what}"),
    }
}

impl Runner {
    /// Decides what follows a failure: `None` when the run goes on, after a pause.
    pub(super) async fn endure(
        &self,
        lease: Lease,
        failure: Failure,
        pace: &watch::Receiver<Pace>,
        trouble: &mut Trouble,
    ) -> Option<End> {
        warn!(run = lease.run, error = %failure, "reading the ledger again");
        let pace = pace
            .borrow()
            .waiting(RETRYING, &failure.to_string(), Instant::now());
        let (run, place, names) = match self.hold(lease, &pace, trouble).await {
            Ok(read) => read,
            Err(end) => return Some(end),
        };
        let fault = failure.fault();
        let most = match fault {
            Fault::Environment => TRIES_OF_ENVIRONMENT,
            _ => TRIES,
        };
        if fault != Fault::Busy {
            let failures = trouble.count(place);
            if failures >= most {
                let why = format!(
                    "tried {failures} times {}, the last time with: {}; mend that, or see the server's \
                     log for its cause, then `evenkeel migrate resume {}`",
                    describe(&run, &names),
                    failure,
                    run.migration
                );
                return Some(self.fail(lease, &why, &pace, trouble).await);
            }
        }
        let until = Instant::now() + trouble.pauses.pause();
        while let left = until.saturating_duration_since(Instant::now())
            && !left.is_zero()
            && !self.stop.is_cancelled()
        {
            self.pause(left.min(self.renew_every())).await;
            // What cannot be written is decided by what the ledger says when it is read next.
            let renewed = self.renew(lease, &pace, &Spent::default()).await;
            if let Ok(Err(Interrupt::End(end))) = renewed.map(rest::heed) {
                return Some(end);
            }
        }
        None
    }

    /// Fails a run. As long as that cannot be written down, it is tried again.
    pub(super) async fn fail(
        &self,
        lease: Lease,
        why: &str,
        pace: &Pace,
        trouble: &mut Trouble,
    ) -> End {
        warn!(run = lease.run, %why, "run failed");
        // Not every database has every character, nor any a zero byte.
        let plain: String = why.chars().map(plain).collect();
        loop {
            for why in [why, &plain] {
                if self.finish(lease, State::Failed, Some(why)).await {
                    return End::Failed;
                }
            }
            if let Err(end) = self.hold(lease, pace, trouble).await {
                return end;
            }
            self.pause(trouble.pauses.pause()).await;
        }
    }

    /// The run as the ledger has it, as soon as that can be read and the lease renewed; else how the
    /// work on it ends.
    async fn hold(
        &self,
        lease: Lease,
        pace: &Pace,
        trouble: &mut Trouble,
    ) -> Result<(Run, Place, KeyNames), End> {
        let mut refused = 0;
        loop {
            if self.stop.is_cancelled() {
                self.finish(lease, State::Queued, None).await;
                return Err(End::ShutDown);
            }
            let read = async {
                rest::heed(self.renew(lease, pace, &Spent::default()).await?)?;
                self.query(async |conn| {
                    let run = ledger::find(conn, lease.run).await?;
                    let place = Place::of(&run, &ledger::statements(conn, lease.run).await?);
                    let names = run.key_names(conn).await;
                    Ok((run, place, names))
                })
                .await
            };
            match read.await {
                Ok(read) => return Ok(read),
                Err(Interrupt::End(end)) => return Err(end),
                // It does not open again.
                Err(Interrupt::Reread(Failure::Pool(PoolError::Closed))) => {
                    return Err(End::ShutDown);
                }
                Err(Interrupt::Reread(failure)) => {
                    warn!(run = lease.run, error = %failure, "no ledger");
                }
                // The ledger is gone or closed to this role: the end cannot be written there, and the
                // lease runs out.
                Err(Interrupt::Broken(why)) => {
                    warn!(run = lease.run, %why, "no ledger");
                    refused += 1;
                    if refused == TRIES {
                        return Err(End::LeaseLost);
                    }
                }
            }
            self.pause(trouble.pauses.pause()).await;
        }
    }
}

fn plain(c: char) -> char {
    match c {
        ' '..='~' => c,
        '\n' | '\t' => ' ',
        _ => '?',
    }
}
