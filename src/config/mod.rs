//! Every setting, its default and what it means. The only reader of the environment.
//!
//! Settings come from the defaults below, then a TOML file (`--config FILE` or
//! `EVENKEEL_CONFIG`), then the environment: `EVENKEEL_POOL__SIZE=32` sets `pool.size`.
//! `DATABASE_URL` and `PG_BIN_DIR` are read under their usual names. `evenkeel config` prints the
//! result in the file's format.

mod accounts;
mod budgets;
mod engine;
mod network;
pub mod notify;
mod pool;
mod retention;
mod watch;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnectOptions;

pub use accounts::Accounts;
pub use budgets::{Budget, Budgets};
pub use engine::{Engine, Pace};
pub use network::Network;
pub use notify::Notify;
pub use pool::{ClassSettings, Limits, PoolSettings, Share};
pub use retention::Retention;
pub use watch::{Alerts, Breaker, BreakerRule, Job, Policy, Watch};

use crate::class::Class;

/// A time limit for a client that is shorter than this is a mistake.
const SHORTEST_LIMIT: Duration = Duration::from_millis(50);

/// Fewest characters of the operations token.
const SHORTEST_TOKEN: usize = 16;

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
    /// How much of the database the engine may use up.
    pub budgets: Budgets,
    /// Who overloads the database, and what may be done about it.
    pub watch: Watch,
    /// How long rows are kept that would otherwise only become more.
    pub retention: Retention,
}

/// The HTTP service.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Networks of the proxies in front, such as `10.1.0.0/16`: what they say in X-Forwarded-For is believed,
    /// so that a client's address is the nearest one that is not theirs. Nobody's, unless set.
    pub trusted_proxies: Vec<Network>,
    /// A request that has waited for the shop for longer is answered with 503. The time in which the
    /// client sends its body does not count.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// A request whose body takes longer to arrive is answered with 408.
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
    /// A client that hangs up after it has waited for so long was failed by the shop; one that does so
    /// earlier left for reasons of its own, and is counted as abandoned alone.
    #[serde(with = "humantime_serde")]
    pub patience: Duration,
    /// Most connections at once; without one, as many as the limit of open files leaves room for, at
    /// most 10,000. At the cap a connection that waits for its client makes room for a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<usize>,
    /// How long a client may take from connecting, or from the first byte of a request, to the end of
    /// the request's head.
    #[serde(with = "humantime_serde")]
    pub head_timeout: Duration,
    /// How long a connection stays open between two requests.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// How long an answer waits for a client that takes less than 16 KiB of it.
    #[serde(with = "humantime_serde")]
    pub unread_timeout: Duration,
    /// Largest request body, in bytes.
    pub body_limit: usize,
    /// How long readiness says 503 before the port closes, after SIGTERM: long enough for a load
    /// balancer to notice. Ctrl-C does not wait.
    #[serde(with = "humantime_serde")]
    pub notice: Duration,
    /// How long a shutdown waits for requests under way.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            trusted_proxies: Vec::new(),
            request_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(10),
            patience: Duration::from_millis(250),
            max_connections: None,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            unread_timeout: Duration::from_secs(30),
            body_limit: 64 * 1024,
            notice: Duration::from_secs(2),
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
    /// A `postgres://` URL that reaches PostgreSQL itself, where `url` leads through a pooler in
    /// transaction mode. What needs a session goes there: the SQL of migrations. Its connections count
    /// as the pool's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direct_url: Option<String>,
    /// Where the embedded server keeps its data; without one the user's data directory is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// Where PostgreSQL's programs are, for the embedded server. Also read from `PG_BIN_DIR`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bin_dir: Option<PathBuf>,
    /// How long opening a connection may take.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// Bring the schema up to date at start. Off where a deployment does that in a step of its own.
    pub apply_schema: bool,
    /// Fill a shop without products with a sample shop at start. Without it an embedded server's is filled
    /// and no other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_shop: Option<bool>,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: None,
            direct_url: None,
            data_dir: None,
            bin_dir: None,
            connect_timeout: Duration::from_secs(1),
            apply_schema: true,
            sample_shop: None,
        }
    }
}

impl Http {
    /// Checks what types cannot express.
    ///
    /// # Errors
    /// A sentence that names the key.
    fn validate(&self) -> Result<(), String> {
        for (name, limit) in [
            ("request_timeout", self.request_timeout),
            ("body_timeout", self.body_timeout),
            ("head_timeout", self.head_timeout),
            ("idle_timeout", self.idle_timeout),
            ("unread_timeout", self.unread_timeout),
        ] {
            if limit < SHORTEST_LIMIT {
                return Err(format!(
                    "http.{name} is {limit:?}, but no client is as quick as that: set at least \
                     {SHORTEST_LIMIT:?}"
                ));
            }
        }
        if self.patience > self.request_timeout {
            return Err(
                "http.patience must be at most http.request_timeout: nobody waits for longer"
                    .to_owned(),
            );
        }
        if self.max_connections == Some(0) {
            return Err("http.max_connections must be at least 1, or be left out".to_owned());
        }
        if self.trusted_proxies.iter().any(Network::is_everything) {
            return Err(
                "http.trusted_proxies holds every address there is, so that any client could claim to be \
                 any other: name the networks of your proxies alone"
                    .to_owned(),
            );
        }
        if self.body_limit == 0 {
            return Err("http.body_limit must be at least 1 byte".to_owned());
        }
        Ok(())
    }
}

