//! Accounts and sessions as settings.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use settings::bounds::{lasts, within};

/// Accounts and sessions.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Accounts {
    /// How long a session lives.
    #[serde(with = "settings::HumanTime")]
    pub session_lifetime: Duration,
    /// Passwords hashed or checked at once; each takes about 20 MB and 30 ms of a core.
    pub hashing_concurrency: usize,
    /// Have browsers send cookies over TLS only. Turn it on behind a TLS proxy.
    pub secure_cookies: bool,
    /// Failed log-ins, and registrations, that one network may make before it has to wait. An IPv4 address is
    /// a network, and so are the first 64 bits of an IPv6 address. Behind one address there may be many
    /// shoppers, of whom a few mistype.
    pub attempts_at_once: u32,
    /// How many of them it gets back in a minute.
    pub attempts_per_minute: u32,
}

impl Default for Accounts {
    fn default() -> Self {
        Self {
            session_lifetime: Duration::from_secs(14 * 24 * 3600),
            hashing_concurrency: 1,
            secure_cookies: false,
            attempts_at_once: 100,
            attempts_per_minute: 5,
        }
    }
}

impl Accounts {
    /// Checks what types cannot express.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub fn validate(&self) -> Result<(), String> {
        let second = Duration::from_secs(1);
        lasts("accounts.session_lifetime", self.session_lifetime, second)?;
        within(
            "accounts.hashing_concurrency",
            self.hashing_concurrency,
            1..=1_024,
        )?;
        for (name, attempts) in [
            ("attempts_at_once", self.attempts_at_once),
            ("attempts_per_minute", self.attempts_per_minute),
        ] {
            if !(1..=1_000_000).contains(&attempts) {
                return Err(format!(
                    "accounts.{name} is {attempts}, but it must be between 1 and 1000000: with 0 nobody could \
                     log in"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_under_which_nobody_could_log_in_are_refused() {
        let refusal = |change: fn(&mut Accounts)| {
            let mut accounts = Accounts::default();
            change(&mut accounts);
            accounts.validate().expect_err("nobody could log in")
        };
        assert!(refusal(|a| a.hashing_concurrency = 0).contains("hashing_concurrency"));
        assert!(refusal(|a| a.attempts_at_once = 0).contains("attempts_at_once"));
        assert!(refusal(|a| a.attempts_per_minute = 0).contains("attempts_per_minute"));
    }
}
