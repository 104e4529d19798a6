//! What the statements of a script do to which relations, by the table of `super::table`.

use squawk_syntax::ast::{self, AstNode};
use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::facts::{Facts, has};
use super::names::{Name, Names, Thing, parts};
use super::table::{self, On, Row, Touch};

/// What a statement, or a subcommand of ALTER, does.
#[derive(Debug)]
pub struct Effect {
    /// The row of the table that says so; none when nothing is known.
    pub row: Option<&'static Row>,
    /// Its syntax.
    pub node: SyntaxNode,
    /// Every relation that it touches.
    pub touched: Vec<Touched>,
    /// Whether it has CASCADE.
    pub cascades: bool,
}

/// A relation that is touched, or several that the text does not name.
#[derive(Debug)]
pub struct Touched {
    /// How.
    pub touch: Touch,
    /// Its name, or what is known of it, with quotes as needed in a sentence.
    pub shown: String,
    /// The name alone, when the text has it.
    pub name: Option<Name>,
    /// Whether somebody may be using it.
    pub live: bool,
}

impl Touched {
    /// Whether it is what the statement is about, and not what hangs on that.
    fn is_main(&self) -> bool {
        !matches!(
            self.touch.on,
            On::Related | On::Sequences | On::DefaultPartition
        )
    }

    /// Whether readers or writers wait for its lock.
    pub fn is_strong(&self) -> bool {
        self.touch.lock.is_strong() && !matches!(self.touch.on, On::Type | On::View)
    }
}

impl Effect {
    /// The heaviest thing that it does to what somebody may be using.
    pub fn worst(&self) -> Option<&Touched> {
        let live = self.touched.iter().filter(|touched| touched.live);
        live.max_by_key(|t| {
            let waits = t.touch.work.is_long() && t.is_strong();
            (waits, t.touch.lock, t.is_main(), t.touch.work)
        })
    }

    /// The strongest lock that it takes on what somebody may be using, if any writer waits for it.
    pub fn strong_lock(&self) -> Option<&Touched> {
        let live = self.touched.iter().filter(|touched| touched.live);
        let strong = live.filter(|touched| touched.is_strong());
        strong.max_by_key(|touched| (touched.touch.lock, touched.is_main()))
    }
}

/// What `statement` does, given what is known of the script so far.
pub fn of(statement: &ast::Stmt, facts: &Facts) -> Vec<Effect> {
    let whole = statement.syntax();
    nodes(whole)
        .into_iter()
        .map(|node| {
            let row = find(whole.kind(), &node, whole, facts);
            let touches = row.map_or(&[] as &[Touch], |row| row.touches);
            let touched = touches
                .iter()
                .flat_map(|touch| relations(*touch, whole, &node, &facts.names))
                .collect();
            let has_cascade = |node: &SyntaxNode| {
                node.children()
                    .any(|child| child.kind() == SyntaxKind::CASCADE)
            };
            let cascades = has_cascade(&node) || has_cascade(whole);
            Effect {
                row,
                node,
                touched,
                cascades,
            }
        })
        .collect()
}

/// The subcommands of an ALTER that has rows for them, else the statement itself.
fn nodes(whole: &SyntaxNode) -> Vec<SyntaxNode> {
    let kind = rows_of(whole.kind());
    let divided = table::all().any(|row| row.statement == kind && row.node != kind);
    if !divided {
        return vec![whole.clone()];
    }
    let is_subject = |node: &SyntaxNode| {
        let kind = node.kind();
        kind == SyntaxKind::IF_EXISTS
            || kind == SyntaxKind::TABLE_RELATION_NAME
            || SUBJECTS.contains(&kind)
            || ast::DropBehavior::can_cast(kind)
    };
    let actions = whole.children().filter(|node| !is_subject(node));
    actions.flat_map(|node| innermost(&node)).collect()
}

