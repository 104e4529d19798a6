//! Every setting, its default and what it means. The only reader of the environment.
//!
//! Settings come from the defaults below, then a TOML file (`--config FILE` or
//! `EVENKEEL_CONFIG`), then the environment: `EVENKEEL_POOL__SIZE=32` sets `pool.size`.
//! `DATABASE_URL` and `PG_BIN_DIR` are read under their usual names. `evenkeel config` prints the
//! result in the file's format.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Serialize};

use crate::db::gate::{Admission, Class, Share};
use crate::db::pool::Limits;

/// All settings of a process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where the HTTP service listens and what it accepts.
    pub http: Http,
    /// Which PostgreSQL is used.
    pub database: Database,
    /// The shared connection pool.
    pub pool: PoolSettings,
    /// Accounts and sessions.
    pub accounts: Accounts,
    /// Operations endpoints.
    pub ops: Ops,
    /// The background-migration engine.
    pub migration: Engine,
    /// How the engine's speed follows the shoppers.
    pub pace: Pace,
}

/// The HTTP service.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// A request that takes longer is answered with 503.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// Largest request body, in bytes.
    pub body_limit: usize,
    /// How long a shutdown waits for requests under way.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            request_timeout: Duration::from_secs(5),
            body_limit: 64 * 1024,
            drain: Duration::from_secs(10),
        }
    }
}

/// Which PostgreSQL is used.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// A `postgres://` URL; without one an embedded server is started. Also read from `DATABASE_URL`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Where the embedded server keeps its data; without one the user's data directory is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// Where PostgreSQL's programs are, for the embedded server. Also read from `PG_BIN_DIR`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bin_dir: Option<PathBuf>,
    /// How long opening a connection may take.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// Fill an empty database with a sample shop at start.
    pub sample_shop: bool,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: None,
            data_dir: None,
            bin_dir: None,
            connect_timeout: Duration::from_secs(1),
            sample_shop: true,
        }
    }
}

/// One class's part of the pool and its time limits.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassSettings {
    /// Connections that no other class can occupy.
    pub min: usize,
    /// Connections that this class can hold at once.
    pub max: usize,
    /// How long a request waits for a connection. Far below `http.request_timeout`: a queue of
    /// requests that will time out anyway keeps an outage alive after its cause has gone.
    #[serde(with = "humantime_serde")]
    pub acquire: Duration,
    /// How long it may hold one before its statement is cancelled; absent for no limit.
    #[serde(
        with = "humantime_serde",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub hold: Option<Duration>,
}

/// The shared connection pool.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PoolSettings {
    /// Connections.
    pub size: usize,
    /// The bulkhead. Off: one pool without classes and without hold limits, first come first
    /// served, as in a shop that has never thought about it. The demo's first act runs so.
    pub safeguards: bool,
    /// Placing orders.
    pub checkout: ClassSettings,
    /// Log-in, sessions, order history.
    pub account: ClassSettings,
    /// Products.
    pub browse: ClassSettings,
    /// Migrations and operations.
    pub background: ClassSettings,
}

impl Default for PoolSettings {
    fn default() -> Self {
        let shopper = |min, max| ClassSettings {
            min,
            max,
            acquire: Duration::from_millis(300),
            hold: Some(Duration::from_secs(2)),
        };
        Self {
            size: 16,
            safeguards: true,
            checkout: shopper(3, 6),
            account: shopper(3, 6),
            browse: shopper(4, 12),
            background: ClassSettings {
                min: 0,
                max: 2,
                acquire: Duration::from_secs(1),
                hold: None,
            },
        }
    }
}

impl PoolSettings {
    /// The settings of one class.
    pub fn class(&self, class: Class) -> &ClassSettings {
        match class {
            Class::Checkout => &self.checkout,
            Class::Account => &self.account,
            Class::Browse => &self.browse,
            Class::Background => &self.background,
        }
    }

    /// The rule of admission that these settings describe.
    ///
    /// # Errors
    /// A sentence when the shares cannot work.
    pub fn admission(&self) -> Result<Admission, String> {
        let shares = Class::ALL.map(|class| {
            let class = self.class(class);
            if self.safeguards {
                Share {
                    min: class.min,
                    max: class.max,
                }
            } else {
                Share {
                    min: 0,
                    max: self.size,
                }
            }
        });
        Admission::new(self.size, shares)
    }

