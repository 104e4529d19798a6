//! Rows that are pending although the statement was applied to them: every sweep would find them again
//! and apply it once more. They are looked for in the very transaction that did so, so that nothing of
//! it is kept.
//!
//! - Rows that it has changed and that are pending all the same.
//! - Rows that it has not changed: a trigger or a rule kept it from that, or its own condition does. A
//!   trigger may have done something else for each of them.
//! - Rows that an earlier batch of the run was the last to write, and that are pending by now: the
//!   condition asks for the time, or for something else that changes by itself.
//!
//! A statement that changes other tables than the one that is walked leaves no trace in its rows; of that
//! one it is asked whether any row of the range has ceased to be pending.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use super::columns;
use super::definition::Definition;
use super::keyset::{KeyValue, Keyset, Range};
use super::snapshot::Snapshot;
use super::source::tokens;

/// Rows that the statement would be applied to again.
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
#[derive(Debug, Default)]
pub struct Counts {
    /// All rows.
    rows: i64,
    /// Rows that are pending.
    pub pending: i64,
    /// Rows that this transaction may have written: those whose writer began no sooner than it did.
    touched: i64,
    /// Rows that it has written itself.
    written: i64,
    /// Those of them that are pending.
    again: Named,
    /// Rows that are pending and that others have written, by the transaction that did, as `xmin` has it.
    others: Vec<(u32, Named)>,
}

/// Some rows, and the key of one.
#[derive(Clone, Debug, Default)]
struct Named {
    rows: i64,
    example: Option<KeyValue>,
}

impl Named {
    fn all<'a>(some: impl Iterator<Item = &'a Self>) -> Self {
        some.fold(Self::default(), |sum, some| Self {
            rows: sum.rows + some.rows,
            example: sum.example.or_else(|| some.example.clone()),
        })
    }

    /// The one, for people, behind their number.
    fn for_example(&self, keyset: &Keyset) -> String {
        let key = self.example.as_ref();
        key.map_or_else(String::new, |key| {
            format!(", for example {}", keyset.names().key(key))
        })
    }
}

/// What is known of a statement over a range beside the [`Counts`] after it.
#[derive(Clone, Copy, Debug)]
pub struct Made<'a> {
    /// Rows that it changed.
    pub changed: i64,
    /// Whether rows are left out of that which a trigger kept from being changed, as a plan cannot.
    pub exact: bool,
    /// Rows of the range.
    pub seen: i64,
    /// Rows of the range that were pending before, where they were counted.
    pub todo: Option<i64>,
    /// What was there before.
    pub before: &'a Snapshot,
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
    let version = format!("{}.xmin", definition.qualifier());
    // A subtransaction (an exception handler has one) writes under an id of its own, a later one; its rows
    // count as written elsewhere.
    let current = "pg_catalog.pg_current_xact_id()::pg_catalog.xid";
    let own = format!("{version} OPERATOR(pg_catalog.=) {current}");
    // Rows of a foreign partition have no version, which is as old as can be.
    let young = format!(
        "(pg_catalog.age({version}) OPERATOR(pg_catalog.<=) pg_catalog.age({current}) \
         OR pg_catalog.age({version}) OPERATOR(pg_catalog.=) 2147483647)"
    );
    let texts: Vec<_> = keyset.columns();
    let texts: Vec<_> = texts
        .iter()
        .map(|c| format!("{c}::pg_catalog.text"))
        .collect();
    let sql = keyset.select(
        range.lower.is_none(),
        &format!(
            "CASE WHEN {pending} OR {young} THEN {version}::pg_catalog.text END AS version, \
             pg_catalog.count(*) AS rows, \
             pg_catalog.count(*) FILTER (WHERE {pending}) AS pending, \
             COALESCE(pg_catalog.bool_or({own}), false) AS own, \
             COALESCE(pg_catalog.bool_or({young}), false) AS young, \
             pg_catalog.min(ARRAY[{}]) FILTER (WHERE {pending}) AS example",
            texts.join(", ")
        ),
    ) + " GROUP BY 1";
    let rows = sqlx::query(AssertSqlSafe(sql.clone()))
        .bind(&range.lower)
        .bind(&range.upper)
        .fetch_all(conn)
        .await
        .map_err(|err| definition.place(&sql, err))?;
    let mut counts = Counts::default();
    for row in rows {
        let all: i64 = row.try_get("rows")?;
        counts.rows += all;
        let Some(version) = row.try_get::<Option<&str>, _>("version")? else {
            continue;
        };
        let version = version
            .parse()
            .map_err(|err| sqlx::Error::Decode(Box::new(err)))?;
        let named = Named {
            rows: row.try_get("pending")?,
            example: row.try_get("example")?,
        };
        counts.pending += named.rows;
        if row.try_get("young")? {
            counts.touched += all;
        }
        if row.try_get("own")? {
            counts.written += all;
            counts.again = named;
        } else {
            counts.others.push((version, named));
        }
    }
    Ok(counts)
}

