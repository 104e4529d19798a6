//! What a script has made known up to a statement, and what of it a row of the table asks for.

use std::collections::{HashMap, HashSet};

use squawk_syntax::ast::{self, AstNode, NameLike};
use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::effects::references;
use super::functions;
use super::names::{Name, Names, Thing, parts};
use super::table::{Given, On};
use super::types;
use super::waiting::ending;

/// How the statements of a script are divided into transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transactions {
    /// As whoever runs it likes, unless it says BEGIN and COMMIT.
    #[default]
    Unsure,
    /// All are one.
    One,
    /// Each is one, in a session of its own.
    Each,
}

/// What is known.
#[derive(Debug, Default)]
pub struct Facts {
    transactions: Transactions,
    /// Whether BEGIN has been read, and no end yet.
    open: bool,
    /// The names.
    pub names: Names,
    /// The columns that a CHECK says are not null, by table and name of the constraint.
    checks: HashMap<(Name, String), Vec<String>>,
    /// The columns of a table that such a CHECK has been validated for.
    proven: HashSet<(Name, String)>,
    /// Those of them that are NOT NULL, which outlasts the constraint that has proven it.
    declared: HashSet<(Name, String)>,
    /// Tables for which a constraint was validated that an earlier script must have added.
    trusted: HashSet<Name>,
}

impl Facts {
    /// Nothing yet.
    pub fn of(transactions: Transactions) -> Self {
        Self {
            transactions,
            ..Self::default()
        }
    }

    /// Takes note of what ends with the transaction of `statement`.
    pub fn note_transaction(&mut self, statement: &ast::Stmt) {
        let ends = ending(statement).is_some();
        let chains = has(statement.syntax(), SyntaxKind::AND_CHAIN);
        self.open = match ends {
            true => chains && self.open,
            false => self.open || matches!(statement, ast::Stmt::Begin(_)),
        };
        match self.transactions {
            Transactions::Each => self.names.end_transaction(true),
            Transactions::Unsure if !self.open => self.names.end_transaction(false),
            _ if ends => self.names.end_transaction(false),
            _ => {}
        }
    }

    /// Whether the next statement is in a transaction with others, as far as the script says.
    pub fn in_transaction(&self) -> bool {
        self.open || self.transactions == Transactions::One
    }

    /// Whether `given` holds for `node`, a part of the statement `whole`.
    pub fn holds(&self, given: Given, node: &SyntaxNode, whole: &SyntaxNode) -> bool {
        match given {
            Given::Has(kind) => has(node, kind),
            Given::Concurrently => is_concurrent(node),
            Given::Full => ast::Vacuum::cast(node.clone()).is_some_and(|vacuum| vacuum.is_full()),
            Given::VolatileDefault => node
                .children()
                .filter(|child| child.kind() == SyntaxKind::DEFAULT_CONSTRAINT)
                .any(|default| functions::may_differ_by_row(&default)),
            Given::Serial => column_type(node).is_some_and(|ty| types::is_serial(&ty)),
            Given::CheckedDomain => {
                matches!(self.type_of(node), Some(Thing::Type { checked: true }))
            }
            Given::UnknownType => column_type(node)
                .is_some_and(|ty| !types::is_known(&ty) && self.type_of(node).is_none()),
            Given::NoDefault => !has(node, SyntaxKind::DEFAULT_CONSTRAINT),
            Given::ProvenNotNull => self.is_proven(node, whole),
            Given::ReadingOption => node
                .descendants()
                .filter(|child| child.kind() == SyntaxKind::ATTRIBUTE_NAME)
                .any(|name| types::changes_reading(&name.text().to_string())),
        }
    }

    fn type_of(&self, column: &SyntaxNode) -> Option<&Thing> {
        let ty = column_type(column)?;
        self.names.type_of(&self.names.resolve(&ty))
    }

    fn is_proven(&self, node: &SyntaxNode, whole: &SyntaxNode) -> bool {
        let tables = references(whole, node, &self.names, On::Named);
        if let Some(index) = node.descendants().find_map(ast::UsingIndexName::cast) {
            let index = parts(index.syntax());
            return tables.into_iter().any(|table| {
                let index = self.names.thing(&table.beside(&index));
                let proven =
                    |column: &String| self.proven.contains(&(table.clone(), column.clone()));
                match index {
                    Some(Thing::Index(Some(of), Some(columns))) => {
                        *of == table && columns.iter().all(proven)
                    }
                    Some(_) => false,
                    // It was built before, as was the constraint that the file validates.
                    None => self.trusted.contains(&table),
                }
            });
        }
        let column = node.parent().and_then(ast::AlterColumn::cast);
        let Some(column) = column.and_then(|c| Some(c.column_name_ref()?.text())) else {
            return false;
        };
        tables.into_iter().any(|table| {
            self.trusted.contains(&table) || self.proven.contains(&(table, column.clone()))
        })
    }

