//! The way back: an optional second statement in a definition's file, below a line `-- down`.
//!
//! ```sql
//! UPDATE accounts SET email_key = lower(email) WHERE :range
//!
//! -- down
//! -- pending: email_key IS NOT NULL      (optional: the rows that the way there has done)
//! UPDATE accounts SET email_key = NULL WHERE :range
//! ```
//!
//! It runs by the same engine, over the same table by the same key, with the same proof at the end.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::change::Sections;
use super::definition::{Definition, Places};
use super::source::{
    Comment, Kind, Problem, breaks, check, lone_comments, offset, only, tokens, tokens_in,
};

/// The line between the two statements.
const MARKER: &str = "-- down";

/// Which of a definition's statements a run executes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum Direction {
    /// The change itself.
    Up,
    /// The way back.
    Down,
}

impl Direction {
    /// What a completed run has done, in words.
    pub fn has(self) -> &'static str {
        match self {
            Self::Up => "made the change",
            Self::Down => "took the change back",
        }
    }

    /// What rows are that are not done.
    pub fn left(self) -> &'static str {
        match self {
            Self::Up => "are still pending",
            Self::Down => "still have the change",
        }
    }

    /// How a run of it is marked behind its name: not at all when it makes the change.
    pub fn mark(self) -> &'static str {
        match self {
            Self::Up => "",
            Self::Down => ", the way back",
        }
    }
}

/// The statement for the way back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    /// True of a row that is still to be changed back; by default of every row that is not pending
    /// on the way there.
    pub pending: Option<String>,
    /// The statement, with `:range`.
    pub statement: String,
    /// Where these stand in the file.
    pub places: Places,
}

/// Whether a comment with `text` behind its dashes is the marker.
pub(super) fn is_marker(text: &str) -> bool {
    text.eq_ignore_ascii_case("down")
}

/// The markers of `text`: comments that stand alone in their lines.
fn markers(text: &str) -> Vec<Comment<'_>> {
    let mut comments = lone_comments(&tokens(text));
    comments.retain(|comment| is_marker(comment.text));
    comments
}

/// Refuses a way back that is not a row statement's.
pub(super) fn refuse_outside(sections: &Sections) -> Result<(), Problem> {
    let mut outside = [&sections.expand, &sections.contract].into_iter();
    match outside.find_map(|text| markers(text).first().map(|marker| marker.at)) {
        None => Ok(()),
        Some(at) => Err(Problem::new(
            at,
            format!(
                "`{MARKER}` belongs to the backfill: put it below that statement, before the next \
                 `-- step:`"
            ),
        )),
    }
}

/// What stands below the marker.
pub(super) struct Back {
    /// The text below it, every byte where it is in the file.
    pub text: String,
    /// The marker.
    pub at: usize,
    /// The value of `-- pending: …`.
    pub pending: Option<Range<usize>>,
}

/// The text of the statement below the header, and the way back; the statements are not checked yet.
///
/// # Errors
/// A [`Problem`]: a second way back, or a key that it does not have.
pub(super) fn split(text: &str) -> Result<(String, Option<Back>), Problem> {
    match markers(text).as_slice() {
        [] => Ok((text.to_owned(), None)),
        [marker] => {
            let back = Back {
                pending: pending(text, marker)?,
                text: only(text, marker.end..text.len()),
                at: marker.at,
            };
            Ok((only(text, 0..marker.at), Some(back)))
        }
        [_, second, ..] => Err(Problem::new(
            second.at,
            format!("`{MARKER}` appears twice; there is one way back"),
        )),
    }
}

/// The value of `-- pending: …` directly below `marker`, the one key that may stand there. An empty
/// comment or an empty line ends the keys.
fn pending(text: &str, marker: &Comment<'_>) -> Result<Option<Range<usize>>, Problem> {
    let mut pending = None;
    for token in tokens_in(text, marker.end..text.len()) {
        let line = match token.kind {
            Kind::Whitespace if breaks(token.text) < 2 => continue,
            Kind::LineComment => token.text.trim_start_matches('-').trim(),
            _ => break,
        };
        if line.is_empty() {
            break;
        }
        match line.split_once(':').map(|(k, v)| (k.trim(), v.trim())) {
            Some(("pending", value)) if !value.is_empty() && pending.is_none() => {
                let begin = offset(text, value);
                let range = begin..begin + value.len();
                check::value(&tokens_in(text, range.clone()))?;
                pending = Some(range);
            }
            _ => {
                return Err(Problem::new(
                    token.at,
                    format!(
                        "`-- {line}` below `{MARKER}` is not `-- pending: …`, the one key that the \
                         way back has"
                    ),
                ));
            }
        }
    }
    Ok(pending)
}

impl Definition {
    /// The definition as a run in `direction` executes it; `None` when it declares no way back.
    pub fn towards(self, direction: Direction) -> Option<Self> {
        match direction {
            Direction::Up => Some(self),
            Direction::Down => {
                let down = self.down?;
                let pending = down
                    .pending
                    .unwrap_or_else(|| format!("({}) IS NOT TRUE", self.pending));
                // The schema stays: undoing is about rows.
                Some(Self {
                    pending,
                    places: self.places.of_way_back(&down.places),
                    statement: down.statement,
                    down: None,
                    expand: Vec::new(),
                    contract: Vec::new(),
                    ..self
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: &str = "-- title: T\n-- owner: o\n-- table: t\n-- pending: x IS NULL\n\n\
                      UPDATE t SET x = 1 WHERE :range;\n";

    #[test]
    fn the_way_back_is_a_statement_below_a_marker() {
        let text = format!("{UP}\n-- down\nUPDATE t SET x = NULL WHERE :range;\n");
        let definition = Definition::parse("m", &text).expect("valid");
        assert_eq!(definition.statement, "UPDATE t SET x = 1 WHERE :range");
        let back = definition.towards(Direction::Down).expect("declared");
        assert_eq!(back.statement, "UPDATE t SET x = NULL WHERE :range");
        assert_eq!(back.pending, "(x IS NULL) IS NOT TRUE");
        let text = text.replace("-- down\n", "-- down\n-- pending: x = 1\n");
        let definition = Definition::parse("m", &text).expect("valid");
        let back = definition.towards(Direction::Down).expect("declared");
        assert_eq!(back.pending, "x = 1");
    }

    #[test]
    fn what_is_wrong_with_the_way_back_is_said() {
        let problem = |down: &str| {
            let parsed = Definition::parse("m", &format!("{UP}\n-- down\n{down}"));
            parsed.expect_err("must be refused").to_string()
        };
        assert!(problem("").contains("below `-- down`"), "{}", problem(""));
        assert!(problem("UPDATE t SET x = NULL").contains("has no `:range`"));
        assert!(problem("-- owner: me\nUPDATE t SET x = NULL WHERE :range").contains("one key"));
        let one_way = Definition::parse("m", UP).expect("valid");
        assert_eq!(one_way.towards(Direction::Down), None);
    }
}