    /// The time limits of every class, in the order of [`Class::ALL`].
    pub fn limits(&self) -> [Limits; 4] {
        Class::ALL.map(|class| {
            let class = self.class(class);
            Limits {
                acquire: class.acquire,
                hold: class.hold.filter(|_| self.safeguards),
            }
        })
    }
}

/// Accounts and sessions.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Accounts {
    /// How long a session lives.
    #[serde(with = "humantime_serde")]
    pub session_lifetime: Duration,
    /// Passwords hashed or checked at once; each takes about 20 MB and 30 ms of a core.
    pub hashing_concurrency: usize,
}

impl Default for Accounts {
    fn default() -> Self {
        Self {
            session_lifetime: Duration::from_secs(14 * 24 * 3600),
            hashing_concurrency: 1,
        }
    }
}

/// Operations endpoints.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ops {
    /// Bearer token for `/ops`; without one a random token is made at start and printed once.
    #[serde(skip_serializing)]
    pub admin_token: Option<String>,
}

impl std::fmt::Debug for Ops {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.admin_token.as_ref().map(|_| "(hidden)");
        f.debug_struct("Ops").field("admin_token", &token).finish()
    }
}

/// The background-migration engine.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Engine {
    /// Run queued migrations in this process.
    pub enabled: bool,
    /// How long a lease lasts without renewal; another process takes over after that.
    #[serde(with = "humantime_serde")]
    pub lease: Duration,
    /// How often an idle engine looks for a queued migration.
    #[serde(with = "humantime_serde")]
    pub poll: Duration,
    /// How long a batch should take; its size follows.
    #[serde(with = "humantime_serde")]
    pub batch_target: Duration,
    /// Rows of the first batch.
    pub batch_first: u32,
    /// Rows of a batch at least.
    pub batch_min: u32,
    /// Rows of a batch at most.
    pub batch_max: u32,
    /// `statement_timeout` of every batch.
    #[serde(with = "humantime_serde")]
    pub statement_timeout: Duration,
    /// `lock_timeout` of every batch.
    #[serde(with = "humantime_serde")]
    pub lock_timeout: Duration,
    /// Tries of one key range, each with half the rows, before it is reported and skipped.
    pub tries: u32,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            enabled: true,
            lease: Duration::from_secs(5),
            poll: Duration::from_millis(500),
            batch_target: Duration::from_millis(25),
            batch_first: 100,
            batch_min: 1,
            batch_max: 10_000,
            statement_timeout: Duration::from_secs(2),
            lock_timeout: Duration::from_millis(200),
            tries: 5,
        }
    }
}

/// How the engine's speed follows the shoppers. See `migration::pace` for the law.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pace {
    /// Follow the signals. Off: full speed whatever shoppers feel, for tests of the bulkhead.
    pub adaptive: bool,
    /// Least share of time that the engine works while it is not paused.
    pub duty_min: f64,
    /// Greatest share of time that the engine works.
    pub duty_max: f64,
    /// How often signals are sampled.
    #[serde(with = "humantime_serde")]
    pub sample: Duration,
    /// A signal older than this is Unknown, and Unknown only slows down.
    #[serde(with = "humantime_serde")]
    pub stale_after: Duration,
    /// A class may be slower than its baseline by this factor before the engine yields.
    pub slow_factor: f64,
    /// A class that is slower than its baseline by this factor cuts the duty to a third.
    pub cut_factor: f64,
    /// A p95 or in-flight age below this is never called slow, whatever the baseline.
    #[serde(with = "humantime_serde")]
    pub slow_floor: Duration,
    /// A p95 or in-flight age above this is critical: the batch in flight is cancelled.
    #[serde(with = "humantime_serde")]
    pub critical: Duration,
    /// How long the duty stays where a cut has put it.
    #[serde(with = "humantime_serde")]
    pub hold: Duration,
    /// What the duty gains per second, as a factor, while shoppers are within target.
    pub raise_per_second: f64,
    /// How often the engine pauses to measure the baseline anew.
    #[serde(with = "humantime_serde")]
    pub baseline_every: Duration,
    /// How long such a pause lasts.
    #[serde(with = "humantime_serde")]
    pub baseline_pause: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            adaptive: true,
            duty_min: 0.01,
            duty_max: 1.0,
            sample: Duration::from_millis(100),
            stale_after: Duration::from_secs(1),
            slow_factor: 1.25,
            cut_factor: 2.0,
            slow_floor: Duration::from_millis(5),
            critical: Duration::from_millis(250),
            hold: Duration::from_secs(1),
            raise_per_second: 1.5,
            baseline_every: Duration::from_secs(10),
            baseline_pause: Duration::from_millis(500),
        }
    }
}

