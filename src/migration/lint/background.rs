//! What a background statement does besides changing its range.

use squawk_syntax::SyntaxNode;
use squawk_syntax::ast::{self, AstNode};

use super::statements::{Script, first_relation, relations};
use super::{Finding, Found, locks, rules};
use crate::migration::definition::{Definition, RANGE};
use crate::migration::source::{check::range, tokens};

/// As long as [`RANGE`], so that places stay what they are.
const STAND_IN: &str = "(true)";

/// What is unsafe in the backfill `text` of `definition`.
pub fn check(file: &str, text: &str, definition: &Definition) -> Vec<Finding> {
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
    }
    for node in root.descendants() {
        if let Some((target, limited)) = changes(&node) {
            if target != own_table {
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
            }
        }
        if ast::LockingClause::can_cast(node.kind())
            && let Some(query) = node.ancestors().find(|n| ast::Select::can_cast(n.kind()))
            && let Some(other) = relations(&query)
                .into_iter()
                .find(|table| *table != own_table)
        {
            let why = format!("it locks rows of `{other}` for as long as the batch takes");
            found.add(line_of(&node), rules::LOCKS_OTHER_TABLE, why);
        }
    }
    found.settle(&script)
}

/// The table that `node` changes rows of, and whether it has a condition or a join.
fn changes(node: &SyntaxNode) -> Option<(String, bool)> {
    if let Some(update) = ast::Update::cast(node.clone()) {
        let limited = update.where_clause_or_current_of().is_some();
        return Some((first_relation(update.relation_name()?.syntax())?, limited));
    }
    if let Some(delete) = ast::Delete::cast(node.clone()) {
        let limited = delete.where_clause_or_current_of().is_some();
        return Some((first_relation(delete.relation_name()?.syntax())?, limited));
    }
    let merge = ast::Merge::cast(node.clone())?;
    Some((first_relation(merge.table_relation_name()?.syntax())?, true))
}

/// The definition's table as the syntax tree spells names: without schema and quotes.
fn own_table(definition: &Definition) -> String {
    let script = Script::parse(&format!("TABLE {}", definition.table));
    let root = script.parse.syntax_node();
    first_relation(&root).unwrap_or_else(|| definition.table.clone())
}
