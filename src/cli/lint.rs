//! `evenkeel migrate lint`: needs no database.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::migration::lint::{self, Judged, JudgedAs};

/// Why a command that looks at files does not end well.
#[derive(Debug, thiserror::Error)]
pub enum LintError {
    /// Findings, which have been printed.
    #[error(
        "{0} found; an exception is `-- lint: allow RULE because REASON` directly above the statement"
    )]
    Findings(String),
    /// Files that are not there or cannot be read, perhaps beside findings, which have been printed.
    #[error("{0}")]
    Unread(String),
}

/// Prints what is unsafe in `paths` (files and folders), and which rules hold for which file
/// and why, for people or as JSON.
///
/// # Errors
/// [`LintError`] when there is anything, or a file cannot be read. The others are judged all the same.
pub fn run(paths: &[PathBuf], json: bool) -> Result<(), LintError> {
    let mut files = Vec::new();
    let mut unread = Vec::new();
    let mut seen = BTreeSet::new();
    for path in paths {
        match lint::find(path) {
            Ok(found) => files.extend(found.into_iter().filter(|file| seen.insert(file.clone()))),
            Err(why) => unread.push(why),
        }
    }
    let judged: Vec<_> = files.iter().map(|file| lint::judge(file)).collect();
    if json {
        println!("{}", serde_json::json!(judged));
    } else {
        print(&judged);
    }
    let errors = judged.iter().filter_map(|judged| {
        let error = judged.error.as_ref()?;
        Some(format!("{}: {error}", judged.file))
    });
    unread.extend(errors);
    let findings = match judged.iter().map(|judged| judged.findings.len()).sum() {
        0 => None,
        1 => Some("1 thing".to_owned()),
        n => Some(format!("{n} things")),
    };
    match (unread.is_empty(), findings) {
        (true, None) => Ok(()),
        (true, Some(findings)) => Err(LintError::Findings(findings)),
        (false, findings) => {
            unread.extend(findings.map(|findings| format!("{findings} found in the other files")));
            Err(LintError::Unread(unread.join("\nevenkeel: ")))
        }
    }
}

fn print(judged: &[Judged]) {
    for one in judged {
        let verdict = match (&one.error, one.findings.len()) {
            (Some(error), _) => format!("not judged: {error}"),
            (None, 0) => "nothing found".to_owned(),
            (None, 1) => "1 thing found".to_owned(),
            (None, n) => format!("{n} things found"),
        };
        println!("{}: {}, {verdict}", one.file, one.judged_as.name());
        if let Some(note) = &one.note {
            println!("    {note}");
        }
        for finding in &one.findings {
            println!("{finding}");
        }
    }
    for kind in [
        JudgedAs::BackgroundMigration,
        JudgedAs::SchemaFile,
        JudgedAs::Script,
    ] {
        if judged.iter().any(|one| one.judged_as == kind) {
            println!("{}", kind.rules());
        }
    }
}
