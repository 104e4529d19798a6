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

use std::path::{Path, PathBuf};

use rust_embed::RustEmbed;

use super::change::{self, Ddl, Sections};
use super::columns;
use super::undo::{self, Down};

/// Where the engine puts the range.
pub const RANGE: &str = ":range";

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

/// The definitions that the binary was built with, for use outside a source tree.
#[derive(RustEmbed)]
#[folder = "migrations/background"]
struct BuiltIn;

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
}

/// Why a file is not a migration. The message names the file and what to write.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// The file's content is not a definition.
    #[error("{name}.sql: {problem}")]
    Invalid {
        /// The migration's name.
        name: String,
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
        source: std::io::Error,
    },
}

impl Definition {
    /// Parses the text of `name`.sql.
    ///
    /// # Errors
    /// [`DefinitionError::Invalid`] says which key is missing, unknown or malformed.
    pub fn parse(name: &str, text: &str) -> Result<Self, DefinitionError> {
        parse(name, text).map_err(|problem| DefinitionError::Invalid {
            name: name.to_owned(),
            problem,
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

    /// The text of each step, with every line where it is in the file.
    pub fn sections(&self) -> Sections {
        change::split(&self.text, header_lines(&self.text)).unwrap_or_default()
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

/// Lines of the comment at the beginning of a file.
fn header_lines(text: &str) -> usize {
    let is_comment = |line: &&str| line.trim_start().starts_with("--");
    text.lines().take_while(is_comment).count()
}

fn parse(name: &str, text: &str) -> Result<Definition, String> {
    let valid_name = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if !valid_name {
        return Err("name the file with letters, digits, `_` and `-` only".to_owned());
    }
    let body_at = header_lines(text);
    // An empty comment ends the header; what follows it is for people.
    let is_key = |line: &&str| !line.trim_start().trim_start_matches('-').trim().is_empty();
    let mut header = Header::default();
    for line in text.lines().take(body_at).take_while(is_key) {
        header.read(line.trim_start().trim_start_matches('-').trim())?;
    }
    let sections = change::split(text, body_at)?;
    undo::refuse_outside(&sections)?;
    let expand = change::statements(&sections.expand)?;
    let contract = change::statements(&sections.contract)?;
    let without_backfill =
        change::is_blank(&sections.backfill) && expand.len() + contract.len() > 0;
    let (statement, down) = if without_backfill {
        if header.pending.is_some() {
            return Err("the header has `-- pending: …`, but there is no backfill".to_owned());
        }
        header.table.get_or_insert_default();
        header.pending.get_or_insert_default();
        (String::new(), None)
    } else {
        let lines: Vec<&str> = sections.backfill.lines().collect();
        let (up, down) = undo::split(&lines)?;
        let down = match down {
            None => None,
            Some(Down { pending, statement }) => Some(Down {
                pending,
                statement: check_statement(&statement)
                    .map_err(|p| format!("below `-- down`: {p}"))?,
            }),
        };
        (check_statement(&up)?, down)
    };
    let required = |value: Option<String>, key: &str| {
        value.ok_or_else(|| format!("the header lacks `-- {key}: …`"))
    };
    Ok(Definition {
        name: name.to_owned(),
        title: required(header.title, "title")?,
        owner: required(header.owner, "owner")?,
        table: required(header.table, "table")?,
        alias: header.alias,
        key: header.key,
        scope: header.scope,
        pending: required(header.pending, "pending")?,
        batch_first: header.batch_first,
        batch_max: header.batch_max,
        checksum: header.checksum,
        statement,
        down,
        expand,
        contract,
        text: text.to_owned(),
    })
}

#[derive(Default)]
struct Header {
    title: Option<String>,
    owner: Option<String>,
    table: Option<String>,
    alias: Option<String>,
    key: Vec<String>,
    scope: Option<String>,
    pending: Option<String>,
    batch_first: Option<u32>,
    batch_max: Option<u32>,
    checksum: Vec<String>,
}

impl Header {
    fn read(&mut self, line: &str) -> Result<(), String> {
        let Some((key, value)) = line.split_once(':') else {
            return Err(format!(
                "`-- {line}` in the header is not `-- key: value`; put comments below an \
                 empty comment line"
            ));
        };
        let (key, value) = (key.trim(), value.trim().to_owned());
        if value.is_empty() {
            return Err(format!("`-- {key}:` has no value"));
        }
        let number = |value: &str| match value.parse::<u32>() {
            Ok(n) if n > 0 => Ok(n),
            _ => Err(format!(
                "`-- {key}: {value}` must be a whole number above zero"
            )),
        };
        let slot = match key {
            "title" => &mut self.title,
            "owner" => &mut self.owner,
            "table" => &mut self.table,
            "alias" => &mut self.alias,
            "where" => &mut self.scope,
            "pending" => &mut self.pending,
            "key" | "checksum" => {
                let columns = value.split(',').map(|c| c.trim().to_owned()).collect();
                if key == "key" {
                    self.key = columns;
                } else {
                    self.checksum = columns;
                }
                return Ok(());
            }
            "batch_first" => {
                self.batch_first = Some(number(&value)?);
                return Ok(());
            }
            "batch_max" => {
                self.batch_max = Some(number(&value)?);
                return Ok(());
            }
            _ => {
                return Err(format!(
                    "`-- {key}:` is not known; the keys are title, owner, table, alias, key, \
                     where, pending, batch_first, batch_max and checksum"
                ));
            }
        };
        if slot.replace(value).is_some() {
            return Err(format!("`-- {key}:` appears twice"));
        }
        Ok(())
    }
}

fn check_statement(body: &str) -> Result<String, String> {
    let statement = body.trim().trim_end_matches(';').trim_end();
    if statement.is_empty() {
        return Err("there is no statement below the header".to_owned());
    }
    match statement.matches(RANGE).count() {
        1 => {}
        0 => {
            return Err(format!(
                "the statement has no `{RANGE}`; write `WHERE {RANGE}` where the engine is to put \
                 the key range"
            ));
        }
        n => {
            return Err(format!(
                "the statement has `{RANGE}` {n} times; once is enough"
            ));
        }
    }
    let first = statement
        .lines()
        .find(|line| !line.trim_start().starts_with("--") && !line.trim().is_empty())
        .and_then(|line| line.split_whitespace().next())
        .unwrap_or_default()
        .to_ascii_uppercase();
    if !["UPDATE", "DELETE", "INSERT", "WITH"].contains(&first.as_str()) {
        return Err(format!(
            "the statement begins with `{first}`; a background migration is one UPDATE, DELETE, \
             INSERT or WITH statement. Schema changes belong under `-- step: expand` or \
             `-- step: contract`"
        ));
    }
    // The extended protocol, by which it runs, refuses a second statement; this only says it early.
    if statement.contains(";\n") {
        return Err("there is more than one statement; split it into several files".to_owned());
    }
    Ok(statement.to_owned())
}

/// Reads every definition of `dir`, or those built into the binary when there is no such directory,
/// in order of name.
///
/// # Errors
/// The first file that cannot be read or is not a definition.
pub fn load_all(dir: &Path) -> Result<Vec<Definition>, DefinitionError> {
    let mut definitions = Vec::new();
    if dir.is_dir() {
        let read_error = |path: &Path| {
            let path = path.to_path_buf();
            move |source| DefinitionError::Read { path, source }
        };
        for entry in std::fs::read_dir(dir).map_err(read_error(dir))? {
            let path = entry.map_err(read_error(dir))?.path();
            if path.extension().is_some_and(|e| e == "sql") {
                let text = std::fs::read_to_string(&path).map_err(read_error(&path))?;
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                definitions.push(Definition::parse(&name, &text)?);
            }
        }
    } else {
        for file in BuiltIn::iter() {
            if let Some(content) = BuiltIn::get(&file) {
                let text = String::from_utf8_lossy(&content.data);
                definitions.push(Definition::parse(file.trim_end_matches(".sql"), &text)?);
            }
        }
    }
    definitions.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(definitions)
}

/// Reads the definition `name` of `dir`; see [`load_all`].
///
/// # Errors
/// [`DefinitionError::Unknown`] when there is none of that name. A broken file of another name
/// does not get in the way.
pub fn load(dir: &Path, name: &str) -> Result<Definition, DefinitionError> {
    let unknown = || DefinitionError::Unknown {
        name: name.to_owned(),
        dir: dir.display().to_string(),
    };
    // A name is not a path.
    if name.contains(['/', '\\', '.']) {
        return Err(unknown());
    }
    let path = dir.join(format!("{name}.sql"));
    if path.is_file() {
        let text = std::fs::read_to_string(&path)
            .map_err(|source| DefinitionError::Read { path, source })?;
        return Definition::parse(name, &text);
    }
    let built_in = (!dir.is_dir())
        .then(|| BuiltIn::get(&format!("{name}.sql")))
        .flatten()
        .ok_or_else(unknown)?;
    Definition::parse(name, &String::from_utf8_lossy(&built_in.data))
}

#[cfg(test)]
mod tests {
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
