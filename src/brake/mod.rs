//! A brake on guessing passwords: how much each network may try, and what became of it, in the memory of
//! this process. What may be tried for one account is in PostgreSQL (`store::log_ins`).

mod attempts;
mod origin;
mod tally;

pub use attempts::Attempts;
pub use origin::Origin;
pub use tally::{Outcome, Tally};

use crate::config::Accounts;

/// The brake of one process. Cheap to clone.
#[derive(Clone)]
pub struct Brake {
    /// What each network has tried.
    pub attempts: Attempts,
    /// What each network has tried beyond that with cookies of devices, which anybody can make up.
    pub of_devices: Attempts,
    /// What became of the log-ins.
    pub log_ins: Tally,
}

impl Brake {
    /// A brake for networks that have tried nothing yet.
    pub fn new(settings: &Accounts) -> Self {
        Self {
            attempts: Attempts::new(settings.attempts_at_once, settings.attempts_per_minute),
            of_devices: Attempts::new(settings.attempts_at_once, settings.attempts_per_minute),
            log_ins: Tally::default(),
        }
    }
}
