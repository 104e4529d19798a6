//! Rows that the statement has changed and that are pending all the same: every sweep would find them
//! again and apply the statement to them once more. They are looked for in the very transaction that
//! changed them, so that nothing of it is kept.
//!
//! A row that a trigger has kept from being changed, or that the author's own condition excludes, was
//! not changed and is not meant. A statement that changes other tables than the one that is walked
//! leaves no trace in its rows; of that one it is asked whether any row of the range has ceased to be
//! pending.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use super::definition::Definition;
use super::keyset::{Keyset, Range};

/// Transaction ids above the own one that are looked at as its subtransactions'.
const SUBTRANSACTIONS: i64 = 1 << 20;

/// Rows that would be changed again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Still {
    /// How many.
    pub rows: i64,
    /// Of how many: the rows that were changed, or those of the range.
    pub of: i64,
    /// The key of one of them, for people.
    pub example: Option<String>,
}

impl Still {
    /// What it means and what to do; `pending` is the condition.
    pub fn explain(&self, pending: &str) -> String {
        let Self { rows, of, example } = self;
        let example = example
            .as_ref()
            .map_or_else(String::new, |key| format!(", for example {key}"));
        format!(
            "the statement does not make the pending condition `{pending}` false: {rows} of {of} \
             changed rows are pending all the same{example}, so it would be applied to them again \
             with every sweep. The batch was rolled back. Have the statement write what the condition \
             asks about, or declare a condition that is false of a row once it has been changed"
        )
    }
}

/// Looks for rows of `range` that are pending after the statement has `changed` something in this
/// transaction; `before` is the snapshot from before the statement: a
/// row that the shop writes meanwhile has not been left pending by it.
///
/// # Errors
/// What the database says.
pub async fn still(
    conn: &mut PgConnection,
    definition: &Definition,
    keyset: &Keyset,
    range: &Range,
    changed: i64,
    before: &str,
) -> Result<Option<Still>, sqlx::Error> {
    let (pending, q) = (&definition.pending, definition.qualifier());
    let own = written_here(q);
    let was_there = was_there(q);
    let sql = keyset.select(
        range.lower.is_none(),
        &format!(
            "count(*) FILTER (WHERE {own}) AS written, \
             count(*) FILTER (WHERE {own} AND ({pending})) AS again, \
             count(*) FILTER (WHERE {was_there} AND ({pending})) AS untouched"
        ),
    );
    let found = sqlx::query(AssertSqlSafe(sql.clone()))
        .bind(&range.lower)
        .bind(&range.upper)
        .bind(before)
        .fetch_one(&mut *conn)
        .await
        .map_err(|err| definition.place(&sql, err))?;
    let (written, again, untouched): (i64, i64, i64) = (
        found.try_get("written")?,
        found.try_get("again")?,
        found.try_get("untouched")?,
    );
    let (rows, which) = if again > 0 {
        (again, own)
    } else if written == 0 && untouched > 0 && untouched >= range.todo.unwrap_or(range.seen) {
        // It did something elsewhere, and not one row of the range is done.
        (untouched, "true".to_owned())
    } else {
        return Ok(None);
    };
    Ok(Some(Still {
        rows,
        of: if again > 0 { changed.max(again) } else { rows },
        example: example(conn, definition, keyset, range, &which).await?,
    }))
}

/// The key of a pending row of `range` for which `which` is true.
async fn example(
    conn: &mut PgConnection,
    definition: &Definition,
    keyset: &Keyset,
    range: &Range,
    which: &str,
) -> Result<Option<String>, sqlx::Error> {
    let columns = keyset.columns();
    let texts: Vec<_> = columns
        .iter()
        .map(|column| format!("{column}::text"))
        .collect();
    let key = keyset.select(
        range.lower.is_none(),
        &format!("ARRAY[{}]", texts.join(", ")),
    );
    let sql = format!("{key} AND ({}) AND {which} LIMIT 1", definition.pending);
    let found: Option<Vec<String>> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(&range.lower)
        .bind(&range.upper)
        .fetch_optional(conn)
        .await?;
    Ok(found.map(|values| {
        let equal =
            |(column, value): (&String, &String)| format!("{column} = {}", value.escape_debug());
        let columns = columns.iter().zip(&values).map(equal);
        columns.collect::<Vec<_>>().join(", ")
    }))
}

/// How many transaction ids after `id` the row's writer is, from 0 to 2³² − 1: ids wrap around.
fn distance(qualifier: &str, id: &str) -> String {
    format!("(({qualifier}.xmin::text::bigint - {id} % 4294967296 + 4294967296) % 4294967296)")
}

/// True of a row of which the transaction that wrote it was over in the snapshot `$3`. The id that a
/// row has lacks its upper half; of the ids that it can mean the one next to the snapshot is meant.
fn was_there(qualifier: &str) -> String {
    let before = "$3::text::pg_snapshot";
    let reference = format!("pg_snapshot_xmax({before})::text::bigint");
    let after = distance(qualifier, &reference);
    format!(
        "pg_visible_in_snapshot(greatest(3, {reference} + {after} - \
             CASE WHEN {after} < 2147483648 THEN 0 ELSE 4294967296 END)::text::xid8, {before})"
    )
}

/// True of a row that this transaction has written, itself or in a subtransaction of its own (a
/// function with an exception handler has one). A row that can be seen is of this transaction, or of
/// one that has ended; the latter is known to be over, and an id that no transaction beyond this one
/// has used yet is this one's.
fn written_here(qualifier: &str) -> String {
    let own = "pg_current_xact_id()::text::bigint";
    let after = distance(qualifier, own);
    format!(
        "(CASE WHEN {after} = 0 THEN true \
               WHEN {after} >= {SUBTRANSACTIONS} THEN false \
               WHEN {own} + {after} >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint THEN true \
               ELSE pg_xact_status(({own} + {after})::text::xid8) = 'in progress' END)"
    )
}
