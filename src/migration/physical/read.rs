//! The read: attempts under one snapshot each, until one gets through or the time is up.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use pool::{Pool, PoolError};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};
use tracing::warn;

use super::leaves::{self, Leaf, difference};
use super::polite::Polite;
use super::portion::{Counted, Source};
use super::{Answer, NAMED, Physical, Question};
use crate::config::Engine;
use crate::migration::fault::Fault;
use crate::migration::keyset::TEXT_FORMS;
use crate::migration::retry::Failure;

/// Snapshots that are tried before the answer is unknown.
const ATTEMPTS: u32 = 5;
/// Half the pause before the second; it doubles.
const PAUSE: Duration = Duration::from_millis(50);
/// Blocks of the first portion.
const FIRST: i64 = 16;
/// Blocks of a portion at most.
const MOST: i64 = 16_384;
/// The pause after a portion that failed, at least, and before a lock is asked for again.
const RETRY: Duration = Duration::from_millis(200);
/// `lock_not_available`.
const LOCKED: &str = "55P03";
/// `query_canceled`: it took too long.
const CANCELLED: &str = "57014";

/// Why an attempt did not get through.
enum Miss<S> {
    /// Whoever decides has said so.
    Stop(S),
    /// Under another snapshot it may.
    Again(String),
    /// Somebody keeps everybody out of a table, or shoppers have the connections.
    Wait(String),
    /// Neither time nor another snapshot helps.
    Never(String),
    /// The time is up.
    Late,
}

impl<S> From<Failure> for Miss<S> {
    fn from(failure: Failure) -> Self {
        let why = failure.to_string();
        match failure.fault() {
            Fault::Busy => Self::Wait(why),
            Fault::Contention if failure.sqlstate().as_deref() == Some(LOCKED) => Self::Wait(why),
            Fault::Contention | Fault::Lost | Fault::Environment => Self::Again(why),
            Fault::Row | Fault::Permanent | Fault::Unreadable => Self::Never(why),
        }
    }
}

impl<S> From<PoolError> for Miss<S> {
    fn from(err: PoolError) -> Self {
        Failure::from(err).into()
    }
}

impl<S> From<sqlx::Error> for Miss<S> {
    fn from(err: sqlx::Error) -> Self {
        Failure::from(err).into()
    }
}

/// An attempt under way.
struct Attempt<'a, P> {
    question: &'a Question<'a>,
    engine: &'a Engine,
    polite: &'a mut P,
    /// When the time is up.
    until: Instant,
    /// What was found so far.
    found: Physical,
}

/// Reads the whole table that `question` is about, and counts the rows that are pending, within
/// `limit`. One connection of the pool's background share is held meanwhile. Nothing is written, so
/// `pool` may be a replica's.
///
/// # Errors
/// When `polite` has stopped it. Everything else is an [unknown](Answer::Unknown) answer.
pub async fn read<P: Polite>(
    pool: &Pool,
    engine: &Engine,
    question: &Question<'_>,
    limit: Duration,
    polite: &mut P,
) -> Result<Physical, P::Stop> {
    let began = Instant::now();
    let until = began + limit;
    let mut attempts = 0;
    let mut found = loop {
        // Also after a failure: whoever decides keeps a lease meanwhile, and hears of a shutdown.
        let left = until.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, polite.permission()).await {
            Ok(allowed) => allowed?,
            Err(_) => break Physical::unknown(over(limit)),
        }
        let mut tried = Attempt {
            question,
            engine,
            polite: &mut *polite,
            until,
            found: Physical::unknown(""),
        };
        let work = async |conn: &mut PgConnection| tried.run(conn).await;
        let done = pool.run_alone(work).await;
        let mut found = tried.found;
        let (why, pause) = match done {
            Ok(()) => break found,
            Err(Miss::Stop(stop)) => return Err(stop),
            Err(Miss::Late) => {
                found.reason = Some(over(limit));
                break found;
            }
            Err(Miss::Never(why)) => {
                found.reason = Some(why);
                break found;
            }
            Err(Miss::Wait(why)) => (why, RETRY),
            Err(Miss::Again(why)) => {
                attempts += 1;
                (why, PAUSE * 2_u32.pow(attempts))
            }
        };
        if attempts == ATTEMPTS {
            break Physical::unknown(format!(
                "each of {ATTEMPTS} attempts failed, the last: {why}"
            ));
        }
        if until.saturating_duration_since(Instant::now()) <= pause {
            break Physical::unknown(format!("{}; the last attempt failed: {why}", over(limit)));
        }
        warn!(session = %question.session, %why, "the table is read again from its beginning");
        tokio::time::sleep(pause).await;
    };
    found.answer = match (&found.reason, found.pending) {
        (None, 0) => Answer::NonePending,
        (Some(_), 0) => Answer::Unknown,
        _ => Answer::Pending,
    };
    found.took_s = began.elapsed().as_secs_f64();
    Ok(found)
}

