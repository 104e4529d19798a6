//! Where a command finds what it works on, when that was said on the command line, and how it says so to
//! whoever is advised another command.

use std::path::{Path, PathBuf};

use crate::config::{CommandLine, Settings, without_password};

/// The database, as the command line names it.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Place {
    /// Settings in TOML; `evenkeel config` prints all of them.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the embedded server keeps its data.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        conflicts_with = "database_url"
    )]
    data_dir: Option<PathBuf>,
    /// The database, instead of an embedded server's: postgres://user@host/database. The same as
    /// DATABASE_URL in the environment. What it holds decides what is done there: the shop's tables go into
    /// an empty database alone, and reading commands make none.
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
}

impl Place {
    /// What it says of settings.
    pub fn command_line(&self) -> CommandLine {
        CommandLine {
            database_url: self.database_url.clone(),
            data_dir: self.data_dir.clone(),
        }
    }
}

/// Where the definitions are, when not where the settings say.
#[derive(Debug, Default, clap::Args)]
pub struct Elsewhere {
    /// Where the definitions are.
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// There are no definitions.
#[derive(Debug, thiserror::Error)]
#[error(
    "there is no directory {0}; `evenkeel migrate new NAME --dir {0}` writes a definition to start \
     from"
)]
pub struct NoDefinitions(String);

impl NoDefinitions {
    /// Refuses a directory that is not there.
    ///
    /// # Errors
    /// [`NoDefinitions`] names it.
    pub fn refuse(dir: &Path) -> Result<(), Self> {
        match dir.is_dir() {
            true => Ok(()),
            false => Err(Self(dir.display().to_string())),
        }
    }
}

impl Elsewhere {
    /// The settings with what was said on the command line.
    #[must_use]
    pub fn settings(&self, mut settings: Settings) -> Settings {
        if let Some(dir) = &self.dir {
            settings.migration.definitions.clone_from(dir);
        }
        settings
    }

    /// Whether a directory of definitions was named.
    pub fn is_named(&self) -> bool {
        self.dir.is_some()
    }

    /// The flags of this invocation, so that a command that is advised works as it is typed.
    pub fn flags(&self, place: &Place) -> Flags {
        let mut flags = Vec::new();
        let mut hides_password = false;
        let paths = [
            ("--config", &place.config),
            ("--data-dir", &place.data_dir),
            ("--dir", &self.dir),
        ];
        for (flag, path) in paths {
            if let Some(path) = path {
                flags.push((flag, quoted(&path.display().to_string())));
            }
        }
        if let Some(url) = &place.database_url {
            let (url, hidden) = without_password(url, Some(HIDDEN));
            hides_password = hidden;
            flags.push(("--database-url", quoted(&url)));
        }
        Flags {
            flags,
            hides_password,
        }
    }
}

/// What was said of the database and the definitions on the command line, for commands that are advised.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    flags: Vec<(&'static str, String)>,
    hides_password: bool,
}

/// How an advised command begins.
const ADVICE: &str = "`evenkeel migrate ";
/// Stands for a password that is not printed.
const HIDDEN: &str = "PASSWORD";

impl Flags {
    /// `text` with these flags in every `evenkeel migrate …` that it advises between backticks.
    pub fn complete(&self, text: &str) -> String {
        let mut done = String::new();
        let mut rest = text;
        let mut advised = false;
        while let Some((before, advice)) = rest.split_once(ADVICE) {
            let Some((command, after)) = advice.split_once('`') else {
                break;
            };
            done.push_str(before);
            done.push_str(ADVICE);
            done.push_str(command);
            for (flag, value) in &self.flags {
                if !command.split_whitespace().any(|word| word == *flag) {
                    advised |= *flag == "--database-url";
                    done.push_str(&format!(" {flag} {value}"));
                }
            }
            done.push('`');
            rest = after;
        }
        done.push_str(rest);
        if advised && self.hides_password {
            done.push_str(&format!(
                "\n  ({HIDDEN} stands for the one that you gave, which is not printed)"
            ));
        }
        done
    }
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@=+,%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(url: &str, dir: &str) -> Flags {
        let place = Place {
            database_url: Some(url.to_owned()),
            ..Place::default()
        };
        let elsewhere = Elsewhere {
            dir: Some(PathBuf::from(dir)),
        };
        elsewhere.flags(&place)
    }

    #[test]
    fn advice_carries_the_flags_that_were_given() {
        let flags = flags("postgres://clerk@db.example/shop?host=/tmp/a b", "it's");
        assert_eq!(
            flags.complete("see `evenkeel migrate list`, or `evenkeel migrate lint` and `psql`"),
            "see `evenkeel migrate list --dir 'it'\\''s' --database-url \
             'postgres://clerk@db.example/shop?host=/tmp/a b'`, or `evenkeel migrate lint --dir \
             'it'\\''s' --database-url 'postgres://clerk@db.example/shop?host=/tmp/a b'` and `psql`"
        );
        let none = Flags::default();
        assert_eq!(
            none.complete("`evenkeel migrate list`"),
            "`evenkeel migrate list`"
        );
        let twice = flags.complete("`evenkeel migrate new m --dir x`");
        assert!(
            twice.starts_with("`evenkeel migrate new m --dir x --database-url "),
            "{twice}"
        );
    }

    #[test]
    fn a_password_is_not_printed() {
        for url in [
            "postgres://clerk:s3cret@db.example/shop",
            "postgres://clerk:s3:c@ret@db.example/shop?sslmode=require",
            "postgres://clerk@db.example/shop?password=s3cret&sslmode=require",
        ] {
            let told = flags(url, "m").complete("`evenkeel migrate list`");
            assert!(!told.contains("s3"), "{told}");
            assert!(
                told.contains("PASSWORD stands for the one that you gave"),
                "{told}"
            );
            assert!(told.contains("db.example/shop"), "{told}");
        }
        let told =
            flags("postgres://clerk@db.example/shop", "m").complete("`evenkeel migrate list`");
        assert!(!told.contains("PASSWORD"), "{told}");
    }
}
