//! Keys whose text form does not stand for them.
//!
//! A key is stored and sent as text. A few types have values that their own text form does not give
//! back: a `tsquery` that was put together by `&&` loses its parentheses. A range that began or ended
//! at another key than the one that was meant would leave rows out, so such a key ends the walk.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use sqlx::Row;
use sqlx::error::{DatabaseError, ErrorKind};
use sqlx::postgres::PgRow;

use super::{KeyValue, Keyset};

impl Keyset {
    /// The key that `row` has under `name`.
    ///
    /// # Errors
    /// What the database says; that the text form is another key's, as a feature that is not
    /// supported, which no other try can help.
    pub(super) fn exact(&self, row: &PgRow, name: &str) -> Result<KeyValue, sqlx::Error> {
        let key: KeyValue = row.try_get(name)?;
        let survives: Vec<bool> = row.try_get("survives")?;
        let lost = self.columns.iter().zip(&key).zip(&survives);
        let mut lost = lost.filter(|(_, survives)| !**survives);
        match lost.next() {
            None => Ok(key),
            Some(((column, value), _)) => {
                let message = format!(
                    "column {} has the value `{value}`, which as text no longer is the same {}, so that \
                     the walk cannot stop there: name another key with `-- key: …`",
                    column.name, column.shown
                );
                Err(sqlx::Error::Database(Box::new(Inexact(message))))
            }
        }
    }
}

/// A key that cannot be stored.
#[derive(Debug)]
struct Inexact(String);

impl fmt::Display for Inexact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Inexact {}

impl DatabaseError for Inexact {
    fn message(&self) -> &str {
        &self.0
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some("0A000".into())
    }

    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }

    fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn Error + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn Error + Send + Sync + 'static> {
        self
    }
}
