//! Finds the table that a name in a header refers to.

use sqlx::Row;
use sqlx::postgres::PgConnection;
use sqlx::postgres::types::Oid;

use super::{KeysetError, catalog};

/// A table that can be walked.
pub(super) struct Table {
    pub oid: Oid,
    pub partitioned: bool,
}

/// The table that `name` means to the author of a definition.
///
/// # Errors
/// [`KeysetError`] when there is none, or when its index does not lead to all that it shows.
pub(super) async fn find(conn: &mut PgConnection, name: &str) -> Result<Table, KeysetError> {
    let relation = catalog::relation(conn, name).await?;
    let mut tx = catalog::pinned(conn).await?;
    let found = sqlx::query(
        "SELECT c.oid, c.relkind = 'p' AS partitioned, c.relkind IN ('r', 'p') AS is_table,
                c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid) AS inherited,
                row_security_active(c.oid) AS hidden
           FROM pg_class c WHERE c.oid = $1",
    )
    .bind(relation)
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = found else {
        let similar: Option<String> = sqlx::query_scalar(
            "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname)
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE c.relkind IN ('r', 'p') AND lower(c.relname) = lower($1)
              ORDER BY c.oid LIMIT 1",
        )
        .bind(name.rsplit('.').next().unwrap_or(name).trim_matches('"'))
        .fetch_optional(&mut *tx)
        .await?;
        let hint = similar.map(|similar| format!("; there is `{similar}`"));
        return Err(KeysetError::NoTable {
            table: name.to_owned(),
            hint: hint.unwrap_or_default(),
        });
    };
    tx.rollback().await?;
    let problem = if !row.try_get("is_table")? {
        Some("is no table; name the table behind it")
    } else if row.try_get("inherited")? {
        Some(
            "has tables that inherit from it, whose rows its index does not have; migrate a \
             partitioned table instead, or each table by itself after NO INHERIT",
        )
    } else if row.try_get("hidden")? {
        Some(
            "has row-level security, which would hide rows from the migration; run it as the \
             table's owner (without FORCE ROW LEVEL SECURITY) or as a role with BYPASSRLS",
        )
    } else {
        None
    };
    match problem {
        Some(problem) => Err(KeysetError::Unsuitable {
            table: name.to_owned(),
            problem,
        }),
        None => Ok(Table {
            oid: row.try_get("oid")?,
            partitioned: row.try_get("partitioned")?,
        }),
    }
}
