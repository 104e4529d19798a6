//! What the text of a statement or a condition says by itself: the columns that it assigns, the table whose
//! rows it changes, the relations that it reads.

use squawk_syntax::ast::{self, AstNode};
use squawk_syntax::{SourceFile, SyntaxKind, SyntaxNode};

use super::definition::RANGE;
use super::source::{Kind, tokens};

/// The columns that `statement` assigns when it is a plain UPDATE of `table`, as SQL spells them;
/// empty when it is anything else, or assigns parts of columns: its author names them in the header.
pub fn assigned(statement: &str, table: &str) -> Vec<String> {
    try_assigned(statement, table).unwrap_or_default()
}

fn try_assigned(statement: &str, table: &str) -> Option<Vec<String>> {
    // The parser knows no variables.
    let parse = SourceFile::parse(&statement.replace(RANGE, "true"));
    let Some(ast::Stmt::Update(update)) = parse.tree().stmts().next() else {
        return None;
    };
    let named = update.relation_name()?.relation_name_ref()?;
    let is_own = name(&named.syntax().text().to_string()) == name(table);
    if !is_own || update.with_clause().is_some() || !parse.errors().is_empty() {
        return None;
    }
    let mut columns = Vec::new();
    for assigned in update.set_clause()?.set_column_list()?.set_columns() {
        let targets: Vec<_> = match &assigned {
            ast::SetColumn::SetSingleColumn(one) => one.column_target().into_iter().collect(),
            ast::SetColumn::SetMultipleColumns(list) => {
                list.column_target_list()?.column_targets().collect()
            }
        };
        for target in targets {
            if target.accessors().next().is_some() {
                return None;
            }
            columns.push(target.syntax().text().to_string().trim().to_owned());
        }
    }
    Some(columns)
}

/// Whether `statement` is an UPDATE or DELETE of `table`.
pub fn changes(statement: &str, table: &str) -> bool {
    let parse = SourceFile::parse(&statement.replace(RANGE, "true"));
    let target = match parse.tree().stmts().next() {
        Some(ast::Stmt::Update(update)) => update.relation_name(),
        Some(ast::Stmt::Delete(delete)) => delete.relation_name(),
        _ => None,
    };
    let named = target.and_then(|target| target.relation_name_ref());
    // A schema that only one of them names may be the other's, too.
    named.is_some_and(|named| {
        let (named, table) = (name(&named.syntax().text().to_string()), name(table));
        named
            .iter()
            .rev()
            .zip(table.iter().rev())
            .all(|(a, b)| a == b)
    })
}

/// Whether `statement`, a plain UPDATE of `table`, assigns one of `columns`.
pub fn assigns_one_of(statement: &str, table: &str, columns: &[String]) -> bool {
    let assigned = assigned(statement, table);
    assigned
        .iter()
        .any(|one| columns.iter().any(|column| name(column) == name(one)))
}

/// Whether the condition `text` names a relation, whose rows decide it as well as its own.
pub fn reads_relations(text: &str) -> bool {
    condition(text)
        .descendants()
        .any(|node| names_relation(&node))
}

/// The syntax of the condition `text`.
pub fn condition(text: &str) -> SyntaxNode {
    // It may end with a comment.
    SourceFile::parse(&format!("SELECT WHERE ({text}\n)")).syntax_node()
}

/// Whether `node` is the name of a relation that a query reads.
pub fn names_relation(node: &SyntaxNode) -> bool {
    matches!(
        node.kind(),
        SyntaxKind::RELATION_NAME_REF | SyntaxKind::TABLE_NAME_REF
    )
}

/// Whether `text` is a name, or a schema's and a name.
pub fn is_relation_name(text: &str) -> bool {
    let mut parts = tokens(text);
    parts.retain(|token| !token.is_trivia());
    let is_name = |kind: Kind| {
        matches!(
            kind,
            Kind::Ident
                | Kind::QuotedIdent {
                    terminated: true,
                    uescape: false
                }
        )
    };
    match parts.as_slice() {
        [name] => is_name(name.kind),
        [schema, dot, name] => is_name(schema.kind) && dot.text == "." && is_name(name.kind),
        _ => false,
    }
}

/// The parts of a name; without quotes, letters have no case.
fn name(text: &str) -> Vec<String> {
    let mut parts = tokens(text);
    parts.retain(|token| !token.is_trivia());
    let part = |token: &super::source::Token<'_>| match token.kind {
        Kind::QuotedIdent { .. } => token.text.trim_matches('"').to_owned(),
        _ => token.text.to_lowercase(),
    };
    parts.iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_update_tells_its_columns() {
        for (statement, columns) in [
            ("UPDATE t SET a = 1 WHERE :range", vec!["a"]),
            (
                "update only s.T as q set a = f(1, 2), \"B c\" = 'x, y = ''z''', (d, e) = (SELECT 1, 2)\n\
                 FROM u WHERE :range",
                vec!["a", "\"B c\"", "d", "e"],
            ),
            (
                "UPDATE t -- SET x = 1\n SET a = b IS DISTINCT FROM c, d = 2 WHERE :range",
                vec!["a", "d"],
            ),
            (
                "UPDATE \"t\" /* /* SET x = 1 */ , y = 2 */ SET a = $$, x = 1 WHERE $$, \
                 b = E'\\', y = 2 WHERE', c = (ARRAY[1, 2])[1] WHERE :range",
                vec!["a", "b", "c"],
            ),
        ] {
            let table = if statement.contains("s.T") {
                "s.t"
            } else {
                "t"
            };
            assert_eq!(assigned(statement, table), columns, "{statement}");
        }
    }

    #[test]
    fn a_relation_has_one_name_or_two() {
        for text in ["t", "s.t", "\"Old Shop\" . \"Order\""] {
            assert!(is_relation_name(text), "{text}");
        }
        for text in ["", "a.b.c", "t t", "s.", "\"t", "s.t.", "1"] {
            assert!(!is_relation_name(text), "{text}");
        }
    }

    #[test]
    fn a_condition_reads_relations_where_it_names_one() {
        for (condition, reads) in [
            ("x IS NULL", false),
            ("t.x < now() AND y = (SELECT now())", false),
            ("s.t.x IS NULL -- FROM u", false),
            ("x = 'EXISTS (SELECT FROM u)'", false),
            ("NOT EXISTS (SELECT FROM copies c WHERE c.id = t.id)", true),
            ("x = (TABLE u)", true),
            ("x IN (SELECT a FROM v CROSS JOIN w)", true),
            ("x IN (SELECT generate_series(1, 2))", false),
        ] {
            assert_eq!(reads_relations(condition), reads, "{condition}");
        }
    }

    #[test]
    fn of_anything_else_nothing_is_known() {
        for statement in [
            "DELETE FROM t WHERE :range",
            "UPDATE u SET a = 1 WHERE :range",
            "UPDATE t.u SET a = 1 WHERE :range",
            "UPDATE \"T\" SET a = 1 WHERE :range",
            "UPDATE t SET a.b = 1 WHERE :range",
            "WITH x AS (SELECT 1) UPDATE t SET a = 1 WHERE :range",
            "UPDATE t",
            "UPDATE t SET",
            "UPDATE t SET (a",
            "UPDATE t SET a[1] = 2 WHERE :range",
            "",
        ] {
            assert!(assigned(statement, "t").is_empty(), "{statement}");
        }
    }
}
