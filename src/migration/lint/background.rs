//! What a background statement does besides changing its range.

use squawk_syntax::ast::{self, AstNode};
use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::facts::has;
use super::names::parts;
use super::statements::Script;
use super::{Finding, Found, condition, locks, rules, session};
use crate::migration::columns;
use crate::migration::definition::{Definition, RANGE};
use crate::migration::source::{check::range, tokens};

/// As long as [`RANGE`], so that places stay what they are.
const STAND_IN: &str = "(true)";

/// What is unsafe in the backfill `text` of `definition`, or in its way back, for the rows of which
/// `pending` is true.
pub fn check(file: &str, text: &str, definition: &Definition, pending: &str) -> Vec<Finding> {
    let range = range(&tokens(text));
    let mut stood_in = text.to_owned();
    if let Some(range) = range {
        stood_in.replace_range(range..range + RANGE.len(), STAND_IN);
    }
    let script = Script::parse(&stood_in);
    let mut found = Found::new(file);
    locks::syntax(&script, &mut found);
    let Some(range) = range else {
        return found.settle(&script);
    };
    let own_table = own_table(definition);
    let root = script.parse.syntax_node();
    let has_range = |node: &SyntaxNode| {
        let place = node.text_range();
        usize::from(place.start()) <= range && range < usize::from(place.end())
    };
    let line_of = |node: &SyntaxNode| {
        let at = node
            .first_token()
            .map_or(node.text_range(), |token| token.text_range());
        script.line(at.start().into())
    };
    let limits = |node: SyntaxNode| ast::WhereClause::can_cast(node.kind()) && has_range(&node);
    if !root.descendants().any(limits) {
        found.add(
            script.line(range),
            rules::RANGE_LIMITS_NOTHING,
            "`:range` does not stand in a WHERE, so a batch would not be limited to its keys",
        );
    } else if !is_required(&root, range) {
        found.add(
            script.line(range),
            rules::RANGE_LIMITS_NOTHING,
            "`:range` is a part of another condition (OR, NOT, CASE, …), so that a batch could change rows outside its keys, once for each batch",
        );
    }
    for node in root.descendants() {
        if let Some((target, limited)) = changes(&node) {
            // What is put elsewhere for the rows of the range is limited by it.
            let is_of_range = ast::Insert::can_cast(node.kind())
                && (has_range(&node) || reads_the_range(&node, &has_range));
            if !is_same(&target, &own_table) && !is_of_range {
                let target = target.join(".");
                let why =
                    format!("it locks rows of `{target}`, where nothing orders or limits them");
                found.add(line_of(&node), rules::LOCKS_OTHER_TABLE, why);
            }
            if !limited {
                found.add(
                    line_of(&node),
                    rules::UNBATCHED_WRITE,
                    "it has no condition, so every batch changes the whole table",
                );
            } else if is_same(&target, &own_table)
                && !has_range(&node)
                && !reads_the_range(&node, &has_range)
            {
                found.add(
                    line_of(&node),
                    rules::RANGE_LIMITS_NOTHING,
                    "this part of the statement changes rows of the table without `:range`, so every batch changes them again",
                );
            }
        }
        if ast::LockingClause::can_cast(node.kind())
            && let Some(query) = node.ancestors().find(|n| ast::Select::can_cast(n.kind()))
            && let Some(other) = relations(&query)
                .into_iter()
                .find(|table| !is_same(table, &own_table))
        {
            let other = other.join(".");
            let why = format!("it locks rows of `{other}` for as long as the batch takes");
            found.add(line_of(&node), rules::LOCKS_OTHER_TABLE, why);
        }
    }
    if let Some(first) = script.statements.first() {
        condition::check(pending, first.line, &mut found);
    }
    for statement in &script.statements {
        if let Some((rule, why)) = session::leaves(&statement.syntax, false, true) {
            found.add(statement.line, rule, why);
        }
    }
    found.settle(&script)
}

