//! Whose rows a statement changes and reads.

use squawk_syntax::ast::{self, AstNode, NameLike};
use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::effects::references;
use super::facts::has;
use super::names::{Name, Names, parts};
use super::table::On;

/// Whether all that `statement` is about was created earlier in the script: the tables whose rows it
/// changes, or else what it names.
pub fn is_about_new(statement: &ast::Stmt, names: &Names) -> bool {
    let whole = statement.syntax();
    let changed = changed(whole, names);
    if changed.is_empty() {
        let named = references(whole, whole, names, On::Named);
        return !named.is_empty() && named.iter().all(|name| names.is_new(name));
    }
    changed
        .iter()
        .all(|(name, words)| names.has_own_rows(name) && !names.is_acted_on(name, words))
}

/// The table of the script of which a trigger or rule, also of the script, acts on what `whole` writes.
pub fn acted_on(whole: &SyntaxNode, names: &Names) -> Option<Name> {
    let mut changed = changed(whole, names).into_iter();
    let acted_on = changed.find(|(name, words)| names.is_acted_on(name, words));
    acted_on.map(|(name, _)| name)
}

/// Whether `whole` reads rows of a table that the script has not created.
pub fn reads_live(whole: &SyntaxNode, names: &Names) -> bool {
    let parts = whole.descendants().filter_map(ast::WithTable::cast);
    let parts: Vec<_> = parts.filter_map(|part| Some(part.name()?.text())).collect();
    let mut read = references(whole, whole, names, On::Read).into_iter();
    read.any(|name| {
        !(names.has_own_rows(&name) || name.is_catalogue() || parts.contains(&name.to_string()))
    })
}

/// The tables whose rows `whole` changes, with the words of what it does to them.
fn changed(whole: &SyntaxNode, names: &Names) -> Vec<(Name, Vec<SyntaxKind>)> {
    let word = match whole.kind() {
        SyntaxKind::COPY if has(whole, SyntaxKind::COPY_FROM) => SyntaxKind::INSERT_KW,
        SyntaxKind::TRUNCATE => SyntaxKind::TRUNCATE_KW,
        _ => {
            let targets = whole.descendants().filter_map(|node| target(&node));
            return targets
                .map(|(path, words)| (names.resolve(&path), words))
                .collect();
        }
    };
    let named = references(whole, whole, names, On::Named).into_iter();
    named.map(|name| (name, vec![word])).collect()
}

/// The table whose rows `node` changes, and the words of what it does to them.
fn target(node: &SyntaxNode) -> Option<(Vec<String>, Vec<SyntaxKind>)> {
    use SyntaxKind as K;
    let words = match node.kind() {
        K::UPDATE => vec![K::UPDATE_KW],
        K::DELETE => vec![K::DELETE_KW],
        K::INSERT if has(node, K::CONFLICT_DO_UPDATE_SET) => vec![K::INSERT_KW, K::UPDATE_KW],
        K::INSERT => vec![K::INSERT_KW],
        K::MERGE => vec![K::INSERT_KW, K::UPDATE_KW, K::DELETE_KW],
        _ => return None,
    };
    let is_target = |kind| {
        matches!(
            kind,
            K::RELATION_NAME | K::RELATION_NAME_REF | K::TABLE_RELATION_NAME
        )
    };
    let target = node.children().find(|child| is_target(child.kind()))?;
    Some((parts(&target), words))
}
