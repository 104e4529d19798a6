//! Settings of the log.

use std::env::{self, VarError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{Directive, LevelFilter};

use super::ConfigError;

/// The environment variable that says which lines are written.
const VARIABLE: &str = "EVENKEEL_LOG";

/// What is written to standard error. Which lines, says the environment variable `EVENKEEL_LOG`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// How a line is written.
    pub format: LogFormat,
}

/// How a line of the log is written.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people, coloured on a terminal.
    #[default]
    Text,
    /// One JSON object per line, also at the start and the end.
    Json,
}

/// Which lines are written: what `EVENKEEL_LOG` says, or `default` where it is unset or empty.
///
/// # Errors
/// [`ConfigError::Invalid`] names the part that is wrong.
pub fn log_filter(default: &str) -> Result<EnvFilter, ConfigError> {
    match env::var(VARIABLE) {
        Ok(text) if !text.trim().is_empty() => filter(&text),
        Ok(_) | Err(VarError::NotPresent) => Ok(EnvFilter::new(default)),
        Err(VarError::NotUnicode(_)) => Err(ConfigError::Invalid(format!(
            "the environment variable {VARIABLE} is no text"
        ))),
    }
}

fn filter(text: &str) -> Result<EnvFilter, ConfigError> {
    let parts: Vec<_> = text.split(',').map(str::trim).collect();
    for part in &parts {
        let is_level = part.parse::<LevelFilter>().is_ok();
        let module = part.split(['=', '[']).next().unwrap_or_default();
        let is_module = module
            .chars()
            .all(|c| c.is_alphanumeric() || "_-:".contains(c));
        // A word alone would be taken for a module, all of which is then written and nothing else.
        let is_directive = part.contains(['=', '['])
            && !part.ends_with('=')
            && is_module
            && part.parse::<Directive>().is_ok();
        if !part.is_empty() && !is_level && !is_directive {
            return Err(ConfigError::Invalid(format!(
                "`{part}` in the environment variable {VARIABLE} is not understood: it takes a level (off, \
                 error, warn, info, debug or trace), or several parts with commas between them, each a \
                 level or MODULE=LEVEL, such as info,sqlx=warn"
            )));
        }
    }
    EnvFilter::try_new(parts.join(","))
        .map_err(|err| ConfigError::Invalid(format!("the environment variable {VARIABLE}: {err}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_a_level_nor_one_of_a_module_is_refused_by_name() {
        for right in [
            "info",
            "WARN",
            "off",
            "info,sqlx=warn",
            " info , sqlx=warn ",
            "evenkeel::db=debug,",
            "[request]=debug",
        ] {
            let read = filter(right);
            assert!(read.is_ok(), "{right}: {read:?}");
        }
        for (wrong, part) in [
            ("inof", "`inof`"),
            ("info,sqlx=wran", "`sqlx=wran`"),
            ("info,sqlx", "`sqlx`"),
            ("info;sqlx=warn", "`info;sqlx=warn`"),
            ("sqlx=", "`sqlx=`"),
        ] {
            let said = filter(wrong).expect_err(wrong).to_string();
            assert!(
                said.contains(part) && said.contains("EVENKEEL_LOG"),
                "{said}"
            );
        }
    }
}
