//! What a definition's SQL needs, read from its syntax.

use std::collections::BTreeSet;

use squawk_syntax::ast::{self, AstNode};
use squawk_syntax::{SourceFile, SyntaxKind, SyntaxNode};

use crate::migration::definition::{Definition, RANGE};

/// Something that a role must be allowed to do, by a name as the author has spelt it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// A privilege on a table or view; `columns` where it is wanted on these alone.
    Table {
        name: String,
        privilege: &'static str,
        columns: Vec<String>,
    },
    /// To call a function with so many arguments.
    Function { name: String, arguments: i32 },
    /// To draw from a sequence.
    Sequence { name: String },
    /// To be what the owner of a table, view or index is, for this statement.
    Owner { name: String, statement: String },
    /// To create something of this name, or beside the table of this name.
    Create { name: String },
}

/// Everything that a run of `definition` needs beside the ledger.
pub(super) fn of(definition: &Definition) -> BTreeSet<Need> {
    let mut needs = BTreeSet::new();
    if definition.has_backfill() {
        needs.insert(table(&definition.table, "SELECT"));
        let statement = definition.statement.replace(RANGE, "(true)");
        rows(&statement, definition, &mut needs);
        let scope = definition.scope.as_deref().unwrap_or("true");
        let asked = format!(
            "SELECT FROM {} WHERE ({}) AND ({scope})",
            definition.table, definition.pending
        );
        rows(&asked, definition, &mut needs);
    }
    for ddl in definition.expand.iter().chain(&definition.contract) {
        for statement in SourceFile::parse(&ddl.sql).tree().stmts() {
            schema(&statement, &ddl.sql, &mut needs);
        }
    }
    needs
}

fn table(name: &str, privilege: &'static str) -> Need {
    Need::Table {
        name: name.to_owned(),
        privilege,
        columns: Vec::new(),
    }
}

fn text(node: &SyntaxNode) -> String {
    node.text().to_string().trim().to_owned()
}

/// The name of a relation that `node` is.
fn relation(node: &SyntaxNode) -> Option<String> {
    let path = match node.kind() {
        SyntaxKind::RELATION_NAME_REF => ast::RelationNameRef::cast(node.clone())?.path_ref()?,
        SyntaxKind::TABLE_NAME_REF => ast::TableNameRef::cast(node.clone())?.path_ref()?,
        _ => return None,
    };
    Some(text(path.syntax()))
}

fn first_relation(node: &SyntaxNode) -> Option<String> {
    node.descendants().find_map(|node| relation(&node))
}

/// What a statement on rows needs.
fn rows(sql: &str, definition: &Definition, needs: &mut BTreeSet<Need>) {
    let root = SourceFile::parse(sql).syntax_node();
    let of_with = root
        .descendants()
        .filter_map(ast::WithTable::cast)
        .filter_map(|with| Some(text(with.name()?.syntax())));
    let of_with: BTreeSet<_> = of_with.collect();
    let is_table = |name: &String| !of_with.contains(name);
    for node in root.descendants() {
        for need in changes(&node, definition) {
            needs.insert(need);
        }
        if let Some(name) = relation(&node).filter(is_table)
            && !is_only_inserted_into(&node)
        {
            needs.insert(table(&name, "SELECT"));
        }
        if ast::LockingClause::can_cast(node.kind())
            && let Some(query) = node.ancestors().find(|n| ast::Select::can_cast(n.kind()))
        {
            let locked = query.descendants().filter_map(|node| relation(&node));
            needs.extend(locked.filter(is_table).map(|name| table(&name, "UPDATE")));
        }
        needs.extend(ast::CallExpr::cast(node).and_then(|call| function(&call)));
    }
    // Of a call of these the sequence is the first argument.
    let calls = root.descendants().filter_map(ast::CallExpr::cast);
    needs.extend(calls.filter_map(|call| sequence(&call)));
}

