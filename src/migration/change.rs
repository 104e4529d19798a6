//! A multi-step change: schema statements before and after a backfill, in one file.
//!
//! ```sql
//! -- title: Every order says on which day it was placed
//! -- owner: reporting
//! -- table: orders
//! -- pending: placed_day IS NULL
//!
//! -- step: expand
//! ALTER TABLE orders ADD COLUMN placed_day date;
//!
//! -- step: backfill
//! UPDATE orders SET placed_day = (placed_at AT TIME ZONE 'UTC')::date WHERE :range;
//!
//! -- step: contract
//! ALTER TABLE orders ADD CONSTRAINT placed_day_set CHECK (placed_day IS NOT NULL) NOT VALID;
//! ALTER TABLE orders VALIDATE CONSTRAINT placed_day_set;
//! ALTER TABLE orders ALTER COLUMN placed_day SET NOT NULL;
//! ALTER TABLE orders DROP CONSTRAINT placed_day_set;
//! ```
//!
//! Between backfill and contract the final sweep verifies that nothing is pending any more. A file
//! without steps is a backfill and nothing else; one without a backfill needs no table and no pending
//! predicate.

use squawk_syntax::SourceFile;
use squawk_syntax::ast::{self, AstNode};

const MARK: &str = "step:";
const STEPS: [&str; 3] = ["expand", "backfill", "contract"];

/// The text of each step, with every line where it is in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sections {
    /// Schema statements that the backfill needs.
    pub expand: String,
    /// The statement that is run in batches.
    pub backfill: String,
    /// Schema statements that need the backfill done.
    pub contract: String,
}

/// A schema statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ddl {
    /// The statement.
    pub sql: String,
    /// How it has to be run.
    pub manner: Manner,
}

/// How a schema statement has to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manner {
    /// In a transaction, and shortly: it may keep everybody out of the table.
    Brief,
    /// In a transaction, for as long as it takes: it reads the table and keeps nobody out.
    Scan,
    /// CREATE INDEX CONCURRENTLY: outside a transaction, for as long as it takes.
    BuildIndex {
        /// The index's name, without quotes.
        index: String,
        /// Its table, as SQL.
        table: String,
    },
    /// DROP INDEX CONCURRENTLY: outside a transaction.
    DropIndex {
        /// The index, as SQL.
        index: String,
    },
}

/// Splits the body of a file, from its line `from` (counted from 0) on, into its steps.
///
/// # Errors
/// A sentence about a step that is unknown, repeated or out of order.
pub fn split(text: &str, from: usize) -> Result<Sections, String> {
    let mut sections = Sections::default();
    let has_steps = text.lines().skip(from).any(|line| step(line).is_some());
    // Index into STEPS; before the first mark there are only comments.
    let mut current = (!has_steps).then_some(1);
    for (number, line) in text.lines().enumerate() {
        let mut shown = [""; 3];
        if number >= from {
            match step(line) {
                Some(name) => {
                    let next = STEPS.iter().position(|known| *known == name).ok_or_else(|| {
                        format!("`-- step: {name}` is not known; the steps are expand, backfill and contract")
                    })?;
                    if current.is_some_and(|current| next <= current) {
                        return Err(format!(
                            "`-- step: {name}` comes too late; the order is expand, backfill, contract"
                        ));
                    }
                    current = Some(next);
                }
                None => match current {
                    Some(current) => shown[current] = line,
                    None if is_blank(line) => {}
                    None => return Err("there is SQL before the first `-- step:`".to_owned()),
                },
            }
        }
        for (section, line) in [
            (&mut sections.expand, shown[0]),
            (&mut sections.backfill, shown[1]),
            (&mut sections.contract, shown[2]),
        ] {
            section.push_str(line);
            section.push('\n');
        }
    }
    Ok(sections)
}

/// Whether `text` has nothing but comments.
pub fn is_blank(text: &str) -> bool {
    let is_comment = |line: &str| line.trim().is_empty() || line.trim_start().starts_with("--");
    text.lines().all(is_comment)
}

/// The name of the step that begins with `line`.
fn step(line: &str) -> Option<&str> {
    let comment = line.trim().strip_prefix("--")?.trim_start();
    comment.strip_prefix(MARK).map(str::trim)
}

