//! Whether a migration of some name is known, and which one may have been meant.

use std::path::{Path, PathBuf};

use sqlx::postgres::PgConnection;

use super::definition::{self, DefinitionError};
use crate::db::schema::none_if_absent;

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
            runs: none_if_absent(runs.fetch_all(conn).await)?,
        })
    }

    /// Refuses a name that neither a file nor a run has.
    ///
    /// # Errors
    /// [`Unknown`] says which name may have been meant.
    pub fn look_up(&self, name: &str) -> Result<(), Unknown> {
        let known = self.files.iter().chain(&self.runs);
        if known.clone().any(|known| known == name) {
            return Ok(());
        }
        let wanted = name.to_lowercase();
        let distance = |known: &String| strsim::osa_distance(&known.to_lowercase(), &wanted);
        // A part, or the name of the file.
        let part = |whole: &str, part: &str| part.len() >= 3 && whole.contains(part);
        let close = known.filter(|known| {
            part(known, name)
                || part(name, known)
                || distance(known) <= (known.chars().count() / 3).max(1)
        });
        Err(Unknown {
            name: name.to_owned(),
            dir: self.dir.display().to_string(),
            near: close.min_by_key(|known| distance(known)).cloned(),
        })
    }
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
        assert!(names.look_up("gross").is_ok() && names.look_up("old_one").is_ok());
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
