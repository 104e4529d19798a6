//! The space that old versions of rows take.

use serde::Serialize;
use sqlx::postgres::PgConnection;

use super::{obstacles, planned};
use crate::migration::columns;
use crate::migration::definition::Definition;

/// Bytes of a row's header and line pointer.
const OVERHEAD: i64 = 28;

/// What a run leaves behind for vacuum.
#[derive(Debug, Serialize)]
pub struct Bloat {
    /// Old versions of rows.
    pub dead_rows: f64,
    /// A row's bytes.
    pub row_bytes: i64,
    /// Share of the changes that stay on their page, because no index covers a changed column and
    /// the fill factor leaves room (HOT). Their old versions go with the next read of the page.
    pub hot_share: f64,
    /// Bytes by which the table grows at most, before vacuum makes them usable again.
    pub bytes: f64,
    /// Indexes that get an entry for every new version that is not HOT.
    pub indexes: i64,
}

/// What changing `changed` of the table's `rows` leaves behind; `None` when the statement is not one
/// that does.
pub(super) async fn bloat(
    conn: &mut PgConnection,
    definition: &Definition,
    rows: i64,
    changed: f64,
) -> Result<Option<Bloat>, sqlx::Error> {
    let first = definition.statement.split_whitespace().next();
    let first = first.unwrap_or_default().to_ascii_uppercase();
    if rows == 0 || first == "INSERT" {
        return Ok(None);
    }
    let (_, width) = planned(conn, definition).await?;
    let (fillfactor, indexes): (i32, i64) = sqlx::query_as(
        "SELECT coalesce((SELECT option_value::int FROM pg_options_to_table(c.reloptions)
                           WHERE option_name = 'fillfactor'), 100),
                (SELECT count(*) FROM pg_index WHERE indrelid = c.oid)
           FROM pg_class AS c WHERE c.oid = to_regclass($1)",
    )
    .bind(&definition.table)
    .fetch_one(&mut *conn)
    .await?;
    let changing = columns::assigned(&definition.statement, &definition.table);
    let covering = obstacles::covering(conn, definition).await?;
    let fits = f64::from(100 - fillfactor) / f64::from(fillfactor);
    let hot_share = if changing.is_empty() || !covering.is_empty() {
        0.0
    } else {
        fits.clamp(0.0, 1.0)
    };
    let row_bytes = width + OVERHEAD;
    let grows = if first == "DELETE" {
        0.0
    } else {
        1.0 - hot_share
    };
    Ok(Some(Bloat {
        dead_rows: changed,
        row_bytes,
        hot_share,
        bytes: changed * row_bytes as f64 * grows,
        indexes,
    }))
}
