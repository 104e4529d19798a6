//! Rows that the statement changes and that are pending all the same. Every sweep finds them again and
//! applies the statement to them once more, and the run cannot end.

use serde::Serialize;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::Sample;
use crate::migration::definition::Definition;
use crate::migration::keyset::{Keyset, Range};

/// What the samples say of rows that stay pending.
#[derive(Clone, Debug, Serialize)]
pub struct StaysPending {
    /// Rows that are pending after the statement.
    pub rows: i64,
    /// Rows that were pending before, in the samples in which that was so.
    pub of: i64,
    /// What that means and what to do.
    pub why: String,
}

impl StaysPending {
    pub(super) fn of(definition: &Definition, samples: &[Sample]) -> Option<Self> {
        let affected = samples.iter().filter(|sample| sample.stays_pending > 0);
        let (rows, of) = affected.fold((0, 0), |(rows, of), sample| {
            (rows + sample.stays_pending, of + sample.pending)
        });
        (rows > 0).then(|| Self {
            rows,
            of,
            why: format!(
                "the statement does not make the pending condition `{}` false: {rows} of {of} pending \
                 rows were still pending after it (all rolled back). A run would apply the statement \
                 to them again with every sweep and could not end. Make the statement write what the \
                 condition asks about, or write a condition that is false once it has been applied",
                definition.pending
            ),
        })
    }
}

/// Pending rows of a range.
#[derive(Clone, Copy, Debug, sqlx::FromRow)]
pub(super) struct Pending {
    pub pending: i64,
    /// Those that this very transaction wrote.
    own: i64,
}

impl Pending {
    /// Rows that are pending although the statement was applied to them: those that it wrote; or all,
    /// when it did something elsewhere, or a trigger undid it, and none of those that were pending
    /// `before` is done.
    pub(super) fn stays(self, before: Self, changed: i64) -> i64 {
        if self.own > 0 {
            self.own
        } else if changed > 0 && self.pending > 0 && self.pending >= before.pending {
            self.pending
        } else {
            0
        }
    }
}

/// Counts the rows of `range` that are pending now, as this transaction sees them.
pub(super) async fn count(
    conn: &mut PgConnection,
    keyset: &Keyset,
    definition: &Definition,
    range: &Range,
) -> Result<Pending, sqlx::Error> {
    let (pending, qualifier) = (&definition.pending, definition.qualifier());
    let counts = format!(
        "count(*) FILTER (WHERE ({pending}) IS TRUE) AS pending, \
         count(*) FILTER (WHERE ({pending}) IS TRUE \
             AND {qualifier}.xmin OPERATOR(pg_catalog.=) pg_catalog.pg_current_xact_id()::xid) AS own"
    );
    let sql = keyset.select(range.lower.is_none(), &counts);
    sqlx::query_as(AssertSqlSafe(sql))
        .bind(&range.lower)
        .bind(&range.upper)
        .fetch_one(conn)
        .await
}
