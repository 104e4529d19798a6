//! Which relation a name means, and whether the same script has created it.
//!
//! A name without a schema means the first relation of that name in the search path, and a temporary
//! one before all others. The path is the script's own where it sets one; else nobody knows it, and
//! `orders` and `public.orders` are not taken to be the same table.

use std::collections::HashMap;
use std::fmt;

use squawk_syntax::ast::{self, AstNode};
use squawk_syntax::{SyntaxKind, SyntaxNode};

/// PostgreSQL cuts longer names off.
const LONGEST: usize = 63;

/// A relation, type or schema-qualified name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    schema: Schema,
    /// The name without its schema.
    pub own: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Schema {
    Named(String),
    Temporary,
    /// The schema that comes first, under the search path that held at that time.
    First(usize),
    /// None that is certain.
    Unsure,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Schema::Named(schema) => write!(f, "{schema}.{}", self.own),
            Schema::Temporary => write!(f, "pg_temp.{}", self.own),
            Schema::First(_) | Schema::Unsure => f.write_str(&self.own),
        }
    }
}

/// What a script has created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thing {
    /// A table, a sequence or a view.
    Relation(Rows),
    /// An index of that table, on those columns in their order; none where it is on an expression.
    Index(Option<Name>, Option<Vec<String>>),
    /// A type, or a domain that has conditions or not.
    Type {
        /// Whether a column of it is checked when it is added.
        checked: bool,
    },
}

/// Whose the rows of a relation are that the script has created.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// It is a view of live tables: theirs.
    pub of_live: bool,
    /// The words (INSERT, …) of the statements that a trigger or rule of the script acts on.
    pub acted_on: Vec<SyntaxKind>,
}

/// The names of a script as far as it has been read.
#[derive(Debug, Default)]
pub struct Names {
    /// The search path, when the script has set it.
    path: Option<Vec<String>>,
    /// Whether it holds until the transaction ends only.
    local: bool,
    /// How often the search path has changed.
    changes: usize,
    created: HashMap<Name, Thing>,
    /// What is dropped when the transaction ends.
    fleeting: Vec<Name>,
    /// Types of the script that a live table uses.
    used: HashMap<Name, Thing>,
}

impl Name {
    /// Whether it is a table of PostgreSQL's own, which is small.
    pub fn is_catalogue(&self) -> bool {
        match &self.schema {
            Schema::Named(schema) => schema == "pg_catalog" || schema == "information_schema",
            Schema::First(_) | Schema::Unsure => self.own.starts_with("pg_"),
            Schema::Temporary => false,
        }
    }

    /// The name `parts` of something that lies in the same schema, unless it says another.
    pub fn beside(&self, parts: &[String]) -> Self {
        named(self.schema.clone(), parts.last().map_or("", String::as_str))
    }
}

impl Names {
    /// What the name `parts`, qualified or not, means.
    pub fn resolve(&self, parts: &[String]) -> Name {
        let Some((own, before)) = parts.split_last() else {
            return named(Schema::Unsure, "");
        };
        let within = |schema: Schema| named(schema, own);
        if let Some(schema) = before.last() {
            return within(schema_named(schema));
        }
        if self.is_new(&within(Schema::Temporary)) {
            return within(Schema::Temporary);
        }
        let Some(path) = &self.path else {
            return within(Schema::First(self.changes));
        };
        let places = path.iter().map(|schema| within(schema_named(schema)));
        match places.enumerate().find(|(_, name)| self.is_new(name)) {
            // Another schema that comes before may have one of that name, too.
            Some((place, _)) if place > 0 => within(Schema::Unsure),
            Some((_, name)) => name,
            None => within(Schema::Unsure),
        }
    }

    /// The name that CREATE gives to what it calls `parts`.
    pub fn place(&self, parts: &[String], temporary: bool) -> Name {
        let own = parts.last().map_or("", String::as_str);
        let schema = match (parts, &self.path) {
            _ if temporary => Schema::Temporary,
            ([.., schema, _], _) => schema_named(schema),
            (_, Some(path)) => path.first().map_or(Schema::Unsure, |s| schema_named(s)),
            (_, None) => Schema::First(self.changes),
        };
        named(schema, own)
    }

    /// What the script has created under this name.
    pub fn thing(&self, name: &Name) -> Option<&Thing> {
        self.created.get(name)
    }

    /// Whether the script has created it, for certain.
    pub fn is_new(&self, name: &Name) -> bool {
        name.schema != Schema::Unsure && self.created.contains_key(name)
    }

    /// Whether it is a relation that the script has created, with rows of its own.
    pub fn has_own_rows(&self, name: &Name) -> bool {
        let rows = self.rows(name);
        self.is_new(name) && !rows.is_some_and(|rows| rows.of_live)
    }

