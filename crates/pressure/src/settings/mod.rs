//! Settings of the pace, and the budgets of the database's own signals.

mod budgets;
mod pace;

pub use budgets::{Budget, Budgets};
pub use pace::PaceSettings;
