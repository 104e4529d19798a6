//! The indexes by which old rows are found. They are for the sweeper alone, so it builds them: beside
//! whoever reads and writes, on a connection of its own, waiting for older transactions as long as that
//! takes.

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use tracing::{info, warn};

use super::RetentionError;

/// How its session calls itself in the database.
const APPLICATION: &str = "evenkeel retention";

/// Table, name and what is indexed.
const INDEXES: [(&str, &str, &str); 9] = [
    ("public.sessions", "sessions_expires_at_idx", "(expires_at)"),
    (
        "public.idempotency_keys",
        "idempotency_keys_created_at_idx",
        "(created_at)",
    ),
    (
        "public.log_in_attempts",
        "log_in_attempts_spent_until_idx",
        "(spent_until)",
    ),
    ("public.devices", "devices_used_at_idx", "(used_at)"),
    ("evenkeel.throttles", "throttles_until_idx", "(until)"),
    ("evenkeel.runs", "runs_finished_at_idx", "(finished_at)"),
    (
        "evenkeel.events",
        "events_without_run_idx",
        "(at) WHERE run_id IS NULL",
    ),
    (
        "evenkeel.certificates",
        "certificates_made_at_idx",
        "(made_at)",
    ),
    ("evenkeel.proofs", "proofs_made_at_idx", "(made_at)"),
];

/// How an index is.
#[derive(Debug, PartialEq, Eq)]
enum State {
    Missing,
    /// A build of it was interrupted.
    Invalid,
    /// Another process is at it.
    UnderWay,
    Valid,
}

/// Builds those that are missing. What fails is told, and tried again before the next pass.
pub(super) async fn build(options: &PgConnectOptions) {
    let options = options.clone().application_name(APPLICATION);
    let mut conn = match options.connect().await {
        Ok(conn) => conn,
        Err(err) => {
            return warn!(
                problem = pool::describe(&err),
                "no connection to build indexes"
            );
        }
    };
    for (table, name, what) in INDEXES {
        if let Err(err) = ensure(&mut conn, table, name, what).await {
            warn!(%err, name, "an index for the deletion of old rows is not built");
        }
    }
}

async fn ensure(
    conn: &mut PgConnection,
    table: &str,
    name: &str,
    what: &str,
) -> Result<(), RetentionError> {
    let (schema, _) = table.split_once('.').unwrap_or(("public", table));
    let state = state(conn, schema, name).await?;
    if state == State::Invalid {
        let drop = format!("DROP INDEX CONCURRENTLY IF EXISTS {schema}.{name}");
        conn.execute(AssertSqlSafe(drop)).await?;
    }
    if matches!(state, State::Missing | State::Invalid) {
        let create = format!("CREATE INDEX CONCURRENTLY {name} ON {table} {what}");
        conn.execute(AssertSqlSafe(create)).await?;
        info!(name, table, "index built");
    }
    Ok(())
}

async fn state(conn: &mut PgConnection, schema: &str, name: &str) -> Result<State, RetentionError> {
    let found: Option<(bool, bool)> = sqlx::query_as(
        "SELECT i.indisvalid,
                EXISTS (SELECT FROM pg_stat_progress_create_index AS build
                         WHERE build.index_relid = i.indexrelid)
           FROM pg_index AS i
           JOIN pg_class AS c ON c.oid = i.indexrelid
           JOIN pg_namespace AS n ON n.oid = c.relnamespace
          WHERE n.nspname = $1 AND c.relname = $2",
    )
    .bind(schema)
    .bind(name)
    .fetch_optional(conn)
    .await?;
    Ok(match found {
        None => State::Missing,
        Some((true, _)) => State::Valid,
        Some((false, true)) => State::UnderWay,
        Some((false, false)) => State::Invalid,
    })
}
