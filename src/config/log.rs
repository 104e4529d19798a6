//! Settings of the log.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
