//! The second proof of a run: before its contract step, or its end, the table is read by physical
//! position.

use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;
use tokio::sync::OwnedSemaphorePermit;
use tracing::{info, warn};

use super::{Drive, End, Interrupt};
use crate::migration::batch::session_name;
use crate::migration::ledger::{self, Phase, Run};
use crate::migration::physical::{self, Answer, Physical, Polite, Question};
use crate::migration::spent::{PROVING, TURNS};
use crate::migration::turns::Turn;

/// A drive that reads the table in turns with the other runs, as the pace lets it.
struct InTurn<'d, 'a> {
    drive: &'d mut Drive<'a>,
    turn: Option<Turn>,
}

/// Goes on after what only kept the ledger from being written: the lease says how long that may go on.
fn patient(waited: Result<(), Interrupt>) -> Result<(), Interrupt> {
    match waited {
        Err(Interrupt::Reread(failure)) => {
            warn!(error = %failure, "the lease cannot be renewed beside the second proof");
            Ok(())
        }
        waited => waited,
    }
}

impl Polite for InTurn<'_, '_> {
    type Stop = Interrupt;

    async fn permission(&mut self) -> Result<(), Interrupt> {
        // One that was kept through a failed portion would be waited for for ever.
        self.turn = None;
        loop {
            match self.drive.await_turn().await {
                Ok(turn) => {
                    self.turn = Some(turn);
                    return Ok(());
                }
                Err(interrupt) => patient(Err(interrupt))?,
            }
            self.drive
                .runner
                .pause(self.drive.runner.renew_every())
                .await;
        }
    }

    async fn rest(&mut self, took: Duration) -> Result<(), Interrupt> {
        self.drive.spent.on(PROVING, took);
        let Some(mut turn) = self.turn.take() else {
            return Ok(());
        };
        turn.worked(took);
        patient(self.drive.rest_after(took, turn).await)
    }

    fn target(&self) -> Duration {
        let full = self.drive.runner.engine.batch_target;
        self.drive.pace.borrow().batch_target(full)
    }
}

impl Drive<'_> {
    /// Proves by a physical read that nothing is pending, and writes down what it says. `false` when
    /// rows are pending and the table has to be swept again, which has begun then.
    pub(super) async fn prove(&mut self) -> Result<bool, Interrupt> {
        let lease = self.lease;
        self.note(&Physical::under_way()).await?;
        let proof = self.read_physically().await?;
        let run = self.note(&proof).await?;
        info!(run = lease.run, answer = ?proof.answer, reason = proof.reason, rows = proof.rows,
              pending = proof.pending, "second proof");
        if proof.answer != Answer::Pending {
            self.tell_at_end(&Interrupt::End(End::Completed)).await;
            return Ok(true);
        }
        self.refuse_endless(&run, &proof)?;
        match self.begin(Phase::Sweep, &run).await {
            // By the index the table is empty, which the next walk finds, too.
            Ok(_) | Err(Interrupt::End(End::Completed)) => Ok(false),
            Err(interrupt) => Err(interrupt),
        }
    }

    /// Writes down what is known, and reads the run.
    async fn note(&self, proof: &Physical) -> Result<Run, Interrupt> {
        let lease = self.lease;
        let noted = self.runner.query(async |conn: &mut PgConnection| {
            let held = ledger::note_proof(conn, lease, proof).await?;
            Ok((held, ledger::find(conn, lease.run).await?))
        });
        match noted.await? {
            (true, run) => Ok(run),
            (false, _) => Err(Interrupt::End(End::LeaseLost)),
        }
    }

    async fn read_physically(&mut self) -> Result<Physical, Interrupt> {
        if let Err(why) = self.runner.refuse_one_connection("it") {
            return Ok(Physical::unknown(why));
        }
        let _long = self.await_connection().await?;
        let (definition, keyset) = (self.definition.clone(), self.keyset.clone());
        let session = session_name(&definition.name, self.lease.run, physical::SESSION);
        let question = Question::new(&definition, &keyset, session);
        let runner = self.runner;
        let limit = runner.engine.proof_limit;
        let mut in_turn = InTurn {
            drive: self,
            turn: None,
        };
        physical::read(&runner.pool, &runner.engine, &question, limit, &mut in_turn).await
    }

    /// Waits until a connection may be held for long beside what other runs of this process hold.
    async fn await_connection(&mut self) -> Result<OwnedSemaphorePermit, Interrupt> {
        loop {
            self.await_permission().await?;
            let since = Instant::now();
            if let Some(permit) = self.runner.long_connection().await {
                return Ok(permit);
            }
            self.spent.on(TURNS, since.elapsed());
        }
    }

    /// Fails a run whose pending rows no sweep brings to an end: the one sweep between two reads found
    /// nothing and the same rows are still there, or there were as many sweeps as there may be.
    fn refuse_endless(&mut self, run: &Run, proof: &Physical) -> Result<(), Interrupt> {
        let named = proof.named.clone();
        let before = self.missed.replace((run.sweep_pass, named));
        let stays = before.is_some_and(|(sweep, named)| {
            sweep + 1 == run.sweep_pass && proof.named.iter().any(|key| named.contains(key))
        });
        let most = i64::from(self.runner.engine.sweeps_max);
        if !stays && i64::from(run.sweep_pass) < most {
            return Ok(());
        }
        let why = if stays {
            format!(
                "the walk by the index {} does not meet them, and the sweep between two reads of \
                 the table found none: the index is damaged, or its operator class or collation \
                 does not order keys as its operators compare them. Check it (amcheck's \
                 bt_index_check), repair it (REINDEX INDEX CONCURRENTLY) or name another key",
                self.keyset.index
            )
        } else {
            format!(
                "{} sweeps by the index {} found none at their end: the shop goes on writing such \
                 rows, or the index does not lead to all rows",
                run.sweep_pass, self.keyset.index
            )
        };
        Err(Interrupt::Broken(format!(
            "read by physical position the table still has {} rows for which `{}` is true, for \
             example {}; {why}, then `evenkeel migrate resume {}`",
            proof.pending,
            self.definition.pending,
            proof.examples(),
            self.definition.name
        )))
    }
}
