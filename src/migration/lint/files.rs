//! Files and folders of SQL, and what each file is judged as.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Finding, Kind, definition_in, rules, script};
use crate::migration::definition::{Definition, DefinitionError, is_definition};
use crate::migration::source::{encoding, psql};

/// What a file is judged as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum JudgedAs {
    /// A background migration or a change.
    BackgroundMigration,
    /// A schema file that Evenkeel applies.
    SchemaFile,
    /// A script that somebody else runs.
    Script,
    /// Nothing: it could not be read.
    Unreadable,
}

impl JudgedAs {
    /// Which rules hold for such a file, and why.
    pub fn rules(self) -> &'static str {
        match self {
            Self::BackgroundMigration => {
                "a background migration begins with a header (`-- title:`) or lies in a folder \
                 `background`. Evenkeel runs its schema statements one by one under a lock_timeout, so \
                 require-lock-timeout does not hold; a contract step may drop tables and columns; its \
                 row statement has to be limited by :range"
            }
            Self::SchemaFile => {
                "a schema file lies in a folder `schema`. Evenkeel applies such a file at start, in one \
                 transaction under a lock_timeout: require-lock-timeout does not hold; CONCURRENTLY and \
                 COMMIT are refused, since they cannot be in a transaction"
            }
            Self::Script => {
                "a plain script has no header (`-- title:`) and lies in no folder `schema` or \
                 `background`: somebody else's tool runs it. All rules about locks, rewrites and scans \
                 hold, and require-lock-timeout, since nothing else sets one. Whether the tool opens a \
                 transaction is not known, so what is refused in one (CONCURRENTLY, COMMIT) is not \
                 looked for"
            }
            Self::Unreadable => "nothing: it cannot be read",
        }
    }

    /// In two words.
    pub fn name(self) -> &'static str {
        match self {
            Self::BackgroundMigration => "background migration",
            Self::SchemaFile => "schema file",
            Self::Script => "plain script",
            Self::Unreadable => "unreadable",
        }
    }
}

/// A file and what is unsafe in it.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// The file, as it was named or found.
    pub file: String,
    /// What it is judged as.
    pub judged_as: JudgedAs,
    /// Which rules hold for it, and why.
    pub rules: &'static str,
    /// Why it cannot be read; absent when it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What was left out of it without any effect, for people.
    #[serde(skip)]
    pub note: Option<String>,
    /// What is unsafe in it, in order of line.
    pub findings: Vec<Finding>,
}

/// What is unsafe in the file at `path`. A file that cannot be read has an error instead.
pub fn judge(path: &Path) -> Judged {
    let file = path.display().to_string();
    let (mut judged_as, mut found) = (JudgedAs::Unreadable, Vec::new());
    let (mut error, mut note) = (None, None);
    match encoding::read(path) {
        Ok(text) => {
            judged_as = recognise(path, &text);
            found = findings(path, &file, &text, judged_as);
            // A definition is refused for it.
            let is_plain = judged_as != JudgedAs::BackgroundMigration;
            note = is_plain.then(|| psql::strip(&text).1.left_out()).flatten();
        }
        Err(unreadable) => error = Some(unreadable.to_string()),
    }
    Judged {
        file,
        judged_as,
        rules: judged_as.rules(),
        error,
        note,
        findings: found,
    }
}

fn recognise(path: &Path, text: &str) -> JudgedAs {
    let folder = path.parent().and_then(Path::file_name);
    let is_in = |name: &str| folder.is_some_and(|folder| folder == name);
    if is_in("background") || is_definition(text) {
        JudgedAs::BackgroundMigration
    } else if is_in("schema") {
        JudgedAs::SchemaFile
    } else {
        JudgedAs::Script
    }
}

fn findings(path: &Path, file: &str, text: &str, judged_as: JudgedAs) -> Vec<Finding> {
    let kind = match judged_as {
        JudgedAs::SchemaFile => Kind::Schema,
        JudgedAs::Script | JudgedAs::Unreadable => Kind::Raw,
        JudgedAs::BackgroundMigration => {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            return match Definition::parse(&stem, text) {
                Ok(definition) => definition_in(file, &definition),
                Err(err) => vec![Finding {
                    file: file.to_owned(),
                    line: err.line().unwrap_or(1),
                    rule: rules::NOT_A_DEFINITION,
                    why: match err {
                        DefinitionError::Invalid { problem, .. } => problem,
                        err => err.to_string(),
                    },
                    instead: rules::instead(rules::NOT_A_DEFINITION).to_owned(),
                }],
            };
        }
    };
    script(file, text, kind)
}

/// The files that `path` means: itself, or every `.sql` file in it and below it, in order, when it is a
/// folder.
///
/// # Errors
/// Why there is none.
pub fn find(path: &Path) -> Result<Vec<PathBuf>, String> {
    if !path.is_dir() {
        // What is there and is no regular file (a pipe, say) is for whoever reads it.
        return match path.symlink_metadata() {
            Ok(_) => Ok(vec![path.to_owned()]),
            Err(_) => Err(format!(
                "{}: there is no such file or folder",
                path.display()
            )),
        };
    }
    let mut files = Vec::new();
    collect(path, &mut files)
        .map_err(|err| format!("{}: cannot read the folder: {err}", path.display()))?;
    if files.is_empty() {
        return Err(format!(
            "{}: the folder has no .sql file, nor has one below it",
            path.display()
        ));
    }
    files.sort();
    Ok(files)
}

/// Every `.sql` file in `folder` and below it. Links to folders are not followed: they may lead in
/// circles.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), std::io::Error> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let is_sql = path
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("sql"));
        if entry.file_type()?.is_dir() {
            collect(&path, files)?;
        } else if is_sql && !path.is_dir() {
            files.push(path);
        }
    }
    Ok(())
}