/// Looks for rows of `range` that are pending and were last written by a batch of `run`, or of one that it
/// goes on from, before a sweep applies the statement to them once more. `None` also where the condition reads other rows, which
/// somebody may have changed.
///
/// # Errors
/// What the database says.
pub async fn returned(
    conn: &mut PgConnection,
    definition: &Definition,
    keyset: &Keyset,
    range: &Range,
    run: i64,
) -> Result<Option<Still>, sqlx::Error> {
    if columns::reads_relations(&definition.pending) {
        return Ok(None);
    }
    let counts = count(conn, definition, keyset, range).await?;
    let now = Snapshot::take(&mut *conn).await?;
    let whole = |xid: u32| i64::try_from(now.whole(xid)).unwrap_or(i64::MAX);
    let xids: Vec<_> = counts.others.iter().map(|(xid, _)| whole(*xid)).collect();
    let ours: Vec<i64> = sqlx::query_scalar(
        "WITH RECURSIVE chain AS (
             SELECT id, follows FROM evenkeel.runs WHERE id OPERATOR(pg_catalog.=) $1
             UNION ALL
             SELECT before.id, before.follows FROM chain
               JOIN evenkeel.runs AS before ON before.id OPERATOR(pg_catalog.=) chain.follows)
         SELECT xid FROM evenkeel.batches
          WHERE xid OPERATOR(pg_catalog.=) ANY ($2)
            AND run_id OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT id FROM chain))
            AND cluster OPERATOR(pg_catalog.=) (pg_catalog.pg_control_system()).system_identifier",
    )
    .bind(run)
    .bind(&xids)
    .fetch_all(conn)
    .await?;
    let of_ours = counts.others.iter();
    let of_ours = of_ours.filter(|(xid, _)| ours.contains(&whole(*xid)));
    let returned = Named::all(of_ours.map(|(_, named)| named));
    Ok((returned.rows > 0).then(|| Still {
        rows: returned.rows,
        of: counts.pending,
        why: format!(
            "the pending condition `{}` has become true again by itself: {} of {} pending rows were \
             last written by this run{}, so the statement would be applied to them again with every \
             sweep. The batch was rolled back. Declare a condition that asks only for what the \
             statement writes, not for the time, settings of the session or the result of a function \
             that may change; then cancel this run and start it anew",
            definition.pending,
            returned.rows,
            counts.pending,
            returned.for_example(keyset)
        ),
    }))
}

impl Counts {
    /// Rows that the statement would be applied to again and again, now that it was `made`.
    pub fn still(&self, definition: &Definition, keyset: &Keyset, made: Made<'_>) -> Option<Still> {
        self.outside(definition, keyset, made)
            .or_else(|| self.again(definition, keyset, made))
            .or_else(|| self.untouched(definition, keyset, made))
    }

    /// Rows that the statement changed, where `made` was told by a plan: that counts rows which a trigger
    /// kept from being changed, too.
    pub fn planned(&self, definition: &Definition, made: Made<'_>) -> i64 {
        let most = made.todo.unwrap_or(made.seen) - self.left(made).rows;
        if is_of_own(definition) && made.changed <= made.seen {
            made.changed.min(most.max(self.written))
        } else {
            made.changed
        }
    }

