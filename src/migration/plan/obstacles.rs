//! What could stall a run or make it slow, as the database's own catalogues tell it.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor, Row};

use crate::config::Engine;
use crate::migration::definition::Definition;
use crate::migration::{columns, lint};

/// A transaction is long when it is open for as long as this many batches may take.
const LONG: u32 = 30;

/// Questions to the catalogue about the table `$1` whose columns `$2` change, and about transactions
/// that are open for more than `$3` seconds. Every row of an answer is a sentence.
const QUESTIONS: [&str; 8] = [
    // Nothing that dies after it began can be vacuumed, and a lock of its is waited for.
    "SELECT format('a transaction is open since %s: pid %s, %s, %s, %s; vacuum cannot clean up behind the run',
                   date_trunc('second', xact_start), pid, coalesce(usename, 'an unknown user'),
                   coalesce(nullif(application_name, ''), 'no application name'), state)
       FROM pg_stat_activity
      WHERE xact_start < now() - make_interval(secs => $3) AND pid <> pg_backend_pid()
        AND backend_type = 'client backend'
      ORDER BY xact_start LIMIT 10",
    "SELECT format('a prepared transaction is open since %s: %s', date_trunc('second', prepared), gid)
       FROM pg_prepared_xacts WHERE database = current_database() LIMIT 10",
    "SELECT format('index %s is invalid: every change pays for it and nothing uses it; drop it or rebuild it',
                   indexrelid::regclass)
       FROM pg_index WHERE indrelid = to_regclass($1) AND NOT indisvalid",
    "SELECT format('trigger %s runs for every row', tgname)
       FROM pg_trigger
      WHERE tgrelid = to_regclass($1) AND NOT tgisinternal AND tgenabled <> 'D' ORDER BY tgname",
    "SELECT CASE WHEN conrelid = to_regclass($1)
                 THEN format('foreign key %s is checked for every row', conname)
                 ELSE format('foreign key %s of %s refers to a column that changes: its rows are looked up for every row',
                             conname, conrelid::regclass) END
       FROM pg_constraint
      WHERE contype = 'f'
        AND (conrelid = to_regclass($1) AND EXISTS (
                 SELECT FROM pg_attribute WHERE attrelid = conrelid AND attnum = ANY(conkey)
                    AND (attname = ANY($2) OR quote_ident(attname) = ANY($2)))
          OR confrelid = to_regclass($1) AND EXISTS (
                 SELECT FROM pg_attribute WHERE attrelid = confrelid AND attnum = ANY(confkey)
                    AND (attname = ANY($2) OR quote_ident(attname) = ANY($2))))
      ORDER BY conname",
    "SELECT format('%s was never analysed: ANALYZE it, or estimates and ETA are blind', $1::text)
       FROM pg_class AS c
      WHERE c.oid = to_regclass($1)
        AND (reltuples < 0 OR reltuples > 0 AND NOT EXISTS (
                 -- CREATE INDEX counts the rows, but knows nothing else of them.
                 SELECT FROM pg_stats WHERE tablename = c.relname
                    AND schemaname = (SELECT nspname FROM pg_namespace WHERE oid = c.relnamespace)))",
    "SELECT format('replication slot %s is inactive and keeps all WAL since %s: the run''s WAL stays on disk',
                   slot_name, restart_lsn)
       FROM pg_replication_slots WHERE NOT active AND restart_lsn IS NOT NULL",
    "SELECT 'autovacuum is off' || CASE WHEN current_setting('autovacuum') = 'off' THEN ''
                                        ELSE ' for ' || $1 END
                || ': old versions of rows stay until somebody vacuums'
       FROM pg_class AS c
      WHERE c.oid = to_regclass($1)
        AND (current_setting('autovacuum') = 'off'
             OR EXISTS (SELECT FROM pg_options_to_table(c.reloptions)
                         WHERE option_name = 'autovacuum_enabled' AND option_value IN ('false', 'off', 'no', '0')))",
];

/// What is in the way, a sentence each.
pub(super) async fn find(
    conn: &mut PgConnection,
    definition: &Definition,
    settings: &Engine,
) -> Result<Vec<String>, sqlx::Error> {
    let changing = columns::assigned(&definition.statement, &definition.table);
    let long = (settings.statement_timeout * LONG).as_secs_f64();
    let mut found = Vec::new();
    for question in QUESTIONS {
        let answers = sqlx::query_scalar::<_, String>(question)
            .bind(&definition.table)
            .bind(&changing)
            .bind(long)
            .fetch_all(&mut *conn)
            .await?;
        found.extend(answers);
    }
    found.extend(condition(conn, definition).await?);
    let covering = covering(conn, definition).await?;
    if !covering.is_empty() {
        found.push(format!(
            "{} indexes are on changed columns, so no change stays on its page (HOT): {}; those that \
             only the new column needs are best built afterwards",
            covering.len(),
            covering.join(", ")
        ));
    }
    Ok(found)
}

/// What makes the pending condition unfit to prove that all is done.
async fn condition(
    conn: &mut PgConnection,
    definition: &Definition,
) -> Result<Vec<String>, sqlx::Error> {
    let pending = &definition.pending;
    let mut found: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT format('function %s in the pending condition is not IMMUTABLE: rows may become \
                pending again when what it reads changes, and other sessions may see it otherwise', p.oid::regproc)
           FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
          WHERE p.proname = ANY($1) AND p.provolatile <> 'i' AND n.nspname <> 'pg_catalog'",
    )
    .bind(lint::functions_in(pending))
    .fetch_all(&mut *conn)
    .await?;
    let alias = definition.alias.as_ref();
    let alias = alias.map_or(String::new(), |alias| format!(" AS {alias}"));
    let sql = format!(
        "EXPLAIN (FORMAT JSON) SELECT FROM {}{alias} WHERE ({pending})",
        definition.table
    );
    let row = conn.fetch_one(AssertSqlSafe(sql.clone())).await;
    let row = row.map_err(|err| definition.place(&sql, err))?;
    let plan: serde_json::Value = row.try_get(0)?;
    if plan[0]["Plan"]["One-Time Filter"] == "false" {
        found.push(format!(
            "the pending condition `{pending}` is true of no row, whatever a row holds: a run would \
             change nothing and be certified"
        ));
    }
    Ok(found)
}

/// The indexes that a column which the statement assigns is part of, expressions and conditions
/// included.
pub(super) async fn covering(
    conn: &mut PgConnection,
    definition: &Definition,
) -> Result<Vec<String>, sqlx::Error> {
    let changing = columns::assigned(&definition.statement, &definition.table);
    // An index depends on every column that it mentions, wherever it does.
    sqlx::query_scalar(
        "SELECT DISTINCT i.indexrelid::regclass::text
           FROM pg_index AS i
           JOIN pg_depend AS d ON d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
                              AND d.refobjid = i.indrelid AND d.refobjsubid > 0
           JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = d.refobjsubid
          WHERE i.indrelid = to_regclass($1)
            AND (a.attname = ANY($2) OR quote_ident(a.attname) = ANY($2))
          ORDER BY 1",
    )
    .bind(&definition.table)
    .bind(&changing)
    .fetch_all(conn)
    .await
}
