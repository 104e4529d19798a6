//! Asks PostgreSQL what its sessions do. One statement; PostgreSQL 14 or later.

use std::time::Instant;

use chrono::Utc;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Connection, Row};

use super::{Sample, Snapshot};

/// From this version on the checkpointer has statistics of its own.
const CHECKPOINTER: u32 = 170_000;
/// Sessions that are looked at one by one; of a storm of thousands the counts are enough.
const SESSIONS: i32 = 300;
/// Waiting sessions whose blockers are asked for, those that have waited longest first: every such
/// question locks the server's whole table of locks for a moment.
const WAITERS: i32 = 64;
/// A look that takes longer says enough by that.
const BEGIN: &str = "BEGIN READ ONLY; SET LOCAL statement_timeout = 900; SET LOCAL lock_timeout = 100; \
                     SET LOCAL jit = off; SET LOCAL plan_cache_mode = force_generic_plan";

/// What the database says now; the shop's connections call themselves `shop`.
///
/// # Errors
/// What the database says, or that it does not.
pub(in crate::watch) async fn read(
    conn: &mut PgConnection,
    shop: &str,
) -> Result<Snapshot, sqlx::Error> {
    let version = conn.server_version_num().unwrap_or(0);
    let checkpoints = if version >= CHECKPOINTER {
        "pg_stat_get_checkpointer_num_requested()"
    } else {
        "pg_stat_get_bgwriter_requested_checkpoints()"
    };
    let sql = SAMPLE.replace("CHECKPOINTS", checkpoints);
    let (at, wall) = (Instant::now(), Utc::now());
    let mut tx = conn.begin_with(BEGIN).await?;
    let Json(sample): Json<Sample> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(SESSIONS)
        .bind(WAITERS)
        .bind(shop)
        .fetch_one(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(Snapshot {
        at,
        wall,
        took: at.elapsed(),
        sample,
    })
}

/// - `pg_locks` is read once; who blocks whom is asked only of those who wait.
/// - What a blocker holds is told by the relations that others wait for, or else by any strong lock.
/// - Locks and statements are those of this database; connections run out for all of them.
/// - An idle session holds nothing that anybody could wait for, except in a transaction.
const SAMPLE: &str = "
WITH locks AS MATERIALIZED (
    SELECT pid, locktype, relation, mode, granted, waitstart FROM pg_locks
     WHERE NOT granted OR (locktype = 'relation' AND mode NOT IN ('AccessShareLock'))
), waiting AS MATERIALIZED (
    SELECT pid, min(waitstart) AS since,
           min(mode || coalesce(' on ' || relation::regclass::text, ' on a row')) AS wants
      FROM locks WHERE NOT granted GROUP BY pid ORDER BY since NULLS LAST LIMIT $2
), edges AS MATERIALIZED (
    SELECT pid, since, wants, pg_blocking_pids(pid) AS blocked_by FROM waiting
), blockers AS MATERIALIZED (
    SELECT DISTINCT b.pid FROM edges, unnest(blocked_by) AS b (pid)
), wanted AS MATERIALIZED (
    SELECT DISTINCT relation FROM locks WHERE NOT granted AND relation IS NOT NULL
), activity AS MATERIALIZED (
    SELECT * FROM pg_stat_activity
     WHERE (backend_type = 'client backend' OR pid IN (SELECT pid FROM blockers))
       AND pid <> pg_backend_pid()
), here AS MATERIALIZED (
    SELECT * FROM activity WHERE datname = current_database()
)
SELECT jsonb_build_object(
    'connections', (SELECT count(*) FROM activity),
    'connections_max', current_setting('max_connections')::int
                       - current_setting('superuser_reserved_connections')::int
                       - coalesce(current_setting('reserved_connections', true)::int, 0),
    'wal_bytes', CASE WHEN pg_is_in_recovery() THEN 0
                      ELSE pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint END,
    'checkpoints_requested', CHECKPOINTS,
    'replica_lag_s', (SELECT max(extract(epoch FROM replay_lag))::float8 FROM pg_stat_replication),
    'clients', (
        SELECT coalesce(jsonb_agg(c), '[]')
          FROM (SELECT application_name AS application, coalesce(usename, '') AS role,
                       count(*) AS connections
                  FROM activity GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 50) AS c),
    'shop_statements', (
        SELECT coalesce(jsonb_agg(q), '[]')
          FROM (SELECT DISTINCT left(query, 1000) AS q FROM here
                 WHERE application_name = $3 AND query <> '' LIMIT 50) AS q),
    'sessions', (
        SELECT coalesce(jsonb_agg(s), '[]')
          FROM (SELECT a.pid, coalesce(a.usename, '') AS role, coalesce(a.application_name, '') AS application,
                       host(a.client_addr) AS client, a.state, a.backend_start, a.xact_start,
                       extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS xact_s,
                       extract(epoch FROM clock_timestamp() - CASE a.state WHEN 'active' THEN a.query_start
                                                              ELSE a.state_change END)::float8 AS statement_s,
                       a.wait_event_type AS wait, left(a.query, 1000) AS query,
                       coalesce(e.blocked_by, '{}') AS blocked_by, e.wants,
                       extract(epoch FROM clock_timestamp() - e.since)::float8 AS waits_s,
                       CASE WHEN b.pid IS NOT NULL THEN (
                           SELECT coalesce(jsonb_agg(DISTINCT l.mode || ' on ' || l.relation::regclass::text), '[]')
                             FROM locks l WHERE l.pid = a.pid AND l.granted
                              AND (l.relation IN (SELECT relation FROM wanted)
                                   OR l.mode IN ('AccessExclusiveLock', 'ExclusiveLock', 'ShareLock'))
                              AND l.relation >= 16384) ELSE '[]' END AS holds
                  FROM here a
                  LEFT JOIN edges e ON e.pid = a.pid
                  LEFT JOIN blockers b ON b.pid = a.pid
                 WHERE b.pid IS NOT NULL OR e.pid IS NOT NULL OR a.state <> 'idle'
                 ORDER BY b.pid IS NULL, e.pid IS NULL, a.xact_start LIMIT $1) AS s))";

/// What the role of `conn` lacks for the watch to do all that it is for, each as a sentence with
/// what to do.
///
/// # Errors
/// What the database says.
pub(in crate::watch) async fn rights(conn: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT current_user::text AS role,
                rolsuper OR pg_has_role(rolname, 'pg_read_all_stats', 'USAGE') AS sees,
                rolsuper OR pg_has_role(rolname, 'pg_signal_backend', 'USAGE') AS acts,
                rolsuper OR coalesce((SELECT pg_has_role(rolname, oid, 'USAGE') FROM pg_roles
                                       WHERE rolname = 'pg_use_reserved_connections'), false) AS gets_in,
                current_setting('server_version_num')::int >= 160000 AS reserves
           FROM pg_roles WHERE rolname = current_user",
    )
    .fetch_one(conn)
    .await?;
    let role: String = row.try_get("role")?;
    let lacks = [
        (
            "sees",
            "see what other roles' sessions do, so it cannot name them",
            format!("GRANT pg_read_all_stats TO {role}"),
        ),
        (
            "acts",
            "cancel or end other roles' sessions, so it can only tell of them",
            format!("GRANT pg_signal_backend TO {role}"),
        ),
        (
            "gets_in",
            "connect when all connections are taken",
            if row.try_get("reserves")? {
                format!(
                    "GRANT pg_use_reserved_connections TO {role}, with reserved_connections above 0; or \
                     let the watch connect as a superuser by watch.database_url"
                )
            } else {
                "let the watch connect as a superuser by watch.database_url".to_owned()
            },
        ),
    ];
    let mut lacking = Vec::new();
    for (right, what, grant) in lacks {
        if !row.try_get::<bool, _>(right)? {
            lacking.push(format!("role {role} may not {what}: {grant}"));
        }
    }
    Ok(lacking)
}
