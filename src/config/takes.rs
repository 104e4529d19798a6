//! What a setting takes, in words, by the schema of the settings file.

use serde_json::Value;

use super::print::schema;

/// How the schema calls an address with a port.
pub(super) const SOCKET: &str = "socket-address";
/// Settings of a table that are named as examples.
const EXAMPLES: usize = 3;

/// What the schema says of the setting at `path`; a number in the path is the place in a list.
pub(super) fn at<'a>(schema: &'a Value, path: &[String]) -> Option<&'a Value> {
    let Some((key, rest)) = path.split_first() else {
        return Some(schema);
    };
    if let Some(kinds) = schema["oneOf"].as_array() {
        return kinds.iter().find_map(|kind| at(kind, path));
    }
    let below = schema["properties"].get(key);
    at(below.or_else(|| schema.get("items"))?, rest)
}

/// Whether nobody may read it, or a part of it.
pub(super) fn is_secret(schema: &Value) -> bool {
    match schema {
        Value::Object(members) => {
            members.get("writeOnly") == Some(&Value::Bool(true)) || members.values().any(is_secret)
        }
        Value::Array(items) => items.iter().any(is_secret),
        _ => false,
    }
}

/// The kind of value that it takes, as JSON calls it.
pub(super) fn kind(schema: &Value) -> Option<&str> {
    match &schema["type"] {
        Value::String(kind) => Some(kind),
        Value::Array(kinds) => kinds
            .iter()
            .filter_map(Value::as_str)
            .find(|kind| *kind != "null"),
        _ => None,
    }
}

/// What it takes; `None` where the schema has no words for it.
pub(super) fn takes(schema: &Value) -> Option<String> {
    if let Some(kinds) = schema["oneOf"].as_array() {
        return choice(kinds.iter().map(|kind| kind["const"].as_str()));
    }
    if let Some(values) = schema["enum"].as_array() {
        return choice(values.iter().map(Value::as_str));
    }
    Some(match (kind(schema)?, schema["format"].as_str()) {
        ("boolean", _) => "true or false".to_owned(),
        ("integer", _) => match (schema["minimum"].as_i64(), schema["maximum"].as_i64()) {
            (Some(least), Some(most)) => format!("a whole number from {least} to {most}"),
            (Some(least), None) => format!("a whole number of at least {least}"),
            _ => "a whole number".to_owned(),
        },
        ("number", _) => "a number".to_owned(),
        ("string", Some("duration")) => "a length of time such as 250ms, 5s or 2h 30m".to_owned(),
        ("string", Some(SOCKET)) => "an address with a port, such as 127.0.0.1:8080".to_owned(),
        ("string", _) => "text".to_owned(),
        ("array", _) if kind(&schema["items"]) == Some("string") => {
            "a list of texts, such as [\"one\", \"two\"]".to_owned()
        }
        ("array", _) => "a list of tables".to_owned(),
        ("object", _) => {
            let settings = schema["properties"].as_object()?;
            let some: Vec<_> = settings.keys().take(EXAMPLES).map(String::as_str).collect();
            format!("a table of settings, such as {}", some.join(", "))
        }
        _ => return None,
    })
}

fn choice<'a>(values: impl Iterator<Item = Option<&'a str>>) -> Option<String> {
    let values: Option<Vec<_>> = values.collect();
    Some(format!("one of {}", values?.join(", ")))
}

/// Every setting by its full name; not those of tables that can be many.
pub(super) fn names() -> Vec<String> {
    fn walk(table: &str, schema: &Value, names: &mut Vec<String>) {
        let properties = schema["properties"].as_object();
        for (key, property) in properties.into_iter().flatten() {
            let name = format!("{table}{key}");
            if property["properties"].is_object() {
                walk(&format!("{name}."), property, names);
            } else {
                names.push(name);
            }
        }
    }
    let mut names = Vec::new();
    walk("", &schema(), &mut names);
    names
}
