//! The tables in which the rows of a table are stored.

use sqlx::postgres::PgConnection;
use sqlx::postgres::types::Oid;

/// A table with rows of its own, as it was under the snapshot in which it was looked for.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct Leaf {
    pub oid: Oid,
    /// With its schema, as SQL.
    pub name: String,
    /// Whether it is the declared table itself.
    pub is_root: bool,
    /// Why it cannot be read by physical position.
    pub problem: Option<String>,
    /// The file that holds it; another one after a rewrite.
    pub filenode: Oid,
    /// Blocks that it has now. Rows that the snapshot sees lie in these, because a file is only cut
    /// where it has no such rows.
    pub blocks: i64,
    /// A digest of its columns.
    pub columns: String,
}

/// What is in `pg_class` is as the snapshot sees it; the sizes
/// are those of the files as they are now.
const LEAVES: &str = "
    WITH RECURSIVE tree (oid) AS (
        SELECT to_regclass($1)::oid
         UNION
        SELECT i.inhrelid FROM pg_inherits i JOIN tree ON tree.oid = i.inhparent
         WHERE NOT i.inhdetachpending)
    SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name,
           c.oid = to_regclass($1)::oid AS is_root,
           CASE WHEN c.relkind = 'f' THEN 'is a foreign table, which has no physical positions here'
                WHEN c.relkind NOT IN ('r', 'm') THEN 'is no table'
                WHEN am.amname <> 'heap' THEN
                     format('is stored by %s, whose physical order is not known', am.amname)
            END AS problem,
           c.relfilenode AS filenode,
           CASE WHEN c.relkind IN ('r', 'm')
                THEN coalesce(pg_relation_size(c.oid), 0) / current_setting('block_size')::bigint
                ELSE 0 END AS blocks,
           coalesce((SELECT md5(string_agg(format('%s %s %s', a.attnum, a.attname, a.atttypid), ','
                                           ORDER BY a.attnum))
                       FROM pg_attribute a
                      WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '') AS columns
      FROM tree
      JOIN pg_class c ON c.oid = tree.oid
      JOIN pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN pg_am am ON am.oid = c.relam
     WHERE c.relkind <> 'p'
     ORDER BY c.oid";

/// The tables that hold the rows of `table`, which is SQL.
///
/// # Errors
/// What the database says.
pub(super) async fn find(conn: &mut PgConnection, table: &str) -> Result<Vec<Leaf>, sqlx::Error> {
    sqlx::query_as(LEAVES).bind(table).fetch_all(conn).await
}

/// The name of the table `table` without its schema, as SQL; `None` when there is no such table.
///
/// # Errors
/// What the database says.
pub(super) async fn plain_name(
    conn: &mut PgConnection,
    table: &str,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT quote_ident(relname) FROM pg_class WHERE oid = to_regclass($1)")
        .bind(table)
        .fetch_optional(conn)
        .await
}

/// What happened between two looks that makes what was read in between unreliable.
pub(super) fn difference(before: &[Leaf], after: &[Leaf]) -> Option<String> {
    let find = |all: &[Leaf], oid| all.iter().find(|leaf| leaf.oid == oid).cloned();
    if let Some(new) = after.iter().find(|leaf| find(before, leaf.oid).is_none()) {
        return Some(format!(
            "{} was attached while the table was read",
            new.name
        ));
    }
    before.iter().find_map(|then| {
        let Some(now) = find(after, then.oid) else {
            return Some(format!(
                "{} was detached, dropped or renamed while the table was read",
                then.name
            ));
        };
        let what = if then.filenode != now.filenode {
            "was rewritten or truncated"
        } else if then.columns != now.columns {
            "got other columns"
        } else {
            return None;
        };
        Some(format!("{} {what} while it was read", then.name))
    })
}
