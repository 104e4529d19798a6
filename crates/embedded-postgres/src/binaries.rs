//! Where PostgreSQL is looked for, and which version fits the data.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::account::{self, Account};
use crate::directory::DataDirectory;
use crate::fetch::fetch_binaries;
use crate::package::Source;
use crate::{ClusterOptions, EmbeddedError};

/// The oldest major version that will do.
const MINIMUM: u32 = 14;
/// Debian and Ubuntu keep every major version in a directory of its own here.
const DEBIAN: &str = "/usr/lib/postgresql";

/// A usable PostgreSQL.
#[derive(Debug)]
pub(crate) struct Binaries {
    /// The directory of `initdb` and `postgres`.
    pub(crate) dir: PathBuf,
    pub(crate) major: u32,
}

/// Finds the first PostgreSQL that fits the data in `directory`, or fetches one.
pub(crate) async fn find(
    options: &ClusterOptions,
    account: &Account,
    directory: &DataDirectory,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> Result<Binaries, EmbeddedError> {
    let wanted = directory.major()?;
    let mut tried = Vec::new();

    if let Some(dir) = &options.bin_dir {
        let unusable = |reason| EmbeddedError::BinDir {
            dir: dir.clone(),
            reason,
        };
        let found = probe(dir, account)
            .await
            .map_err(|e| unusable(e.to_string()))?;
        match unfit(&found, None) {
            Some(reason) => return Err(unusable(reason)),
            None => match unfit(&found, wanted) {
                Some(reason) => tried.push(reason),
                None => return Ok(found),
            },
        }
    }

    let path = std::env::var_os("PATH").unwrap_or_default();
    for dir in installed(&path, Path::new(DEBIAN)) {
        match probe(&dir, account).await {
            Ok(found) => match unfit(&found, wanted) {
                Some(reason) => tried.push(reason),
                None => return Ok(found),
            },
            Err(e) => tried.push(e.to_string()),
        }
    }

    let mut sources = Source::ALL;
    sources.sort_by_key(|source| !source.is_cached(&options.cache_dir));
    for source in sources {
        if wanted.is_some_and(|major| major != source.major()) {
            continue;
        }
        if !source.is_cached(&options.cache_dir) {
            progress(&format!("fetching PostgreSQL: {source}"));
        }
        match fetch_and_probe(source, &options.cache_dir, account).await {
            Ok(found) => return Ok(found),
            Err(e) => tried.push(format!("{source}: {e}")),
        }
    }

    if tried.is_empty() {
        tried.push(format!("neither PATH nor {DEBIAN} has a PostgreSQL"));
    }
    Err(match wanted {
        Some(data_major) => EmbeddedError::VersionMismatch {
            data_dir: directory.path().to_owned(),
            data_major,
            tried,
        },
        None => EmbeddedError::NotFound {
            minimum: MINIMUM,
            tried,
        },
    })
}

async fn fetch_and_probe(
    source: Source,
    cache_dir: &Path,
    account: &Account,
) -> Result<Binaries, EmbeddedError> {
    let dir = fetch_binaries(source, cache_dir).await?;
    probe(&dir, account).await
}

/// Why these binaries will not do, if they will not.
fn unfit(found: &Binaries, wanted: Option<u32>) -> Option<String> {
    let Binaries { dir, major } = found;
    let dir = dir.display();
    if *major < MINIMUM {
        return Some(format!(
            "PostgreSQL {major} in {dir} is too old: {MINIMUM} or newer is needed"
        ));
    }
    wanted
        .filter(|wanted| wanted != major)
        .map(|wanted| format!("PostgreSQL {major} in {dir} cannot read data of version {wanted}"))
}

/// Where the client program `name` is: in `bin_dir`, else in PATH, else where Debian keeps the newest.
pub fn client_program(name: &str, bin_dir: Option<&Path>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = bin_dir.map(Path::to_path_buf).into_iter().collect();
    dirs.extend(std::env::split_paths(&path));
    dirs.extend(versions(Path::new(DEBIAN)));
    let programs = dirs.into_iter().map(|dir| dir.join(name));
    programs
        .filter(|program| program.is_absolute())
        .find(|program| program.is_file())
}

/// Debian's directories of programs, newest version first.
fn versions(debian: &Path) -> impl Iterator<Item = PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(debian)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let major = entry.file_name().to_str()?.parse().ok()?;
            Some((major, entry.path().join("bin")))
        })
        .collect();
    versions.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
    versions.into_iter().map(|(_, dir)| dir)
}

