//! What the primary feels: WAL, replicas, vacuum, locks. Plain numbers; who asks PostgreSQL for them
//! is `migration::sampler`, and what they mean is in [`judge`](Judge::judge).

mod doubt;
mod graded;
mod judge;

use std::time::Instant;

use serde::{Deserialize, Serialize};

pub use judge::Judge;

/// One look at the database.
#[derive(Clone, Debug)]
pub struct Reading {
    /// When it was asked, by this process's clock.
    pub at: Instant,
    /// What it said.
    pub sample: Sample,
}

/// What the database said of itself. Counters grow since the start of the server; what is `None`
/// could not be measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The database's clock in seconds since 1970. It shows that the reading is a new one.
    pub clock_s: f64,
    /// The role that asked.
    pub role: String,
    /// Whether that role may see other roles' sessions (`pg_monitor`).
    pub sees_all: bool,
    /// Position in the write-ahead log, in bytes.
    pub wal_bytes: Option<i64>,
    /// Checkpoints that were requested before their time, mostly because much WAL was written.
    pub checkpoints_requested: Option<i64>,
    /// Servers that follow this one.
    pub replicas: Vec<Replica>,
    /// The tables that are being migrated.
    pub tables: Vec<Table>,
    /// What keeps vacuum from removing dead rows; `None` when nothing does.
    pub oldest: Option<Oldest>,
    /// Sessions of other roles, which only `pg_monitor` may look into.
    pub foreign_sessions: i64,
    /// Sessions that wait for locks that a batch holds or has asked for.
    pub lock_waiters: Option<i64>,
    /// How long the first of them has waited, in seconds.
    pub longest_wait_s: Option<f64>,
}

/// A server that follows this one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replica {
    /// Its slot's name, or its `application_name` and address.
    pub name: String,
    /// `streaming` when it follows; `None` when the role may not see it.
    pub state: Option<String>,
    /// WAL that it has not replayed, in bytes.
    pub behind_bytes: Option<i64>,
    /// How old the WAL is that it replays, in seconds; `None` when it has replayed all.
    pub lag_s: Option<f64>,
    /// When it last reported, by its own clock, in seconds since 1970.
    pub reply_s: Option<f64>,
}

/// The state of a table that is being migrated, partitions included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// As the migration names it.
    pub name: String,
    /// Rows that no longer count but take room; `None` without statistics.
    pub dead: Option<i64>,
    /// Rows that count.
    pub live: Option<i64>,
    /// Times it was vacuumed.
    pub vacuums: Option<i64>,
}

/// What keeps the oldest row versions alive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Oldest {
    /// Who it is, for people.
    pub holder: String,
    /// The oldest transaction that it may still look at.
    pub xmin: String,
    /// For how long, in seconds; `None` for what PostgreSQL keeps no time of, e.g. slots.
    pub age_s: Option<f64>,
}
