//! What a definition's SQL needs, read from its syntax.

use std::collections::BTreeSet;

use squawk_syntax::ast::{self, AstNode, NameLike};
use squawk_syntax::{SourceFile, SyntaxKind as K, SyntaxNode};

use crate::migration::definition::{Definition, RANGE};
use crate::migration::lint::names::parts;

/// To be the owner of a table or index, or to have the owner's role.
pub(super) const OWNER: &str = "owner";
/// To see the rows of a table in spite of its row-level security.
pub(super) const ALL_ROWS: &str = "all rows";

/// Something that a role must be allowed to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Need {
    /// Of a relation or a function, without quotes; the schema first where it is named.
    pub name: Vec<String>,
    /// A privilege, [`OWNER`] or [`ALL_ROWS`]. `CREATE` is wanted where the name is or would be.
    pub right: &'static str,
    /// Of `UPDATE` the columns, where they are known; of `EXECUTE` the arguments.
    pub details: Vec<String>,
}

/// Everything that a run of `definition` needs beside the ledger.
pub(super) fn of(definition: &Definition) -> BTreeSet<Need> {
    let mut needs = BTreeSet::new();
    if definition.has_backfill() {
        let scope = definition.scope.as_deref().unwrap_or("true");
        let asked = format!(
            "SELECT FROM {} WHERE ({}) AND ({scope})",
            definition.table, definition.pending
        );
        let asked = SourceFile::parse(&asked).syntax_node();
        needs.insert(need(parts(&asked), ALL_ROWS));
        rows(&asked, &mut needs);
        let statement = definition.statement.replace(RANGE, "(true)");
        rows(&SourceFile::parse(&statement).syntax_node(), &mut needs);
    }
    for ddl in definition.expand.iter().chain(&definition.contract) {
        for statement in SourceFile::parse(&ddl.sql).tree().stmts() {
            schema(statement.syntax(), &mut needs);
        }
    }
    needs
}

fn need(name: Vec<String>, right: &'static str) -> Need {
    Need {
        name,
        right,
        details: Vec::new(),
    }
}

/// What statements on rows need.
fn rows(root: &SyntaxNode, needs: &mut BTreeSet<Need>) {
    let of_with = root.descendants().filter_map(ast::WithTable::cast);
    let of_with = of_with.filter_map(|with| Some(vec![with.name()?.text()]));
    let of_with: BTreeSet<_> = of_with.collect();
    let mut relations = |node: &SyntaxNode, right| {
        let refs = node.descendants().filter(|node| {
            let is_written = node
                .parent()
                .is_some_and(|parent| parent.kind() == K::INSERT);
            matches!(node.kind(), K::RELATION_NAME_REF | K::TABLE_NAME_REF) && !is_written
        });
        let names = refs
            .map(|node| parts(&node))
            .filter(|name| !of_with.contains(name));
        needs.extend(names.map(|name| need(name, right)));
    };
    relations(root, "SELECT");
    for node in root
        .descendants()
        .filter(|node| node.kind() == K::LOCKING_CLAUSE)
    {
        relations(&node.parent().unwrap_or(node), "UPDATE");
    }
    for node in root.descendants() {
        let right = match node.kind() {
            K::UPDATE | K::MERGE_UPDATE | K::CONFLICT_DO_UPDATE_SET => "UPDATE",
            K::DELETE | K::MERGE_DELETE => "DELETE",
            K::INSERT | K::MERGE_INSERT => "INSERT",
            K::RETURNING_CLAUSE | K::CONFLICT_ON_INDEX | K::CONFLICT_ON_CONSTRAINT => "SELECT",
            _ => {
                needs.extend(ast::CallExpr::cast(node).and_then(|call| function(&call)));
                continue;
            }
        };
        let Some(name) = node.ancestors().find_map(|node| target(&node)) else {
            continue;
        };
        needs.insert(Need {
            name,
            right,
            details: set_columns(&node),
        });
    }
    // Of a call of this the sequence is the first argument.
    let calls = root.descendants().filter_map(ast::CallExpr::cast);
    needs.extend(calls.filter_map(|call| sequence(&call)));
}

/// The table whose rows the statement `node` changes.
fn target(node: &SyntaxNode) -> Option<Vec<String>> {
    matches!(node.kind(), K::UPDATE | K::DELETE | K::INSERT | K::MERGE).then_some(())?;
    let is_target = |kind| {
        matches!(
            kind,
            K::RELATION_NAME | K::RELATION_NAME_REF | K::TABLE_RELATION_NAME
        )
    };
    Some(parts(
        &node.children().find(|child| is_target(child.kind()))?,
    ))
}

/// The columns that an UPDATE assigns.
fn set_columns(update: &SyntaxNode) -> Vec<String> {
    let set = update.children().find(|node| node.kind() == K::SET_CLAUSE);
    let set = set.filter(|_| update.kind() == K::UPDATE);
    let targets = set.iter().flat_map(SyntaxNode::descendants);
    let targets = targets.filter(|node| node.kind() == K::COLUMN_TARGET);
    let first = |node: SyntaxNode| node.descendants().find_map(ast::ColumnNameRef::cast);
    targets
        .filter_map(|node| Some(first(node)?.text()))
        .collect()
}

