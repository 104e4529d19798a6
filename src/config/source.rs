//! Where a setting comes from: the line of the file, the environment variable or the command line.

use std::path::{Path, PathBuf};

use figment::{Figment, Metadata, Source};
use toml::de::{DeTable, DeValue};

use super::Settings;
use super::takes::names;

/// What the variables of settings begin with.
pub(super) const PREFIX: &str = "EVENKEEL_";
/// Variables with usual names of their own, and what they set.
pub(super) const USUAL: [(&str, &str); 2] = [
    ("DATABASE_URL", "database.url"),
    ("PG_BIN_DIR", "database.bin_dir"),
];

/// The keys of variables that Kubernetes and Docker put there for a service of our name.
pub(super) fn links() -> Vec<String> {
    variables()
        .into_iter()
        .filter(|(name, value)| is_link(name, value))
        .map(|(name, _)| name[PREFIX.len()..].to_ascii_lowercase())
        .collect()
}

/// Whether the variable tells where a service of our name is, such as `EVENKEEL_SERVICE_HOST` and
/// `EVENKEEL_PORT=tcp://10.0.0.1:8080`, and is none of ours.
pub(super) fn is_link(name: &str, value: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let is_address = ["tcp://", "udp://", "sctp://"]
        .iter()
        .any(|scheme| value.starts_with(scheme));
    let is_part = ["_TCP_", "_UDP_", "_SCTP_"].iter().any(|protocol| {
        name.split_once(protocol).is_some_and(|(port, part)| {
            port.contains("_PORT_") && ["ADDR", "PORT", "PROTO"].contains(&part)
        })
    });
    !name.contains("__")
        && (is_address
            || is_part
            || name.ends_with("_SERVICE_HOST")
            || name.contains("_SERVICE_PORT"))
}

/// What the command line says of settings, which comes before all else.
#[derive(Clone, Debug, Default)]
pub struct CommandLine {
    /// `--database-url`.
    pub database_url: Option<String>,
    /// `--data-dir`.
    pub data_dir: Option<PathBuf>,
}

impl CommandLine {
    /// The flag that names the database.
    fn flag(&self) -> Option<&'static str> {
        match (&self.database_url, &self.data_dir) {
            (Some(_), _) => Some("--database-url"),
            (None, Some(_)) => Some("--data-dir"),
            (None, None) => None,
        }
    }

    /// Puts into the settings what was said on the command line.
    ///
    /// # Errors
    /// A sentence, where a direct address is set without the address that it belongs to: then it is not
    /// known whether it leads to the database that the command line names.
    pub(super) fn apply(&self, settings: &mut Settings) -> Result<(), String> {
        let database = &mut settings.database;
        let Some(flag) = self.flag() else {
            return Ok(());
        };
        if database.direct_url.is_some() && database.url.is_none() {
            return Err(format!(
                "{flag} and database.direct_url contradict each other: {flag} alone says which database is \
                 used, and database.direct_url is another way to the one that database.url names. Leave \
                 database.direct_url out, or name the database by DATABASE_URL instead of {flag}"
            ));
        }
        database.url.clone_from(&self.database_url);
        // That leads to the database which the settings name.
        database.direct_url = None;
        if self.data_dir.is_some() {
            database.data_dir.clone_from(&self.data_dir);
        }
        Ok(())
    }

    fn sets(&self, setting: &str) -> bool {
        match setting {
            "database.url" => self.database_url.is_some(),
            "database.data_dir" => self.data_dir.is_some(),
            _ => false,
        }
    }
}

/// `sentence`, with where the settings that it names were set, if not by default.
pub(super) fn with_places(sentence: &str, figment: &Figment, command_line: &CommandLine) -> String {
    let mut places = Vec::new();
    for setting in names() {
        if !is_named(sentence, &setting) {
            continue;
        }
        let place = if command_line.sets(&setting) {
            Some("the command line".to_owned())
        } else {
            let path: Vec<_> = setting.split('.').map(str::to_owned).collect();
            let metadata = figment.find_metadata(&setting);
            metadata.and_then(|metadata| place(metadata, &path))
        };
        places.extend(place.map(|place| format!("{setting}: {place}")));
    }
    if places.is_empty() {
        return sentence.to_owned();
    }
    format!("{sentence} ({})", places.join("; "))
}

/// Whether the setting is in the sentence as a word of its own.
fn is_named(sentence: &str, setting: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    sentence.match_indices(setting).any(|(at, _)| {
        let (before, after) = (&sentence[..at], &sentence[at + setting.len()..]);
        let mut after = after.chars();
        let continues = match after.next() {
            Some('.') => after.next().is_some_and(is_part),
            next => next.is_some_and(is_part),
        };
        !continues && !before.ends_with(|c| is_part(c) || c == '.')
    })
}

/// The place of the setting at `path`; `None` of a default.
pub(super) fn place(metadata: &Metadata, path: &[String]) -> Option<String> {
    match &metadata.source {
        Some(Source::File(file)) => Some(match line(file, path) {
            Some(line) => format!("{}:{line}", file.display()),
            None => file.display().to_string(),
        }),
        None => Some(format!("the environment variable {}", variable(path))),
        Some(_) => None,
    }
}

/// The variables with our prefix, by name, and what they hold as far as it is text.
pub(super) fn variables() -> Vec<(String, String)> {
    let ours = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        let is_ours = name
            .get(..PREFIX.len())
            .is_some_and(|begin| begin.eq_ignore_ascii_case(PREFIX));
        is_ours.then(|| (name, value.into_string().unwrap_or_default()))
    });
    let mut ours: Vec<_> = ours.collect();
    ours.sort();
    ours
}

/// The variable that is set and holds what is at `path`, or would hold it.
fn variable(path: &[String]) -> String {
    let setting = path.join(".");
    let usual = USUAL.iter().find(|(_, known)| *known == setting);
    // It comes after the other spelling, so it counts where both are set.
    if let Some((usual, _)) = usual
        && std::env::var_os(usual).is_some()
    {
        return (*usual).to_owned();
    }
    let wanted = spelled(&setting);
    // It may hold more than this.
    let holding = variables()
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| {
            let rest = wanted.strip_prefix(&name.to_ascii_uppercase());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("__"))
        });
    holding.max_by_key(String::len).unwrap_or(wanted)
}

/// How the variable of a setting is spelled.
pub(super) fn spelled(setting: &str) -> String {
    format!(
        "{PREFIX}{}",
        setting.replace('.', "__").to_ascii_uppercase()
    )
}

/// The line of the file, counted from 1, at which the innermost part of `path` stands that is there.
fn line(file: &Path, path: &[String]) -> Option<usize> {
    let text = std::fs::read_to_string(file).ok()?;
    let document = DeTable::parse(&text).ok()?;
    let mut found = None;
    let mut here = DeValue::Table(document.into_inner());
    for part in path {
        let (at, below) = match here {
            DeValue::Table(table) => {
                let entry = table.into_iter().find(|(key, _)| key.get_ref() == part);
                let Some((key, value)) = entry else { break };
                (key.span().start, value)
            }
            DeValue::Array(entries) => {
                let entry = part.parse().ok().and_then(|at| entries.into_iter().nth(at));
                let Some(value) = entry else { break };
                (value.span().start, value)
            }
            _ => break,
        };
        found = Some(at);
        here = below.into_inner();
    }
    let before = text.get(..found?)?;
    Some(before.matches('\n').count() + 1)
}