    /// Whether a trigger or rule of the script acts on what one of `words` does to it.
    pub fn is_acted_on(&self, name: &Name, words: &[SyntaxKind]) -> bool {
        let rows = self.rows(name);
        rows.is_some_and(|rows| rows.acted_on.iter().any(|word| words.contains(word)))
    }

    fn rows(&self, name: &Name) -> Option<&Rows> {
        match self.created.get(name) {
            Some(Thing::Relation(rows)) => Some(rows),
            _ => None,
        }
    }

    /// A trigger or rule acts from now on on what one of `words` does to it.
    pub fn act_on(&mut self, name: &Name, words: Vec<SyntaxKind>) {
        if let Some(Thing::Relation(rows)) = self.created.get_mut(name) {
            rows.acted_on.extend(words);
        }
    }

    /// Whether it is a temporary one, which only its session sees.
    pub fn is_temporary(name: &Name) -> bool {
        name.schema == Schema::Temporary
    }

    /// The script has created `thing`.
    pub fn create(&mut self, name: Name, thing: Thing) {
        if name.schema != Schema::Unsure {
            self.created.insert(name, thing);
        }
    }

    /// It is gone, or others use it from now on.
    pub fn forget(&mut self, name: &Name) -> Option<Thing> {
        self.created.remove(name)
    }

    /// It is called `own` from now on.
    pub fn rename(&mut self, name: &Name, own: String) {
        if let Some(thing) = self.forget(name) {
            self.create(named(name.schema.clone(), &own), thing);
        }
    }

    /// It is in `schema` from now on.
    pub fn move_to(&mut self, name: &Name, schema: &str) {
        if let Some(thing) = self.forget(name) {
            self.create(named(schema_named(schema), &name.own), thing);
        }
    }

    /// A live table has a column of the type `name` from now on: what is done to the type is done there.
    pub fn use_type(&mut self, name: Name, thing: Thing) {
        self.used.insert(name, thing);
    }

    /// The type of this name, whoever uses it.
    pub fn type_of(&self, name: &Name) -> Option<&Thing> {
        self.created.get(name).or_else(|| self.used.get(name))
    }

    /// A schema was created, which may come before others in a search path that nobody knows.
    pub fn note_schema(&mut self) {
        self.changes += 1;
    }

    /// Nothing is certain any more, not even the search path: the transaction was rolled back, or schemas
    /// were renamed.
    pub fn forget_all(&mut self) {
        self.created.clear();
        self.used.clear();
        self.set_path(None, false);
    }

    /// The search path is `path` from now on; nobody knows when it is `None`, or depends on the user.
    pub fn set_path(&mut self, path: Option<Vec<String>>, local: bool) {
        self.path = path.filter(|schemas| schemas.iter().all(|schema| schema != "$user"));
        self.local = local;
        self.changes += 1;
    }

    /// The transaction has ended, and the session, too, or not.
    pub fn end_transaction(&mut self, session: bool) {
        if self.local {
            self.set_path(None, false);
        }
        for name in std::mem::take(&mut self.fleeting) {
            self.forget(&name);
        }
        if session {
            self.created.retain(|name, _| !Self::is_temporary(name));
        }
    }

    /// It is gone when the transaction ends.
    pub fn drop_on_commit(&mut self, name: Name) {
        self.fleeting.push(name);
    }
}

fn named(schema: Schema, own: &str) -> Name {
    Name {
        schema,
        own: own.to_owned(),
    }
}

fn schema_named(schema: &str) -> Schema {
    match schema {
        "pg_temp" => Schema::Temporary,
        other => Schema::Named(other.to_owned()),
    }
}

/// The parts of the first qualified name within `node`, folded and without quotes.
pub fn parts(node: &SyntaxNode) -> Vec<String> {
    let segment = |node: SyntaxNode| {
        let text = ast::PathSegmentRef::cast(node.clone())
            .map(|segment| segment.text())
            .or_else(|| Some(ast::PathSegment::cast(node)?.text()))?;
        Some(cut(&text).to_owned())
    };
    let path = node
        .descendants()
        .find(|node| ast::PathRef::can_cast(node.kind()) || ast::Path::can_cast(node.kind()));
    path.map(|path| path.descendants().filter_map(segment).collect())
        .unwrap_or_default()
}

fn cut(name: &str) -> &str {
    let end = (0..=LONGEST.min(name.len())).rev();
    let end = end.into_iter().find(|end| name.is_char_boundary(*end));
    end.and_then(|end| name.get(..end)).unwrap_or(name)
}
