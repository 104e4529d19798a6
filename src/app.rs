//! What a running shop is made of.

use std::sync::Arc;
use std::time::Instant;

use sqlx::postgres::PgConnectOptions;

use crate::config::Settings;
use crate::db::Pool;
use crate::db::gate::{Admission, Gate};
use crate::pressure::Latencies;
use crate::shutdown::Shutdown;

/// Everything that handlers and tasks share. Cheap to clone.
#[derive(Clone)]
pub struct App {
    /// The settings of this process.
    pub settings: Arc<Settings>,
    /// The one pool that shoppers and migrations share.
    pub pool: Pool,
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
        let pool = Pool::new(
            options.application_name("evenkeel"),
            settings.pool.size,
            settings.database.connect_timeout,
            gate,
            settings.pool.limits(),
        );
        Self {
            settings: Arc::new(settings),
            pool,
            latencies: Latencies::new(Instant::now()),
            shutdown: Shutdown::new(),
        }
    }
}
