//! What a running shop is made of.

use std::sync::Arc;
use std::time::Instant;

use pool::gate::{Admission, Gate};
use pool::{Addresses, Pool, Probe};
use pressure::{Latencies, Surroundings};
use sqlx::postgres::PgConnectOptions;

use crate::brake::Brake;
use crate::config::Settings;
use crate::connections::Register;
use crate::migration::governor::Sensors;
use crate::migration::runner::process_name;
use crate::migration::sampler::Sampler;
use crate::retention::Sweeper;
use crate::shutdown::Shutdown;
use crate::store::passwords::Passwords;
use crate::watch::keeper::Keeper;
use crate::watch::log::Log;
use crate::watch::metrics::Board;
use crate::watch::replicator::Replicator;
use crate::watch::ticket::Tickets;

/// How the shop's sessions call themselves in the database.
pub const APPLICATION: &str = "evenkeel";

/// Connections at once where neither the settings nor the limit of open files say less.
pub const MOST_CONNECTIONS: usize = 10_000;

/// Everything that handlers and tasks share. Cheap to clone.
#[derive(Clone)]
pub struct App {
    /// The settings of this process.
    pub settings: Arc<Settings>,
    /// How the database is reached beside the pool.
    options: PgConnectOptions,
    /// The one pool that shoppers and migrations share.
    pub pool: Pool,
    /// Whether the database can be reached, beside the pool.
    pub probe: Probe,
    /// Hashes and checks passwords, a few at once.
    pub passwords: Passwords,
    /// Holds those up who guess them.
    pub brake: Brake,
    /// What shoppers feel.
    pub latencies: Latencies,
    /// Who is connected to the shop's port.
    pub connections: Register,
    /// What the database and the other processes feel, once a [`Sampler`] runs.
    pub surroundings: Surroundings,
    /// The record of incidents, where this process keeps one.
    pub incidents: Option<Log>,
    /// What links in messages entitle to, where this process tells people.
    pub tickets: Option<Tickets>,
    /// What the watch last had to say.
    pub board: Board,
    /// Ends every task in order.
    pub shutdown: Shutdown,
}

impl App {
    /// A shop on the database that `options` name.
    pub fn new(settings: Settings, options: PgConnectOptions) -> Self {
        let admission = Admission::new(settings.pool.size, settings.pool.shares());
        let gate = Gate::new(admission);
        let options = options.application_name(APPLICATION);
        // One that is no URL has been refused with the settings.
        let direct = settings.database.direct().ok().flatten();
        let direct = direct.map(|direct| direct.application_name(APPLICATION));
        let addresses = Addresses {
            shop: options.clone(),
            direct,
        };
        let probe = Probe::new(options.clone());
        let surroundings = Surroundings::new(&process_name(), settings.budgets.clone());
        let connections = settings.http.max_connections.unwrap_or(MOST_CONNECTIONS);
        let passwords = Passwords::new(settings.accounts.hashing_concurrency);
        let brake = Brake::new(&settings.accounts);
        let pool = Pool::new(
            addresses,
            settings.pool.size,
            settings.database.connect_timeout,
            gate,
            settings.pool.limits(),
        );
        Self {
            settings: Arc::new(settings),
            options,
            pool,
            probe,
            passwords,
            brake,
            latencies: Latencies::new(Instant::now()),
            connections: Register::new(connections),
            surroundings,
            incidents: None,
            tickets: None,
            board: Board::default(),
            shutdown: Shutdown::new(),
        }
    }

    /// Measures the surroundings of this process. With `shoppers` it also tells the others what
    /// they feel here.
    pub fn sampler(&self, shoppers: bool) -> Sampler {
        Sampler::new(
            self.options.clone(),
            self.pool.clone(),
            self.surroundings.clone(),
            shoppers.then(|| self.latencies.clone()),
        )
        .taking_runs(shoppers && self.settings.migration.enabled)
    }

    /// Deletes what has been kept for long enough.
    pub fn sweeper(&self) -> Sweeper {
        let sensors = Sensors {
            latencies: Some(self.latencies.clone()),
            pool: self.pool.clone(),
            // They are measured while a migration is driven, and unknown otherwise.
            surroundings: None,
        };
        let settings = &self.settings;
        Sweeper::new(
            sensors,
            self.options.clone(),
            settings.retention.clone(),
            settings.pace.clone(),
        )
    }

    /// Keeps `log` and the record in the database alike.
    pub fn replicator(&self, log: Log) -> Replicator {
        Replicator::new(self.options.clone(), log)
    }

    /// Watches over this shop and writes to `log` what happens. `options` name the database if the
    /// watch is to connect in a way of its own.
    pub fn keeper(&self, log: Log, options: Option<PgConnectOptions>) -> Keeper<Latencies> {
        Keeper::new(
            self.settings.watch.clone(),
            options.unwrap_or_else(|| self.options.clone()),
            (APPLICATION, self.surroundings.process()),
            self.latencies.clone(),
            log,
        )
    }
}
