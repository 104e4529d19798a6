//! Keys whose text form does not stand for them.
//!
//! A key is stored and sent as text. A few types have values that their own text form does not give
//! back: a `tsquery` that was put together by `&&` loses its parentheses. A range that began or ended
//! at another key than the one that was meant would leave rows out, so such a key ends the walk.

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::{KeyValue, Keyset};

impl Keyset {
    /// The key that `row` has under `name`.
    ///
    /// # Errors
    /// What the database says; that the text form is another key's, which no other try can help.
    pub(super) fn exact(&self, row: &PgRow, name: &str) -> Result<KeyValue, sqlx::Error> {
        let key: KeyValue = row.try_get(name)?;
        let survives: Vec<bool> = row.try_get("survives")?;
        let lost = self.columns.iter().zip(&key).zip(&survives);
        let mut lost = lost.filter(|(_, survives)| !**survives);
        match lost.next() {
            None => Ok(key),
            Some(((column, value), _)) => Err(sqlx::Error::InvalidArgument(format!(
                "column {} has the value `{value}`, which as text no longer is the same {}, so that \
                     the walk cannot stop there: name another key with `-- key: …`",
                column.name, column.shown
            ))),
        }
    }
}
