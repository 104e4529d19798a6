//! The second proof: the table is read by physical position under one snapshot, and the rows that are
//! pending are counted.
//!
//! It shares nothing with the walk by key but the declared predicates: no index, no order of keys, no
//! cursor. Every leaf table is read in portions of blocks within one read-only transaction, whose
//! snapshot stays the same, so that no update can move a row from a block not yet read to one that
//! was. Each portion runs under a savepoint that is rolled back, which gives its locks back: whoever
//! wants to alter the table waits for one portion and not for the whole read.
//!
//! What cannot be known is [`Unknown`](Answer::Unknown) with its reason, and never "none pending": over
//! the time limit, a table that was rewritten or attached meanwhile, a partition on another server.

mod beside;
mod leaves;
mod polite;
mod portion;
mod read;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::definition::Definition;
use super::keyset::Keyset;

pub use beside::read_beside;
pub use polite::{Paced, Polite, Share};
pub use read::read;

/// How a session that reads calls what it is at; see [`session_name`](super::batch::session_name).
pub const SESSION: &str = "second proof";
/// Why nothing is known while a read is under way.
const UNDER_WAY: &str = "it is under way";
/// Pending rows that are named at most.
const NAMED: usize = 5;

/// What a physical read of a table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The whole table was read, and no row of it is pending.
    NonePending,
    /// Rows are pending, whether or not all of the table was read.
    Pending,
    /// Not all of the table could be read, and nothing pending was met.
    Unknown,
}

/// What was found by reading a table by physical position.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Physical {
    /// Whether rows are pending.
    pub answer: Answer,
    /// Why not all of the table was read.
    pub reason: Option<String>,
    /// Rows read.
    pub rows: i64,
    /// Rows for which the predicate is true.
    pub pending: i64,
    /// The keys of some of these, as people read them: `id 4`.
    pub named: Vec<String>,
    /// The tables that were read: the declared one, or its partitions.
    pub tables: Vec<String>,
    /// The moment for which it speaks.
    pub snapshot_at: Option<DateTime<Utc>>,
    /// How long it took, in seconds.
    pub took_s: f64,
}

impl Default for Physical {
    /// That of a certificate without one.
    fn default() -> Self {
        Self::unknown("the certificate was made by a version that made no second proof")
    }
}

impl Physical {
    /// Nothing is known, because of `reason`.
    pub fn unknown(reason: impl Into<String>) -> Self {
        Self {
            answer: Answer::Unknown,
            reason: Some(reason.into()),
            rows: 0,
            pending: 0,
            named: Vec::new(),
            tables: Vec::new(),
            snapshot_at: None,
            took_s: 0.0,
        }
    }

    /// What is said of a read that has begun.
    pub fn under_way() -> Self {
        Self::unknown(UNDER_WAY)
    }

    /// Whether that is what this says.
    pub fn is_under_way(&self) -> bool {
        self.reason.as_deref() == Some(UNDER_WAY)
    }

    /// Some pending rows by their keys, for people; empty when none is known.
    pub fn examples(&self) -> String {
        self.named.join(", ")
    }
}

/// What is to be read.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// Whose rows: the table, the predicates and the name by which they know the table.
    pub definition: &'a Definition,
    /// The columns by which pending rows are named, as SQL.
    pub key: Vec<String>,
    /// How the session calls itself; holds no quote.
    pub session: String,
}

impl<'a> Question<'a> {
    /// Asks for the rows of `definition`. Of `keyset` only the names of the columns are used.
    pub fn new(definition: &'a Definition, keyset: &Keyset, session: String) -> Self {
        let prefix = format!("{}.", definition.qualifier());
        let columns = keyset.columns().into_iter();
        let key = columns.map(|column| match column.strip_prefix(&prefix) {
            Some(name) => name.to_owned(),
            None => column,
        });
        Self {
            definition,
            key: key.collect(),
            session,
        }
    }
}
