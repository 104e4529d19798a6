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

use pool::placed;
use squawk_syntax::ast::{self, AstNode};
use squawk_syntax::{SourceFile, SyntaxNode};

use super::source::{
    Problem, Token, byte, check, lone_comments, only, place, position, tokens, tokens_in, variables,
};

const MARK: &str = "step:";
const STEPS: [&str; 3] = ["expand", "backfill", "contract"];

/// The text of each step, with every byte where it is in the file.
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
    /// The byte of the file at which it begins.
    pub at: usize,
}

impl Ddl {
    /// `err`, which the database said to this statement, with its place in `text`, which is `file`'s.
    pub fn place(&self, file: &str, text: &str, err: sqlx::Error) -> sqlx::Error {
        placed(err, |at| {
            let Some(at) = at else {
                return Some(format!("{file}, line {}", position(text, self.at).line));
            };
            Some(place(file, text, self.at + byte(&self.sql, at)))
        })
    }
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

/// Splits the body of a file, from its byte `from` on, into its steps.
///
/// # Errors
/// A [`Problem`]: a step is unknown, repeated or out of order.
pub fn split(text: &str, from: usize) -> Result<Sections, Problem> {
    let body = tokens_in(text, from..text.len());
    let marks = lone_comments(&body).into_iter();
    let marks = marks.filter_map(|comment| Some((comment, step(comment.text)?)));
    let marks: Vec<_> = marks.collect();
    let Some((first, _)) = marks.first() else {
        return Ok(Sections {
            expand: only(text, 0..0),
            backfill: only(text, from..text.len()),
            contract: only(text, 0..0),
        });
    };
    let before = |token: &&Token<'_>| token.at < first.at && !token.is_trivia();
    if let Some(sql) = body.iter().find(before) {
        return Err(Problem::new(
            sql.at,
            "there is SQL before the first `-- step:`",
        ));
    }
    let mut texts = [(); 3].map(|()| only(text, 0..0));
    let mut done = 0;
    let ends = marks.iter().skip(1).map(|(next, _)| next.at);
    for ((mark, name), end) in marks.iter().zip(ends.chain([text.len()])) {
        let refuse = |why: &str| Err(Problem::new(mark.at, format!("`-- step: {name}` {why}")));
        let Some(next) = STEPS.iter().position(|known| known == name) else {
            return refuse("is not known; the steps are expand, backfill and contract");
        };
        if next < done {
            return refuse("comes too late; the order is expand, backfill, contract");
        }
        done = next + 1;
        texts[next] = only(text, mark.end..end);
    }
    let [expand, backfill, contract] = texts;
    Ok(Sections {
        expand,
        backfill,
        contract,
    })
}

/// Whether `text` has nothing but comments.
pub fn is_blank(text: &str) -> bool {
    tokens(text).iter().all(|token| token.is_trivia())
}

/// The name of the step that a comment with `text` behind its dashes begins.
pub(super) fn step(text: &str) -> Option<&str> {
    text.strip_prefix(MARK).map(str::trim)
}

/// The schema statements of a step, in whose text everything else of the file is blank.
///
/// # Errors
/// A [`Problem`]: a statement that a change cannot run.
pub fn statements(text: &str) -> Result<Vec<Ddl>, Problem> {
    let tokens = tokens(text);
    check::sql(&tokens)?;
    if let Some(variable) = variables(&tokens).first() {
        return Err(match variable.text.as_str() {
            check::RANGE => Problem::new(
                variable.at,
                "`:range` belongs to the statement under `-- step: backfill`; a schema statement \
                 runs once, as it is",
            ),
            _ => check::unknown(variable),
        });
    }
    let parse = SourceFile::parse(text);
    if let Some(error) = parse.errors().first() {
        return Err(Problem::new(
            usize::from(error.range().start()),
            error.message(),
        ));
    }
    let mut all: Vec<Ddl> = Vec::new();
    for statement in parse.tree().stmts() {
        // A second semicolon is a statement without words.
        let Some((at, sql)) = plain(text, &statement) else {
            continue;
        };
        let refuse = |problem: &str| Problem::new(at, format!("`{sql}`{problem}"));
        if all.iter().any(|ddl| ddl.sql == sql) {
            return Err(refuse(
                " appears twice, so that its progress could not be told",
            ));
        }
        let manner = manner(&statement).map_err(refuse)?;
        let sql = sql.to_owned();
        all.push(Ddl { sql, manner, at });
    }
    Ok(all)
}

/// The statement without comments around it and without its semicolon, and where it begins.
fn plain<'a>(text: &'a str, statement: &ast::Stmt) -> Option<(usize, &'a str)> {
    let range = statement.syntax().text_range();
    let mut words = tokens_in(text, range.start().into()..range.end().into());
    words.retain(|token| !token.is_trivia() && token.text != ";");
    let (first, last) = (words.first()?, words.last()?);
    Some((first.at, text.get(first.at..last.end())?))
}

/// How `statement` has to be run, or what is said behind it of why it cannot.
fn manner(statement: &ast::Stmt) -> Result<Manner, &'static str> {
    let text = |node: &SyntaxNode| node.text().to_string().trim().to_owned();
    match statement {
        ast::Stmt::CreateIndex(create) if create.concurrently_token().is_some() => {
            let index = create.index().and_then(|index| index.path()?.segment());
            let table = create.table_relation_name();
            let table = table.and_then(|table| table.table_name_ref());
            Ok(Manner::BuildIndex {
                index: index.ok_or(": give the index a name")?.text(),
                table: text(table.ok_or(": on which table?")?.syntax()),
            })
        }
        ast::Stmt::DropIndex(drop) if drop.concurrently_token().is_some() => {
            let indexes: Vec<_> = drop.index_refs().collect();
            match indexes.as_slice() {
                [index] => Ok(Manner::DropIndex {
                    index: text(index.syntax()),
                }),
                _ => Err(": CONCURRENTLY drops one index at a time"),
            }
        }
        ast::Stmt::AlterTable(alter) => {
            let actions: Vec<_> = alter.actions().collect();
            let mut scans = 0;
            for action in &actions {
                match action {
                    ast::AlterTableAction::ValidateConstraint(_) => scans += 1,
                    ast::AlterTableAction::DetachPartition(detach)
                        if text(detach.syntax())
                            .to_uppercase()
                            .contains("CONCURRENTLY") =>
                    {
                        return Err(": a change cannot detach a partition CONCURRENTLY");
                    }
                    _ => {}
                }
            }
            match scans {
                0 => Ok(Manner::Brief),
                scans if scans == actions.len() => Ok(Manner::Scan),
                _ => Err(": validate a constraint in a statement of its own"),
            }
        }
        ast::Stmt::Begin(_) | ast::Stmt::Commit(_) | ast::Stmt::Rollback(_) => {
            Err(": every statement of a change is a transaction of its own")
        }
        ast::Stmt::Reindex(_) | ast::Stmt::Vacuum(_) | ast::Stmt::Cluster(_) => {
            Err(" is maintenance and not a change")
        }
        _ => Ok(Manner::Brief),
    }
}
