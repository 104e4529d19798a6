//! One batch: a key range in one short transaction, together with its cursor.

use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor, Postgres, Row, Transaction};

use super::checksum::Checksum;
use super::definition::Definition;
use super::keyset::{KeyValue, Keyset, Range, TEXT_FORMS};
use super::ledger::{self, Done, Lease, Phase, State, Tries};
use super::pending::{self, Made};
use super::sizing::Work;
use super::snapshot::Snapshot;
use crate::config::Engine;

/// What a batch is to do.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    /// The migration.
    pub definition: &'a Definition,
    /// How its table is walked.
    pub keyset: &'a Keyset,
    /// The right to write.
    pub lease: Lease,
    /// Which batch of the run this is, from 1, for people who look at the database's sessions.
    pub number: i64,
    /// Which walk this is part of.
    pub phase: Phase,
    /// The last key done; `None` at the beginning.
    pub cursor: Option<&'a KeyValue>,
    /// Where the walk ends.
    pub end: &'a KeyValue,
    /// Rows to cover.
    pub rows: u32,
    /// How long the batch should take.
    pub target: Duration,
    /// The batch before, if there was one in this walk.
    pub before: Option<Work>,
    /// What came to nothing before it.
    pub tries: &'a Tries,
    /// Whether an earlier batch of this walk has shown that the statement makes its rows no longer
    /// pending. A sweep looks every time: it meets rows that the batches before it did not.
    pub proved: bool,
}

/// How a batch that did not fail ended.
#[derive(Debug)]
pub enum Outcome {
    /// Committed.
    Committed {
        /// The keys that it covered.
        range: Range,
        /// Rows that the statement changed.
        changed: i64,
        /// Rows for the next batch, so that it takes the target time.
        next_rows: u32,
        /// How long it took, and what it wrote.
        measured: Measured,
        /// What an operator wants of the run by now.
        state: State,
    },
    /// No keys are left up to the end.
    Exhausted,
    /// Rows that it changed are pending all the same; it was rolled back. A sentence says which and
    /// what to do.
    StillPending(String),
    /// Another process holds the lease, or the cursor is not where the batch began; nothing was
    /// written, and the ledger says which.
    LeaseLost,
}

impl Batch<'_> {
    /// Runs the batch. Dropping the future at any point rolls it back as a whole.
    ///
    /// # Errors
    /// What the database says; nothing was written then, unless it was the answer to COMMIT that
    /// got lost. The ledger's cursor knows.
    pub async fn run(
        &self,
        conn: &mut PgConnection,
        settings: &Engine,
    ) -> Result<Outcome, sqlx::Error> {
        let began = Instant::now();
        let what = format!("batch {}", self.number);
        let name = session_name(&self.definition.name, self.lease.run, &what);
        let mut tx = begin_as(conn, settings, &name).await?;
        let sweeping = self.phase == Phase::Sweep;
        let Self { keyset, cursor, .. } = *self;
        let range = keyset
            .next(&mut tx, cursor, self.end, self.rows, None)
            .await?;
        let Some(mut range) = range else {
            tx.rollback().await?;
            return Ok(Outcome::Exhausted);
        };
        let mut checksum = None;
        if sweeping {
            // Counted and summed by one statement, so that what is certified is what was proved.
            let summed = Checksum::new(self.definition, keyset)
                .read(&mut tx, self.definition, keyset, cursor, &range.upper)
                .await?;
            (range.seen, range.todo) = (summed.rows, Some(summed.pending));
            checksum = (summed.pending == 0).then(|| summed.checksum.to_string());
        }
        let ours = (settings, name.as_str());
        let (definition, run) = (self.definition, self.lease.run);
        let looks = sweeping || !self.proved;
        // In the main walk only rows that move ahead of it are met again.
        let applied = if sweeping || keyset.moves {
            apply_again(&mut tx, definition, keyset, &range, run, looks, ours).await?
        } else {
            apply(&mut tx, definition, keyset, &range, looks, ours).await?
        };
        if let Some(why) = applied.still_pending {
            tx.rollback().await?;
            return Ok(Outcome::StillPending(why));
        }
        let log_end = regain(&mut tx, settings, &name).await?;
        let changed = applied.changed;
        let wal_bytes = applied.log_end.map_or(0, |before| log_end - before);
        // Other batches do not look, so that it says nothing of how long they take.
        let took = began.elapsed().saturating_sub(applied.looked);
        let measured = Measured {
            rows: self.rows,
            took,
            wal_bytes,
        };
        let next_rows = next_size(measured, self.before, self.target, settings);
        let done = Done {
            range: &range,
            changed,
            next_rows,
            tries: self.tries,
            took,
            checksum: checksum.as_deref(),
        };
        let Some(state) = ledger::commit(&mut tx, self.lease, settings.lease, &done).await? else {
            tx.rollback().await?;
            return Ok(Outcome::LeaseLost);
        };
        tx.commit().await?;
        Ok(Outcome::Committed {
            range,
            changed,
            next_rows,
            measured,
            state,
        })
    }
}

