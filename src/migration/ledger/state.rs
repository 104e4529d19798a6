//! The life of a run: its states, and which of them follows which.

use serde::Serialize;
use utoipa::ToSchema;

/// Where a run is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum State {
    /// Waits for a process to take it.
    Queued,
    /// A process holds its lease, or has died holding it.
    Running,
    /// An operator stopped it; its cursor is kept.
    Paused,
    /// Every row is done; the final sweep found nothing pending.
    Completed,
    /// It cannot go on by itself; `error` says why.
    Failed,
    /// An operator gave it up; what was changed stays changed.
    Cancelled,
}

use State::{Cancelled, Completed, Failed, Paused, Queued, Running};

/// Who changes a run's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The process that has its lease, or takes it.
    Holder,
    /// A person.
    Operator,
}

use By::{Holder, Operator};

/// Every legal change of state, with its reason. Nothing else happens to a run.
pub const TRANSITIONS: [(State, State, By, &str); 11] = [
    (Queued, Running, Holder, "a process took the lease"),
    (Queued, Paused, Operator, "paused before it began"),
    (Queued, Cancelled, Operator, "given up before it began"),
    (
        Running,
        Queued,
        Holder,
        "its process shut down in order and gave the lease back",
    ),
    (Running, Paused, Operator, "paused"),
    (
        Running,
        Completed,
        Holder,
        "the sweep found nothing pending",
    ),
    (Running, Failed, Holder, "it cannot go on by itself"),
    (Running, Cancelled, Operator, "given up"),
    (Paused, Queued, Operator, "resumed"),
    (Paused, Cancelled, Operator, "given up"),
    (Failed, Queued, Operator, "resumed after a fix"),
];

impl State {
    /// The states from which `by` can bring a run here.
    pub fn origins(self, by: By) -> Vec<State> {
        let legal = TRANSITIONS
            .iter()
            .filter(|(_, to, who, _)| *to == self && *who == by);
        legal.map(|(from, ..)| *from).collect()
    }

    /// The name in lower case, as the ledger stores it.
    pub fn name(self) -> &'static str {
        match self {
            Queued => "queued",
            Running => "running",
            Paused => "paused",
            Completed => "completed",
            Failed => "failed",
            Cancelled => "cancelled",
        }
    }
}
