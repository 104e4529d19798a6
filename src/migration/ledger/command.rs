//! What operators do to runs.

use sqlx::postgres::PgConnection;

use super::By::Operator;
use super::State::{self, Queued};
use super::{LedgerError, Run, find, record};

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
    let run: Option<Run> = sqlx::query_as(
        "INSERT INTO evenkeel.runs (migration, definition, started_by) VALUES ($1, $2, $3)
         ON CONFLICT (migration) WHERE state IN ('queued', 'running', 'paused') DO NOTHING
         RETURNING *",
    )
    .bind(migration)
    .bind(definition)
    .bind(actor)
    .fetch_optional(&mut *conn)
    .await?;
    let Some(run) = run else {
        refuse_another(conn, migration, 0).await?;
        // It ended between the two statements.
        return Err(LedgerError::Database(sqlx::Error::RowNotFound));
    };
    record(conn, run.id, actor, "queued", "").await?;
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
                -- After a failure the sweeps are counted anew, from the beginning of the table.
                sweep_pass = CASE state WHEN 'failed' THEN 0 ELSE sweep_pass END,
                sweep_found = CASE state WHEN 'failed' THEN 0 ELSE sweep_found END,
                cursor = CASE WHEN state = 'failed' AND phase = 'sweep' THEN NULL ELSE cursor END,
                -- A contract step that failed may have met rows that were written wrong meanwhile:
                -- the table is walked again first.
                end_key = CASE WHEN state = 'failed' AND step = 'contract' THEN NULL ELSE end_key END,
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