/// The schema statements of a step.
///
/// # Errors
/// A sentence about a statement that a change cannot run.
pub fn statements(text: &str) -> Result<Vec<Ddl>, String> {
    let parse = SourceFile::parse(text);
    if let Some(error) = parse.errors().first() {
        let at = usize::from(error.range().start()).min(text.len());
        let line = text.get(..at).unwrap_or_default().lines().count().max(1);
        return Err(format!("line {line}: {}", error.message()));
    }
    let mut all: Vec<Ddl> = Vec::new();
    for statement in parse.tree().stmts() {
        let sql = plain(&statement);
        if all.iter().any(|ddl| ddl.sql == sql) {
            return Err(format!(
                "`{sql}` appears twice, so that its progress could not be told"
            ));
        }
        let manner = manner(&statement, &sql)?;
        all.push(Ddl { sql, manner });
    }
    Ok(all)
}

/// The statement without comments around it and without its semicolon.
fn plain(statement: &ast::Stmt) -> String {
    let tokens = statement.syntax().descendants_with_tokens();
    let mut tokens = tokens.filter_map(|element| element.into_token());
    let first = tokens.find(|token| !token.kind().is_trivia());
    let begin = first.map_or(statement.syntax().text_range().start(), |token| {
        token.text_range().start()
    });
    let offset = usize::from(begin - statement.syntax().text_range().start());
    let text = statement.syntax().text().to_string();
    let text = text.get(offset..).unwrap_or_default();
    text.trim_end().trim_end_matches(';').trim_end().to_owned()
}

fn manner(statement: &ast::Stmt, sql: &str) -> Result<Manner, String> {
    let text = |node: Option<&squawk_syntax::SyntaxNode>| {
        node.map(|n| n.text().to_string().trim().to_owned())
    };
    match statement {
        ast::Stmt::CreateIndex(create) if create.concurrently_token().is_some() => {
            let index = create
                .index()
                .and_then(|index| index.path())
                .and_then(|path| path.segment());
            let index = index
                .ok_or_else(|| format!("`{sql}`: give the index a name"))?
                .text();
            let table = create.table_relation_name();
            let table = text(
                table
                    .as_ref()
                    .and_then(|t| t.table_name_ref())
                    .as_ref()
                    .map(AstNode::syntax),
            );
            let table = table.ok_or_else(|| format!("`{sql}`: on which table?"))?;
            Ok(Manner::BuildIndex { index, table })
        }
        ast::Stmt::DropIndex(drop) if drop.concurrently_token().is_some() => {
            let mut indexes = drop.index_refs();
            match (
                text(indexes.next().as_ref().map(AstNode::syntax)),
                indexes.next(),
            ) {
                (Some(index), None) => Ok(Manner::DropIndex { index }),
                _ => Err(format!("`{sql}`: CONCURRENTLY drops one index at a time")),
            }
        }
        ast::Stmt::AlterTable(alter) => {
            let is_scan = |action| matches!(action, ast::AlterTableAction::ValidateConstraint(_));
            let concurrent = |action: &ast::AlterTableAction| {
                matches!(action, ast::AlterTableAction::DetachPartition(_))
                    && sql.to_ascii_uppercase().contains("CONCURRENTLY")
            };
            if alter.actions().any(|action| concurrent(&action)) {
                return Err(format!(
                    "`{sql}`: a change cannot detach a partition CONCURRENTLY"
                ));
            }
            let scans = alter
                .actions()
                .filter(|action| is_scan(action.clone()))
                .count();
            match (scans, alter.actions().count()) {
                (0, _) => Ok(Manner::Brief),
                (scans, actions) if scans == actions => Ok(Manner::Scan),
                _ => Err(format!(
                    "`{sql}`: validate a constraint in a statement of its own"
                )),
            }
        }
        ast::Stmt::Begin(_) | ast::Stmt::Commit(_) | ast::Stmt::Rollback(_) => Err(format!(
            "`{sql}`: every statement of a change is a transaction of its own"
        )),
        ast::Stmt::Reindex(_) | ast::Stmt::Vacuum(_) | ast::Stmt::Cluster(_) => {
            Err(format!("`{sql}` is maintenance and not a change"))
        }
        _ => Ok(Manner::Brief),
    }
}