/// What ALTER is about.
const SUBJECTS: [SyntaxKind; 8] = [
    SyntaxKind::STATISTICS_REF,
    SyntaxKind::TABLE_NAME_REF,
    SyntaxKind::INDEX_REF,
    SyntaxKind::VIEW_REF,
    SyntaxKind::SEQUENCE_REF,
    SyntaxKind::TYPE_NAME_REF,
    SyntaxKind::DOMAIN_REF,
    SyntaxKind::EXTENSION_REF,
];

/// ALTER COLUMN and lists of attributes say nothing themselves.
fn innermost(node: &SyntaxNode) -> Vec<SyntaxNode> {
    match node.kind() {
        SyntaxKind::ALTER_COLUMN | SyntaxKind::ALTER_VIEW_COLUMN => {
            let last = node.children().last();
            vec![last.unwrap_or_else(|| node.clone())]
        }
        SyntaxKind::ALTER_TYPE_ATTRIBUTE_ACTION_LIST => node.children().collect(),
        _ => vec![node.clone()],
    }
}

/// A foreign table is altered as a table.
fn rows_of(statement: SyntaxKind) -> SyntaxKind {
    match statement {
        SyntaxKind::ALTER_FOREIGN_TABLE => SyntaxKind::ALTER_TABLE,
        other => other,
    }
}

fn find(
    statement: SyntaxKind,
    node: &SyntaxNode,
    whole: &SyntaxNode,
    facts: &Facts,
) -> Option<&'static Row> {
    let statement = rows_of(statement);
    table::all().find(|row| {
        row.statement == statement
            && row.node == node.kind()
            && row
                .given
                .iter()
                .all(|given| facts.holds(*given, node, whole))
    })
}

fn relations(touch: Touch, whole: &SyntaxNode, node: &SyntaxNode, names: &Names) -> Vec<Touched> {
    let to = |name: Name| Touched {
        touch,
        shown: format!("`{name}`"),
        live: !names.is_new(&name),
        name: Some(name),
    };
    match touch.on {
        On::Family if is_about_all(whole) => vec![unnamed(touch, "every table".to_owned(), true)],
        On::Named | On::Family | On::Type | On::View => {
            let named = references(whole, node, names, On::Named);
            named.into_iter().map(to).collect()
        }
        On::Referenced | On::Parent | On::Part | On::Read => {
            let named = references(whole, node, names, touch.on);
            named.into_iter().map(to).collect()
        }
        On::Created => created(whole, names).into_iter().map(to).collect(),
        On::Table => tables_behind(touch, whole, node, names),
        _ => vec![behind(touch, whole, node, names)],
    }
}

fn unnamed(touch: Touch, shown: String, live: bool) -> Touched {
    Touched {
        touch,
        shown,
        name: None,
        live,
    }
}

/// What the statement reaches without naming it.
fn behind(touch: Touch, whole: &SyntaxNode, node: &SyntaxNode, names: &Names) -> Touched {
    let mut subjects = references(whole, node, names, On::Named);
    if touch.on == On::DefaultPartition && subjects.is_empty() {
        subjects = references(whole, node, names, On::Parent);
    }
    let live = subjects.is_empty() || subjects.iter().any(|name| !names.is_new(name));
    let it = match subjects.first() {
        Some(name) => format!("`{name}`"),
        None => "it".to_owned(),
    };
    match touch.on {
        On::Related => {
            let shown = format!("what foreign keys or partitioning tie to {it}");
            unnamed(touch, shown, live)
        }
        On::Sequences => unnamed(touch, format!("the sequences of {it}"), live),
        On::DefaultPartition => unnamed(touch, format!("the default partition of {it}"), live),
        On::Users => unnamed(touch, format!("every table that uses {it}"), live),
        On::Dependents => unnamed(touch, format!("whatever depends on {it}"), true),
        _ => unnamed(touch, "tables that it does not name".to_owned(), true),
    }
}

/// VACUUM and ANALYZE without a name are about all tables.
fn is_about_all(whole: &SyntaxNode) -> bool {
    let may = ast::Vacuum::can_cast(whole.kind()) || ast::Analyze::can_cast(whole.kind());
    may && !has(whole, SyntaxKind::TABLE_NAME_REF)
}