impl Database {
    /// How PostgreSQL itself is reached, where that differs from `url`.
    ///
    /// # Errors
    /// When the URL is none; [`Settings::validate`] refuses it.
    pub fn direct(&self) -> Result<Option<PgConnectOptions>, sqlx::Error> {
        self.direct_url.as_deref().map(str::parse).transpose()
    }
}

/// Operations endpoints.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ops {
    /// Address at which `/ops` and `/metrics` are served; port 0 takes a free one. Not for shoppers.
    pub listen: SocketAddr,
    /// Bearer token for `/ops`, of at least 16 characters; without one a random token is made at start and
    /// printed once.
    #[serde(skip_serializing)]
    pub admin_token: Option<String>,
}

impl Default for Ops {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8081)),
            admin_token: None,
        }
    }
}

impl Ops {
    /// Checks what types cannot express.
    ///
    /// # Errors
    /// A sentence that names the key.
    fn validate(&self) -> Result<(), String> {
        let token = self.admin_token.as_deref();
        let length = token.map(|token| token.trim().chars().count());
        match length {
            Some(length) if length < SHORTEST_TOKEN => Err(format!(
                "ops.admin_token has {length} characters, but a token that nobody guesses has at least \
                 {SHORTEST_TOKEN}: make one with `openssl rand -hex 16`, or leave it out to get a random \
                 one at every start"
            )),
            _ => Ok(()),
        }
    }
}

impl std::fmt::Debug for Ops {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.admin_token.as_ref().map(|_| "(hidden)");
        f.debug_struct("Ops")
            .field("listen", &self.listen)
            .field("admin_token", &token)
            .finish()
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
                    // Not settings: where they are, what is logged, and a switch of our tests.
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
        self.http.validate()?;
        self.pool.validate()?;
        self.database.direct().map_err(|err| {
            format!(
                "database.direct_url cannot be used: {err}; it should look like \
                 postgres://user@host/database"
            )
        })?;
        if self.database.direct_url.is_some() && self.database.url.is_none() {
            return Err(
                "database.direct_url stands beside database.url, which is missing".to_owned(),
            );
        }
        for class in Class::SHOPPERS {
            if self.pool.class(class).acquire * 2 > self.http.request_timeout {
                return Err(format!(
                    "pool.{class}.acquire must be at most half of http.request_timeout, or requests \
                     time out while they queue"
                ));
            }
        }
        self.accounts.validate()?;
        self.ops.validate()?;
        self.migration.validate()?;
        self.pace.validate()?;
        self.budgets.validate()?;
        self.retention.validate()?;
        self.watch.notify.validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_survive_a_round_trip() {
        let settings = Settings::default();
        settings.validate().expect("defaults are valid");
        let printed = toml::to_string(&settings).expect("settings print as TOML");
        let read: Settings = toml::from_str(&printed).expect("what is printed can be read");
        assert_eq!(toml::to_string(&read).expect("prints"), printed);
    }

    #[test]
    fn a_direct_address_that_is_none_is_refused() {
        let mut settings = Settings::default();
        settings.database.url = Some("postgres://shop@pooler/shop".to_owned());
        for (url, valid) in [
            ("postgres://shop@database/shop", true),
            ("database/shop", false),
        ] {
            settings.database.direct_url = Some(url.to_owned());
            assert_eq!(settings.validate().is_ok(), valid, "{url}");
        }
        settings.database = Database {
            direct_url: Some("postgres://shop@database/shop".to_owned()),
            ..Database::default()
        };
        assert!(settings.validate().is_err());
    }

    #[test]
    fn limits_under_which_nobody_is_served_are_refused() {
        let refusal = |change: fn(&mut Http)| {
            let mut settings = Settings::default();
            change(&mut settings.http);
            settings.validate().expect_err("nobody is served")
        };
        assert!(refusal(|h| h.head_timeout = Duration::ZERO).contains("http.head_timeout"));
        assert!(refusal(|h| h.idle_timeout = Duration::ZERO).contains("http.idle_timeout"));
        assert!(refusal(|h| h.unread_timeout = Duration::ZERO).contains("http.unread_timeout"));
        assert!(refusal(|h| h.body_timeout = Duration::ZERO).contains("http.body_timeout"));
        assert!(refusal(|h| h.patience = Duration::from_secs(60)).contains("http.patience"));
        assert!(refusal(|h| h.max_connections = Some(0)).contains("http.max_connections"));
        assert!(refusal(|h| h.body_limit = 0).contains("http.body_limit"));
    }

    #[test]
    fn an_operations_token_that_can_be_guessed_is_refused_with_how_to_make_one() {
        let mut settings = Settings::default();
        for (token, valid) in [
            ("", false),
            ("secret", false),
            ("   fifteen-chars  ", false),
            ("sixteen-letters-", true),
        ] {
            settings.ops.admin_token = Some(token.to_owned());
            let validated = settings.validate();
            assert_eq!(validated.is_ok(), valid, "{token}");
            if let Err(refusal) = validated {
                assert!(refusal.contains("openssl rand -hex 16"), "{refusal}");
            }
        }
    }

    #[test]
    fn trusting_everybody_is_refused() {
        let mut settings = Settings::default();
        for (network, valid) in [
            ("10.1.0.0/16", true),
            ("::1", true),
            ("0.0.0.0/0", false),
            ("::/0", false),
        ] {
            let network = Network::try_from(network.to_owned()).expect("is a network");
            settings.http.trusted_proxies = vec![network];
            assert_eq!(settings.validate().is_ok(), valid);
        }
    }
}
