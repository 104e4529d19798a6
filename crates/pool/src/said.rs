//! What people are told of a database error: one text for all of them.
//!
//! sqlx's own text ends with "at line N", and N is a line of PostgreSQL's source code. Whatever is
//! shown to a person goes through [`describe`] (`tests/layers.rs` holds error types to it).

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt::{self, Display, Formatter};

use sqlx::error::{DatabaseError, ErrorKind};
use sqlx::postgres::{PgDatabaseError, PgErrorPosition};

/// SQLSTATEs (a NULL where none may be, a check) whose detail is the whole row, with everything in it
/// that is nobody's business. The range says which row it is.
const WHOLE_ROW: [&str; 2] = ["23502", "23514"];

/// What to do about errors of which the server itself gives no hint: the SQLSTATE, words of the message that no
/// translation has other, and the hint.
const HINTS: [(&str, &str, &str); 1] = [(
    "42P10",
    "ON CONFLICT",
    "it takes a unique index on exactly these columns and expressions, and with a WHERE of which the statement \
     repeats the condition: build one before (CREATE UNIQUE INDEX CONCURRENTLY in the expand step), or name the \
     columns of one that is there",
)];

/// The error for people: message, SQLSTATE, constraint and table where the message names neither,
/// detail, hint, the function in which it happened, and where in the author's file. One line without
/// control characters.
pub fn describe(err: &sqlx::Error) -> String {
    match parts(err) {
        Ok((error, place)) => full(error, place),
        Err(text) => text,
    }
}

/// As [`describe`], without the detail, which holds values of a row: for what is logged about
/// shoppers' requests.
pub fn summarize(err: &sqlx::Error) -> String {
    match parts(err) {
        Ok((error, _)) => brief(error),
        Err(text) => text,
    }
}

/// The database's error and its place, or the text of any other error.
fn parts(err: &sqlx::Error) -> Result<(&PgDatabaseError, Option<&str>), String> {
    let sqlx::Error::Database(database) = err else {
        return Err(plain(&err.to_string()));
    };
    if let Some(Placed { error, place }) = database.try_downcast_ref() {
        return Ok((error, Some(place)));
    }
    let error = database.try_downcast_ref();
    error
        .map(|error| (error, None))
        .ok_or_else(|| plain(database.message()))
}

/// Message, SQLSTATE, constraint and table.
fn brief(error: &PgDatabaseError) -> String {
    let message = plain(error.message());
    let named = |what: &str, name: Option<&str>| {
        let name = name.filter(|name| !message.contains(&format!("\"{name}\"")));
        name.map_or_else(String::new, |name| format!(", {what} \"{name}\""))
    };
    format!(
        "{message} (SQLSTATE {}{}{})",
        error.code(),
        named("constraint", error.constraint()),
        named("table", error.table()),
    )
}

fn full(error: &PgDatabaseError, place: Option<&str>) -> String {
    let mut text = brief(error);
    let sentence = |part: &str| plain(part).trim_end_matches('.').to_owned();
    // The innermost of the functions that called each other; other contexts repeat what is known.
    let function = error.r#where().and_then(|calls| calls.lines().next());
    for (before, part) in [
        (
            "; ",
            error
                .detail()
                .filter(|_| !WHOLE_ROW.contains(&error.code())),
        ),
        ("; hint: ", error.hint().or_else(|| hint(error))),
        ("; in ", function.filter(|call| call.contains(" function "))),
        ("; in ", place),
    ] {
        if let Some(part) = part.map(sentence).filter(|part| !part.is_empty()) {
            text.push_str(before);
            text.push_str(&part);
        }
    }
    text
}

fn hint(error: &PgDatabaseError) -> Option<&'static str> {
    let fits = |code: &str, words: &str| error.code() == code && error.message().contains(words);
    let mut hints = HINTS.into_iter();
    hints.find_map(|(code, words, hint)| fits(code, words).then_some(hint))
}

/// Characters of one part of an error at most: a trigger can raise megabytes.
const LONGEST: usize = 1_000;

/// In one line, without what a terminal would obey, and cut where it is very long.
fn plain(text: &str) -> String {
    let cut = text.char_indices().nth(LONGEST).map(|(at, _)| at);
    let words = text[..cut.unwrap_or(text.len())].split(|c: char| c.is_control());
    let words = words.filter(|word| !word.is_empty());
    let mut plain = words.collect::<Vec<_>>().join(" ");
    if cut.is_some() {
        plain.push_str(" […]");
    }
    plain
}

/// A database error of which it is known where in a person's file it comes from.
#[derive(Debug)]
pub struct Placed {
    error: Box<PgDatabaseError>,
    place: String,
}

/// Adds to `err` what `place` makes of its position in the SQL that was sent, which it gets as a
/// number of characters from 0; `None` of an error that has none. An error of which `place` knows
/// nothing stays as it is.
pub fn placed(
    err: sqlx::Error,
    place: impl FnOnce(Option<usize>) -> Option<String>,
) -> sqlx::Error {
    let sqlx::Error::Database(database) = err else {
        return err;
    };
    match database.try_downcast::<PgDatabaseError>() {
        Err(other) => sqlx::Error::Database(other),
        Ok(error) => {
            let at = match error.position() {
                Some(PgErrorPosition::Original(from_one)) => from_one.checked_sub(1),
                _ => None,
            };
            match place(at) {
                Some(place) => sqlx::Error::Database(Box::new(Placed { error, place })),
                None => sqlx::Error::Database(error),
            }
        }
    }
}

impl Display for Placed {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&full(&self.error, Some(&self.place)))
    }
}

impl StdError for Placed {}

/// As the error that it wraps, so that its SQLSTATE decides what it decided before.
impl DatabaseError for Placed {
    fn message(&self) -> &str {
        self.error.message()
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(self.error.code()))
    }

    fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
        self
    }

    fn constraint(&self) -> Option<&str> {
        self.error.constraint()
    }

    fn table(&self) -> Option<&str> {
        self.error.table()
    }

    fn kind(&self) -> ErrorKind {
        self.error.kind()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(plain("a\nb\u{1b}[1m"), "a b [1m");
        let long = plain(&"é".repeat(LONGEST + 1));
        assert_eq!(long, "é".repeat(LONGEST) + " […]");
        let fits = "é".repeat(LONGEST);
        assert_eq!(plain(&fits), fits);
    }
}
