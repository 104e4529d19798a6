//! Where in the author's file the SQL that the engine sends comes from.

use std::ops::Range;

use pool::placed;

use super::Definition;
use crate::migration::source::check::RANGE;
use crate::migration::source::{byte, place, position};

/// Where the parts of a definition stand in its file, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The statement's first word.
    pub(super) statement: usize,
    /// `:range`.
    pub(super) range: usize,
    /// The values of the header's keys, each column of a list by itself.
    pub(super) values: Vec<(&'static str, Range<usize>)>,
}

impl Places {
    /// As those of the way back, whose statement and pending condition stand elsewhere.
    pub(in crate::migration) fn of_way_back(&self, statement: &Self) -> Self {
        let mut places = statement.clone();
        let has_pending = places.values.iter().any(|(key, _)| *key == "pending");
        let kept = self
            .values
            .iter()
            .filter(|(key, _)| *key != "pending" || !has_pending);
        places.values.extend(kept.cloned());
        places
    }
}

impl Definition {
    /// The statement with `condition` in the place of `:range`.
    pub fn over(&self, condition: &str) -> String {
        let (before, behind) = self.halves();
        format!("{before}{condition}{behind}")
    }

    /// What stands before `:range` and what behind it.
    fn halves(&self) -> (&str, &str) {
        let at = self.places.range.saturating_sub(self.places.statement);
        let before = self.statement.get(..at).unwrap_or(&self.statement);
        let behind = self.statement.get(at + RANGE.len()..).unwrap_or_default();
        (before, behind)
    }

    /// `err`, which the database said to `sent`, with its place in the author's file: `sent` holds the
    /// statement, or conditions of the header, among the engine's own SQL.
    pub fn place(&self, sent: &str, err: sqlx::Error) -> sqlx::Error {
        let file = format!("{}.sql", self.name);
        placed(err, |at| {
            let Some(at) = at else {
                let line = position(&self.text, self.places.statement).line;
                let whole = self.statement_in(sent);
                return whole.map(|_| format!("{file}, the statement of line {line}"));
            };
            let origin = self.origin(sent, byte(sent, at))?;
            Some(place(&file, &self.text, origin))
        })
    }

    /// The line of the header's `key`, or of the statement when there is none.
    pub fn line_of(&self, key: &str) -> usize {
        let value = self.places.values.iter().find(|(known, _)| *known == key);
        let at = value.map_or(self.places.statement, |(_, range)| range.start);
        position(&self.text, at).line
    }

    /// The byte of the file from which the byte `at` of `sent` comes.
    fn origin(&self, sent: &str, at: usize) -> Option<usize> {
        let Some(Range { start, end }) = self.statement_in(sent) else {
            return self.in_header(sent, at);
        };
        let length = self.places.range - self.places.statement;
        if at + length < start {
            None
        } else if at < start {
            Some(self.places.range - (start - at))
        } else if at < end {
            // In the engine's condition, of which parts are the author's.
            Some(self.in_header(sent, at).unwrap_or(self.places.range))
        } else {
            Some(self.places.range + RANGE.len() + (at - end))
        }
    }

    /// Where in `sent` the engine's condition stands within the statement; `None` when the statement
    /// is not in there.
    fn statement_in(&self, sent: &str) -> Option<Range<usize>> {
        let (before, behind) = self.halves();
        let end = sent.strip_suffix(behind)?.len();
        let start = sent.find(before)? + before.len();
        (self.has_backfill() && start < end).then_some(start..end)
    }

    /// As [`Self::origin`], of the header's values that are a part of `sent`: the longest that is
    /// there.
    fn in_header(&self, sent: &str, at: usize) -> Option<usize> {
        let found = self.places.values.iter().filter_map(|(_, range)| {
            let value = self
                .text
                .get(range.clone())
                .filter(|value| !value.is_empty())?;
            let (begin, _) = sent.match_indices(value).find(|(begin, _)| {
                (*begin..begin + value.len()).contains(&at) && is_whole(sent, *begin, value.len())
            })?;
            Some((value.len(), range.start + (at - begin)))
        });
        found.max().map(|(_, origin)| origin)
    }
}

/// Whether the `length` bytes of `text` from `begin` on are no part of a longer word.
fn is_whole(text: &str, begin: usize, length: usize) -> bool {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let (before, rest) = text.split_at(begin);
    let (own, behind) = rest.split_at(length);
    let joins = |before: &str, behind: &str| {
        is_word(before.chars().next_back()) && is_word(behind.chars().next())
    };
    !joins(before, own) && !joins(own, behind)
}

#[cfg(test)]
mod tests {
    use super::super::Definition;
    use crate::migration::source::position;
    use crate::migration::undo::Direction;

    const FILE: &str = "-- title: T\n-- owner: o\n-- table: shop.t\n-- key: id\n\
        -- pending: größe IS NULL\n-- where: live\n\n\
        UPDATE shop.t SET größe = 'ß',\r\n  b = 2\nWHERE :range AND c\n\n\
        -- down\n-- pending: größe > 1\nUPDATE shop.t SET größe = NULL WHERE :range\n";

    fn at(definition: &Definition, sent: &str, what: &str) -> Option<(usize, usize)> {
        let at = sent.find(what).expect("there");
        let origin = definition.origin(sent, at)?;
        let place = position(&definition.text, origin);
        Some((place.line, place.column))
    }

    #[test]
    fn what_was_sent_is_found_in_the_file() {
        let definition = Definition::parse("m", FILE).expect("valid");
        let condition = "((shop.t.id > $1) AND (live)) AND (größe IS NULL)";
        for prefix in ["", "EXPLAIN (ANALYZE) "] {
            let sent = format!("{prefix}{}", definition.over(condition));
            for (what, place) in [
                ("UPDATE", (8, 1)),
                ("'ß'", (8, 27)),
                ("b = 2", (9, 3)),
                ("AND c", (10, 14)),
                ("id >", (4, 9)),
                ("$1", (10, 7)),
                ("live", (6, 11)),
                ("IS NULL", (5, 19)),
            ] {
                assert_eq!(at(&definition, &sent, what), Some(place), "{what}");
            }
        }
        let sent = "SELECT count(*) FILTER (WHERE (größe IS NULL)) FROM shop.t";
        assert_eq!(at(&definition, sent, "IS"), Some((5, 19)));
        assert_eq!(at(&definition, sent, "t"), None);
        assert_eq!(at(&definition, sent, "shop.t"), Some((3, 11)));
        let back = definition.towards(Direction::Down).expect("declared");
        let sent = back.over("(x) AND (größe > 1)");
        assert_eq!(at(&back, &sent, "> 1"), Some((13, 19)));
        assert_eq!(at(&back, &sent, "NULL"), Some((14, 27)));
    }
}
