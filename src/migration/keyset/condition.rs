//! The conditions by which an index is read: which rows come after one key and up to another.
//!
//! Columns in one direction are compared as rows, which a B-tree answers directly. There is no row
//! comparison of columns in different directions, and none that tells partitions apart; there a
//! range is the union of disjoint *boxes*, each an equality on some leading columns and an
//! inequality on the next, so that every one of them is a contiguous piece of the index.

use super::{Column, Keyset};

impl Column {
    /// The column as the index compares it.
    fn of(&self, qualifier: &str) -> String {
        self.collated(format!("{qualifier}.{}", self.name))
    }

    /// The value at `place` (from 1) of the key that is parameter `n`.
    fn value(&self, n: usize, place: usize) -> String {
        self.collated(format!("(${n}::text[])[{place}]::{}", self.type_name))
    }

    /// `expression` under the index's collation, which may differ from the column's.
    pub(super) fn collated(&self, expression: String) -> String {
        match &self.collation {
            Some(collation) => format!("{expression} COLLATE {collation}"),
            None => expression,
        }
    }

    /// How a later value compares to an earlier one.
    fn after(&self) -> &'static str {
        if self.descending { "<" } else { ">" }
    }

    fn before(&self) -> &'static str {
        if self.descending { ">" } else { "<" }
    }

    /// `expression` as an item of ORDER BY that the index answers, against the walk if `reversed`.
    pub(super) fn order(&self, expression: String, reversed: bool) -> String {
        let direction = ["ASC", "DESC"][usize::from(self.descending != reversed)];
        let nulls = ["LAST", "FIRST"][usize::from(self.nulls_first != reversed)];
        format!("{} {direction} NULLS {nulls}", self.collated(expression))
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
            vec![match from_start {
                true => format!("{row} <= {upper}"),
                false => format!("{row} > {} AND {row} <= {upper}", self.row_of(1)),
            }]
        };
        let scoped = pieces.into_iter().map(|piece| {
            // The parameter must appear, or PostgreSQL could not tell its type.
            let start = if from_start {
                "$1::text[] IS NULL AND "
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
    fn beyond(&self, n: usize, operator: fn(&Column) -> &'static str) -> Vec<Vec<String>> {
        let piece = |(i, column): (usize, &Column)| {
            let mut piece = self.equal(n, i);
            let (own, value) = (column.of(&self.qualifier), column.value(n, i + 1));
            piece.push(format!("{own} {} {value}", operator(column)));
            piece
        };
        self.columns.iter().enumerate().map(piece).collect()
    }

    /// Equal to the key that is parameter `n` in the first `columns`.
    fn equal(&self, n: usize, columns: usize) -> Vec<String> {
        let equal = |(i, column): (usize, &Column)| {
            format!(
                "{} = {}",
                column.of(&self.qualifier),
                column.value(n, i + 1)
            )
        };
        let columns = self.columns.iter().take(columns);
        columns.enumerate().map(equal).collect()
    }

    /// `(q.a, q.b)`
    fn row(&self) -> String {
        let columns = self.columns.iter().map(|c| c.of(&self.qualifier));
        format!("({})", columns.collect::<Vec<_>>().join(", "))
    }

    /// `(($n::text[])[1]::bigint, ($n::text[])[2]::uuid)`
    fn row_of(&self, n: usize) -> String {
        let values = self.columns.iter().enumerate();
        let values = values.map(|(i, c)| c.value(n, i + 1));
        format!("({})", values.collect::<Vec<_>>().join(", "))
    }
}
