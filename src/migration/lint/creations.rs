//! What a statement creates, renames, moves and drops, for the statements after it.

use squawk_syntax::ast::{self, AstNode, NameLike};
use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::effects::references;
use super::facts::{Facts, has};
use super::names::{Names, Rows, Thing, parts};
use super::session;
use super::table::On;
use super::targets::reads_live;

/// Takes note of `statement`, once it has been judged.
pub fn note(statement: &ast::Stmt, facts: &mut Facts) {
    facts.note_constraints(statement.syntax());
    let names = &mut facts.names;
    let whole = statement.syntax();
    match statement {
        ast::Stmt::AlterTable(_)
        | ast::Stmt::AlterForeignTable(_)
        | ast::Stmt::AlterView(_)
        | ast::Stmt::AlterMaterializedView(_)
        | ast::Stmt::AlterIndex(_)
        | ast::Stmt::AlterSequence(_)
        | ast::Stmt::AlterType(_)
        | ast::Stmt::AlterDomain(_) => note_alter(whole, names),
        ast::Stmt::CreateTrigger(_) | ast::Stmt::CreateRule(_) => {
            for name in references(whole, whole, names, On::Named) {
                names.act_on(&name, events(whole));
            }
        }
        // What they are on is still there.
        ast::Stmt::DropTrigger(_) | ast::Stmt::DropRule(_) | ast::Stmt::DropPolicy(_) => {}
        ast::Stmt::CreateView(view) if view.or_replace().is_some() => {
            forget(names, references(whole, whole, names, On::Read));
        }
        ast::Stmt::AlterSchema(_) | ast::Stmt::DropSchema(_) => names.forget_all(),
        ast::Stmt::Rollback(ast::Rollback::RollbackTransaction(_))
        | ast::Stmt::Rollback(ast::Rollback::RollbackToSavepoint(_)) => names.forget_all(),
        _ if begins_with(whole, SyntaxKind::DROP_KW) => {
            forget(names, references(whole, whole, names, On::Named));
        }
        _ => {}
    }
    note_new(statement, names);
    if let Some((path, local)) = session::search_path(statement) {
        names.set_path(path, local);
    }
    facts.note_transaction(statement);
}

/// The words of the statements that a trigger or rule acts on.
fn events(whole: &SyntaxNode) -> Vec<SyntaxKind> {
    use SyntaxKind as K;
    let is_event = |node: &SyntaxNode| {
        matches!(
            node.kind(),
            K::RULE_EVENT
                | K::TRIGGER_EVENT_INSERT
                | K::TRIGGER_EVENT_UPDATE
                | K::TRIGGER_EVENT_DELETE
                | K::TRIGGER_EVENT_TRUNCATE
        )
    };
    let events = whole.descendants().filter(is_event);
    events
        .filter_map(|event| Some(event.first_token()?.kind()))
        .collect()
}

fn begins_with(whole: &SyntaxNode, word: SyntaxKind) -> bool {
    let mut tokens = whole
        .descendants_with_tokens()
        .filter_map(|element| element.into_token());
    let first = tokens.find(|token| !token.kind().is_trivia());
    first.is_some_and(|token| token.kind() == word)
}

fn forget(names: &mut Names, gone: Vec<super::names::Name>) {
    for name in gone {
        names.forget(&name);
    }
}

fn note_alter(whole: &SyntaxNode, names: &mut Names) {
    let subjects = references(whole, whole, names, On::Named);
    let Some(subject) = subjects.into_iter().next() else {
        return;
    };
    let is_new = names.is_new(&subject);
    for node in whole.descendants() {
        match node.kind() {
            SyntaxKind::TABLE_RENAME_TO
            | SyntaxKind::VIEW_RENAME_TO
            | SyntaxKind::INDEX_RENAME_TO
            | SyntaxKind::SEQUENCE_RENAME_TO
            | SyntaxKind::TYPE_RENAME_TO
            | SyntaxKind::DOMAIN_RENAME_TO => {
                if let Some(own) = parts(&node).pop() {
                    names.rename(&subject, own);
                }
            }
            SyntaxKind::SET_SCHEMA => {
                let schema = node.children().last();
                let schema = schema.and_then(ast::SchemaRef::cast);
                match schema {
                    Some(schema) => names.move_to(&subject, &schema.text()),
                    None => drop(names.forget(&subject)),
                }
            }
            // A condition of a domain decides what adding a column of it does.
            SyntaxKind::ADD_CONSTRAINT | SyntaxKind::SET_NOT_NULL
                if whole.kind() == SyntaxKind::ALTER_DOMAIN && is_new =>
            {
                names.create(subject.clone(), Thing::Type { checked: true });
            }
            SyntaxKind::PATH_TYPE if !is_new => {
                let ty = names.resolve(&parts(&node));
                if let Some(thing) = names.forget(&ty) {
                    names.use_type(ty, thing);
                }
            }
            _ => {}
        }
    }
    for on in [On::Referenced, On::Parent, On::Part] {
        let others = references(whole, whole, names, on);
        // From now on whoever uses the one comes to the other.
        if !is_new {
            forget(names, others);
        } else if on == On::Parent && others.iter().any(|other| !names.is_new(other)) {
            names.forget(&subject);
        }
    }
}

