//! One try of a schema statement.

use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use pressure::pace::Order;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor, Row};
use tracing::warn;

use super::super::{End, Interrupt};
use super::{Miss, Steps};
use crate::migration::batch::{OURS, session_name};
use crate::migration::change::{Ddl, Manner};
use crate::migration::fault::Fault;
use crate::migration::ledger;
use crate::migration::retry::Failure;

/// After this time it is looked who is in the way of a statement; then ever more seldom.
const LOOK: Duration = Duration::from_millis(50);

/// Fails outside of a transaction: a statement that ends ours has not been done in it.
const STILL_OPEN: &str = "SAVEPOINT evenkeel; RELEASE SAVEPOINT evenkeel";

/// Somebody who holds what a statement waits for.
#[derive(sqlx::FromRow)]
struct Holder {
    pid: i32,
    application_name: String,
    state: Option<String>,
    /// Age of its transaction in seconds.
    age: Option<f64>,
}

/// The one whose transaction is the oldest of those in the way of the session `$1`.
const HOLDER: &str = "
    SELECT a.pid, a.application_name, a.state,
           extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS age
      FROM unnest(pg_blocking_pids($1)) AS blocking (pid)
      JOIN pg_stat_activity a USING (pid)
     ORDER BY a.xact_start LIMIT 1";

/// The index `$1` of the table `$2`: its name as SQL, whether it is valid, and who builds it.
const INDEX: &str = "
    SELECT format('%I.%I', n.nspname, c.relname), i.indisvalid,
           (SELECT p.pid FROM pg_stat_progress_create_index p WHERE p.index_relid = c.oid)
      FROM pg_index i
      JOIN pg_class c ON c.oid = i.indexrelid
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relname = $1 AND i.indrelid = to_regclass($2)";

