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
        let refuse = |source: std::io::Error| refused(dir, source.into());
        for entry in std::fs::read_dir(dir).map_err(refuse)? {
            let path = entry.map_err(refuse)?.path();
            if path.extension().is_some_and(|e| e == "sql") {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                all.push((name.clone().into_owned(), read(&name, &path)));
            }
        }
    } else {
        for file in BuiltIn::iter() {
            let name = file.trim_end_matches(".sql");
            all.extend(built_in(name).map(|definition| (name.to_owned(), definition)));
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
        return read(name, &path);
    }
    let built_in = (!dir.is_dir()).then(|| built_in(name)).flatten();
    built_in.unwrap_or_else(|| Err(unknown()))
}

fn refused(path: &Path, source: Unreadable) -> DefinitionError {
    let path = path.to_path_buf();
    DefinitionError::Read { path, source }
}

fn read(name: &str, path: &Path) -> Result<Definition, DefinitionError> {
    let text = encoding::read(path).map_err(|err| refused(path, err))?;
    Definition::parse(name, &text)
}

fn built_in(name: &str) -> Option<Result<Definition, DefinitionError>> {
    let file = format!("{name}.sql");
    let content = BuiltIn::get(&file)?;
    let text = encoding::decode(&content.data).map_err(|err| refused(Path::new(&file), err));
    Some(text.and_then(|text| Definition::parse(name, &text)))
}