fn over(limit: Duration) -> String {
    format!(
        "the table was not read within migration.proof_limit, {}",
        humantime::format_duration(limit)
    )
}

impl<P: Polite> Attempt<'_, P> {
    /// Reads the table under one snapshot.
    async fn run(&mut self, conn: &mut PgConnection) -> Result<(), Miss<P::Stop>> {
        let table = &self.question.definition.table;
        let mut tx = conn.begin_with(AssertSqlSafe(self.begin())).await?;
        let at: DateTime<Utc> = sqlx::query_scalar("SELECT pg_catalog.clock_timestamp()")
            .fetch_one(&mut *tx)
            .await?;
        self.found.snapshot_at = Some(at);
        tx.execute("SAVEPOINT portion").await?;
        let before = leaves::find(&mut tx, table).await?;
        let root = leaves::plain_name(&mut tx, table).await?;
        let Some(root) = root else {
            return Err(Miss::Never(format!("there is no table `{table}`")));
        };
        let (readable, problem) = readable(&before);
        let sources = self.sources(&mut tx, &readable, &root).await?;
        tx.execute("ROLLBACK TO SAVEPOINT portion").await?;
        for source in &sources {
            self.source(&mut tx, source).await?;
        }
        tx.commit().await?;
        // Under a new snapshot, so that it shows what came meanwhile.
        let after = leaves::find(conn, table).await?;
        if let Some(what) = difference(&before, &after) {
            return Err(Miss::Again(what));
        }
        self.found.reason = problem;
        Ok(())
    }

    /// Opens the transaction.
    ///
    /// - The answer does not depend on an index, an order of keys or what the planner concludes from
    ///   the bounds of partitions. With all ways disabled alike, subqueries of a predicate are planned
    ///   as usual.
    /// - Rows that a policy hides from this role would be taken for rows that are not there: then it
    ///   fails.
    /// - A holder that freezes loses its connection, and vacuum its obstacle.
    fn begin(&self) -> String {
        let engine = self.engine;
        format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
             SET LOCAL application_name = '{}'; SET LOCAL statement_timeout = {}; \
             SET LOCAL lock_timeout = {}; SET LOCAL idle_in_transaction_session_timeout = {}; \
             SET LOCAL row_security = off; SET LOCAL enable_seqscan = off; \
             SET LOCAL enable_indexscan = off; SET LOCAL enable_indexonlyscan = off; \
             SET LOCAL enable_bitmapscan = off; SET LOCAL enable_partition_pruning = off; \
             SET LOCAL constraint_exclusion = off; SET LOCAL max_parallel_workers_per_gather = 0; \
             SET LOCAL jit = off; {TEXT_FORMS}",
            self.question.session,
            engine.statement_timeout.as_millis(),
            engine.lock_timeout.as_millis(),
            self.idle().as_millis(),
        )
    }

    /// How long the session may be idle between two statements.
    fn idle(&self) -> Duration {
        self.engine.lease.max(self.engine.statement_timeout) * 2
    }

    /// Each table by itself; all through the declared one, where the predicates are only understood
    /// there, or the role may only read there.
    async fn sources(
        &self,
        conn: &mut PgConnection,
        leaves: &[Leaf],
        root: &str,
    ) -> Result<Vec<Source>, Miss<P::Stop>> {
        let each = leaves
            .iter()
            .map(|leaf| Source::one(self.question, leaf, root));
        let each: Vec<_> = each.collect();
        for source in &each {
            let checked = source
                .check(conn, self.question)
                .await
                .map_err(Failure::from);
            conn.execute("ROLLBACK TO SAVEPOINT portion").await?;
            match checked {
                Ok(()) => {}
                Err(failure) if failure.is_permanent() => {
                    let all = Source::all(self.question, leaves);
                    all.check(conn, self.question).await?;
                    return Ok(vec![all]);
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        Ok(each)
    }

    async fn source(
        &mut self,
        conn: &mut PgConnection,
        source: &Source,
    ) -> Result<(), Miss<P::Stop>> {
        let (mut at, mut blocks) = (0, FIRST);
        while at < source.blocks {
            let waiting = self.polite.permission();
            patiently(conn, waiting, self.until, self.engine.lease).await?;
            let to = (at + blocks).min(source.blocks);
            let began = Instant::now();
            let name = self.found.named.len() < NAMED;
            let counted = source.count(conn, self.question, (at, to), name).await;
            let took = began.elapsed();
            let mut rest = took;
            match counted {
                Ok(counted) => {
                    self.add(source, counted)?;
                    at = to;
                    blocks = next_size(blocks, took, self.polite.target());
                }
                Err(err) => {
                    blocks = after_failure(err.into(), blocks)?;
                    rest = rest.max(RETRY);
                }
            }
            // Gives the portion's locks back; the snapshot stays.
            conn.execute("ROLLBACK TO SAVEPOINT portion").await?;
            let waiting = self.polite.rest(rest);
            patiently(conn, waiting, self.until, self.engine.lease).await?;
        }
        self.found.tables.extend(source.names.iter().cloned());
        Ok(())
    }

    fn add(&mut self, source: &Source, counted: Counted) -> Result<(), Miss<P::Stop>> {
        if counted.swapped {
            let tables = source.names.join(", ");
            return Err(Miss::Again(format!(
                "{tables} was rewritten, truncated or replaced while it was read"
            )));
        }
        self.found.rows += counted.rows;
        self.found.pending += counted.pending;
        self.found.named.extend(counted.named);
        self.found.named.truncate(NAMED);
        Ok(())
    }
}

/// How many blocks to try after a portion of `blocks` failed: one that took too long is made smaller, and
/// a lock that somebody holds is waited for, within the time limit.
fn after_failure<S>(failure: Failure, blocks: i64) -> Result<i64, Miss<S>> {
    match failure.sqlstate().as_deref() {
        Some(LOCKED) => Ok(blocks),
        Some(CANCELLED) if blocks > 1 => Ok(blocks / 2),
        Some(CANCELLED) => Err(Miss::Never(format!(
            "reading a single block takes longer than migration.statement_timeout ({failure})"
        ))),
        // The predicates were understood when the read began: the schema has changed.
        _ if failure.is_permanent() => Err(Miss::Again(failure.to_string())),
        _ => Err(failure.into()),
    }
}

/// Those of `leaves` that can be read, and why the others cannot.
fn readable(leaves: &[Leaf]) -> (Vec<Leaf>, Option<String>) {
    let (problems, readable): (Vec<_>, Vec<_>) = leaves
        .iter()
        .cloned()
        .partition(|leaf| leaf.problem.is_some());
    let problem = problems.first().map(|leaf| {
        let problem = leaf.problem.as_deref().unwrap_or_default();
        let others = match problems.len() {
            1 => String::new(),
            n => format!(", and so for {} others", n - 1),
        };
        format!("{} {problem}{others}", leaf.name)
    });
    (readable, problem)
}

/// Blocks for the next portion after one of `blocks` that took `took`: at most doubled or halved.
fn next_size(blocks: i64, took: Duration, target: Duration) -> i64 {
    let factor = target.as_secs_f64() / took.as_secs_f64().max(1e-6);
    ((blocks as f64 * factor.clamp(0.5, 2.0)) as i64).clamp(1, MOST)
}

/// Waits for `waiting` in an open transaction: the server hears of us meanwhile, so that only a
/// holder that has frozen is taken for one.
async fn patiently<S>(
    conn: &mut PgConnection,
    waiting: impl Future<Output = Result<(), S>>,
    until: Instant,
    lease: Duration,
) -> Result<(), Miss<S>> {
    tokio::pin!(waiting);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Miss::Late);
        }
        tokio::select! {
            done = &mut waiting => return done.map_err(Miss::Stop),
            () = tokio::time::sleep(left.min(lease / 3)) => {}
        }
        conn.execute("SELECT").await?;
    }
}
