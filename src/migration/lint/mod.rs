//! Names what would lock, rewrite or scan a table that shoppers use, with the safe way to write it.
//!
//! What is known of locks, scans and rewrites is one [`table`] of PostgreSQL's statements, from which
//! most findings follow; a statement that is not in it is a finding, too. About processes of the version
//! before there are some of the rules of [squawk](https://squawkhq.com) ([`rules`] has the list). A table
//! that the same file creates is not live: whatever is done to it disturbs nobody.
//!
//! An unsafe statement is accepted with a reason, in a comment directly above it:
//!
//! ```sql
//! -- lint: allow ban-drop-table because nothing has read it since version 12
//! DROP TABLE baskets;
//! ```

mod background;
mod condition;
mod creations;
pub mod effects;
mod exceptions;
mod facts;
mod files;
mod functions;
mod locks;
pub mod names;
mod rows;
pub mod rules;
mod session;
mod statements;
pub mod table;
mod targets;
mod types;
mod waiting;

use std::fmt;

use serde::Serialize;

use self::exceptions::Exceptions;
use self::facts::Transactions;
use self::statements::Script;
use super::definition::Definition;
use super::undo;
use crate::db::schema::SchemaFile;

pub use files::{Judged, JudgedAs, find, judge};

/// One thing that a file does which it had better not do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The rule that says so; the name that an exception gives.
    pub rule: &'static str,
    /// What it does to the shop.
    pub why: String,
    /// How to do it safely.
    pub instead: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            rule,
            why,
            instead,
        } = self;
        write!(f, "{file}:{line}: {rule}: {why}\n    instead: {instead}")
    }
}

/// A file is refused for what the lint found.
#[derive(Debug, thiserror::Error)]
#[error(
    "{}\nwrite it the safe way, or put `-- lint: allow RULE because REASON` directly above the statement",
    .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
)]
pub struct Unsafe(pub Vec<Finding>);

impl Unsafe {
    /// Refuses `findings`, unless there are none.
    ///
    /// # Errors
    /// [`Unsafe`].
    pub fn refuse(findings: Vec<Finding>) -> Result<(), Self> {
        if findings.is_empty() {
            Ok(())
        } else {
            Err(Self(findings))
        }
    }
}

/// How a script will be run, which decides what is safe in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// By somebody else's tool.
    Raw,
    /// By Evenkeel at start: the file in one transaction, under a `lock_timeout`.
    Schema,
    /// By a change before its backfill: each statement by itself, under a `lock_timeout`.
    Expand,
    /// By a change after its backfill, as the expand step. What is no longer needed may go.
    Contract,
}

/// What is unsafe in the script `text` of `file`, in order of line.
pub fn script(file: &str, text: &str, kind: Kind) -> Vec<Finding> {
    let mut script = Script::parse(text);
    script.read(match kind {
        Kind::Raw => Transactions::Unsure,
        Kind::Schema => Transactions::One,
        Kind::Expand | Kind::Contract => Transactions::Each,
    });
    let mut found = Found::new(file);
    if let Some((line, sentence)) = script.psql.unseen() {
        found.add(line, rules::PSQL_COMMAND, sentence);
    }
    locks::check(&script, kind, &mut found);
    found.settle(&script)
}

/// What every statement of the script `text` does to relations, in order.
pub fn effects_of(text: &str) -> Vec<Vec<effects::Effect>> {
    let statements = Script::parse(text).statements;
    statements.into_iter().map(|s| s.effects).collect()
}

/// The names of the functions that the condition `text` calls.
pub fn functions_in(text: &str) -> Vec<String> {
    condition::functions(text)
}

/// PostgreSQL's functions that the lint takes to be no volatile ones.
pub fn steady_functions() -> impl Iterator<Item = &'static str> {
    functions::not_volatile()
}

/// What is unsafe in `files`, file by file.
pub fn schema_files(files: &[SchemaFile]) -> Vec<Finding> {
    let each = files
        .iter()
        .map(|file| script(&file.path, file.sql, Kind::Schema));
    each.flatten().collect()
}

/// What is unsafe in a background migration or a change, in order of line.
pub fn definition(definition: &Definition) -> Vec<Finding> {
    let file = format!("{}.sql", definition.name);
    definition_in(&file, definition)
}

fn definition_in(file: &str, definition: &Definition) -> Vec<Finding> {
    let parts = definition.sections();
    let mut findings = script(file, &parts.expand, Kind::Expand);
    // A definition has been split before.
    if let Ok((there, back)) = undo::split(&parts.backfill) {
        let pending = &definition.pending;
        findings.extend(background::check(file, &there, definition, pending));
        if let Some(back) = back {
            // Unless it is given, it is the opposite of the way there.
            let pending = definition
                .down
                .as_ref()
                .and_then(|down| down.pending.as_ref());
            let pending = pending.map_or("true", |pending| pending);
            findings.extend(background::check(file, &back.text, definition, pending));
        }
    }
    findings.extend(script(file, &parts.contract, Kind::Contract));
    findings.sort_by_key(|finding| (finding.line, finding.rule));
    findings
}

/// Findings as they are made.
struct Found<'a> {
    file: &'a str,
    findings: Vec<Finding>,
}

impl<'a> Found<'a> {
    fn new(file: &'a str) -> Self {
        Self {
            file,
            findings: Vec::new(),
        }
    }

    /// Whether `rule` was found in `line` since there were `before` findings.
    fn has_since(&self, before: usize, line: usize, rule: &str) -> bool {
        let mut findings = self.findings.iter().skip(before);
        findings.any(|finding| finding.line == line && finding.rule == rule)
    }

    fn add(&mut self, line: usize, rule: &'static str, why: impl Into<String>) {
        self.findings.push(Finding {
            file: self.file.to_owned(),
            line,
            rule,
            why: why.into(),
            instead: rules::instead(rule).to_owned(),
        });
    }

    /// Takes out what the script's exceptions accept, and adds what is wrong with those.
    fn settle(mut self, script: &Script) -> Vec<Finding> {
        let mut exceptions = Exceptions::of(script, &mut self);
        let accepted = |finding: &Finding| exceptions.accept(script, finding);
        let findings = std::mem::take(&mut self.findings);
        let (_, kept): (Vec<_>, Vec<_>) = findings.into_iter().partition(accepted);
        self.findings = kept;
        exceptions.report_unused(&mut self);
        self.findings
            .sort_by_key(|finding| (finding.line, finding.rule));
        self.findings
    }
}