/// What a node needs that changes rows.
fn changes(node: &SyntaxNode, definition: &Definition) -> Vec<Need> {
    if let Some(update) = ast::Update::cast(node.clone()) {
        let name = update
            .relation_name()
            .and_then(|n| first_relation(n.syntax()));
        return name
            .map(|name| {
                // The columns are known of a plain UPDATE of the walked table alone.
                let is_own = name == definition.table && node.ancestors().nth(2).is_none();
                let columns = if is_own {
                    crate::migration::columns::assigned(&definition.statement, &definition.table)
                } else {
                    Vec::new()
                };
                Need::Table {
                    name,
                    privilege: "UPDATE",
                    columns,
                }
            })
            .into_iter()
            .collect();
    }
    if let Some(delete) = ast::Delete::cast(node.clone()) {
        let name = delete
            .relation_name()
            .and_then(|n| first_relation(n.syntax()));
        return name
            .map(|name| table(&name, "DELETE"))
            .into_iter()
            .collect();
    }
    if let Some(insert) = ast::Insert::cast(node.clone()) {
        let Some(name) = insert
            .relation_name_ref()
            .and_then(|name| relation(name.syntax()))
        else {
            return Vec::new();
        };
        let mut all = vec![table(&name, "INSERT")];
        if let Some(conflict) = insert.on_conflict_clause() {
            all.push(table(&name, "SELECT"));
            if text(conflict.syntax())
                .to_ascii_uppercase()
                .contains("UPDATE")
            {
                all.push(table(&name, "UPDATE"));
            }
        }
        if node
            .children()
            .any(|child| ast::ReturningClause::can_cast(child.kind()))
        {
            all.push(table(&name, "SELECT"));
        }
        return all;
    }
    let Some(merge) = ast::Merge::cast(node.clone()) else {
        return Vec::new();
    };
    let Some(name) = merge
        .table_relation_name()
        .and_then(|name| first_relation(name.syntax()))
    else {
        return Vec::new();
    };
    let does = |kind: fn(SyntaxKind) -> bool| node.descendants().any(|n| kind(n.kind()));
    let mut all = Vec::new();
    for (does, privilege) in [
        (does(ast::MergeUpdate::can_cast), "UPDATE"),
        (does(ast::MergeDelete::can_cast), "DELETE"),
        (does(ast::MergeInsert::can_cast), "INSERT"),
    ] {
        if does {
            all.push(table(&name, privilege));
        }
    }
    all
}

fn is_only_inserted_into(node: &SyntaxNode) -> bool {
    node.parent()
        .is_some_and(|parent| ast::Insert::can_cast(parent.kind()))
}

fn function(call: &ast::CallExpr) -> Option<Need> {
    let name = match call.expr()? {
        ast::Expr::NameRef(name) => text(name.syntax()),
        ast::Expr::FieldExpr(name) => text(name.syntax()),
        _ => return None,
    };
    let arguments = call.arg_list().map_or(0, |list| list.args().count());
    Some(Need::Function {
        name,
        arguments: i32::try_from(arguments).unwrap_or(i32::MAX),
    })
}

fn sequence(call: &ast::CallExpr) -> Option<Need> {
    let Some(Need::Function { name, .. }) = function(call) else {
        return None;
    };
    let last = name.rsplit('.').next()?.to_ascii_lowercase();
    if last != "nextval" && last != "currval" {
        return None;
    }
    let first = call.arg_list()?.args().next()?;
    let literal = first.syntax().descendants().find_map(ast::Literal::cast)?;
    Some(Need::Sequence {
        name: literal.string_value()?,
    })
}

