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

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::change::Sections;
use super::definition::Definition;

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
}

/// Refuses a way back that is not a row statement's.
pub(super) fn refuse_outside(sections: &Sections) -> Result<(), String> {
    let marks = |text: &str| text.lines().any(|line| line.trim() == MARKER);
    if marks(&sections.expand) || marks(&sections.contract) {
        return Err(format!(
            "`{MARKER}` belongs to the backfill: put it below that statement, before the next `-- \
             step:`"
        ));
    }
    Ok(())
}

/// The texts of the two statements of a backfill, every line where it is in `text`.
pub(super) fn halves(text: &str) -> (String, Option<String>) {
    let lines: Vec<_> = text.lines().collect();
    let Some(marker) = lines.iter().position(|line| line.trim() == MARKER) else {
        return (text.to_owned(), None);
    };
    let down = "\n".repeat(marker) + &lines[marker..].join("\n");
    (lines[..marker].join("\n"), Some(down))
}

/// The text of the statement below the header, and the way back, its statement not checked yet.
pub(super) fn split(body: &[&str]) -> Result<(String, Option<Down>), String> {
    let Some(marker) = body.iter().position(|line| line.trim() == MARKER) else {
        return Ok((body.join("\n"), None));
    };
    let (up, down) = (&body[..marker], &body[marker + 1..]);
    let is_comment = |line: &&&str| line.trim_start().starts_with("--");
    let comments = down.iter().take_while(is_comment).count();
    let mut pending = None;
    for line in &down[..comments] {
        let line = line.trim_start().trim_start_matches('-').trim();
        match line.split_once(':').map(|(k, v)| (k.trim(), v.trim())) {
            Some(("pending", value)) if !value.is_empty() && pending.is_none() => {
                pending = Some(value.to_owned());
            }
            _ => {
                return Err(format!(
                    "`-- {line}` below `{MARKER}` is not `-- pending: …`, the one key that the way \
                     back has"
                ));
            }
        }
    }
    let statement = down[comments..].join("\n");
    Ok((up.join("\n"), Some(Down { pending, statement })))
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