/// What came of a statement over a range.
#[derive(Default)]
pub(super) struct Applied {
    pub changed: i64,
    /// The end of the write-ahead log before it, in bytes. What others write meanwhile counts as the
    /// batch's: that makes batches smaller while much is written, which is when they should be.
    log_end: Option<i64>,
    /// How long it took to look for rows that are pending all the same.
    looked: Duration,
    /// A sentence, where there are such rows.
    pub still_pending: Option<String>,
}

/// Runs the statement over `range`. If it `looks`, or more rows were changed than the range has, it is asked
/// in the settings and under the name that are `ours` whether the statement does what it is declared to do.
///
/// # Errors
/// What the database says.
pub(super) async fn apply(
    tx: &mut PgConnection,
    definition: &Definition,
    keyset: &Keyset,
    range: &Range,
    looks: bool,
    ours: (&Engine, &str),
) -> Result<Applied, sqlx::Error> {
    let before = AssertSqlSafe(format!("SELECT {LOG_END}, {}", Snapshot::SQL));
    let (log_end, before): (i64, String) = sqlx::query_as(before).fetch_one(&mut *tx).await?;
    let sql = keyset.statement(definition, range.lower.is_none());
    let done = sqlx::query(AssertSqlSafe(sql.clone()))
        .bind(&range.lower)
        .bind(&range.upper)
        .execute(&mut *tx)
        .await
        .map_err(|err| definition.place(&sql, err))?;
    let changed = i64::try_from(done.rows_affected()).unwrap_or(i64::MAX);
    let asked = Instant::now();
    let mut still = None;
    if looks || changed > range.seen {
        settle(tx, ours.0, ours.1).await?;
        let counts = pending::count(tx, definition, keyset, range).await?;
        let made = Made {
            changed,
            exact: true,
            seen: range.seen,
            todo: range.todo,
            before: &Snapshot::read(&before)?,
        };
        still = counts.still(definition, keyset, made);
    }
    Ok(Applied {
        changed,
        log_end: Some(log_end),
        looked: asked.elapsed(),
        still_pending: still.map(|still| still.why),
    })
}

/// As [`apply`], over a range of which `run` may have changed rows before: nothing is done where none is pending,
/// nor where one is that it has changed already.
///
/// # Errors
/// What the database says.
pub(super) async fn apply_again(
    tx: &mut PgConnection,
    definition: &Definition,
    keyset: &Keyset,
    range: &Range,
    run: i64,
    looks: bool,
    ours: (&Engine, &str),
) -> Result<Applied, sqlx::Error> {
    if range.todo == Some(0) {
        return Ok(Applied::default());
    }
    // The condition may have set a search path in which the ledger's SQL means something else.
    regain(tx, ours.0, ours.1).await?;
    let returned = pending::returned(tx, definition, keyset, range, run).await?;
    if let Some(still) = returned {
        return Ok(Applied {
            still_pending: Some(still.why),
            ..Applied::default()
        });
    }
    apply(tx, definition, keyset, range, looks, ours).await
}

/// Has everything happen that is put off to the transaction's end, and makes its session ours again after
/// that: deferred triggers may change rows once more, and what an author's SQL has set would hold for the
/// next statement.
///
/// # Errors
/// What the database says, for example that a deferred constraint does not hold.
pub(super) async fn settle(
    conn: &mut PgConnection,
    settings: &Engine,
    name: &str,
) -> Result<(), sqlx::Error> {
    let limits = limits(settings, name);
    let sql = format!("{OURS}; {limits}; SET CONSTRAINTS ALL IMMEDIATE; {OURS}; {limits}");
    conn.execute(AssertSqlSafe(sql)).await?;
    Ok(())
}

/// The end of the write-ahead log, in bytes, as SQL.
const LOG_END: &str =
    "pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), '0/0')::bigint";

/// What a session of the engine calls itself while it works on the migrated table, so that it can be
/// told from the shoppers' on the same connection. Every name of such a session begins so.
pub const APPLICATION: &str = "evenkeel migration";
/// PostgreSQL cuts a longer name off.
const SESSION_NAME_MAX: usize = 63;

/// The session's name while run `run` of `migration` is at `what`: who it is, for any tool that
/// shows sessions.
pub fn session_name(migration: &str, run: i64, what: &str) -> String {
    let which = format!(" run {run} {what}");
    let mut name = format!("{APPLICATION} {migration}");
    // The names of migrations are ASCII.
    name.truncate(SESSION_NAME_MAX - which.len());
    name + &which
}

