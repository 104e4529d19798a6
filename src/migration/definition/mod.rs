//! A declared background migration: one SQL file with a header of a few keys.
//!
//! ```sql
//! -- title: Give old accounts a lower-case e-mail address
//! -- owner: accounts
//! -- table: accounts
//! -- key: id                        (optional: the primary key)
//! -- pending: email_key IS NULL     (what is still to be done)
//!
//! UPDATE accounts SET email_key = lower(email) WHERE :range
//! ```
//!
//! The engine replaces `:range` by a condition on the key columns and the pending predicate, so a
//! row that has been changed is never changed again.

mod files;
mod header;
mod parse;
mod place;
mod statement;

use std::path::PathBuf;

use super::change::{self, Ddl, Sections};
use super::columns;
use super::source::{self, encoding::Unreadable};
use super::undo::Down;

pub use super::source::check::RANGE;
pub use files::{Named, load, load_all, load_each};
pub use header::is_definition;
pub use place::Places;

/// A file to start from; parses as it is.
pub const TEMPLATE: &str = "\
-- title: What it does, in a sentence
-- owner: whom to ask about it
-- table: the_table
-- pending: new_column IS NULL
--
-- Further keys: `key` (the columns of a unique index, when it is not the primary key), `where` (the
-- predicate of a partial unique index), `alias` (the name that the statement gives the table),
-- `batch_first` and `batch_max` (rows), `checksum` (the columns that the certificate covers). A second
-- statement below a line `-- down` is the way back. Schema statements before and after stand under
-- `-- step: expand` and `-- step: contract`, and these two under `-- step: backfill`.

UPDATE the_table
   SET new_column = old_column
 WHERE :range
";

/// A parsed and checked migration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// The file's name without `.sql`.
    pub name: String,
    /// What it does, in a sentence.
    pub title: String,
    /// Whom to ask about it.
    pub owner: String,
    /// The table that is walked, as SQL: quoted and schema-qualified where needed. Empty where there
    /// is no backfill.
    pub table: String,
    /// The name that the statement gives the table (`UPDATE orders AS o` needs `alias: o`).
    pub alias: Option<String>,
    /// The unique key to walk by; empty for the primary key.
    pub key: Vec<String>,
    /// True of the rows that the migration is about, where those are not all: the predicate of a
    /// partial unique index.
    pub scope: Option<String>,
    /// True of a row that is still to be changed, false once it has been.
    pub pending: String,
    /// Rows of the first batch, where the author knows better than the default.
    pub batch_first: Option<u32>,
    /// Rows of a batch at most, where the author knows better than the default.
    pub batch_max: Option<u32>,
    /// The columns beside the key that the certificate's checksums cover, where the author names
    /// them; see [`Definition::certified`].
    pub checksum: Vec<String>,
    /// The statement, with `:range`; empty where there is no backfill.
    pub statement: String,
    /// The way back.
    pub down: Option<Down>,
    /// Schema statements that run before the statement; none in a plain migration.
    pub expand: Vec<Ddl>,
    /// Schema statements that run once nothing is pending; none in a plain migration.
    pub contract: Vec<Ddl>,
    /// The whole file.
    pub text: String,
    /// Where in the file its parts stand.
    pub places: Places,
}

/// Why a file is not a migration. The message names the file and what to write.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// The file's content is not a definition.
    #[error("{name}.sql:{line}: {problem}")]
    Invalid {
        /// The migration's name.
        name: String,
        /// The line that it is about, from 1.
        line: usize,
        /// What is wrong and what to do.
        problem: String,
    },
    /// No such migration.
    #[error("there is no migration `{name}` in {dir}; `evenkeel migrate list` shows what there is")]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// Where it was looked for.
        dir: String,
    },
    /// The file has one statement only.
    #[error("`{0}` declares no way back; write one below a line `-- down` in its file")]
    NoWayBack(String),
    /// The directory or file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// What was read.
        path: PathBuf,
        /// Why it failed.
        source: Unreadable,
    },
}

