//! Both proofs of a migration's rows, asked for at any time: the walk by key and the read by physical
//! position.

use serde::Serialize;
use utoipa::ToSchema;

use super::physical::{Answer, Physical};
use super::sweep::Verification;
use super::undo::Direction;

/// What was found.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Verified {
    /// Whether the rows were to have the change or to be without it.
    pub direction: Direction,
    /// The condition that is true of a row that is not done.
    pub condition: String,
    /// What the walk by key found.
    #[serde(flatten)]
    pub by_key: Verification,
    /// What the read by physical position found.
    pub physical: Physical,
}

impl Verified {
    /// Whether either proof has found rows that are not done.
    pub fn is_pending(&self) -> bool {
        !self.by_key.is_complete() || self.physical.answer == Answer::Pending
    }

    /// What was found, in a sentence without its subject: `2001 rows, none pending`.
    pub fn sentence(&self) -> String {
        let words = |n: i64| match (self.direction, n) {
            (Direction::Up, 0) => "none pending".to_owned(),
            (Direction::Up, n) => format!("{n} pending"),
            (Direction::Down, 0) => "none of them still has it".to_owned(),
            (Direction::Down, n) => format!("{n} of them still have it"),
        };
        let (rows, by_key) = (self.by_key.rows, words(self.by_key.pending));
        match self.physical.answer {
            Answer::NonePending if self.by_key.is_complete() => format!("{rows} rows, {by_key}"),
            Answer::NonePending => {
                format!("{rows} rows, {by_key} by key; none by physical position")
            }
            Answer::Pending => format!(
                "{rows} rows, {by_key} by key; by physical position {} rows, {}",
                self.physical.rows,
                words(self.physical.pending)
            ),
            Answer::Unknown => format!(
                "{rows} rows, {by_key} by key; second proof unknown: {}",
                self.physical.reason.as_deref().unwrap_or("no reason given")
            ),
        }
    }
}
