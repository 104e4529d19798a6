//! The one statement of a backfill, or of its way back.

use super::RANGE;
use crate::migration::source::{Problem, Token, check, tokens, variables};

/// How a statement may begin.
const VERBS: [&str; 4] = ["UPDATE", "DELETE", "INSERT", "WITH"];

/// A statement and its place in the file.
#[derive(Debug, Default)]
pub(super) struct Statement {
    /// From its first word to its last, without comments around it.
    pub text: String,
    /// The byte of its first word.
    pub at: usize,
    /// The byte of `:range`.
    pub range: usize,
}

/// The statement of `text`, in which everything is blank that does not belong to it; without one the
/// byte `near` is named.
pub(super) fn read(text: &str, near: usize) -> Result<Statement, Problem> {
    let tokens = tokens(text);
    check::batched(&tokens)?;
    let words: Vec<_> = tokens.iter().filter(|token| !token.is_trivia()).collect();
    let end = words.iter().position(|token| token.text == ";");
    let end = end.unwrap_or(words.len());
    let (own, rest) = words.split_at(end);
    let (Some(first), Some(last)) = (own.first(), own.last()) else {
        return Err(Problem::new(
            near,
            "there is no statement below; write one UPDATE, DELETE, INSERT or WITH",
        ));
    };
    if let Some(second) = rest.iter().find(|token| token.text != ";") {
        return Err(Problem::new(
            second.at,
            format!(
                "there is more than one statement; a second one begins here, with `{}`: split it \
                 into several files",
                second.text
            ),
        ));
    }
    refuse_verb(first)?;
    Ok(Statement {
        text: text
            .get(first.at..last.end())
            .unwrap_or_default()
            .to_owned(),
        at: first.at,
        range: range(&tokens, first.at)?,
    })
}

fn refuse_verb(first: &Token<'_>) -> Result<(), Problem> {
    if VERBS.iter().any(|verb| first.is_word(verb)) {
        return Ok(());
    }
    let text = format!(
        "the statement begins with `{}`; a background migration is one UPDATE, DELETE, INSERT or \
         WITH statement. Schema changes belong under `-- step: expand` or `-- step: contract`",
        first.text
    );
    Err(Problem::new(first.at, text))
}

/// Where the one `:range` stands.
fn range(tokens: &[Token<'_>], statement: usize) -> Result<usize, Problem> {
    let variables = variables(tokens);
    let ranges: Vec<_> = variables
        .iter()
        .filter(|variable| variable.text == RANGE)
        .collect();
    match ranges.as_slice() {
        [one] => Ok(one.at),
        [] => Err(Problem::new(
            statement,
            format!(
                "the statement has no `{RANGE}`; write `WHERE {RANGE}` where the engine is to put \
                 the key range (in a string or a comment it is only text)"
            ),
        )),
        [_, second, ..] => Err(Problem::new(
            second.at,
            format!(
                "the statement has `{RANGE}` {} times; once is enough",
                ranges.len()
            ),
        )),
    }
}
