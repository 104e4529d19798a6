//! Settings that nobody may read.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use crate::config::ConfigError;
use crate::config::hidden::HIDDEN;

/// What nobody may read: what is printed and serialized says only that there is one.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("writeOnly" = true))]
pub struct Secret(String);

impl Secret {
    /// A secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The secret that a setting holds, or the environment variable that it names; `None` if it
    /// does neither.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] if the variable is not set, empty or no text.
    pub fn find(given: Option<&Self>, variable: Option<&str>) -> Result<Option<Self>, ConfigError> {
        let Some(variable) = variable else {
            return Ok(given.cloned());
        };
        match std::env::var(variable) {
            Ok(value) if !value.is_empty() => Ok(Some(Self(value))),
            _ => Err(ConfigError::Invalid(format!(
                "the environment variable {variable}, which watch.notify names, is not set"
            ))),
        }
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(HIDDEN)
    }
}
