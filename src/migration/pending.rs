//! Rows that the statement has changed and that are pending all the same: every sweep would find them
//! again and apply the statement to them once more. They are looked for in the very transaction that
//! changed them, so that nothing of it is kept.
//!
//! A row that a trigger has kept from being changed, or that the author's own condition excludes, was
//! not changed and is not meant. A statement that changes other tables than the one that is walked
//! leaves no trace in its rows; of that one it is asked whether any row of the range has ceased to be
//! pending.

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::columns;
use super::definition::Definition;
use super::keyset::{KeyValue, Keyset, Range};

/// Rows that would be changed again.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Still {
    /// How many.
    pub rows: i64,
    /// Of how many: the rows that were changed, or those that are pending.
    pub of: i64,
    /// What that means and what to do.
    pub why: String,
}

/// Rows of a range, as the transaction that counts them sees them.
#[derive(Debug, sqlx::FromRow)]
pub struct Counts {
    /// Rows that are pending.
    pub pending: i64,
    /// Rows that this transaction has written.
    written: i64,
    /// Rows that it has written and that are pending.
    again: i64,
    /// The key of one of the latter, or else of a pending row.
    example: Option<KeyValue>,
}

/// Counts the rows of `range`.
///
/// # Errors
/// What the database says.
pub async fn count(
    conn: &mut PgConnection,
    definition: &Definition,
    keyset: &Keyset,
    range: &Range,
) -> Result<Counts, sqlx::Error> {
    let pending = format!("({}) IS TRUE", definition.pending);
    // A subtransaction (an exception handler has one) writes under an id of its own; its rows count as
    // written elsewhere.
    let own = format!(
        "{}.xmin OPERATOR(pg_catalog.=) pg_catalog.pg_current_xact_id()::pg_catalog.xid",
        definition.qualifier()
    );
    let texts: Vec<_> = keyset.columns();
    let texts: Vec<_> = texts
        .iter()
        .map(|c| format!("{c}::pg_catalog.text"))
        .collect();
    let key = format!("pg_catalog.min(ARRAY[{}])", texts.join(", "));
    let sql = keyset.select(
        range.lower.is_none(),
        &format!(
            "pg_catalog.count(*) FILTER (WHERE {pending}) AS pending, \
             pg_catalog.count(*) FILTER (WHERE {own}) AS written, \
             pg_catalog.count(*) FILTER (WHERE {own} AND {pending}) AS again, \
             COALESCE({key} FILTER (WHERE {own} AND {pending}), \
                      {key} FILTER (WHERE {pending})) AS example"
        ),
    );
    sqlx::query_as(AssertSqlSafe(sql.clone()))
        .bind(&range.lower)
        .bind(&range.upper)
        .fetch_one(conn)
        .await
        .map_err(|err| definition.place(&sql, err))
}

/// Looks for rows of `range` that are pending after the statement has `changed` something in this
/// transaction.
///
/// # Errors
/// What the database says.
pub async fn still(
    conn: &mut PgConnection,
    definition: &Definition,
    keyset: &Keyset,
    range: &Range,
    changed: i64,
) -> Result<Option<Still>, sqlx::Error> {
    let counts = count(conn, definition, keyset, range).await?;
    let before = range.todo.unwrap_or(range.seen);
    Ok(counts
        .outside(definition, changed, range.seen)
        .or_else(|| counts.still(definition, keyset, changed, before)))
}

impl Counts {
    /// That an UPDATE `changed` rows outside its range of `seen` rows, and would with every batch.
    pub fn outside(&self, definition: &Definition, changed: i64, seen: i64) -> Option<Still> {
        let within = seen.max(self.written);
        let is_update = || !columns::assigned(&definition.statement, &definition.table).is_empty();
        (changed > within && is_update()).then(|| Still {
            rows: changed - within,
            of: changed,
            why: format!(
                "the statement is not limited to its range: it changed {changed} rows where the range has \
                 {within}, and would change the others again with every batch. The batch was rolled back. \
                 Join `:range` to the other conditions by AND"
            ),
        })
    }

    /// The rows that would be changed again, when the statement `changed` something and `before` rows
    /// were pending before it.
    pub fn still(
        &self,
        definition: &Definition,
        keyset: &Keyset,
        changed: i64,
        before: i64,
    ) -> Option<Still> {
        let (rows, of) = if self.again > 0 {
            (self.again, changed.max(self.again))
        } else if changed > 0 && self.written == 0 && self.pending > 0 && self.pending >= before {
            // It did something elsewhere, and not one row of the range is done.
            (self.pending, self.pending)
        } else {
            return None;
        };
        let example = self.example.as_ref().map_or_else(String::new, |key| {
            format!(", for example {}", keyset.names().key(key))
        });
        Some(Still {
            rows,
            of,
            why: format!(
                "the statement does not make the pending condition `{}` false: {rows} of {of} \
                 changed rows are pending all the same{example}, so it would be applied to them again \
                 with every sweep. The batch was rolled back. Have the statement write what the \
                 condition asks about, or declare a condition that is false of a row once it has been \
                 changed",
                definition.pending
            ),
        })
    }
}
