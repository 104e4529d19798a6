//! Every setting, its default and what it means. The only reader of the environment.
//!
//! Settings come from the defaults below, then a TOML file (`--config FILE` or
//! `EVENKEEL_CONFIG`), then the environment: `EVENKEEL_POOL__SIZE=32` sets `pool.size`.
//! `DATABASE_URL` and `PG_BIN_DIR` are read under their usual names. `evenkeel config` prints the
//! result in the file's format.

mod accounts;
mod database;
pub mod directories;
mod engine;
mod hidden;
mod http;
mod log;
mod network;
pub mod notify;
pub mod print;
mod read;
mod retention;
mod source;
mod takes;
mod watch;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use pool::Class;
use pool::settings::PoolSettings;
use pressure::settings::{Budgets, PaceSettings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use accounts::Accounts;
pub use database::Database;
pub use engine::Engine;
pub use hidden::without_password;
pub use http::Http;
pub use log::{Log, LogFormat, log_filter};
pub use network::Network;
pub use notify::Notify;
pub use retention::Retention;
pub use source::CommandLine;
pub use watch::{Alerts, Breaker, BreakerRule, Job, Policy, Watch};

use settings::bounds::{at_most, time};

/// Fewest characters of the operations token.
const SHORTEST_TOKEN: usize = 16;

/// All settings of a process.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
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
    pub pace: PaceSettings,
    /// How much of the database the engine may use up.
    pub budgets: Budgets,
    /// Who overloads the database, and what may be done about it.
    pub watch: Watch,
    /// How long rows are kept that would otherwise only become more.
    pub retention: Retention,
    /// What is written to standard error.
    pub log: Log,
}

/// Operations endpoints.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ops {
    /// Address at which `/ops` and `/metrics` are served; port 0 takes a free one. Not for shoppers.
    #[schemars(extend("format" = takes::SOCKET))]
    pub listen: SocketAddr,
    /// Bearer token for `/ops`, of at least 16 characters; without one a random token is made at start and
    /// printed once.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "hidden::hidden"
    )]
    #[schemars(extend("writeOnly" = true))]
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
    Read(String),
    /// A setting is out of its bounds, or settings contradict each other.
    #[error("settings: {0}")]
    Invalid(String),
}

impl Settings {
    /// Reads defaults, `file` (or `EVENKEEL_CONFIG`) and the environment.
    ///
    /// # Errors
    /// [`ConfigError`] names the key and where it came from.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        Self::load_with(file, &CommandLine::default())
    }

    /// As [`Settings::load`], with what the command line says.
    ///
    /// # Errors
    /// [`ConfigError`] names the key and where it came from.
    pub fn load_with(file: Option<&Path>, command_line: &CommandLine) -> Result<Self, ConfigError> {
        let file = file
            .map(Path::to_path_buf)
            .or_else(|| std::env::var_os("EVENKEEL_CONFIG").map(PathBuf::from));
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(file) = file {
            if file.as_os_str().is_empty() {
                return Err(ConfigError::Invalid(
                    "the environment variable EVENKEEL_CONFIG or --config is empty: name a file, or leave it \
                     out"
                        .to_owned(),
                ));
            }
            if !file.is_file() {
                let file = file.display();
                return Err(ConfigError::Invalid(format!("there is no file {file}")));
            }
            figment = figment.merge(Toml::file_exact(file));
        }
        read::refuse_variables().map_err(ConfigError::Read)?;
        let links = source::links();
        let mut ignored: Vec<_> = links.iter().map(String::as_str).collect();
        // Not settings: where they are, and what is logged.
        ignored.extend(["config", "log"]);
        let environment = Env::prefixed(source::PREFIX).ignore(&ignored).split("__");
        figment = figment.merge(environment);
        for (variable, setting) in source::USUAL {
            // A deployment that did not fill it in means no other database, nor an embedded one.
            if std::env::var_os(variable).is_some_and(|value| value.is_empty()) {
                return Err(ConfigError::Invalid(format!(
                    "the environment variable {variable} is empty: give it the value of {setting}, or unset it"
                )));
            }
            let usual = Env::raw().only(&[variable]);
            figment = figment.merge(usual.map(move |_| setting.into()));
        }
        let mut settings: Self = figment
            .extract()
            .map_err(|err| ConfigError::Read(read::sentence(err)))?;
        let valid = command_line
            .apply(&mut settings)
            .and_then(|()| settings.validate());
        valid.map_err(|sentence| {
            ConfigError::Invalid(source::with_places(&sentence, &figment, command_line))
        })?;
        Ok(settings)
    }

    /// Checks what types cannot express.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub fn validate(&self) -> Result<(), String> {
        self.http.validate()?;
        self.pool.validate()?;
        self.database.validate()?;
        for class in Class::SHOPPERS {
            at_most(
                (
                    &format!("twice pool.{class}.acquire"),
                    self.pool.class(class).acquire * 2,
                ),
                ("http.request_timeout", self.http.request_timeout),
                time,
                "requests would time out while they queue",
            )?;
        }
        self.accounts.validate()?;
        self.ops.validate()?;
        let (shop, ops) = (self.http.listen, self.ops.listen);
        if shop.port() != 0 && shop.port() == ops.port() && overlap(shop.ip(), ops.ip()) {
            return Err(format!(
                "http.listen is {shop} and ops.listen is {ops}, but they must not have one port: \
                 operators have a port of their own"
            ));
        }
        self.migration.validate()?;
        self.pace.validate()?;
        self.budgets.validate()?;
        self.retention.validate()?;
        self.watch.validate()
    }
}

/// Whether somebody who listens at one address also hears the other.
fn overlap(one: IpAddr, other: IpAddr) -> bool {
    one == other || one.is_unspecified() || other.is_unspecified()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
