//! The end of the work on a run, in the ledger.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};
use tracing::warn;

use super::{End, Runner};
use crate::class::Class;
use crate::migration::certificate::{self, IssueError};
use crate::migration::keyset::TEXT_FORMS;
use crate::migration::ledger::{self, Lease, State};

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
    /// what it was walked by, has failed; `None` when neither could be written.
    pub(super) async fn complete(&self, lease: Lease) -> Option<End> {
        match self.try_finish(lease, State::Completed, None).await {
            Ok(done) => done.then_some(End::Completed),
            Err(failure) if failure.is_permanent() => {
                let why = format!("all is done, but it cannot be certified: {failure}");
                let failed = self.finish(lease, State::Failed, Some(&why)).await;
                failed.then_some(End::Failed)
            }
            Err(failure) => {
                warn!(run = lease.run, error = %failure, "cannot write the end of a run");
                None
            }
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
        self.pool.run(Class::Background, finish).await
    }
}
