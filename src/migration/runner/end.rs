//! The end of the work on a run, in the ledger.

use pool::Class;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};
use tracing::warn;

use super::{End, Interrupt, Runner};
use crate::migration::certificate::{self, IssueError};
use crate::migration::keyset::TEXT_FORMS;
use crate::migration::ledger::{self, Lease, State};
use crate::migration::retry::Failure;

impl Runner {
    /// Ends the work on a run in the ledger; `false` when that was not possible.
    pub(super) async fn finish(&self, lease: Lease, to: State, error: Option<&str>) -> bool {
        match self.try_finish(lease, to, error).await {
            Ok(done) => done,
            Err(failure) => {
                warn!(run = lease.run, error = %failure, "cannot write the end of a run");
                false
            }
        }
    }

    /// Completes a run with its certificate. One that cannot have any, because its last step took away
    /// what it was walked by, has failed.
    pub(super) async fn complete(&self, lease: Lease) -> Result<End, Interrupt> {
        match self.try_finish(lease, State::Completed, None).await {
            Ok(true) => Ok(End::Completed),
            // The ledger says why not.
            Ok(false) => Err(Interrupt::Reread(Failure::Database(
                sqlx::Error::RowNotFound,
            ))),
            Err(err) if err.is_permanent() => Err(Interrupt::Broken(format!(
                "the walk has come to its end, but it cannot be certified: {err}"
            ))),
            Err(err) => Err(Failure::from(err).into()),
        }
    }

    async fn try_finish(
        &self,
        lease: Lease,
        to: State,
        error: Option<&str>,
    ) -> Result<bool, IssueError> {
        let finish = async |conn: &mut PgConnection| {
            let begin = format!("BEGIN; {TEXT_FORMS}");
            let mut tx = conn.begin_with(AssertSqlSafe(begin)).await?;
            let done = ledger::finish(&mut tx, lease, to, error, &self.holder).await?;
            if done && to == State::Completed {
                certificate::issue(&mut tx, lease.run).await?;
            }
            tx.commit().await?;
            Ok(done)
        };
        match to {
            // The certificate asks the planner about the author's conditions.
            State::Completed => self.pool.author().run(finish).await,
            // That authors' sessions cannot be had may be the very reason.
            _ => self.pool.run(Class::Background, finish).await,
        }
    }
}