fn function(call: &ast::CallExpr) -> Option<Need> {
    let name = call.expr()?;
    let name = name.syntax().descendants().filter_map(ast::NameRef::cast);
    let arguments = call.arg_list()?.args();
    Some(Need {
        name: name.map(|part| part.text()).collect(),
        right: "EXECUTE",
        details: arguments
            .map(|argument| argument.syntax().text().to_string())
            .collect(),
    })
}

fn sequence(call: &ast::CallExpr) -> Option<Need> {
    function(call)?
        .name
        .last()
        .filter(|name| *name == "nextval")?;
    let first = call.arg_list()?.args().next()?;
    let literal = first.syntax().descendants().find_map(ast::Literal::cast)?;
    let named = SourceFile::parse(&format!("TABLE {}", literal.string_value()?));
    Some(need(parts(&named.syntax_node()), "USAGE"))
}

/// What a schema statement needs.
fn schema(statement: &SyntaxNode, needs: &mut BTreeSet<Need>) {
    let creates = matches!(
        statement.kind(),
        K::CREATE_INDEX | K::CREATE_TABLE | K::CREATE_VIEW
    );
    let is_for_owner = matches!(
        statement.kind(),
        K::ALTER_TABLE | K::CREATE_INDEX | K::DROP_TABLE | K::DROP_INDEX
    );
    for child in statement.children() {
        let (is_new, is_old) = match child.kind() {
            K::TABLE_NAME | K::VIEW => (creates, false),
            K::TABLE_RELATION_NAME | K::TABLE_NAME_REF | K::INDEX_REF => (creates, is_for_owner),
            _ => continue,
        };
        let name = parts(&child);
        if is_new {
            needs.insert(need(name.clone(), "CREATE"));
        }
        if is_old {
            needs.insert(need(name, OWNER));
        }
    }
    for node in statement.descendants() {
        let referred = ast::ReferencesConstraint::cast(node.clone())
            .and_then(|constraint| constraint.table())
            .or_else(|| ast::ForeignKeyConstraint::cast(node)?.table_name_ref());
        needs.extend(referred.map(|to| need(parts(to.syntax()), "REFERENCES")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(statement: &str) -> Vec<String> {
        let text =
            format!("-- title: T\n-- owner: o\n-- table: t\n-- pending: d = 0\n\n{statement}\n");
        let definition = Definition::parse("m", &text).expect("valid");
        let told = of(&definition).into_iter().map(|need| {
            let (name, details) = (need.name.join("."), need.details.join(","));
            let told = format!("{} {name} {details}", need.right);
            told.trim().to_owned()
        });
        told.filter(|told| told != "all rows t").collect()
    }

    #[test]
    fn a_statement_needs_what_it_reads_and_changes() {
        for (statement, wanted) in [
            (
                "UPDATE t SET d = 1 WHERE :range",
                vec!["SELECT t", "UPDATE t d"],
            ),
            (
                "UPDATE T SET D = 1, (\"E\", f) = (1, 2) FROM LATERAL (SELECT) AS x WHERE :range",
                vec!["SELECT t", "UPDATE t d,E,f"],
            ),
            ("DELETE FROM t WHERE :range", vec!["DELETE t", "SELECT t"]),
            (
                "UPDATE t SET d = (SELECT max(r) FROM s.rates AS r WHERE r.id = t.id) WHERE :range",
                vec!["EXECUTE max r", "SELECT s.rates", "SELECT t", "UPDATE t d"],
            ),
            (
                "INSERT INTO log SELECT id, s . F(1, d) FROM t WHERE :range",
                vec!["INSERT log", "EXECUTE s.f 1,d", "SELECT t"],
            ),
            (
                "INSERT INTO log SELECT id FROM t WHERE :range ON CONFLICT (id) DO UPDATE SET n = 1",
                vec!["INSERT log", "SELECT log", "UPDATE log", "SELECT t"],
            ),
            (
                "WITH gone AS (DELETE FROM t WHERE :range RETURNING id) \
                 INSERT INTO \"Old\".\"Bin\" SELECT nextval('bin_id'), id FROM gone",
                vec![
                    "INSERT Old.Bin",
                    "USAGE bin_id",
                    "EXECUTE nextval 'bin_id'",
                    "DELETE t",
                    "SELECT t",
                ],
            ),
        ] {
            assert_eq!(needs(statement), wanted, "{statement}");
        }
    }

    #[test]
    fn a_schema_statement_needs_an_owner_or_a_place() {
        let steps = "-- step: expand\nALTER TABLE a ADD COLUMN b int REFERENCES c;\n\
                     CREATE TABLE s.d (id int);\n\n-- step: backfill\nUPDATE t SET d = 1 WHERE :range;\n\n\
                     -- step: contract\nCREATE INDEX CONCURRENTLY i ON a (b);\nDROP TABLE e;";
        assert_eq!(
            needs(steps),
            [
                "CREATE a",
                "owner a",
                "REFERENCES c",
                "owner e",
                "CREATE s.d",
                "SELECT t",
                "UPDATE t d"
            ]
        );
    }
}
