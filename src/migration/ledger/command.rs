//! What operators do to runs.

use chrono::{DateTime, Utc};
use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::By::Operator;
use super::State::{self, Queued};
use super::{LedgerError, Run, find, record};
use crate::migration::columns;
use crate::migration::definition::Definition;
use crate::migration::keyset::KeyValue;
use crate::migration::undo::Direction;

/// Where a run begins.
#[derive(Clone, Copy, Debug)]
pub enum Beginning<'a> {
    /// At the beginning of the table, with the change itself or on the way back.
    Start(Direction),
    /// Where the ended run of the same definition stopped; the table now ends at this key.
    FromLast(&'a KeyValue),
}

/// Queues a run of `migration` on behalf of `actor`.
///
/// # Errors
/// [`LedgerError::AlreadyActive`] when one is under way.
pub async fn enqueue(
    conn: &mut PgConnection,
    migration: &str,
    definition: &str,
    actor: &str,
) -> Result<Run, LedgerError> {
    let start = Beginning::Start(Direction::Up);
    enqueue_as(conn, migration, definition, actor, start).await
}

/// Queues a run of `migration` that begins as `beginning` says.
///
/// What an ended run has passed, a run that follows it need not pass again: its sweep reads the
/// whole table and runs the statement wherever it still finds something to do.
///
/// # Errors
/// [`LedgerError::AlreadyActive`] when one is under way; [`LedgerError::NothingToFollow`].
pub async fn enqueue_as(
    conn: &mut PgConnection,
    migration: &str,
    definition: &str,
    actor: &str,
    beginning: Beginning<'_>,
) -> Result<Run, LedgerError> {
    let (direction, follows, end) = match beginning {
        Beginning::Start(direction) => (direction, None, None),
        Beginning::FromLast(end) => {
            let last = last_ended(conn, migration, definition).await?;
            (last.direction, Some(last.id), Some(end))
        }
    };
    let table = Definition::parse(migration, definition).map(|definition| definition.table);
    // Of anything else PostgreSQL makes an error, which is the run's to tell.
    let table = table.ok().filter(|table| columns::is_relation_name(table));
    let run: Option<Run> = sqlx::query_as(
        "INSERT INTO evenkeel.runs (migration, definition, started_by, direction, follows,
                                    phase, cursor, end_key, batch_rows, rows_estimate, rows_seen, share_done,
                                    relation)
         SELECT $1, $2, $3, $4, $5, coalesce(last.phase, 'main'),
                CASE last.phase WHEN 'main' THEN last.cursor END, $6, last.batch_rows,
                last.rows_estimate, coalesce(last.rows_seen, 0), coalesce(last.share_done, 0),
                (SELECT format('%I.%I', n.nspname, c.relname)
                   FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
                  WHERE c.oid = to_regclass($7))
           FROM (SELECT) AS one LEFT JOIN evenkeel.runs AS last ON last.id = $5
         ON CONFLICT (migration) WHERE state IN ('queued', 'running', 'paused') DO NOTHING
         RETURNING *",
    )
    .bind(migration)
    .bind(definition)
    .bind(actor)
    .bind(direction)
    .bind(follows)
    .bind(end)
    .bind(table)
    .fetch_optional(&mut *conn)
    .await?;
    let Some(run) = run else {
        refuse_another(conn, migration, 0).await?;
        // It ended between the two statements.
        return Err(LedgerError::Database(sqlx::Error::RowNotFound));
    };
    let detail = follows.map_or(String::new(), |last| {
        format!("from where run {last} stopped")
    });
    record(conn, run.id, actor, "queued", &detail).await?;
    Ok(run)
}

/// Says when a run should be done.
///
/// # Errors
/// What the database says.
pub async fn set_deadline(
    conn: &mut PgConnection,
    id: i64,
    by: DateTime<Utc>,
    actor: &str,
) -> Result<(), LedgerError> {
    sqlx::query("UPDATE evenkeel.runs SET deadline = $2 WHERE id = $1")
        .bind(id)
        .bind(by)
        .execute(&mut *conn)
        .await?;
    record(conn, id, actor, "deadline", &by.to_rfc3339()).await?;
    Ok(())
}

/// The newest run of `migration`, when it ended before its end and did what `definition` says.
async fn last_ended(
    conn: &mut PgConnection,
    migration: &str,
    definition: &str,
) -> Result<Run, LedgerError> {
    let last = super::latest(conn, migration).await?;
    let ended = matches!(last.state, State::Cancelled | State::Failed);
    let began = last.end_key.is_some();
    let same = last.definition == definition && last.direction == Direction::Up;
    if ended && began && same {
        Ok(last)
    } else {
        Err(LedgerError::NothingToFollow(migration.to_owned()))
    }
}