    /// The rows that are pending and were there before the statement, so that it could have changed them.
    fn left(&self, made: Made<'_>) -> Named {
        let there = self.others.iter();
        let there = there.filter(|(xid, _)| made.before.had_ended(*xid));
        Named::all(there.map(|(_, named)| named))
    }

    /// That it changed rows of the table outside its range, and would with every batch.
    fn outside(&self, definition: &Definition, keyset: &Keyset, made: Made<'_>) -> Option<Still> {
        let changed = made.changed;
        // Where no row has gone, what it changed in the range is there to be counted.
        let all_there = made.exact && !keyset.moves && self.touched > 0 && self.rows >= made.seen;
        let within = if all_there {
            self.touched
        } else {
            made.seen.max(self.written)
        };
        (changed > within && is_of_own(definition)).then(|| Still {
            rows: changed - within,
            of: changed,
            why: format!(
                "the statement is not limited to its range: it changed {changed} rows, {within} of \
                 them at most in its range, and would change the others again with every batch. The batch was \
                 rolled back. Join `:range` to the other conditions by AND"
            ),
        })
    }

    /// The rows that it changed and that are pending.
    fn again(&self, definition: &Definition, keyset: &Keyset, made: Made<'_>) -> Option<Still> {
        let others = || Named::all(self.others.iter().map(|(_, named)| named));
        let (rows, of, named) = if self.again.rows > 0 {
            let rows = self.again.rows;
            (rows, made.changed.max(rows), self.again.clone())
        } else if made.changed > 0
            && self.written == 0
            && self.pending > 0
            && self.pending >= made.todo.unwrap_or(made.seen)
        {
            // It did something elsewhere, and not one row of the range is done.
            (self.pending, self.pending, others())
        } else {
            return None;
        };
        Some(Still {
            rows,
            of,
            why: format!(
                "the statement does not make the pending condition `{}` false: {rows} of {of} \
                 changed rows are pending all the same{}, so it would be applied to them again \
                 with every sweep. The batch was rolled back. Have the statement write what the \
                 condition asks about, or declare a condition that is false of a row once it has been \
                 changed",
                definition.pending,
                named.for_example(keyset)
            ),
        })
    }

    /// The rows that were there before, are pending, and that it did not change. Where it is not known how
    /// many were pending, only a statement that changed nothing at all is blamed: a walk has to show what
    /// becomes of the others, and the sweep after it counts them.
    fn untouched(&self, definition: &Definition, keyset: &Keyset, made: Made<'_>) -> Option<Still> {
        let left = self.left(made);
        // What a condition on other tables makes pending meanwhile comes on top of what was.
        let is_sure = match made.todo {
            Some(todo) => made.changed + left.rows <= todo,
            None => made.changed == 0 && self.written == 0,
        };
        let (rows, of) = (left.rows, made.todo.unwrap_or(self.pending).max(left.rows));
        (rows > 0 && is_sure && !skips_locked(definition)).then(|| Still {
            rows,
            of,
            why: format!(
                "the statement leaves {rows} of {of} pending rows as they are{}: a trigger or a rule \
                 keeps it from changing them, or its own condition leaves them out, so every sweep would \
                 find them again. The batch was rolled back. Let the pending condition `{}` leave them \
                 out as well, or have the statement change them",
                left.for_example(keyset),
                definition.pending
            ),
        })
    }
}

/// Whether the statement is an UPDATE or DELETE of the table that is walked.
pub fn is_of_own(definition: &Definition) -> bool {
    columns::changes(&definition.statement, &definition.table)
}

/// Whether it leaves out rows that somebody has locked, for the next sweep.
fn skips_locked(definition: &Definition) -> bool {
    let tokens = tokens(&definition.statement);
    let words: Vec<_> = tokens.iter().filter(|token| !token.is_trivia()).collect();
    words
        .windows(2)
        .any(|pair| pair[0].is_word("skip") && pair[1].is_word("locked"))
}
