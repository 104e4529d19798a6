//! What a statement does to rows, whatever locks it takes on their table.

use squawk_syntax::ast::{self, AstNode};
use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::facts::has;
use super::statements::Statement;
use super::{Found, Kind, rules};

const READS: &str = "it reads whole tables that shoppers use in one statement, whose snapshot keeps VACUUM from removing anything newer";

/// Adds what changes, reads or copies rows.
pub fn check(statement: &Statement, kind: Kind, found: &mut Found<'_>) {
    if let Some(why) = works(statement, kind) {
        found.add(statement.line, rules::UNBATCHED_WRITE, why);
    } else if let Some(table) = &statement.acted_on {
        let why = format!(
            "a trigger or rule of `{table}` acts on what it writes, and the lint cannot see what it does"
        );
        found.add(statement.line, rules::OPAQUE, why);
    }
}

/// What a statement does that takes the longer, the more rows there are.
pub fn works(statement: &Statement, kind: Kind) -> Option<&'static str> {
    let live = !statement.on_new_table;
    let fills = !has(statement.syntax.syntax(), SyntaxKind::WITH_NO_DATA);
    let copies = statement.reads_live && fills;
    Some(match &statement.syntax {
        ast::Stmt::Update(_) | ast::Stmt::Delete(_) | ast::Stmt::Merge(_) if live => {
            "it locks every row that it changes until all are done, and writes them to the WAL at once"
        }
        ast::Stmt::Insert(insert) if live && copies_rows(insert) => {
            "it copies rows in one transaction, however many there are"
        }
        ast::Stmt::Copy(copy)
            if live
                && has(copy.syntax(), SyntaxKind::COPY_FROM)
                && has(copy.syntax(), SyntaxKind::COPY_TABLE) =>
        {
            "it writes rows in one transaction, however many there are"
        }
        ast::Stmt::CreateTableAs(_)
        | ast::Stmt::SelectInto(_)
        | ast::Stmt::CreateMaterializedView(_)
            if copies =>
        {
            READS
        }
        ast::Stmt::Refresh(refresh) if fills && refreshes(refresh, live, kind) => READS,
        _ if writes(statement) && live => "it locks every row that it changes until all are done",
        _ if writes(statement) && copies => READS,
        ast::Stmt::Select(_)
        | ast::Stmt::ParenSelect(_)
        | ast::Stmt::CompoundSelect(_)
        | ast::Stmt::Table(_)
            if live && locks_rows(statement.syntax.syntax()) =>
        {
            "it locks every row of the table until the transaction ends"
        }
        _ => return None,
    })
}

/// Whether a REFRESH is long where no other rule says so: of a view of the script, which nobody reads yet,
/// or beside readers in the transaction of a schema file, which is all one.
fn refreshes(refresh: &ast::Refresh, live: bool, kind: Kind) -> bool {
    !live || kind == Kind::Schema && refresh.concurrently_token().is_some()
}

/// Whether a statement changes rows that were there before.
fn writes(statement: &Statement) -> bool {
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
