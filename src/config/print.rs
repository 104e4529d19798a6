//! Settings as a settings file: every one of them, also those that are unset, each with what it means.
//!
//! The words are the doc comments of the fields, which the derived schema carries; so there is one place
//! where a setting is described.

use std::fmt::Write;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};
use toml::Table;

use super::hidden::HIDDEN;
use super::{ConfigError, Settings};

/// Width of a comment.
const WIDTH: usize = 100;

/// The JSON schema of the settings file, with all that it refers to in place.
pub fn schema() -> Value {
    let inline = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let schema = inline.into_generator().into_root_schema_for::<Settings>();
    schema.into()
}

/// The settings in TOML with comments.
///
/// # Errors
/// [`ConfigError::Invalid`] if a value cannot be written in TOML, such as a number above 2⁶³.
pub fn print(settings: &Settings) -> Result<String, ConfigError> {
    let table =
        |settings| Table::try_from(settings).map_err(|err| ConfigError::Invalid(err.to_string()));
    let (values, defaults) = (table(settings)?, table(&Settings::default())?);
    let mut printer = Printer {
        out: String::new(),
        mark: "",
    };
    printer.comment(
        "Settings of Evenkeel, with the values in force. What begins with # is a comment or unset. Lengths \
         of time are written like 250ms, 5s or 2h 30m.",
    );
    printer.table("", &schema(), Some(&values), Some(&defaults));
    Ok(printer.out)
}

struct Printer {
    out: String,
    /// What every line begins with, where all of a table is unset.
    mark: &'static str,
}

/// What a property is written as.
enum Shape<'a> {
    Value,
    Table,
    /// Tables of which there can be many; of one of these kinds.
    Tables(Vec<&'a Value>),
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.into_iter().flat_map(Map::iter)
}

fn shape(schema: &Value) -> Shape<'_> {
    if schema.get("properties").is_some() {
        return Shape::Table;
    }
    let Some(items) = schema.get("items") else {
        return Shape::Value;
    };
    let kinds = items.get("oneOf").and_then(Value::as_array);
    let kinds = kinds.map_or_else(|| vec![items], |kinds| kinds.iter().collect());
    if kinds.iter().any(|kind| kind.get("properties").is_some()) {
        Shape::Tables(kinds)
    } else {
        Shape::Value
    }
}

impl Printer {
    fn table(
        &mut self,
        path: &str,
        schema: &Value,
        values: Option<&Table>,
        defaults: Option<&Table>,
    ) {
        let of = |table: Option<&Table>, key: &str| table.and_then(|table| table.get(key).cloned());
        for (key, property) in properties(schema) {
            if matches!(shape(property), Shape::Value) {
                let required = schema["required"].as_array();
                let required = required.is_some_and(|keys| keys.iter().any(|name| name == key));
                self.value(key, property, of(values, key), of(defaults, key), required);
            }
        }
        for (key, property) in properties(schema) {
            let path = if path.is_empty() {
                key.clone()
            } else {
                format!("{path}.{key}")
            };
            let below = |table: Option<&Table>| of(table, key).and_then(|v| v.as_table().cloned());
            match shape(property) {
                Shape::Value => {}
                Shape::Table => {
                    self.blank();
                    self.describe(property);
                    self.line(&format!("[{path}]"));
                    let (values, defaults) = (below(values), below(defaults));
                    self.table(&path, property, values.as_ref(), defaults.as_ref());
                }
                Shape::Tables(kinds) => {
                    self.blank();
                    self.describe(property);
                    let items = of(values, key).and_then(|items| items.as_array().cloned());
                    self.tables(&path, &kinds, &items.unwrap_or_default());
                }
            }
        }
    }

    /// Those that are set, or one of each kind as a comment.
    fn tables(&mut self, path: &str, kinds: &[&Value], items: &[toml::Value]) {
        if !items.is_empty() {
            for item in items.iter().filter_map(toml::Value::as_table) {
                let of_kind = kinds.iter().find(|kind| {
                    let name = &kind["properties"]["kind"]["const"];
                    name.is_null() || item.get("kind").and_then(|k| k.as_str()) == name.as_str()
                });
                self.line(&format!("[[{path}]]"));
                if let Some(kind) = of_kind {
                    self.table(path, kind, Some(item), None);
                }
                self.blank();
            }
            return;
        }
        self.mark = "# ";
        for kind in kinds {
            if kinds.len() > 1 {
                self.describe(kind);
            }
            self.line(&format!("[[{path}]]"));
            self.table(path, kind, None, None);
        }
        self.mark = "";
    }

    fn value(
        &mut self,
        key: &str,
        schema: &Value,
        value: Option<toml::Value>,
        default: Option<toml::Value>,
        required: bool,
    ) {
        self.describe(schema);
        for choice in schema["oneOf"].as_array().into_iter().flatten() {
            if let (Some(name), Some(what)) =
                (choice["const"].as_str(), choice["description"].as_str())
            {
                self.comment(&format!("{name}: {what}"));
            }
        }
        // Of a table that can be many, the schema knows the defaults.
        let default = default.map(|value| value.to_string()).or_else(|| {
            let default = schema.get("default").filter(|value| !value.is_null());
            default.map(Value::to_string)
        });
        match &default {
            Some(default) => self.comment(&format!("Default: {default}")),
            None if schema["const"].is_string() => {}
            None if required => self.comment("Has to be set."),
            None if schema["writeOnly"] == true => {
                self.comment("Unset by default. A secret in it is not printed.");
            }
            None => self.comment("Unset by default."),
        }
        let is_hidden = value.as_ref().and_then(toml::Value::as_str) == Some(HIDDEN);
        let written = match (&value, schema["const"].as_str()) {
            (Some(value), _) => value.to_string(),
            (None, Some(kind)) => format!("\"{kind}\""),
            (None, None) => default.unwrap_or_else(|| placeholder(schema).to_owned()),
        };
        let unset = if value.is_none() || is_hidden {
            "# "
        } else {
            ""
        };
        let unset = if self.mark.is_empty() { unset } else { "" };
        self.line(&format!("{unset}{key} = {written}"));
    }

    fn describe(&mut self, schema: &Value) {
        if let Some(text) = schema["description"].as_str() {
            self.comment(text);
        }
    }

    fn comment(&mut self, text: &str) {
        for paragraph in text.split("\n\n") {
            let mut line = String::new();
            for word in paragraph.split_whitespace() {
                if !line.is_empty() && line.len() + word.len() >= WIDTH {
                    self.line(&format!("# {line}"));
                    line.clear();
                }
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            }
            self.line(&format!("# {line}"));
        }
    }

    fn line(&mut self, text: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.out, "{}{text}", self.mark);
    }

    fn blank(&mut self) {
        self.out.push('\n');
    }
}

/// Something of the right type for a setting that has no value.
fn placeholder(schema: &Value) -> &'static str {
    let kind = &schema["type"];
    let kind = kind.as_str().or_else(|| kind[0].as_str());
    match kind {
        Some("integer") => "0",
        Some("number") => "0.0",
        Some("boolean") => "false",
        Some("array") => "[]",
        _ => "\"\"",
    }
}