/// A setting that cannot be used, with a sentence that says which and why.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or variable could not be read as settings.
    #[error("settings: {0}")]
    Read(#[from] Box<figment::Error>),
    /// The settings contradict each other.
    #[error("settings: {0}")]
    Invalid(String),
}

impl Settings {
    /// Reads defaults, `file` (or `EVENKEEL_CONFIG`) and the environment.
    ///
    /// # Errors
    /// [`ConfigError`] names the key and where it came from.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let file = file
            .map(Path::to_path_buf)
            .or_else(|| std::env::var_os("EVENKEEL_CONFIG").map(PathBuf::from));
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(file) = file {
            if !file.is_file() {
                let file = file.display();
                return Err(ConfigError::Invalid(format!("there is no file {file}")));
            }
            figment = figment.merge(Toml::file_exact(file));
        }
        let figment = figment
            .merge(
                Env::prefixed("EVENKEEL_")
                    .ignore(&["config", "log"])
                    .split("__"),
            )
            .merge(
                Env::raw()
                    .only(&["DATABASE_URL"])
                    .map(|_| "database.url".into()),
            )
            .merge(
                Env::raw()
                    .only(&["PG_BIN_DIR"])
                    .map(|_| "database.bin_dir".into()),
            );
        let settings: Self = figment.extract().map_err(Box::new)?;
        settings.validate().map_err(ConfigError::Invalid)?;
        Ok(settings)
    }

    /// Checks what types cannot express.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub fn validate(&self) -> Result<(), String> {
        self.pool
            .admission()
            .map_err(|why| format!("pool: {why}"))?;
        for class in Class::SHOPPERS {
            if self.pool.class(class).acquire * 2 > self.http.request_timeout {
                return Err(format!(
                    "pool.{class}.acquire must be at most half of http.request_timeout, or requests \
                     time out while they queue"
                ));
            }
        }
        self.migration.validate()?;
        self.pace.validate()
    }
}

impl Engine {
    fn validate(&self) -> Result<(), String> {
        if self.batch_min == 0
            || self.batch_min > self.batch_first
            || self.batch_first > self.batch_max
        {
            return Err(
                "migration: 1 <= batch_min <= batch_first <= batch_max must hold".to_owned(),
            );
        }
        if self.statement_timeout.is_zero() || self.lock_timeout.is_zero() {
            return Err(
                "migration: statement_timeout and lock_timeout must be above zero, because \
                        PostgreSQL takes zero as no limit"
                    .to_owned(),
            );
        }
        if self.lease < self.statement_timeout * 2 {
            return Err(
                "migration.lease must be at least twice migration.statement_timeout, or a \
                        slow batch outlives its lease"
                    .to_owned(),
            );
        }
        if self.batch_target.is_zero() || self.tries == 0 {
            return Err("migration: batch_target and tries must be above zero".to_owned());
        }
        Ok(())
    }
}

impl Pace {
    fn validate(&self) -> Result<(), String> {
        let duty = 0.0 < self.duty_min && self.duty_min <= self.duty_max && self.duty_max <= 1.0;
        if !duty {
            return Err("pace: 0 < duty_min <= duty_max <= 1 must hold".to_owned());
        }
        if !(1.0 < self.slow_factor && self.slow_factor <= self.cut_factor) {
            return Err("pace: 1 < slow_factor <= cut_factor must hold".to_owned());
        }
        // Written so that NaN fails too.
        if !(self.raise_per_second > 1.0 && self.raise_per_second.is_finite()) {
            return Err("pace.raise_per_second must be above 1".to_owned());
        }
        if self.sample.is_zero() || self.stale_after < self.sample * 2 {
            return Err("pace.stale_after must be at least twice pace.sample".to_owned());
        }
        Ok(())
    }
}
