//! Whether a migration of some name is known, and which one may have been meant.

use std::path::{Path, PathBuf};

use sqlx::postgres::PgConnection;

use super::definition::{self, DefinitionError};

/// Neither a file nor a run has the name.
#[derive(Debug, thiserror::Error)]
#[error(
    "there is no migration `{name}`: {dir} has no {name}.sql, and no run is called so{}; `evenkeel \
     migrate list` shows what there is",
    near.as_ref().map_or(String::new(), |near| format!(" (did you mean `{near}`?)"))
)]
pub struct Unknown {
    name: String,
    dir: String,
    near: Option<String>,
}

/// What there is.
#[derive(Debug)]
pub struct Names {
    dir: PathBuf,
    /// Names of files, also of those that are broken.
    files: Vec<String>,
    /// Names of migrations that have run.
    runs: Vec<String>,
}

impl Names {
    /// The names of the files in `dir` and of all runs. `built_in` when the definitions in the binary
    /// are meant where there is no such directory.
    ///
    /// # Errors
    /// What the file system or the database says.
    pub async fn read(
        conn: &mut PgConnection,
        dir: &Path,
        built_in: bool,
    ) -> Result<Self, super::control::ControlError> {
        let files: Result<_, DefinitionError> = if built_in || dir.is_dir() {
            definition::load_each(dir)
        } else {
            Ok(Vec::new())
        };
        let runs = sqlx::query_scalar("SELECT DISTINCT migration FROM evenkeel.runs");
        Ok(Self {
            dir: dir.to_owned(),
            // Which file cannot be read says whoever needs it.
            files: files
                .unwrap_or_default()
                .into_iter()
                .map(|(name, _)| name)
                .collect(),
            runs: runs.fetch_all(conn).await?,
        })
    }

    /// Whether there is a file of the name, or else a run.
    ///
    /// # Errors
    /// [`Unknown`] when there is neither.
    pub fn look_up(&self, name: &str) -> Result<Known, Unknown> {
        let is = |known: &String| known == name;
        if self.files.iter().any(is) {
            return Ok(Known::File);
        }
        if self.runs.iter().any(is) {
            return Ok(Known::RunOnly);
        }
        let known = self.files.iter().chain(&self.runs);
        let close = known.filter(|known| is_close(known, name));
        let near = close.min_by_key(|known| distance(known, name)).cloned();
        Err(Unknown {
            name: name.to_owned(),
            dir: self.dir.display().to_string(),
            near,
        })
    }
}

/// What is known of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// There is a file, which may be broken.
    File,
    /// It has run, and its file is gone.
    RunOnly,
}

/// Whether somebody may have meant `known` who typed `name`.
fn is_close(known: &str, name: &str) -> bool {
    let part = |whole: &str, part: &str| part.len() >= 3 && whole.contains(part);
    // The name of a file, as one types it with the help of a shell.
    let path = Path::new(name)
        .file_stem()
        .is_some_and(|stem| stem == known);
    part(known, name)
        || part(name, known)
        || path
        || distance(known, name) <= (known.chars().count() / 3).max(1)
}

/// Letters to add, take away, change or swap with the next one.
fn distance(a: &str, b: &str) -> usize {
    let lower = |text: &str| text.to_lowercase().chars().collect::<Vec<_>>();
    let (a, b) = (lower(a), lower(b));
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (rows[i - 1][j] + 1)
                .min(row[j - 1] + 1)
                .min(rows[i - 1][j - 1] + changed);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_told_with_what_may_have_been_meant() {
        let names = Names {
            dir: PathBuf::from("m"),
            files: vec!["orders_total".to_owned(), "gross".to_owned()],
            runs: vec!["gross".to_owned(), "old_one".to_owned()],
        };
        assert_eq!(names.look_up("gross").ok(), Some(Known::File));
        assert_eq!(names.look_up("old_one").ok(), Some(Known::RunOnly));
        for (typed, meant) in [
            ("order_total", Some("orders_total")),
            ("orders", Some("orders_total")),
            ("orders_totla", Some("orders_total")),
            ("Gross", Some("gross")),
            ("gross.sql", Some("gross")),
            ("m/gross.sql", Some("gross")),
            ("old-one", Some("old_one")),
            ("nosuch", None),
            ("", None),
        ] {
            let said = names.look_up(typed).expect_err("unknown").to_string();
            assert!(said.contains("there is no migration"), "{said}");
            let told = meant.map(|meant| format!("did you mean `{meant}`?"));
            match told {
                Some(told) => assert!(said.contains(&told), "{typed}: {said}"),
                None => assert!(!said.contains("did you mean"), "{typed}: {said}"),
            }
        }
    }
}
