//! `evenkeel migrate lint`: needs no database.

use std::path::PathBuf;

use crate::migration::lint;

/// Why a command that looks at files does not end well.
#[derive(Debug, thiserror::Error)]
pub enum LintError {
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Findings, which have been printed.
    #[error(
        "{0} found; an exception is `-- lint: allow RULE because REASON` directly above the statement"
    )]
    Findings(String),
}

/// Prints what is unsafe in `files`, for people or as JSON.
///
/// # Errors
/// [`LintError`] when there is anything, or a file cannot be read.
pub fn run(files: &[PathBuf], json: bool) -> Result<(), LintError> {
    let mut findings = Vec::new();
    for path in files {
        findings.extend(lint::file(path).map_err(|source| LintError::Read {
            path: path.clone(),
            source,
        })?);
    }
    if json {
        println!("{}", serde_json::json!(findings));
    } else {
        for finding in &findings {
            println!("{finding}");
        }
    }
    match findings.len() {
        0 => Ok(()),
        1 => Err(LintError::Findings("1 thing".to_owned())),
        n => Err(LintError::Findings(format!("{n} things"))),
    }
}
