//! The conditions by which an index is read: which rows come after one key and up to another.
//!
//! Columns in one direction whose operators have the same names are compared as rows, which a B-tree
//! answers directly. There is no row comparison of columns in different directions, none by operators
//! of several schemas, and none that tells partitions apart; there a range is the union of disjoint
//! *boxes*, each an equality on some leading columns and an inequality on the next, so that every one
//! of them is a contiguous piece of the index.
//!
//! Every operator, type and collation is the index's own, by its qualified name: what the search path
//! finds under that name may compare otherwise.

use super::{Column, Keyset, Operators};

/// The parameter that is the key before a range, and the one that is its last key.
const KEYS: [&str; 2] = ["($1::pg_catalog.text[])", "($2::pg_catalog.text[])"];

impl Column {
    /// The column of the table `qualifier`, of the type that the operators take.
    pub(super) fn own(&self, qualifier: &str) -> String {
        let relabel = if self.relabelled {
            format!("::{}", self.operand)
        } else {
            String::new()
        };
        format!("{qualifier}.{}{relabel}", self.name)
    }

    /// The column as the index compares it.
    fn of(&self, qualifier: &str) -> String {
        self.collated(self.own(qualifier))
    }

    /// The value at `place` (from 1) of `key`, an array of text forms.
    fn value(&self, key: &str, place: usize) -> String {
        self.collated(format!("{key}[{place}]::{}", self.operand))
    }

    /// `expression` under the index's collation, which may differ from the column's.
    fn collated(&self, expression: String) -> String {
        match &self.collation {
            Some(collation) => format!("{expression} COLLATE {collation}"),
            None => expression,
        }
    }

    /// How a later value compares to an earlier one.
    fn after(&self) -> &str {
        if self.descending {
            &self.operators.less
        } else {
            &self.operators.greater
        }
    }

    fn before(&self) -> &str {
        if self.descending {
            &self.operators.greater
        } else {
            &self.operators.less
        }
    }

    /// `expression` as an item of ORDER BY that the index answers, against the walk if `reversed`.
    pub(super) fn order(&self, expression: String, reversed: bool) -> String {
        let descending = self.descending != reversed;
        let by = match (self.sorts_by_default, descending) {
            (true, false) => "ASC".to_owned(),
            (true, true) => "DESC".to_owned(),
            (false, false) => format!("USING {}", self.operators.less),
            (false, true) => format!("USING {}", self.operators.greater),
        };
        let nulls = ["LAST", "FIRST"][usize::from(self.nulls_first != reversed)];
        format!("{} {by} NULLS {nulls}", self.collated(expression))
    }

    /// The column of the table `qualifier` as an item of ORDER BY.
    pub(super) fn order_own(&self, qualifier: &str, reversed: bool) -> String {
        // An index on a domain over an array, enum, range or row has the order of the domain itself.
        let own = if self.polymorphic {
            format!("{qualifier}.{}", self.name)
        } else {
            self.own(qualifier)
        };
        self.order(own, reversed)
    }

    /// Whether the text form of `value` reads back as what the index takes for the same.
    pub(super) fn survives(&self, value: &str) -> String {
        let read_back = format!("({})::{}", super::text(value), self.operand);
        format!(
            "({} {} {}) IS TRUE",
            self.collated(read_back),
            self.operators.equal,
            self.collated(value.to_owned())
        )
    }
}

impl Keyset {
    /// The conditions, of which a row meets at most one, for the keys after `$1` (all, when it is
    /// NULL at `from_start`) up to and including `$2`.
    pub(super) fn pieces(&self, from_start: bool) -> Vec<String> {
        let pieces = if self.expanded {
            let lower = match from_start {
                true => vec![Vec::new()],
                false => self.beyond(1, Column::after),
            };
            let mut upper = self.beyond(2, Column::before);
            upper.push(self.equal(2, self.columns.len()));
            let pairs = lower.iter().flat_map(|lower| {
                let pair = |upper: &Vec<String>| [lower.as_slice(), upper].concat().join(" AND ");
                upper.iter().map(pair).collect::<Vec<_>>()
            });
            pairs.collect()
        } else {
            let (row, upper) = (self.row(), self.row_of(2));
            let Operators {
                greater: after,
                less_equal: up_to,
                ..
            } = &self.columns[0].operators;
            vec![match from_start {
                true => format!("{row} {up_to} {upper}"),
                false => format!("{row} {after} {} AND {row} {up_to} {upper}", self.row_of(1)),
            }]
        };
        let scoped = pieces.into_iter().map(|piece| {
            // The parameter must appear, or PostgreSQL could not tell its type.
            let start = if from_start {
                "$1::pg_catalog.text[] IS NULL AND "
            } else {
                ""
            };
            match &self.scope {
                Some(scope) => format!("{start}{piece} AND ({scope})"),
                None => format!("{start}{piece}"),
            }
        });
        scoped.collect()
    }

    /// Equal to the key that is parameter `n` in the first columns, and beyond it in the next: one
    /// piece for each number of first columns.
    fn beyond(&self, n: usize, operator: fn(&Column) -> &str) -> Vec<Vec<String>> {
        let piece = |(i, column): (usize, &Column)| {
            let mut piece = self.equal(n, i);
            let (own, value) = (column.of(&self.qualifier), column.value(KEYS[n - 1], i + 1));
            piece.push(format!("{own} {} {value}", operator(column)));
            piece
        };
        self.columns.iter().enumerate().map(piece).collect()
    }

    /// Equal to the key that is parameter `n` in the first `columns`.
    fn equal(&self, n: usize, columns: usize) -> Vec<String> {
        let equal = |(i, column): (usize, &Column)| {
            let (own, value) = (column.of(&self.qualifier), column.value(KEYS[n - 1], i + 1));
            format!("{own} {} {value}", column.operators.equal)
        };
        let columns = self.columns.iter().take(columns);
        columns.enumerate().map(equal).collect()
    }

    /// `ROW(q.a, q.b)`
    fn row(&self) -> String {
        let columns = self.columns.iter().map(|c| c.of(&self.qualifier));
        row(columns.collect())
    }

    /// `ROW(($n::text[])[1]::bigint, ($n::text[])[2]::uuid)`
    fn row_of(&self, n: usize) -> String {
        let values = self.columns.iter().enumerate();
        let values = values.map(|(i, c)| c.value(KEYS[n - 1], i + 1));
        row(values.collect())
    }
}

/// The values as one row; a single one as itself, which PostgreSQL compares by its own operators.
fn row(values: Vec<String>) -> String {
    match values.as_slice() {
        [one] => one.clone(),
        _ => format!("ROW({})", values.join(", ")),
    }
}
