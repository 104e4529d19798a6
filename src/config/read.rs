//! What is told of settings that cannot be read: which setting, where it stands, and what it takes.

use figment::error::{Actual, Error, Kind};
use figment::{Metadata, Source};
use serde_json::Value;
use toml::de::DeTable;

use super::print::schema;
use super::source::{PREFIX, is_link, place, spelled, variables};
use super::takes::{at, is_secret, kind, names, takes};

/// How much alike two keys of a table are, from 0 to 1, for one to be meant by the other.
const ALIKE: f64 = 0.75;
/// The same of two full names, which share their beginning more often.
const NEARLY_THE_SAME: f64 = 0.75;
/// Variables beside the settings' own.
const OTHER_VARIABLES: [&str; 2] = ["EVENKEEL_CONFIG", "EVENKEEL_LOG"];
/// Characters of a wrong value that are told.
const LONGEST: usize = 100;

/// The first error in a sentence. The value of a secret is not in it.
pub(super) fn sentence(errors: Error) -> String {
    let Some(err) = errors.into_iter().next() else {
        return "the settings cannot be read".to_owned();
    };
    let metadata = err.metadata.as_ref();
    if let Kind::UnknownField(field, known) = &err.kind {
        return unknown(&err.path, field, known, metadata);
    }
    if err.path.is_empty() {
        return syntax(metadata).unwrap_or_else(|| err.kind.to_string());
    }
    let source = metadata.and_then(|metadata| place(metadata, &err.path));
    let source = source.map_or_else(String::new, |source| format!(" ({source})"));
    let schema = schema();
    let wanted = at(&schema, &err.path).unwrap_or(&Value::Null);
    let name = named(&err.path);
    match &err.kind {
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            let is_plain = !matches!(found, Actual::Str(_) | Actual::Map | Actual::Seq);
            // Of a table with a kind, it is not known in which of its settings it was found.
            let is_within = kind(wanted).is_none_or(|kind| kind == "object")
                && ["a string", "a boolean", "a duration"].contains(&expected.as_str());
            let takes = if is_within { None } else { takes(wanted) };
            let takes = takes.unwrap_or_else(|| plain(expected));
            // A variable's text is taken for what it looks like.
            let is_variable = source.contains("environment variable");
            let quoted = if is_variable && takes == "text" && is_plain {
                "; put it between double quotes within the variable"
            } else {
                ""
            };
            if is_secret(wanted) {
                return format!("{name} must be {takes}{source}{quoted}");
            }
            let part = if is_within { "a part of " } else { "" };
            let found = found_as(found);
            format!("{part}{name} is {found}, but must be {takes}{source}{quoted}")
        }
        Kind::UnknownVariant(found, known) => format!(
            "{name} is {}, but must be one of {}{source}",
            found_as(&Actual::Str(found.clone())),
            known.join(", ")
        ),
        Kind::MissingField(field) => format!("{name} lacks {field}{source}"),
        Kind::Message(_) if is_secret(wanted) => format!("{name} cannot be read{source}"),
        // The standard library's words for an address say nothing of the port.
        Kind::Message(_) if wanted["format"] == super::takes::SOCKET => {
            let takes = takes(wanted).unwrap_or_default();
            format!("{name} must be {takes}{source}")
        }
        kind => format!("{name}: {kind}{source}"),
    }
}

/// A file that is no TOML; without its text, which may be a secret's.
fn syntax(metadata: Option<&Metadata>) -> Option<String> {
    let Some(Source::File(file)) = &metadata?.source else {
        return None;
    };
    let name = file.display();
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(err) => return Some(format!("{name} cannot be read: {err}")),
    };
    // What comes after it mostly follows from it.
    let (_, errors) = DeTable::parse_recoverable(&text);
    let start = |err: &toml::de::Error| err.span().map(|span| span.start);
    let err = errors.into_iter().min_by_key(start)?;
    let before = err.span().and_then(|span| text.get(..span.start));
    let line = before.map_or(1, |before| before.matches('\n').count() + 1);
    Some(format!("{name}:{line} is not TOML: {}", err.message()))
}

