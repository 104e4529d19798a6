//! Asks PostgreSQL how it is. One statement; PostgreSQL 14 or later.

use std::time::Instant;

use pressure::database::{Reading, Sample};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;

use crate::migration::batch::APPLICATION;

/// From this version on the checkpointer has statistics of its own.
const CHECKPOINTER: u32 = 170_000;

/// What the database says of itself and of `tables`.
///
/// # Errors
/// What the database says.
pub(super) async fn read(
    conn: &mut PgConnection,
    tables: &[String],
    at: Instant,
) -> Result<Reading, sqlx::Error> {
    let version = conn.server_version_num().unwrap_or(0);
    let checkpoints = if version >= CHECKPOINTER {
        "pg_stat_get_checkpointer_num_requested()"
    } else {
        "pg_stat_get_bgwriter_requested_checkpoints()"
    };
    let sql = SAMPLE.replace("CHECKPOINTS", checkpoints);
    let Json(sample): Json<Sample> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(tables)
        .bind(format!("{APPLICATION}%"))
        .fetch_one(conn)
        .await?;
    Ok(Reading { at, sample })
}

/// - A base backup is a WAL sender, too, but nobody reads from it.
/// - Vacuum is not kept waiting by other vacuums, nor by other databases' transactions; by slots,
///   prepared transactions and replicas with `hot_standby_feedback` it is.
/// - Who waits behind somebody who waits for a batch waits for the batch, too. Waiting sessions are
///   taken from `pg_locks`, which every role may read.
const SAMPLE: &str = "
WITH RECURSIVE me AS (
    SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS sees_all,
           (SELECT oid FROM pg_roles WHERE rolname = current_user) AS role
), waiting AS (
    SELECT pid, min(waitstart) AS since FROM pg_locks WHERE NOT granted GROUP BY pid
), edges AS MATERIALIZED (
    SELECT w.pid, b.holder FROM waiting w, unnest(pg_blocking_pids(w.pid)) AS b (holder)
), chains AS (
    SELECT pid, holder FROM edges
    UNION
    SELECT chains.pid, edges.holder FROM chains JOIN edges ON edges.pid = chains.holder
), batches AS (
    SELECT pid FROM pg_stat_activity
     WHERE datname = current_database() AND application_name LIKE $2
), victims AS (
    SELECT pid, since FROM waiting
     WHERE pid IN (SELECT pid FROM chains WHERE holder IN (SELECT pid FROM batches))
       AND pid NOT IN (SELECT pid FROM batches)
), oldest AS (
    SELECT format('session %s of %s (%s, %s)', pid, usename, application_name, state) AS holder,
           coalesce(backend_xmin, backend_xid) AS xmin,
           greatest(age(backend_xmin), age(backend_xid)) AS age,
           extract(epoch FROM clock_timestamp() - xact_start)::float8 AS age_s
      FROM pg_stat_activity
     WHERE coalesce(backend_xmin, backend_xid) IS NOT NULL AND pid <> pg_backend_pid()
       AND (datname = current_database() OR datname IS NULL)
       AND backend_type <> 'autovacuum worker'
       -- A second proof that slowed itself down would only last longer.
       AND application_name NOT LIKE $2 || 'second proof'
    UNION ALL
    SELECT format('prepared transaction %s', gid), transaction, age(transaction),
           extract(epoch FROM clock_timestamp() - prepared)::float8
      FROM pg_prepared_xacts WHERE database = current_database()
    UNION ALL
    SELECT format('replication slot %s', slot_name), xmin, age(xmin), NULL
      FROM pg_replication_slots WHERE xmin IS NOT NULL
    ORDER BY age DESC, age_s DESC NULLS LAST LIMIT 1
)
SELECT jsonb_build_object(
    'clock_s', extract(epoch FROM clock_timestamp())::float8,
    'role', current_user,
    'sees_all', me.sees_all,
    'wal_bytes', pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint,
    'checkpoints_requested', CHECKPOINTS,
    'replicas', (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'name', coalesce(s.slot_name, r.application_name || coalesce('@' || r.client_addr, '')),
                   'state', r.state,
                   'behind_bytes', pg_wal_lsn_diff(pg_current_wal_lsn(), r.replay_lsn)::bigint,
                   'lag_s', extract(epoch FROM r.replay_lag)::float8,
                   'reply_s', extract(epoch FROM r.reply_time)::float8)), '[]')
          FROM pg_stat_replication r LEFT JOIN pg_replication_slots s ON s.active_pid = r.pid
         WHERE r.state IS DISTINCT FROM 'backup'),
    'tables', (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'name', t.name, 'dead', s.dead, 'live', s.live, 'vacuums', s.vacuums)), '[]')
          FROM unnest($1) AS t (name), LATERAL (
               SELECT sum(n_dead_tup)::bigint AS dead, sum(n_live_tup)::bigint AS live,
                      sum(vacuum_count + autovacuum_count)::bigint AS vacuums
                 FROM pg_stat_all_tables
                WHERE relid = to_regclass(t.name)
                   OR relid IN (SELECT relid FROM pg_partition_tree(to_regclass(t.name)))) AS s),
    'oldest', (SELECT jsonb_build_object('holder', holder, 'xmin', xmin::text, 'age_s', age_s) FROM oldest),
    'foreign_sessions', (
        SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND usesysid <> me.role),
    'lock_waiters', (SELECT count(*) FROM victims),
    'longest_wait_s', (SELECT extract(epoch FROM clock_timestamp() - min(since))::float8 FROM victims))
  FROM me";