/// Whether what stands at the byte `at` is a condition that every row has to meet: from it up to its
/// WHERE there are only parentheses and AND.
fn is_required(root: &SyntaxNode, at: usize) -> bool {
    let inner = root
        .descendants()
        .filter(|node| usize::from(node.text_range().start()) == at)
        .last();
    let mut outwards = inner.into_iter().flat_map(|node| node.ancestors());
    let stop = outwards.find(|node| {
        let joins = ast::BinExpr::cast(node.clone())
            .is_some_and(|both| matches!(both.op(), Some(ast::BinOp::And(_))));
        !(joins || ast::ParenExpr::can_cast(node.kind()) || ast::Literal::can_cast(node.kind()))
    });
    stop.is_some_and(|node| ast::WhereClause::can_cast(node.kind()))
}

/// The table that `node` changes rows of, and whether it has a condition or a join.
fn changes(node: &SyntaxNode) -> Option<(Vec<String>, bool)> {
    if let Some(update) = ast::Update::cast(node.clone()) {
        let limited = update.where_clause_or_current_of().is_some();
        return Some((parts(update.relation_name()?.syntax()), limited));
    }
    if let Some(delete) = ast::Delete::cast(node.clone()) {
        let limited = delete.where_clause_or_current_of().is_some();
        return Some((parts(delete.relation_name()?.syntax()), limited));
    }
    if let Some(merge) = ast::Merge::cast(node.clone()) {
        return Some((parts(merge.table_relation_name()?.syntax()), true));
    }
    // Rows that an INSERT adds are locked by nobody else; those that are there already it changes by this.
    let insert = ast::Insert::cast(node.clone())?;
    let on_conflict = insert.on_conflict_clause()?;
    if !has(on_conflict.syntax(), SyntaxKind::CONFLICT_DO_UPDATE_SET) {
        return None;
    }
    Some((parts(insert.relation_name_ref()?.syntax()), true))
}

/// Whether `node`, a part of WITH, reads another part that has chosen its rows by the range, or reads one
/// that has.
fn reads_the_range(node: &SyntaxNode, has_range: &impl Fn(&SyntaxNode) -> bool) -> bool {
    let with = node.ancestors().find_map(ast::WithClause::cast);
    let parts = with.into_iter().flat_map(|with| with.with_tables());
    let parts: Vec<_> = parts
        .filter_map(|part| {
            let name = part.syntax().children().next()?;
            Some((as_relation(&name.text().to_string()), part.syntax().clone()))
        })
        .collect();
    let mut ranged: Vec<&Vec<String>> = Vec::new();
    let reads = |node: &SyntaxNode, ranged: &[&Vec<String>]| {
        let read = relations(node);
        ranged.iter().any(|name| read.contains(name))
    };
    // A part reads those above it; with RECURSIVE also those below, whose turn comes in the next round.
    for _ in 0..parts.len() {
        for (name, part) in &parts {
            if !ranged.contains(&name) && (has_range(part) || reads(part, &ranged)) {
                ranged.push(name);
            }
        }
    }
    reads(node, &ranged)
}

/// Every relation that `node` names as such.
fn relations(node: &SyntaxNode) -> Vec<Vec<String>> {
    let relations = node.descendants().filter(columns::names_relation);
    relations.map(|relation| parts(&relation)).collect()
}

/// The definition's table as the syntax tree spells names.
fn own_table(definition: &Definition) -> Vec<String> {
    as_relation(&definition.table)
}

/// The name `text` as the syntax tree spells those of relations.
fn as_relation(text: &str) -> Vec<String> {
    let script = Script::parse(&format!("TABLE {text}"));
    let first = relations(&script.parse.syntax_node()).into_iter().next();
    first.unwrap_or_else(|| vec![text.to_owned()])
}

/// Whether two names can mean one table: a schema that only one of them has may be the other's, too.
fn is_same(one: &[String], other: &[String]) -> bool {
    one.iter()
        .rev()
        .zip(other.iter().rev())
        .all(|(a, b)| a == b)
}
