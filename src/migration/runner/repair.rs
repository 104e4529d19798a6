//! Ranges that are set aside, tried once more when an operator asks for it.

use pressure::pace::Order;
use sqlx::postgres::PgConnection;
use tracing::{info, warn};

use super::{DEAF, Drive, Interrupt};
use crate::migration::batch::{APPLICATION, apply_again, begin, regain};
use crate::migration::checksum::Checksum;
use crate::migration::keyset::Range;
use crate::migration::ledger::{self, Phase, SetAside, Tries};
use crate::migration::retry::{Failure, Patience, Remedy};
use crate::migration::spent::RETRYING;

/// Ranges that a message names at most.
const NAMED: i64 = 5;

/// How a try to repair a range ended that did not fail.
enum Repaired {
    Done,
    /// The ledger did not take it; it was rolled back.
    Unheard,
    /// Rows that it changed, now or before, are pending all the same; it was rolled back.
    StillPending(String),
}

impl Drive<'_> {
    /// Tries every range that is set aside once more, where an operator has asked for that. A run
    /// that was in its sweep ends at once when some of them fail again; one that was in its main
    /// phase goes on with it.
    pub(super) async fn repair_if_asked(
        &mut self,
        patience: &mut Patience,
    ) -> Result<(), Interrupt> {
        let lease = self.lease;
        let run = self.runner.read(lease).await?;
        if !run.repairing {
            return Ok(());
        }
        let next =
            async |conn: &mut PgConnection| Ok(ledger::next_to_repair(conn, lease.run).await?);
        while let Some(entry) = self.runner.query(next).await? {
            self.repair(&entry, patience).await?;
        }
        self.runner
            .query(async |conn| Ok(ledger::end_repair(conn, lease).await?))
            .await?;
        let open = self
            .runner
            .query(async |conn| Ok(ledger::set_aside(conn, lease.run, NAMED).await?))
            .await?;
        if run.phase == Phase::Sweep && !open.is_empty() {
            return Err(Interrupt::Broken(
                self.name_ranges("ranges that are set aside failed once more", &open),
            ));
        }
        Ok(())
    }

    /// The end of a run whose sweep found nothing but what is set aside.
    pub(super) async fn stuck(&self, found: i64) -> Result<Interrupt, Interrupt> {
        let run = self.lease.run;
        let open = self
            .runner
            .query(async |conn| Ok(ledger::set_aside(conn, run, NAMED).await?))
            .await?;
        let what =
            format!("{found} rows are still pending, all of them in ranges that are set aside");
        Ok(Interrupt::Broken(self.name_ranges(&what, &open)))
    }

    fn name_ranges(&self, what: &str, open: &[SetAside]) -> String {
        let columns = self.keyset.names();
        let names: Vec<_> = open.iter().map(|entry| entry.describe(&columns)).collect();
        let name = &self.definition.name;
        format!(
            "{what}: {}. `evenkeel migrate quarantine {name}` lists them; repair the rows or what \
             they break, then `evenkeel migrate retry {name}`",
            names.join("; ")
        )
    }

    /// The range of `entry`, for people.
    fn told(&self, entry: &SetAside) -> String {
        let names = self.keyset.names();
        names.range(entry.lower_key.as_ref(), &entry.upper_key)
    }

    /// Tries `entry` until it is done, or fails for good.
    async fn repair(&mut self, entry: &SetAside, patience: &mut Patience) -> Result<(), Interrupt> {
        patience.reset();
        loop {
            let mut turn = self.await_turn().await?;
            let began = std::time::Instant::now();
            let mut pace = self.pace.clone();
            let tried = tokio::select! {
                biased;
                tried = self.try_repair(entry, patience.tries()) => tried,
                _ = pace.wait_for(|pace| pace.order == Order::Cancel) => {
                    patience.note_cancelled();
                    // The ledger knows whether it was in time.
                    return Ok(());
                }
            };
            turn.worked(began.elapsed());
            match tried {
                Ok(Repaired::Done) => {
                    info!(
                        run = self.lease.run,
                        range = self.told(entry),
                        "range repaired"
                    );
                    patience.told();
                    self.failed = None;
                    return self.rest_after(began.elapsed(), turn).await;
                }
                Ok(Repaired::Unheard) => {
                    // Says so where the lease is lost.
                    self.resume().await?;
                    let why = format!("{} was changed: {DEAF}", self.told(entry));
                    return Err(Interrupt::Broken(why));
                }
                Ok(Repaired::StillPending(why)) => return Err(Interrupt::Broken(why)),
                Err(failure) => {
                    drop(turn);
                    patience.note(&failure);
                    self.failed = Some(failure.to_string());
                    let tries = self.runner.engine.tries;
                    match failure.remedy(true, patience.failures(), tries) {
                        Remedy::Reread | Remedy::GiveUp => return Err(failure.into()),
                        Remedy::Wait => self.rest(RETRYING, patience.pause()).await?,
                        Remedy::Halve | Remedy::SetAside => {
                            return self.leave_aside(entry, &failure).await;
                        }
                    }
                }
            }
        }
    }

    async fn leave_aside(&self, entry: &SetAside, failure: &Failure) -> Result<(), Interrupt> {
        let (lease, id) = (self.lease, entry.id);
        let (code, error) = (failure.sqlstate(), failure.to_string());
        warn!(run = lease.run, range = self.told(entry), %error, "range stays set aside");
        self.runner
            .query(async |conn| {
                Ok(ledger::failed_again(conn, lease, id, code.as_deref(), &error).await?)
            })
            .await
    }

    /// Runs the statement over the range and writes that down, in one transaction.
    async fn try_repair(&self, entry: &SetAside, tries: &Tries) -> Result<Repaired, Failure> {
        let (definition, keyset, lease) = (&self.definition, &self.keyset, self.lease);
        let engine = &self.runner.engine;
        let (lower, upper) = (entry.lower_key.as_ref(), &entry.upper_key);
        let work = async |conn: &mut PgConnection| {
            let mut tx = begin(conn, engine).await?;
            let summed = Checksum::new(definition, keyset)
                .read(&mut tx, definition, keyset, lower, upper)
                .await?;
            let range = Range {
                lower: lower.cloned(),
                upper: upper.clone(),
                seen: summed.rows,
                todo: Some(summed.pending),
            };
            let ours = (engine, APPLICATION);
            let applied =
                apply_again(&mut tx, definition, keyset, &range, lease.run, true, ours).await?;
            if let Some(why) = applied.still_pending {
                tx.rollback().await?;
                return Ok(Repaired::StillPending(why));
            }
            let changed = applied.changed;
            regain(&mut tx, engine, APPLICATION).await?;
            if !ledger::repaired(&mut tx, lease, entry.id, &range, changed, tries).await? {
                tx.rollback().await?;
                return Ok(Repaired::Unheard);
            }
            tx.commit().await?;
            Ok(Repaired::Done)
        };
        self.author.run(work).await
    }
}
