//! What is told of settings that cannot be read: which setting, where it stands, and what is allowed.

use figment::error::{Error, Kind};
use serde_json::Value;

use super::print::schema;

/// How much alike two names are, from 0 to 1, for one to be meant by the other.
const ALIKE: f64 = 0.75;

/// The first error in a sentence. The value of a secret is not in it.
pub(super) fn sentence(errors: Error) -> String {
    let Some(err) = errors.into_iter().next() else {
        return "the settings cannot be read".to_owned();
    };
    let source = err.metadata.as_ref().map_or_else(String::new, |metadata| {
        let place = metadata.source.as_ref();
        let place = place.map_or_else(|| metadata.name.to_string(), ToString::to_string);
        format!(" ({place})")
    });
    let name = err.path.join(".");
    match &err.kind {
        Kind::UnknownField(field, known) => {
            // The path may or may not end with the field itself.
            let table = name.strip_suffix(field.as_str()).unwrap_or(&name);
            let table = table.trim_end_matches('.');
            let dot = if table.is_empty() { "" } else { "." };
            let full = |field: &str| format!("{table}{dot}{field}");
            let nearest = known
                .iter()
                .map(|known| (strsim::jaro_winkler(field, known), *known))
                .filter(|(alike, _)| *alike >= ALIKE)
                .max_by(|a, b| a.0.total_cmp(&b.0));
            let advice = match nearest {
                Some((_, nearest)) => format!("did you mean {}?", full(nearest)),
                None => format!("there are {}", known.join(", ")),
            };
            format!("{} is not a setting{source}; {advice}", full(field))
        }
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            let found = if is_secret(&err.path) {
                String::new()
            } else {
                format!("is {found}, but ")
            };
            // A variable's text is taken for what it looks like.
            let quoted = if source.contains("environment") && expected.contains("string") {
                "; put it between double quotes within the variable"
            } else {
                ""
            };
            format!("{name} {found}must be {expected}{source}{quoted}")
        }
        Kind::Message(_) if is_secret(&err.path) => format!("{name} cannot be read{source}"),
        kind if name.is_empty() => format!("{kind}{source}"),
        kind => format!("{name}: {kind}{source}"),
    }
}

/// Whether the setting at `path` is one that is not printed.
fn is_secret(path: &[String]) -> bool {
    fn at<'a>(schema: &'a Value, path: &[String]) -> Option<&'a Value> {
        let Some((key, rest)) = path.split_first() else {
            return Some(schema);
        };
        if let Some(kinds) = schema["oneOf"].as_array() {
            return kinds.iter().find_map(|kind| at(kind, path));
        }
        let below = schema["properties"].get(key);
        // A number is the place in an array.
        at(below.or_else(|| schema.get("items"))?, rest)
    }
    at(&schema(), path).is_some_and(|schema| schema["writeOnly"] == true)
}