fn tables_behind(
    touch: Touch,
    whole: &SyntaxNode,
    node: &SyntaxNode,
    names: &Names,
) -> Vec<Touched> {
    let to = |table: &Name| Touched {
        touch,
        shown: format!("`{table}`"),
        live: !names.is_new(table),
        name: Some(table.clone()),
    };
    let owner = references(whole, node, names, On::Table);
    if let Some(owner) = owner.first() {
        return vec![to(owner)];
    }
    references(whole, node, names, On::Named)
        .into_iter()
        .map(|index| match names.thing(&index) {
            Some(Thing::Index(Some(table), _)) => to(table),
            _ => unnamed(touch, format!("the table of `{index}`"), true),
        })
        .collect()
}

/// The names that `whole` creates.
fn created(whole: &SyntaxNode, names: &Names) -> Option<Name> {
    let node = whole
        .children()
        .find(|node| matches!(node.kind(), SyntaxKind::VIEW | SyntaxKind::TABLE_NAME))?;
    Some(names.resolve(&parts(&node)))
}

/// The relations that `whole` names as `on`; of several subcommands those of `node`.
pub fn references(whole: &SyntaxNode, node: &SyntaxNode, names: &Names, on: On) -> Vec<Name> {
    let about = |reference: &SyntaxNode| role(reference, whole) == Some(on);
    let within = |reference: &SyntaxNode| {
        on == On::Named || node.text_range().contains_range(reference.text_range())
    };
    let all = whole.descendants().filter(|node| is_reference(node.kind()));
    let mut found = Vec::new();
    for reference in all.filter(about).filter(within) {
        let path = match reference.kind() {
            SyntaxKind::QUALIFIED_COLUMN_NAME_REF => before_column(&reference),
            _ => parts(&reference),
        };
        let name = names.resolve(&path);
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

/// The table of `table.column`.
fn before_column(node: &SyntaxNode) -> Vec<String> {
    let mut path = parts(node);
    path.pop();
    path
}

fn is_reference(kind: SyntaxKind) -> bool {
    SUBJECTS.contains(&kind) && kind != SyntaxKind::EXTENSION_REF
        || kind == SyntaxKind::RELATION_NAME_REF
        || kind == SyntaxKind::QUALIFIED_COLUMN_NAME_REF
}

/// As what the statement names it: decided by the innermost clause around it.
fn role(reference: &SyntaxNode, whole: &SyntaxNode) -> Option<On> {
    use SyntaxKind as K;
    for node in reference.ancestors().skip(1) {
        match node.kind() {
            _ if node == *whole => break,
            K::REFERENCES_CONSTRAINT | K::FOREIGN_KEY_CONSTRAINT => return Some(On::Referenced),
            K::FROM_TABLE if whole.kind() == K::CREATE_TRIGGER => return Some(On::Referenced),
            K::PARTITION_OF | K::INHERITS | K::INHERIT_TABLE | K::NO_INHERIT_TABLE => {
                return Some(On::Parent);
            }
            K::ATTACH_PARTITION | K::DETACH_PARTITION | K::ATTACH_INDEX_PARTITION => {
                return Some(On::Part);
            }
            K::FROM_CLAUSE
            | K::USING_CLAUSE
            | K::USING_ON_CLAUSE
            | K::LIKE_CLAUSE
            | K::WITH_CLAUSE
            | K::COPY_QUERY
            | K::TABLE
            | K::RULE_DO
            | K::SELECT
            | K::COMPOUND_SELECT
            | K::PAREN_SELECT
            | K::SELECT_INTO
            | K::VALUES
            | K::WHERE_CLAUSE => {
                return Some(On::Read);
            }
            K::OPTION_OWNED_BY => return Some(On::Table),
            K::CLUSTER_ON
            | K::USING_INDEX_NAME
            | K::CLUSTER_USING_INDEX
            | K::CLUSTER_LEGACY
            | K::REPLICA_IDENTITY
                if reference.kind() == K::INDEX_REF =>
            {
                return None;
            }
            _ => {}
        }
    }
    Some(On::Named)
}
