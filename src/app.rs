//! What a running shop is made of.

use std::sync::Arc;
use std::time::Instant;

use sqlx::postgres::PgConnectOptions;

use crate::config::Settings;
use crate::db::Pool;
use crate::db::Probe;
use crate::db::gate::{Admission, Gate};
use crate::pressure::Latencies;
use crate::shutdown::Shutdown;
use crate::store::passwords::Passwords;

/// Everything that handlers and tasks share. Cheap to clone.
#[derive(Clone)]
pub struct App {
    /// The settings of this process.
    pub settings: Arc<Settings>,
    /// The one pool that shoppers and migrations share.
    pub pool: Pool,
    /// Whether the database can be reached, beside the pool.
    pub probe: Probe,
    /// Hashes and checks passwords, a few at once.
    pub passwords: Passwords,
    /// What shoppers feel.
    pub latencies: Latencies,
    /// Ends every task in order.
    pub shutdown: Shutdown,
}

impl App {
    /// A shop on the database that `options` name.
    pub fn new(settings: Settings, options: PgConnectOptions) -> Self {
        let admission = Admission::new(settings.pool.size, settings.pool.shares());
        let gate = Gate::new(admission);
        let options = options.application_name("evenkeel");
        let probe = Probe::new(options.clone());
        let passwords = Passwords::new(settings.accounts.hashing_concurrency);
        let pool = Pool::new(
            options,
            settings.pool.size,
            settings.database.connect_timeout,
            gate,
            settings.pool.limits(),
        );
        Self {
            settings: Arc::new(settings),
            pool,
            probe,
            passwords,
            latencies: Latencies::new(Instant::now()),
            shutdown: Shutdown::new(),
        }
    }
}