/// What a schema statement needs.
fn schema(statement: &ast::Stmt, sql: &str, needs: &mut BTreeSet<Need>) {
    let owner = |name: String| Need::Owner {
        name,
        statement: sql.split_whitespace().collect::<Vec<_>>().join(" "),
    };
    match statement {
        ast::Stmt::AlterTable(alter) => {
            let table = alter.table_relation_name();
            needs.extend(table.and_then(|t| first_relation(t.syntax())).map(owner));
        }
        ast::Stmt::CreateIndex(create) => {
            let table = create.table_relation_name();
            if let Some(name) = table.and_then(|t| first_relation(t.syntax())) {
                needs.insert(Need::Create { name: name.clone() });
                needs.insert(owner(name));
            }
        }
        ast::Stmt::DropTable(drop) => {
            let tables = drop.table_name_refs();
            needs.extend(tables.map(|table| owner(text(table.syntax()))));
        }
        ast::Stmt::DropIndex(drop) => {
            let indexes = drop.index_refs();
            needs.extend(indexes.map(|index| owner(text(index.syntax()))));
        }
        ast::Stmt::CreateTable(create) => {
            let name = create.table_name();
            needs.extend(name.map(|name| Need::Create {
                name: text(name.syntax()),
            }));
        }
        ast::Stmt::CreateView(create) => {
            let name = create.view();
            needs.extend(name.map(|name| Need::Create {
                name: text(name.syntax()),
            }));
        }
        _ => {}
    }
    for node in statement.syntax().descendants() {
        let referred = ast::ReferencesConstraint::cast(node.clone())
            .and_then(|constraint| constraint.table())
            .or_else(|| ast::ForeignKeyConstraint::cast(node)?.table_name_ref());
        needs.extend(referred.map(|to| table(&text(to.syntax()), "REFERENCES")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(statement: &str) -> Vec<String> {
        let text =
            format!("-- title: T\n-- owner: o\n-- table: t\n-- pending: d = 0\n\n{statement}\n");
        let definition = Definition::parse("m", &text).expect("valid");
        let told = of(&definition).into_iter().map(|need| match need {
            Need::Table {
                name,
                privilege,
                columns,
            } => format!("{privilege} {name} {}", columns.join(","))
                .trim()
                .to_owned(),
            Need::Function { name, arguments } => format!("{name}/{arguments}"),
            Need::Sequence { name } => format!("sequence {name}"),
            Need::Owner { name, .. } => format!("own {name}"),
            Need::Create { name } => format!("create {name}"),
        });
        told.collect()
    }

    #[test]
    fn a_statement_needs_what_it_reads_and_changes() {
        for (statement, wanted) in [
            (
                "UPDATE t SET d = 1 WHERE :range",
                vec!["SELECT t", "UPDATE t d"],
            ),
            ("DELETE FROM t WHERE :range", vec!["DELETE t", "SELECT t"]),
            (
                "UPDATE t SET d = (SELECT max(r) FROM s.rates AS r WHERE r.id = t.id) WHERE :range",
                vec!["SELECT s.rates", "SELECT t", "UPDATE t d", "max/1"],
            ),
            (
                "INSERT INTO log SELECT id, f(1, d) FROM t WHERE :range",
                vec!["INSERT log", "SELECT t", "f/2"],
            ),
            (
                "INSERT INTO log SELECT id FROM t WHERE :range ON CONFLICT (id) DO UPDATE SET n = 1",
                vec!["INSERT log", "SELECT log", "UPDATE log", "SELECT t"],
            ),
            (
                "WITH gone AS (DELETE FROM t WHERE :range RETURNING id) \
                 INSERT INTO \"Old\".\"Bin\" SELECT nextval('bin_id'), id FROM gone",
                vec![
                    "INSERT \"Old\".\"Bin\"",
                    "DELETE t",
                    "SELECT t",
                    "nextval/1",
                    "sequence bin_id",
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
                     -- step: contract\nCREATE INDEX CONCURRENTLY i ON a (b);";
        assert_eq!(
            needs(steps),
            [
                "REFERENCES c",
                "SELECT t",
                "UPDATE t d",
                "own a",
                "own a",
                "create a",
                "create s.d"
            ]
        );
    }
}