impl DefinitionError {
    /// The line that it is about, where it is about one.
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::Invalid { line, .. } => Some(*line),
            Self::Read {
                source: Unreadable::Encoding { line, .. },
                ..
            } => Some(*line),
            _ => None,
        }
    }
}

impl Definition {
    /// Parses the text of `name`.sql.
    ///
    /// # Errors
    /// [`DefinitionError::Invalid`] says which key is missing, unknown or malformed.
    pub fn parse(name: &str, text: &str) -> Result<Self, DefinitionError> {
        let text = text.strip_prefix(source::BYTE_ORDER_MARK).unwrap_or(text);
        parse::parse(name, text).map_err(|problem| DefinitionError::Invalid {
            name: name.to_owned(),
            line: source::position(text, problem.at).line,
            problem: problem.text,
        })
    }

    /// The name by which the statement knows the table's columns.
    pub fn qualifier(&self) -> &str {
        self.alias.as_deref().unwrap_or(&self.table)
    }

    /// Whether there are rows to change, and not only a schema.
    pub fn has_backfill(&self) -> bool {
        !self.statement.is_empty()
    }

    /// The text of each step, with every byte where it is in the file.
    pub fn sections(&self) -> Sections {
        let end = header::Header::read(&self.text).map_or(0, |(_, end)| end);
        change::split(&self.text, end).unwrap_or_default()
    }

    /// The columns beside the key that the certificate's checksums cover: those that the header
    /// names, else those that a plain UPDATE assigns, else none.
    pub fn certified(&self) -> Vec<String> {
        if self.checksum.is_empty() {
            columns::assigned(&self.statement, &self.table)
        } else {
            self.checksum.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const GOOD: &str = "-- title: T\n-- owner: o\n-- table: t\n-- pending: x IS NULL\n\n\
                        UPDATE t SET x = 1 WHERE :range;\n";

    fn problem(text: &str) -> String {
        Definition::parse("m", text)
            .expect_err("must be refused")
            .to_string()
    }

    #[test]
    fn a_file_is_header_and_statement() {
        let definition = Definition::parse("m", GOOD).expect("valid");
        assert_eq!(definition.statement, "UPDATE t SET x = 1 WHERE :range");
        assert_eq!(definition.qualifier(), "t");
        let keyed = GOOD.replace("-- pending", "-- key: a, b\n-- alias: q\n-- pending");
        let definition = Definition::parse("m", &keyed).expect("valid");
        assert_eq!(definition.key, ["a", "b"]);
        assert_eq!(definition.qualifier(), "q");
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        for key in ["title", "owner", "table", "pending"] {
            let lines = GOOD
                .lines()
                .filter(|l| !l.starts_with(&format!("-- {key}")));
            let text: Vec<_> = lines.collect();
            assert!(
                problem(&text.join("\n")).contains(&format!("-- {key}: …")),
                "{key}"
            );
        }
        assert!(problem(&GOOD.replace("owner", "ovner")).contains("`-- ovner:` is not known"));
        assert!(problem(&GOOD.replace(":range", "true")).contains("has no `:range`"));
        assert!(problem(&GOOD.replace("UPDATE t SET", "ALTER TABLE t")).contains("`ALTER`"));
        let doubled = GOOD.replace("-- owner", "-- title: U\n-- owner");
        assert!(problem(&doubled).contains("appears twice"));
        assert!(
            problem(&GOOD.replace("-- pending", "-- batch_max: 0\n-- pending"))
                .contains("above zero")
        );
    }

    #[test]
    fn the_template_is_a_valid_definition() {
        let definition = Definition::parse("m", TEMPLATE).expect("valid");
        assert_eq!(definition.table, "the_table");
    }

    #[test]
    fn every_shipped_definition_is_valid_on_disk_and_built_in() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/background");
        let on_disk = load_all(&dir).expect("valid");
        let built_in = load_all(Path::new("/nowhere")).expect("valid");
        assert!(!on_disk.is_empty());
        assert_eq!(on_disk, built_in);
        assert!(load(Path::new("/nowhere"), "orders_total").is_ok());
        assert!(load(&dir, "../../Cargo").is_err());
    }
}