/// Takes note of what `statement` creates. With IF NOT EXISTS it may have been there, full of rows.
fn note_new(statement: &ast::Stmt, names: &mut Names) {
    let whole = statement.syntax();
    if let ast::Stmt::CreateSchema(_) = statement {
        return note_schema(whole, names);
    }
    let Some(thing) = thing(statement, names) else {
        return;
    };
    let kinds = [
        SyntaxKind::TABLE_NAME,
        SyntaxKind::VIEW,
        SyntaxKind::INDEX,
        SyntaxKind::SEQUENCE,
        SyntaxKind::DOMAIN,
        SyntaxKind::TYPE_NAME,
    ];
    let Some(node) = whole
        .descendants()
        .find(|node| kinds.contains(&node.kind()))
    else {
        return;
    };
    let condition = SyntaxKind::IF_NOT_EXISTS;
    let certain = !has(whole, condition) && !has(whole, SyntaxKind::OR_REPLACE);
    let name = match &thing {
        // An index lies where its table does.
        Thing::Index(Some(table), _) => table.beside(&parts(&node)),
        _ => names.place(&parts(&node), has(whole, SyntaxKind::TEMP)),
    };
    let parents = references(whole, whole, names, On::Parent);
    let joins_live = parents.iter().any(|parent| !names.is_new(parent));
    if certain && !joins_live {
        if session::drops_on_commit(whole) {
            names.drop_on_commit(name.clone());
        }
        names.create(name, thing);
    } else {
        names.forget(&name);
    }
}

fn thing(statement: &ast::Stmt, names: &Names) -> Option<Thing> {
    let whole = statement.syntax();
    Some(match statement {
        ast::Stmt::CreateTable(_)
        | ast::Stmt::CreateTableAs(_)
        | ast::Stmt::SelectInto(_)
        | ast::Stmt::CreateForeignTable(_)
        | ast::Stmt::CreateSequence(_)
        | ast::Stmt::CreateMaterializedView(_) => Thing::Relation(Rows::default()),
        ast::Stmt::CreateView(_) => Thing::Relation(Rows {
            of_live: reads_live(whole, names),
            acted_on: Vec::new(),
        }),
        ast::Stmt::CreateIndex(index) => {
            let table = references(whole, whole, names, On::Named);
            Thing::Index(table.into_iter().next(), columns(index))
        }
        ast::Stmt::CreateDomain(_) => Thing::Type {
            checked: has(whole, SyntaxKind::CHECK_CONSTRAINT)
                || has(whole, SyntaxKind::NOT_NULL_CONSTRAINT),
        },
        ast::Stmt::CreateType(_) => Thing::Type { checked: false },
        _ => return None,
    })
}

/// The columns that an index is on.
fn columns(index: &ast::CreateIndex) -> Option<Vec<String>> {
    let items = index.partition_item_list()?.partition_items();
    let column = |item: ast::PartitionItem| match item.expr() {
        Some(ast::Expr::NameRef(column)) => Some(column.text()),
        _ => None,
    };
    items.map(column).collect()
}

/// What CREATE SCHEMA creates in it. The schema may now be the first of the search path.
fn note_schema(whole: &SyntaxNode, names: &mut Names) {
    names.note_schema();
    let schema = whole
        .descendants()
        .find_map(ast::Schema::cast)
        .map(|schema| schema.text());
    for table in whole.children().filter_map(ast::CreateTable::cast) {
        let Some(name) = table.table_name() else {
            continue;
        };
        let mut path = parts(name.syntax());
        if path.len() == 1
            && let Some(schema) = &schema
        {
            path.insert(0, schema.clone());
        }
        names.create(names.place(&path, false), Thing::Relation(Rows::default()));
    }
}