/// Directories that hold a PostgreSQL: those in PATH, in its order, then Debian's, newest first.
fn installed(path: &OsStr, debian: &Path) -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    for dir in std::env::split_paths(path).chain(versions(debian)) {
        if let Some(dir) = home_of(&dir)
            && !dirs.contains(&dir)
        {
            dirs.push(dir);
        }
    }
    dirs
}

/// The directory that really holds the programs found in `dir`: in PATH they are often links to
/// some, and the rest (psql, pgbench) is where the links lead.
fn home_of(dir: &Path) -> Option<PathBuf> {
    let postgres = dir.join("postgres");
    if !dir.is_absolute() || !postgres.is_file() || !dir.join("initdb").is_file() {
        return None;
    }
    let home = fs::canonicalize(&postgres).ok()?.parent()?.to_owned();
    Some(if home.join("initdb").is_file() {
        home
    } else {
        dir.to_owned()
    })
}

/// Asks the programs in `dir` for their version, as the user who will run them.
async fn probe(dir: &Path, account: &Account) -> Result<Binaries, EmbeddedError> {
    let dir = std::path::absolute(dir).map_err(EmbeddedError::io("resolve", dir))?;
    account.check_reaches(&dir).await?;
    let mut major = 0;
    for name in ["initdb", "postgres"] {
        let program = dir.join(name);
        let mut command = account.command(&program);
        command.arg("--version");
        let output = account::run(command).await?;
        let text = String::from_utf8_lossy(&output.stdout);
        major = parse_major(&text).ok_or_else(|| EmbeddedError::Program {
            program: program.display().to_string(),
            reason: format!("it does not tell its version but `{}`", text.trim()),
        })?;
    }
    Ok(Binaries { dir, major })
}

/// The major version in, for example, `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn parse_major(text: &str) -> Option<u32> {
    let version = text.split("(PostgreSQL) ").nth(1)?;
    let digits = version.find(|c: char| !c.is_ascii_digit());
    version[..digits.unwrap_or(version.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn install(dir: &Path) {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("initdb"), "").unwrap();
        fs::write(dir.join("postgres"), "").unwrap();
    }

    #[test]
    fn path_comes_before_debian_whose_newest_comes_first() {
        let root = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(root.path()).unwrap();
        for dir in ["path", "debian/9/bin", "debian/14/bin", "debian/15/bin"] {
            install(&root.join(dir));
        }
        fs::create_dir_all(root.join("debian/17/lib")).unwrap();
        let path = std::env::join_paths([root.join("empty"), root.join("path")]).unwrap();

        let found = installed(&path, &root.join("debian"));

        let expected = ["path", "debian/15/bin", "debian/14/bin", "debian/9/bin"];
        assert_eq!(found, expected.map(|dir| root.join(dir)));
    }

    #[test]
    fn links_in_path_lead_to_the_directory_with_all_programs() {
        let root = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(root.path()).unwrap();
        install(&root.join("15/bin"));
        fs::create_dir(root.join("links")).unwrap();
        for name in ["initdb", "postgres"] {
            let link = root.join("links").join(name);
            std::os::unix::fs::symlink(root.join("15/bin").join(name), link).unwrap();
        }

        let found = installed(root.join("links").as_os_str(), &root.join("none"));

        assert_eq!(found, [root.join("15/bin")]);
    }

    #[test]
    fn versions_are_read_as_postgresql_prints_them() {
        for (text, major) in [
            (
                "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)",
                Some(15),
            ),
            ("initdb (PostgreSQL) 9.6.24", Some(9)),
            ("postgres (PostgreSQL) 18beta1", Some(18)),
            ("postgres (PostgreSQL) 17", Some(17)),
            ("something else", None),
        ] {
            assert_eq!(parse_major(text), major, "{text}");
        }
    }

    #[test]
    fn an_old_version_and_one_that_cannot_read_the_data_are_named() {
        let found = |major| Binaries {
            dir: "/pg".into(),
            major,
        };
        assert_eq!(unfit(&found(15), None), None);
        assert_eq!(unfit(&found(15), Some(15)), None);
        let old = unfit(&found(13), None).unwrap();
        assert!(
            old.contains("13") && old.contains("too old") && old.contains("14"),
            "{old}"
        );
        let other = unfit(&found(15), Some(16)).unwrap();
        assert!(other.contains("15") && other.contains("16"), "{other}");
    }
}
