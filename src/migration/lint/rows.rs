//! What a statement does to rows, whatever locks it takes on their table.

use squawk_syntax::ast::{self, AstNode};
use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::facts::has;
use super::statements::Statement;
use super::{Found, rules};

/// Adds what changes or copies rows.
pub fn check(statement: &Statement, found: &mut Found<'_>) {
    let why = match &statement.syntax {
        ast::Stmt::Update(_) | ast::Stmt::Delete(_) | ast::Stmt::Merge(_) => {
            "it locks every row that it changes until all are done, and writes them to the WAL at once"
        }
        ast::Stmt::Insert(insert) if copies_rows(insert) => {
            "it copies rows in one transaction, however many there are"
        }
        ast::Stmt::Copy(copy)
            if has(copy.syntax(), SyntaxKind::COPY_FROM)
                && has(copy.syntax(), SyntaxKind::COPY_TABLE) =>
        {
            "it writes rows in one transaction, however many there are"
        }
        ast::Stmt::CreateTableAs(_)
        | ast::Stmt::SelectInto(_)
        | ast::Stmt::CreateMaterializedView(_)
            if reads(statement) && !has(statement.syntax.syntax(), SyntaxKind::WITH_NO_DATA) =>
        {
            "it reads and copies whole tables in one transaction"
        }
        _ if writes(statement) => "it locks every row that it changes until all are done",
        ast::Stmt::Select(_)
        | ast::Stmt::ParenSelect(_)
        | ast::Stmt::CompoundSelect(_)
        | ast::Stmt::Table(_)
            if locks_rows(statement.syntax.syntax()) =>
        {
            "it locks every row of the table until the transaction ends"
        }
        _ => return,
    };
    found.add(statement.line, rules::UNBATCHED_WRITE, why);
}

/// Whether a statement changes rows that were there before.
pub fn writes(statement: &Statement) -> bool {
    let changes = |node: SyntaxNode| {
        ast::Update::can_cast(node.kind())
            || ast::Delete::can_cast(node.kind())
            || ast::Merge::can_cast(node.kind())
            || ast::Insert::cast(node).is_some_and(|insert| copies_rows(&insert))
    };
    let executed = matches!(
        statement.syntax,
        ast::Stmt::Update(_)
            | ast::Stmt::Delete(_)
            | ast::Stmt::Merge(_)
            | ast::Stmt::Insert(_)
            | ast::Stmt::Select(_)
            | ast::Stmt::CompoundSelect(_)
            | ast::Stmt::ParenSelect(_)
            | ast::Stmt::SelectInto(_)
            | ast::Stmt::CreateTableAs(_)
            | ast::Stmt::Copy(_)
            | ast::Stmt::Declare(_)
    );
    executed && statement.syntax.syntax().descendants().any(changes)
}

/// Whether an INSERT takes its rows from relations, and not single values.
fn copies_rows(insert: &ast::Insert) -> bool {
    let is_source = |node: &SyntaxNode| {
        ast::FromClause::can_cast(node.kind()) || ast::Table::can_cast(node.kind())
    };
    let is_value = |node: &SyntaxNode| {
        let within = node
            .ancestors()
            .take_while(|outer| outer != insert.syntax());
        within
            .into_iter()
            .any(|outer| ast::Values::can_cast(outer.kind()))
    };
    let mut within = insert.syntax().descendants();
    within.any(|node| is_source(&node) && !is_value(&node))
}

/// Whether a query locks every row of a table for those who write it.
fn locks_rows(query: &SyntaxNode) -> bool {
    let limits = |node: SyntaxNode| {
        ast::WhereClause::can_cast(node.kind()) || ast::LimitClause::can_cast(node.kind())
    };
    query.descendants().any(|node| {
        let locks = ast::LockingClause::can_cast(node.kind());
        locks
            && node.parent().is_some_and(|of| match of.kind() {
                // What is in the parentheses limits it.
                SyntaxKind::PAREN_SELECT => !of.descendants().any(limits),
                _ => !of.children().any(limits),
            })
    })
}

/// Whether it reads relations.
fn reads(statement: &Statement) -> bool {
    has(statement.syntax.syntax(), SyntaxKind::FROM_CLAUSE)
        || has(statement.syntax.syntax(), SyntaxKind::TABLE)
}
