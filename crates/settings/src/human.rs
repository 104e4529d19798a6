//! Lengths of time as people write them.

use std::borrow::Cow;
use std::time::Duration;

use humantime_serde::Serde;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serializer};

const DAY: u64 = 24 * 3600;

/// A length of time in a settings file, such as `250ms`, `5s`, `2h 30m` or `14days`: for `serde(with)`.
pub struct HumanTime;

impl HumanTime {
    /// Writes it, in days at most: a month has no length of its own.
    pub fn serialize<T, S>(time: &T, serializer: S) -> Result<S::Ok, S::Error>
    where
        T: Copy + Into<Option<Duration>>,
        S: Serializer,
    {
        match (*time).into() {
            Some(time) => serializer.serialize_str(&Self::format(time)),
            None => serializer.serialize_none(),
        }
    }

    /// As it is written.
    pub fn format(time: Duration) -> String {
        let days = time.as_secs() / DAY;
        let rest = time - Duration::from_secs(days * DAY);
        let unit = if days == 1 { "day" } else { "days" };
        match (days, rest.is_zero()) {
            (0, _) => humantime::format_duration(rest).to_string(),
            (days, true) => format!("{days}{unit}"),
            (days, false) => format!("{days}{unit} {}", humantime::format_duration(rest)),
        }
    }

    /// Reads it.
    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        Serde<T>: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        humantime_serde::deserialize(deserializer)
    }
}

impl JsonSchema for HumanTime {
    fn schema_name() -> Cow<'static, str> {
        "HumanTime".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "duration"})
    }
}