/// Lets a failed or paused run go on with the ranges that are set aside, before anything else.
///
/// # Errors
/// [`LedgerError::NothingSetAside`], and those of [`command`].
pub async fn retry(conn: &mut PgConnection, id: i64, actor: &str) -> Result<Run, LedgerError> {
    if super::set_aside(conn, id, 1).await?.is_empty() {
        return Err(LedgerError::NothingSetAside(id));
    }
    let mut tx = conn.begin().await?;
    command(&mut tx, id, Queued, actor).await?;
    let run = sqlx::query_as("UPDATE evenkeel.runs SET repairing = true WHERE id = $1 RETURNING *")
        .bind(id)
        .fetch_one(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(run)
}

/// Refuses when a run of `migration` other than `id` is queued, running or paused.
async fn refuse_another(
    conn: &mut PgConnection,
    migration: &str,
    id: i64,
) -> Result<(), LedgerError> {
    let active: Option<(i64, State)> = sqlx::query_as(
        "SELECT id, state FROM evenkeel.runs
          WHERE migration = $1 AND id <> $2 AND state IN ('queued', 'running', 'paused')",
    )
    .bind(migration)
    .bind(id)
    .fetch_optional(conn)
    .await?;
    match active {
        None => Ok(()),
        Some((id, state)) => Err(LedgerError::AlreadyActive {
            migration: migration.to_owned(),
            id,
            state: state.name(),
        }),
    }
}

/// Changes a run's state on an operator's behalf.
///
/// # Errors
/// [`LedgerError::Illegal`] when [`TRANSITIONS`](super::TRANSITIONS) has no such change by an operator;
/// [`LedgerError::AlreadyActive`] when another run of the same migration is under way.
pub async fn command(
    conn: &mut PgConnection,
    id: i64,
    to: State,
    actor: &str,
) -> Result<Run, LedgerError> {
    if to == Queued {
        let migration = find(conn, id).await?.migration;
        refuse_another(conn, &migration, id).await?;
    }
    let origins = to.origins(Operator).into_iter().map(State::name);
    let origins: Vec<&str> = origins.collect();
    let run: Option<Run> = sqlx::query_as(
        "UPDATE evenkeel.runs
            SET state = $2, error = NULL,
                finished_at = CASE WHEN $2 = 'cancelled' THEN now() END,
                resumed_at = CASE WHEN $2 = 'queued' THEN clock_timestamp() ELSE resumed_at END,
                proof = CASE state WHEN 'failed' THEN NULL ELSE proof END,
                -- After a failure the sweeps are counted anew, from the beginning of the table.
                sweep_pass = CASE state WHEN 'failed' THEN 0 ELSE sweep_pass END,
                sweep_found = CASE state WHEN 'failed' THEN 0 ELSE sweep_found END,
                cursor = CASE WHEN state = 'failed' AND phase = 'sweep' THEN NULL ELSE cursor END,
                -- A contract step that failed may have met rows that were written wrong meanwhile: the
                -- table is swept again first.
                step = CASE WHEN state = 'failed' AND step = 'contract' THEN 'backfill' ELSE step END
          WHERE id = $1 AND state = ANY($3) RETURNING *",
    )
    .bind(id)
    .bind(to)
    .bind(&origins)
    .fetch_optional(&mut *conn)
    .await?;
    match run {
        Some(run) => {
            record(conn, id, actor, to.name(), "").await?;
            Ok(run)
        }
        None => Err(LedgerError::Illegal {
            id,
            from: find(conn, id).await?.state.name(),
            to: to.name(),
        }),
    }
}

/// The table that `run` was started for, and the other one that `table` means to this session; `None`
/// where they are the same, or where one of them is not there.
///
/// # Errors
/// What the database says.
pub async fn other_table(
    conn: &mut PgConnection,
    run: i64,
    table: &str,
) -> Result<Option<(String, String)>, sqlx::Error> {
    sqlx::query_as(
        "SELECT relation, here
           FROM evenkeel.runs, pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace,
                LATERAL format('%I.%I', n.nspname, c.relname) AS here
          WHERE id = $1 AND c.oid = to_regclass($2) AND relation <> here",
    )
    .bind(run)
    .bind(table)
    .fetch_optional(conn)
    .await
}