impl Steps<'_> {
    /// Tries `ddl`, the statement `number` of the file, unless the ledger or the schema says that it
    /// is done.
    pub(super) async fn attempt(
        &mut self,
        number: i32,
        ddl: &Ddl,
        begun: ledger::Begun,
    ) -> Result<(), Miss> {
        match &ddl.manner {
            _ if begun.done => {}
            Manner::Brief => {
                let limit = self.runner.engine.statement_timeout;
                return self.in_transaction(number, &ddl.sql, limit).await;
            }
            // Zero is no limit: it keeps nobody out.
            Manner::Scan => return self.in_transaction(number, &ddl.sql, Duration::ZERO).await,
            Manner::BuildIndex { index, table } => {
                let found = self.index(index, table).await?;
                let is_ours = begun.before && matches!(found, Some((_, true)));
                if !is_ours {
                    self.drop_invalid(found).await?;
                    let built = self.alone(&ddl.sql, begun.before).await;
                    if matches!(built, Err(Miss::Refused(_))) {
                        // An invalid unique index goes on refusing rows.
                        let left = self.index(index, table).await?;
                        self.drop_invalid(left).await?;
                    }
                    built?;
                }
            }
            Manner::DropIndex { index } => {
                let exists = self
                    .runner
                    .query(async |conn| {
                        let exists = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL");
                        Ok(exists.bind(index).fetch_one(conn).await?)
                    })
                    .await?;
                // Where nobody has tried to drop it, its absence is an error.
                if exists || !begun.before {
                    self.alone(&ddl.sql, begun.before).await?;
                }
            }
        }
        let (lease, actor) = (self.lease, &self.runner.holder);
        let finish = async |conn: &mut PgConnection| {
            Ok(ledger::finish_statement(conn, lease, number, actor).await?)
        };
        if self.runner.query(finish).await? {
            return Ok(());
        }
        self.heed().await?;
        Err(Miss::Unheard)
    }

    /// Runs a statement and its entry in the ledger in one transaction.
    async fn in_transaction(
        &mut self,
        number: i32,
        sql: &str,
        limit: Duration,
    ) -> Result<(), Miss> {
        let (runner, lease) = (self.runner, self.lease);
        let name = session_name(self.migration, lease.run, &format!("statement {number}"));
        let limits = |limit: Duration| {
            format!(
                "SET LOCAL application_name = '{name}'; SET LOCAL statement_timeout = {}; \
                 SET LOCAL lock_timeout = {}",
                limit.as_millis(),
                runner.engine.lock_timeout.as_millis()
            )
        };
        let begin = format!("BEGIN; {}", limits(limit));
        let regain = format!(
            "{OURS}; {STILL_OPEN}; DEALLOCATE ALL; {}",
            limits(runner.engine.statement_timeout)
        );
        let pid = AtomicI32::new(0);
        let work = async |conn: &mut PgConnection| {
            let mut tx = conn.begin_with(AssertSqlSafe(begin)).await?;
            pid.store(backend(&mut tx).await?, Ordering::Relaxed);
            tx.execute(AssertSqlSafe(sql.to_owned())).await?;
            tx.execute(AssertSqlSafe(regain)).await?;
            let held = ledger::finish_statement(&mut tx, lease, number, &runner.holder).await?;
            if held {
                tx.commit().await?;
            } else {
                tx.rollback().await?;
            }
            Ok::<_, Failure>(held)
        };
        let held = self.watched(&pid, runner.pool.run_alone(work)).await?;
        if held {
            return Ok(());
        }
        self.heed().await?;
        Err(Miss::Unheard)
    }

    /// Runs a statement that cannot be in a transaction. Waiting, it is in nobody's way: what it
    /// asks for conflicts with no reader and no writer.
    ///
    /// When it is tried `again`, the session of a holder that has died may still be at it; that the
    /// index came or went meanwhile is a reason to look once more.
    async fn alone(&mut self, sql: &str, again: bool) -> Result<(), Miss> {
        let pid = AtomicI32::new(0);
        let work = async |conn: &mut PgConnection| {
            pid.store(backend(conn).await?, Ordering::Relaxed);
            conn.execute(AssertSqlSafe(sql.to_owned())).await?;
            Ok::<_, Failure>(())
        };
        let pool = &self.runner.pool;
        let done = self.watched(&pid, pool.run_alone(work));
        match done.await {
            // Duplicate table (an index is one, too); undefined object.
            Err(Miss::Refused(failure))
                if again && matches!(failure.sqlstate().as_deref(), Some("42P07" | "42704")) =>
            {
                Err(Miss::Wait("an earlier try was still under way".to_owned()))
            }
            done => done,
        }
    }

    /// Awaits `work`, which runs a statement in the session `pid`; looks meanwhile who is in its way, and
    /// gives it up when a signal is critical, the lease is gone or the process stops.
    async fn watched<T>(
        &mut self,
        pid: &AtomicI32,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Miss> {
        let work = Box::pin(work);
        let mut pace = self.pace.clone();
        let stop = self.runner.stop.clone();
        let mut blocked = None;
        let done = {
            let look = Box::pin(self.look(pid, &mut blocked));
            tokio::select! {
                biased;
                done = work => done,
                _ = pace.wait_for(|pace| pace.order == Order::Cancel) => return Err(Miss::Cancelled),
                () = stop.cancelled() => return Err(Interrupt::End(End::ShutDown).into()),
                interrupt = look => return Err(interrupt.into()),
            }
        };
        let failure = match done {
            Ok(done) => return Ok(done),
            Err(failure) => failure,
        };
        Err(match failure.fault() {
            Fault::Contention if failure.sqlstate().as_deref() == Some("57014") => {
                Miss::TooLong(failure)
            }
            Fault::Contention => {
                let lock = || format!("another session's lock ({failure})");
                Miss::Wait(blocked.unwrap_or_else(lock))
            }
            Fault::Lost | Fault::Environment | Fault::Busy => Interrupt::Reread(failure).into(),
            Fault::Row | Fault::Permanent | Fault::Unreadable => Miss::Refused(failure),
        })
    }

    /// Looks, for as long as it is polled, who is in the way of the session `pid`, and renews the
    /// lease. Ends when the lease or the run does.
    async fn look(&mut self, pid: &AtomicI32, blocked: &mut Option<String>) -> Interrupt {
        let mut pause = LOOK;
        loop {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(self.runner.renew_every());
            let session = pid.load(Ordering::Relaxed);
            let holder: Result<Option<Holder>, Interrupt> = self
                .runner
                .query(async |conn| {
                    let holder = sqlx::query_as(HOLDER).bind(session);
                    Ok(holder.fetch_optional(conn).await?)
                })
                .await;
            if let Ok(holder) = holder {
                self.waits_for = holder.as_ref().map(Holder::describe);
                if self.waits_for.is_some() {
                    blocked.clone_from(&self.waits_for);
                }
            }
            match self.renew_if_due().await {
                // The statement has a connection; that the look has none is no reason to end it.
                Ok(()) | Err(Interrupt::Reread(_)) => {}
                Err(interrupt) => return interrupt,
            }
        }
    }

    async fn index(&self, index: &str, table: &str) -> Result<Option<(String, bool)>, Miss> {
        let found: Option<(String, bool, Option<i32>)> = self
            .runner
            .query(async |conn| {
                let found = sqlx::query_as(INDEX).bind(index).bind(table);
                Ok(found.fetch_optional(conn).await?)
            })
            .await?;
        match found {
            // Of a process that has lost the lease without noticing, or of a person.
            Some((name, false, Some(pid))) => {
                Err(Miss::Wait(format!("pid {pid} builds the index {name}")))
            }
            found => Ok(found.map(|(name, valid, _)| (name, valid))),
        }
    }

    /// Drops what a failed try has left behind.
    async fn drop_invalid(&mut self, found: Option<(String, bool)>) -> Result<(), Miss> {
        let Some((name, false)) = found else {
            return Ok(());
        };
        warn!(run = self.lease.run, index = %name, "dropping an invalid index");
        let drop = format!("DROP INDEX CONCURRENTLY {name}");
        self.alone(&drop, true).await
    }
}

impl Holder {
    fn describe(&self) -> String {
        let age = Duration::try_from_secs_f64(self.age.unwrap_or(0.0)).unwrap_or_default();
        format!(
            "pid {} ({}, {}) holds a lock; its transaction is {:.1?} old",
            self.pid,
            match self.application_name.as_str() {
                "" => "no application_name",
                name => name,
            },
            self.state.as_deref().unwrap_or("state unknown"),
            age
        )
    }
}

async fn backend(conn: &mut PgConnection) -> Result<i32, sqlx::Error> {
    // Nothing of ours is prepared before an author's statement, which may use the same name.
    let row = conn.fetch_one("SELECT pg_catalog.pg_backend_pid()").await?;
    row.try_get(0)
}