    /// Takes note of the constraints that `whole` adds, validates and drops.
    pub fn note_constraints(&mut self, whole: &SyntaxNode) {
        let Some(alter) = ast::AlterTable::cast(whole.clone()) else {
            return;
        };
        let Some(table) = references(whole, whole, &self.names, On::Named)
            .into_iter()
            .next()
        else {
            return;
        };
        for action in alter.actions() {
            match action {
                ast::AlterTableAction::AddConstraint(add) => self.note_check(&table, &add),
                ast::AlterTableAction::ValidateConstraint(validate) => {
                    let name = validate
                        .constraint_name_ref()
                        .map(|name| parts(name.syntax()));
                    let key = (
                        table.clone(),
                        name.and_then(|mut n| n.pop()).unwrap_or_default(),
                    );
                    match self.checks.get(&key) {
                        Some(columns) => {
                            let proven = columns.iter().map(|c| (table.clone(), c.clone()));
                            self.proven.extend(proven);
                        }
                        None => {
                            self.trusted.insert(table.clone());
                        }
                    }
                }
                ast::AlterTableAction::AlterColumn(alter) => {
                    let column = alter.column_name_ref().map(|column| column.text());
                    let key = (table.clone(), column.unwrap_or_default());
                    if has(alter.syntax(), SyntaxKind::SET_NOT_NULL) {
                        self.declared.insert(key.clone());
                        self.proven.insert(key);
                    } else if has(alter.syntax(), SyntaxKind::DROP_NOT_NULL) {
                        self.declared.remove(&key);
                        self.proven.remove(&key);
                    }
                }
                // What a name was proven for is another column's from now on, or nothing's.
                ast::AlterTableAction::RenameColumn(_) | ast::AlterTableAction::DropColumn(_) => {
                    self.declared.retain(|(of, _)| *of != table);
                    self.proven.retain(|(of, _)| *of != table);
                }
                ast::AlterTableAction::DropConstraint(_) => {
                    self.proven
                        .retain(|key| key.0 != table || self.declared.contains(key));
                    self.trusted.remove(&table);
                }
                _ => {}
            }
        }
    }

    fn note_check(&mut self, table: &Name, add: &ast::AddConstraint) {
        let Some(ast::Constraint::CheckConstraint(check)) = add.constraint() else {
            return;
        };
        let mut columns = Vec::new();
        if let Some(expr) = check.expr() {
            not_null_columns(&expr, &mut columns);
        }
        let name = check
            .constraint_name_clause()
            .and_then(|clause| clause.constraint_name())
            .map(|name| name.text())
            .unwrap_or_default();
        if !has(add.syntax(), SyntaxKind::NOT_VALID) {
            let proven = columns.iter().map(|c| (table.clone(), c.clone()));
            self.proven.extend(proven);
        }
        self.checks.insert((table.clone(), name), columns);
    }
}

/// The columns that are not null where `expr` is true.
fn not_null_columns(expr: &ast::Expr, columns: &mut Vec<String>) {
    match expr {
        ast::Expr::ParenExpr(inner) => {
            if let Some(inner) = inner.expr() {
                not_null_columns(&inner, columns);
            }
        }
        ast::Expr::BinExpr(both) => match (both.lhs(), both.op(), both.rhs()) {
            (Some(left), Some(ast::BinOp::And(_)), Some(right)) => {
                not_null_columns(&left, columns);
                not_null_columns(&right, columns);
            }
            (
                Some(ast::Expr::NameRef(column)),
                Some(ast::BinOp::IsNot(_)),
                Some(ast::Expr::Literal(literal)),
            ) if matches!(literal.kind(), Some(ast::LitKind::Null(_))) => {
                columns.push(column.text());
            }
            _ => {}
        },
        _ => {}
    }
}

/// Whether `kind` is a node or a token within `node`.
pub fn has(node: &SyntaxNode, kind: SyntaxKind) -> bool {
    let mut within = node.descendants_with_tokens().skip(1);
    within.any(|element| element.kind() == kind)
}

/// Whether it says CONCURRENTLY, and not `(CONCURRENTLY false)`.
pub fn is_concurrent(node: &SyntaxNode) -> bool {
    match ast::Reindex::cast(node.clone()) {
        Some(reindex) => reindex.is_concurrently(),
        None => has(node, SyntaxKind::CONCURRENTLY_KW),
    }
}

/// The name of the type of a column that is neither an array nor a type with syntax of its own.
fn column_type(column: &SyntaxNode) -> Option<Vec<String>> {
    let ty = column
        .children()
        .find(|child| child.kind() == SyntaxKind::PATH_TYPE)?;
    Some(parts(&ty))
}
