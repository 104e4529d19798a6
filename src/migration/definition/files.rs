//! Where definitions come from: a directory, or the binary itself.

use std::path::Path;

use rust_embed::RustEmbed;

use super::{Definition, DefinitionError};
use crate::migration::source::encoding::{self, Unreadable};

/// The definitions that the binary was built with, for use outside a source tree.
#[derive(RustEmbed)]
#[folder = "migrations/background"]
struct BuiltIn;

/// A file of definitions: its name without `.sql`, and what it says or why it says nothing.
pub type Named = (String, Result<Definition, DefinitionError>);

/// Reads every definition of `dir`, or those built into the binary when there is no such directory,
/// in order of name. A file that cannot be read or is not a definition stands among the others with its
/// error.
///
/// # Errors
/// The directory itself cannot be read.
pub fn load_each(dir: &Path) -> Result<Vec<Named>, DefinitionError> {
    let mut all = Vec::new();
    if dir.is_dir() {
        let read_error = |path: &Path| {
            let path = path.to_path_buf();
            move |source| DefinitionError::Read { path, source }
        };
        for entry in std::fs::read_dir(dir).map_err(read_error(dir))? {
            let path = entry.map_err(read_error(dir))?.path();
            if path.extension().is_some_and(|e| e == "sql") {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                let definition = read(&path).and_then(|text| Definition::parse(&name, &text));
                all.push((name.into_owned(), definition));
            }
        }
    } else {
        for file in BuiltIn::iter() {
            if let Some(content) = BuiltIn::get(&file) {
                let name = file.trim_end_matches(".sql");
                let text = built_in(&file, &content.data);
                let definition = text.and_then(|text| Definition::parse(name, &text));
                all.push((name.to_owned(), definition));
            }
        }
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(all)
}

/// As [`load_each`], where all of them must be right.
///
/// # Errors
/// The first file that cannot be read or is not a definition.
pub fn load_all(dir: &Path) -> Result<Vec<Definition>, DefinitionError> {
    let each = load_each(dir)?.into_iter();
    each.map(|(_, definition)| definition).collect()
}

/// Reads the definition `name` of `dir`; see [`load_all`].
///
/// # Errors
/// [`DefinitionError::Unknown`] when there is none of that name. A broken file of another name
/// does not get in the way.
pub fn load(dir: &Path, name: &str) -> Result<Definition, DefinitionError> {
    let unknown = || DefinitionError::Unknown {
        name: name.to_owned(),
        dir: dir.display().to_string(),
    };
    // A name is not a path.
    if name.contains(['/', '\\', '.']) {
        return Err(unknown());
    }
    let path = dir.join(format!("{name}.sql"));
    if path.is_file() {
        return Definition::parse(name, &read(&path)?);
    }
    let file = format!("{name}.sql");
    let content = (!dir.is_dir())
        .then(|| BuiltIn::get(&file))
        .flatten()
        .ok_or_else(unknown)?;
    Definition::parse(name, &built_in(&file, &content.data)?)
}

fn read(path: &Path) -> Result<String, DefinitionError> {
    let refused = |source| {
        let path = path.to_path_buf();
        match source {
            Unreadable::Io(source) => DefinitionError::Read { path, source },
            source @ Unreadable::Encoding { .. } => DefinitionError::Encoding { path, source },
        }
    };
    encoding::read(path).map_err(refused)
}

fn built_in(file: &str, data: &[u8]) -> Result<String, DefinitionError> {
    let path = file.into();
    encoding::decode(data).map_err(|source| DefinitionError::Encoding { path, source })
}
