//! Schema files on disk that this program will not apply, because those that it applies are built in.

use std::path::Path;

use crate::db::schema;

/// Says which `*.sql` files in `migrations/schema`, beside the `definitions`, are not the ones that are built
/// in. Nothing where there is no such directory.
pub(super) fn tell(definitions: &Path) {
    for told in strangers(&definitions.with_file_name("schema")) {
        eprintln!("{told}");
    }
}

fn strangers(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let built_in = schema::shipped();
    let mut told: Vec<String> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .filter_map(|path| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            let known = built_in.iter().find(|file| file.name() == name);
            let problem = match known {
                None => "is not in this program",
                // One that cannot be read is none that could be applied.
                Some(file) if std::fs::read(&path).ok()?.as_slice() == file.sql.as_bytes() => {
                    return None;
                }
                Some(_) => "is not as it is in this program",
            };
            Some(format!(
                "{} {problem} and will not be applied: schema files are built in. Build the program from a \
                 source tree that has it (cargo build --release), or write the change as a migration of \
                 several steps into the directory of definitions, which is read from disk",
                path.display()
            ))
        })
        .collect();
    told.sort();
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_are_not_built_in_are_named() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(strangers(&dir.path().join("none")), [] as [String; 0]);
        for file in schema::shipped() {
            let path = dir.path().join(file.name()).with_extension("sql");
            std::fs::write(path, file.sql).expect("written");
        }
        std::fs::write(dir.path().join("README.md"), "").expect("written");
        assert_eq!(strangers(dir.path()), [] as [String; 0]);
        std::fs::write(dir.path().join("9000_mine.sql"), "SELECT 1").expect("written");
        std::fs::write(dir.path().join("0001_shop.sql"), "SELECT 1").expect("written");
        let told = strangers(dir.path());
        assert!(
            told[0].contains("0001_shop.sql is not as it is in"),
            "{told:?}"
        );
        assert!(told[1].contains("9000_mine.sql is not in this"), "{told:?}");
        assert_eq!(told.len(), 2);
    }
}
