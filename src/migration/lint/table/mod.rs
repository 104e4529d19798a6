//! What every statement of PostgreSQL 15 to 17 does to relations.
//!
//! [`STATEMENTS`] and [`ALTERATIONS`] are the whole knowledge of the lint about locks, scans and
//! rewrites. Of the rows of one syntax node the first whose conditions hold is the one that counts, so
//! the special ones stand above the plain one. What is in no row is unknown, and that is a finding.

mod alterations;
mod lock;
mod statements;

use squawk_syntax::SyntaxKind;

pub use self::alterations::ALTERATIONS;
pub use self::lock::Lock;
pub use self::statements::STATEMENTS;

/// One statement, or one subcommand of ALTER.
#[derive(Debug)]
pub struct Row {
    /// The statement as `\h` of psql names it.
    pub name: &'static str,
    /// The page of PostgreSQL's documentation that says so: `…/docs/current/PAGE.html`.
    pub page: &'static str,
    /// Its syntax node.
    pub statement: SyntaxKind,
    /// The syntax node of the subcommand; that of the statement when it has none.
    pub node: SyntaxKind,
    /// What must hold for this row.
    pub given: &'static [Given],
    /// What it does to which relations.
    pub touches: &'static [Touch],
    /// The rule that refuses it, where that does not follow from what it does.
    pub rule: &'static str,
}

/// What a statement does to one relation, or to several of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    /// Which.
    pub on: On,
    /// The lock, which is kept until the transaction ends.
    pub lock: Lock,
    /// What it does under that lock.
    pub work: Work,
}

/// The relations that a lock is taken on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// What the statement is about.
    Named,
    /// What the statement is about, with all that inherit from it and all its partitions.
    Family,
    /// What the statement creates or replaces.
    Created,
    /// A materialized view that is read all the while: nobody writes to it.
    View,
    /// The table of the index, sequence or statistics object that the statement is about.
    Table,
    /// The table that a foreign key refers to.
    Referenced,
    /// The tables that a foreign key ties to the named one, and those it is a partition of or beside.
    Related,
    /// The sequences that belong to the table.
    Sequences,
    /// A composite type itself, which nobody who reads or writes rows waits for.
    Type,
    /// The table that the named one becomes, is or was a part of.
    Parent,
    /// The table that becomes or ceases to be a part of the named one.
    Part,
    /// The partition for all other rows.
    DefaultPartition,
    /// Every table that has a column of the type, or is of the type.
    Users,
    /// What is read.
    Read,
    /// Whatever depends on it or belongs to it.
    Dependents,
    /// Every table of a schema, a database, a tablespace or a role.
    Everything,
}

/// What is done under a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// A moment, however many rows there are.
    Nothing,
    /// Rows are looked up, by an index or not.
    Looks,
    /// Every row is read unless the table is partitioned, or unless its key is NOT NULL already, which the
    /// file does not say.
    MayScan,
    /// Every row is read.
    Scans,
    /// Every row is copied unless the old and the new type are stored alike, which the file does not say.
    MayRewrite,
    /// Every row is copied, or the file of the table is replaced.
    Rewrites,
}

impl Work {
    /// Whether it takes the longer, the more rows there are.
    pub fn is_long(self) -> bool {
        self >= Self::MayScan
    }
}

/// A condition of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// There is such a clause or word.
    Has(SyntaxKind),
    /// CONCURRENTLY.
    Concurrently,
    /// VACUUM FULL.
    Full,
    /// A default that may differ from row to row.
    VolatileDefault,
    /// A type that numbers the rows.
    Serial,
    /// A domain with conditions, created in the same file.
    CheckedDomain,
    /// A type that is neither PostgreSQL's nor of the same file, so it may be a domain with conditions.
    UnknownType,
    /// No default.
    NoDefault,
    /// The same file says that the column has no NULL, or every column of the index that it creates and makes a
    /// key: by SET NOT NULL or by a validated CHECK.
    ProvenNotNull,
    /// The options change how the table is read.
    ReadingOption,
}

const fn touch(on: On, lock: Lock, work: Work) -> Touch {
    Touch { on, lock, work }
}

const fn takes(on: On, lock: Lock) -> Touch {
    touch(on, lock, Work::Nothing)
}

const fn looks(on: On, lock: Lock) -> Touch {
    touch(on, lock, Work::Looks)
}

const fn scans(on: On, lock: Lock) -> Touch {
    touch(on, lock, Work::Scans)
}

const fn rewrites(on: On, lock: Lock) -> Touch {
    touch(on, lock, Work::Rewrites)
}

/// `"NAME" "page" STATEMENT { NODE [conditions] (touches) "rule"; … }`; nothing between the braces for
/// what only changes rows of the catalogue, which no reader or writer of a table waits for.
macro_rules! rows {
    ($($name:literal $page:literal $statement:ident {$($node:ident $([$($given:expr),+])?
        ($($touch:expr),*) $($rule:literal)?;)*})*) => {
        &[$(rows!(@group $name $page $statement
            {$($node [$($($given),+)?] ($($touch),*) [$($rule)?];)*})),*]
    };
    (@group $name:literal $page:literal $statement:ident {}) => {
        rows!(@group $name $page $statement {$statement [] () [];})
    };
    (@group $name:literal $page:literal $statement:ident
        {$($node:ident [$($given:expr),*] ($($touch:expr),*) [$($rule:literal)?];)+}) => {
        &[$(Row {
            name: $name,
            page: $page,
            statement: SyntaxKind::$statement,
            node: SyntaxKind::$node,
            given: &[$($given),*],
            touches: &[$($touch),*],
            rule: concat!($($rule)?),
        }),+] as &[Row]
    };
}
use rows;

/// Every row of both.
pub fn all() -> impl Iterator<Item = &'static Row> {
    let groups = STATEMENTS.iter().chain(ALTERATIONS);
    groups.flat_map(|rows| rows.iter())
}