/// Opens a short transaction over the migrated table, in one round trip.
///
/// - It says who it is: whoever waits for its locks can be told from who waits for a shopper's.
/// - Nothing in it waits or works for long: whatever the table's locks are, the holder keeps its
///   lease and hears a shutdown.
/// - The commit is asynchronous: rows and cursor are in the same transaction, so a crash of the
///   server loses both or neither, and shoppers' commits do not queue behind the migration's.
/// - A holder that freezes within it loses its connection, and with that the locks on its rows and
///   on the ledger, so that another can take over.
/// - Keys have the same text form whatever the settings of the database.
/// - The plan is made for the actual range. A generic plan would assume that a row comparison
///   matches a third of the table, and read all of it. Without a sequential scan to fall back on,
///   costs look like those of long queries, and compiling one takes longer than the batch.
///
/// # Errors
/// What the database says.
pub async fn begin<'c>(
    conn: &'c mut PgConnection,
    settings: &Engine,
) -> Result<Transaction<'c, Postgres>, sqlx::Error> {
    begin_as(conn, settings, APPLICATION).await
}

/// As [`begin`], in a session that is called `name`, which holds no quote, until the transaction
/// ends.
async fn begin_as<'c>(
    conn: &'c mut PgConnection,
    settings: &Engine,
    name: &str,
) -> Result<Transaction<'c, Postgres>, sqlx::Error> {
    let sql = format!("BEGIN; {}", limits(settings, name));
    conn.begin_with(AssertSqlSafe(sql)).await
}

/// Makes the session of the open transaction ours again, after an author's SQL: what it has set would
/// hold for the ledger's entry in the same transaction, too. Returns the end of the write-ahead log, in
/// bytes, because that costs no round trip here.
///
/// # Errors
/// What the database says.
pub async fn regain(
    conn: &mut PgConnection,
    settings: &Engine,
    name: &str,
) -> Result<i64, sqlx::Error> {
    let sql = format!("{OURS}; {}; SELECT {LOG_END}", limits(settings, name));
    conn.fetch_one(AssertSqlSafe(sql)).await?.try_get(0)
}

/// Takes back what an author's SQL may have set in a session; its time limit first, which would hold for
/// the rest.
pub const OURS: &str =
    "RESET statement_timeout; SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL";

/// The settings of a short transaction over the migrated table.
fn limits(settings: &Engine, name: &str) -> String {
    format!(
        "SET LOCAL application_name = '{name}'; \
         SET LOCAL statement_timeout = {timeout}; SET LOCAL lock_timeout = {}; \
         SET LOCAL idle_in_transaction_session_timeout = {timeout}; \
         SET LOCAL synchronous_commit = off; SET LOCAL plan_cache_mode = force_custom_plan; \
         SET LOCAL enable_seqscan = off; SET LOCAL jit = off; {TEXT_FORMS}",
        settings.lock_timeout.as_millis(),
        timeout = settings.statement_timeout.as_millis(),
    )
}

const MIB: f64 = 1024.0 * 1024.0;

/// How long a batch took, and what it wrote.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Rows that it was to cover.
    pub rows: u32,
    /// How long it took.
    pub took: Duration,
    /// Bytes of the write-ahead log that it wrote.
    pub wal_bytes: i64,
}

impl Measured {
    /// Its rows and its time.
    pub fn work(&self) -> Work {
        Work {
            size: f64::from(self.rows),
            took: self.took,
        }
    }
}

/// Rows for the next batch after one of `measured`, so that it takes `target` and writes no more than it may: at
/// most doubled, at most halved. See [`Work::next_factor`] for `before`.
pub fn next_size(
    measured: Measured,
    before: Option<Work>,
    target: Duration,
    settings: &Engine,
) -> u32 {
    let by_wal = settings.batch_wal_mib * MIB / measured.wal_bytes.max(1) as f64;
    let by_time = measured.work().next_factor(before, target);
    let factor = by_time.min(by_wal).clamp(0.5, 2.0);
    let wanted = (f64::from(measured.rows) * factor).round() as u32;
    wanted.clamp(settings.batch_min, settings.batch_max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_batch_grows_and_shrinks_by_at_most_two_and_stays_within_bounds(
            rows in 1u32..10_000, took_us in 0u64..10_000_000, target_ms in 1u64..1000,
            wal_bytes in 0i64..100_000_000,
            before in proptest::option::of((1u32..10_000, 0u64..10_000_000))
        ) {
            let settings = Engine::default();
            let took = Duration::from_micros(took_us);
            let measured = Measured { rows, took, wal_bytes };
            let before = before.map(|(rows, took_us)| Work {
                size: f64::from(rows),
                took: Duration::from_micros(took_us),
            });
            let next = next_size(measured, before, Duration::from_millis(target_ms), &settings);
            prop_assert!((settings.batch_min..=settings.batch_max).contains(&next));
            prop_assert!(f64::from(next) <= f64::from(rows) * 2.0 + 0.5);
            prop_assert!(f64::from(next) + 0.5 >= f64::from(rows) * 0.5);
            if wal_bytes as f64 > settings.batch_wal_mib * MIB {
                prop_assert!(next <= rows);
            }
        }
    }
}