/// A key that is not one, with the nearest that is.
fn unknown(path: &[String], field: &str, known: &[&str], metadata: Option<&Metadata>) -> String {
    // The path may or may not end with the field itself.
    let table = path.strip_suffix(&[field.to_owned()]).unwrap_or(path);
    let path = [table, &[field.to_owned()]].concat();
    let source = metadata.and_then(|metadata| place(metadata, &path));
    let source = source.map_or_else(String::new, |source| format!(" ({source})"));
    let full = |key: &str| named(&[table, &[key.to_owned()]].concat());
    let siblings = known
        .iter()
        .map(|known| (strsim::jaro_winkler(field, known), full(known)))
        .filter(|(alike, _)| *alike >= ALIKE);
    let written = path.join(".");
    let others = names()
        .into_iter()
        .map(|name| (alike(&written, &name), name));
    let others = others.filter(|(alike, _)| *alike >= NEARLY_THE_SAME);
    let nearest = siblings.chain(others).max_by(|a, b| a.0.total_cmp(&b.0));
    let advice = match nearest {
        Some((_, nearest)) => format!("did you mean {nearest}?"),
        None => format!("there are {}", known.join(", ")),
    };
    format!("{} is not a setting{source}; {advice}", full(field))
}

/// Refuses a variable that names no setting, and one that names a table and holds none. Beside variables of
/// settings in that table it would count for nothing.
pub(super) fn refuse_variables() -> Result<(), String> {
    let schema = schema();
    for (name, value) in variables() {
        let is_other = OTHER_VARIABLES.contains(&name.to_ascii_uppercase().as_str());
        if is_other || is_link(&name, &value) {
            continue;
        }
        let setting = name[PREFIX.len()..].to_ascii_lowercase();
        let path: Vec<_> = setting.split("__").map(str::to_owned).collect();
        let Some(wanted) = at(&schema, &path) else {
            return Err(unknown_variable(&name));
        };
        let is_table = value.trim_start().starts_with('{');
        if kind(wanted) == Some("object") && !is_table {
            let takes = takes(wanted).unwrap_or_default();
            let setting = named(&path);
            return Err(format!(
                "{setting} must be {takes} (the environment variable {name}); one of them is set by \
                 {name}__ and its name"
            ));
        }
    }
    Ok(())
}

fn unknown_variable(name: &str) -> String {
    let written = name.to_ascii_uppercase();
    let other = OTHER_VARIABLES
        .into_iter()
        .find(|other| written.starts_with(&format!("{other}_")));
    let bare = |name: &str| name.trim_start_matches(PREFIX).to_owned();
    let nearest = names()
        .into_iter()
        .map(|setting| (alike(&bare(&written), &bare(&spelled(&setting))), setting))
        .filter(|(alike, _)| *alike >= NEARLY_THE_SAME)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let advice = match (nearest, other) {
        (Some((_, setting)), _) => format!("did you mean {} ({setting})?", spelled(&setting)),
        (None, Some(other)) => format!("did you mean {other}?"),
        (None, None) => {
            "settings are set like pool.size by EVENKEEL_POOL__SIZE, and `evenkeel config` \
                         prints all of them"
                .to_owned()
        }
    };
    format!("the environment variable {name} sets nothing; {advice}")
}

/// How much alike two full names are, whatever stands between their words.
fn alike(one: &str, other: &str) -> f64 {
    let words = |name: &str| {
        let name = name.replace("__", "_").replace('.', "_");
        name.trim_matches('_').to_owned()
    };
    strsim::normalized_damerau_levenshtein(&words(one), &words(other))
}

/// The setting at `path`; entries of lists are counted from 1.
fn named(path: &[String]) -> String {
    let Some(at) = path.iter().rposition(|part| part.parse::<usize>().is_ok()) else {
        return path.join(".");
    };
    let entry = path[at]
        .parse::<usize>()
        .unwrap_or_default()
        .saturating_add(1);
    let list = path[..at].join(".");
    match path.get(at + 1..) {
        Some(within) if !within.is_empty() => {
            format!("{} of entry {entry} in {list}", within.join("."))
        }
        _ => format!("entry {entry} in {list}"),
    }
}

/// What was found, in words.
fn found_as(found: &Actual) -> String {
    match found {
        Actual::Bool(value) => value.to_string(),
        Actual::Unsigned(value) => format!("the number {value}"),
        Actual::Signed(value) => format!("the number {value}"),
        Actual::Float(value) => format!("the number {value}"),
        Actual::Char(value) => format!("the text {:?}", value.to_string()),
        Actual::Str(value) => {
            let cut: String = value.chars().take(LONGEST).collect();
            let more = if cut.len() < value.len() {
                " […]"
            } else {
                ""
            };
            format!("the text {cut:?}{more}")
        }
        Actual::Seq => "a list".to_owned(),
        Actual::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

/// What a reader of types wanted, in words.
fn plain(expected: &str) -> String {
    match expected {
        "a string" => "text".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a duration" => "a length of time such as 250ms, 5s or 2h 30m".to_owned(),
        "a sequence" => "a list".to_owned(),
        table if table.contains("struct") || table.contains("map") || table.contains("enum") => {
            "a table".to_owned()
        }
        other => other.to_owned(),
    }
}
