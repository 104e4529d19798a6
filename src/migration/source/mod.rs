//! The text of an author's file: how it is read, its tokens, and where in it something stands.
//!
//! - `encoding.rs`: from bytes to text, or a refusal.
//! - `check.rs`: what a statement or a header's value must not hold.
//! - `variable.rs`: `:range`, and what looks like it.
//! - `psql.rs`: what only psql understands.
//! - `place.rs`: where something stands.
//!
//! Tokens are those of PostgreSQL with `standard_conforming_strings` on, its default; the engine's
//! transactions set it. Places are byte offsets into the text; people are told lines and columns.

pub mod check;
pub mod encoding;
mod place;
pub mod psql;
mod variable;

pub use place::{Position, breaks, byte, end_of_line, excerpt, offset, only, place, position};
pub use variable::{Variable, variables};

use std::ops::Range;

use squawk_lexer::{LiteralKind, tokenize};

pub use squawk_lexer::TokenKind as Kind;

/// What some editors put at the beginning of a file in UTF-8.
pub const BYTE_ORDER_MARK: char = '\u{feff}';

/// A piece of SQL.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Token<'a> {
    /// What it is.
    pub kind: Kind,
    /// The byte at which it begins.
    pub at: usize,
    /// Its characters.
    pub text: &'a str,
}

impl Token<'_> {
    /// The byte behind it.
    pub fn end(&self) -> usize {
        self.at + self.text.len()
    }

    /// Whether PostgreSQL skips it.
    pub fn is_trivia(&self) -> bool {
        matches!(
            self.kind,
            Kind::Whitespace | Kind::LineComment | Kind::BlockComment { .. }
        )
    }

    /// Whether it is the keyword `word`.
    pub fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Ident && self.text.eq_ignore_ascii_case(word)
    }
}

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The byte that it is about.
    pub at: usize,
    /// A sentence: what is wrong and what to do.
    pub text: String,
}

impl Problem {
    /// `text` about the byte `at`.
    pub fn new(at: usize, text: impl Into<String>) -> Self {
        Self {
            at,
            text: text.into(),
        }
    }
}

/// The tokens of `text`, without gaps.
pub fn tokens(text: &str) -> Vec<Token<'_>> {
    tokens_in(text, 0..text.len())
}

/// The tokens of `range` of `text`.
pub fn tokens_in(text: &str, range: Range<usize>) -> Vec<Token<'_>> {
    let text = text.get(..range.end).unwrap_or(text);
    let mut found = Vec::new();
    let mut at = range.start;
    while let Some(token) = token_at(text, at) {
        at = token.end();
        found.push(token);
    }
    found
}

/// The token that begins at the byte `at`; `None` at the end.
fn token_at(text: &str, at: usize) -> Option<Token<'_>> {
    let rest = text.get(at..).filter(|rest| !rest.is_empty())?;
    let first = tokenize(rest).next()?;
    let (mut kind, mut length) = (first.kind, first.len as usize);
    // `E'…'` goes on behind a line break, and there, too, a backslash hides a quote.
    while let Kind::Literal {
        kind: LiteralKind::EscStr { terminated: true },
    } = kind
        && let Some(next) = rest.get(length..).and_then(continuation)
    {
        let part = tokenize(&format!("E{next}")).next()?;
        kind = part.kind;
        length = rest.len() - next.len() + part.len as usize - 1;
    }
    let text = rest.get(..length)?;
    Some(Token { kind, at, text })
}

/// What stands behind white space with a line break, when that is a string.
fn continuation(rest: &str) -> Option<&str> {
    let next = rest.trim_ascii_start();
    let gap = rest.get(..rest.len() - next.len())?;
    (gap.contains(['\n', '\r']) && next.starts_with('\'')).then_some(next)
}

/// A line comment that stands alone in its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comment<'a> {
    /// The byte of its first dash.
    pub at: usize,
    /// The byte behind it.
    pub end: usize,
    /// What follows the dashes, without white space around it.
    pub text: &'a str,
}

/// The line comments of `tokens` that stand alone in their lines, in order.
pub fn lone_comments<'a>(tokens: &[Token<'a>]) -> Vec<Comment<'a>> {
    let mut comments = Vec::new();
    let mut is_first = true;
    for token in tokens {
        match token.kind {
            Kind::Whitespace => is_first |= token.text.contains(['\n', '\r']),
            Kind::LineComment => {
                if is_first {
                    comments.push(Comment {
                        at: token.at,
                        end: token.end(),
                        text: token.text.trim_start_matches('-').trim(),
                    });
                }
                is_first = false;
            }
            _ => is_first = false,
        }
    }
    comments
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tokens of `text` without white space.
    fn words(text: &str) -> Vec<&str> {
        let all = tokens(text);
        assert_eq!(all.iter().map(|t| t.text).collect::<String>(), text);
        let words = all
            .into_iter()
            .filter(|token| token.kind != Kind::Whitespace);
        words.map(|token| token.text).collect()
    }

    #[test]
    fn strings_names_and_comments_are_single_tokens() {
        for text in [
            "'a;b''c\n:range'",
            "'C:\\'",
            "E'it\\'s; \\\\'",
            "e'a'\n  'b\\'; c'\r\n'd'",
            "U&'\\0441;'",
            "N'a;'",
            "B'01'",
            "x'1F'",
            "$$a; 'b $x$ c$$",
            "$tag$a; $ta$ $$ $tagg$ b$tag$",
            "$größe$;$größe$",
            "\"a;\"\"b -- c\"",
            "U&\"d\\0061t;\"",
            "/* a; /* b */ c; */",
            "-- it's; /* no",
            "naïve$1",
            "1.5e-3",
            "$12",
            "'no end",
            "E'a'\n'b\\'",
            "\"no end",
            "$a$ no end $b$",
            "/* /* no end */",
        ] {
            assert_eq!(words(text), [text]);
        }
    }

    #[test]
    fn what_only_looks_like_a_string_is_none() {
        for (text, wanted) in [
            ("1;", vec!["1", ";"]),
            ("a::text", vec!["a", ":", ":", "text"]),
            ("a ?& b", vec!["a", "?", "&", "b"]),
            ("a$b$c", vec!["a$b$c"]),
            // Parts of a plain string are strings of their own: no backslash hides a quote in them.
            ("'a'\n'b\\'", vec!["'a'", "'b\\'"]),
            // Without a line break the second is no part of the first.
            ("E'a' 'b\\'", vec!["E'a'", "'b\\'"]),
        ] {
            assert_eq!(words(text), wanted, "{text}");
        }
    }

    #[test]
    fn a_comment_alone_in_its_line_is_told_from_one_behind_sql() {
        let text = "  -- a\nSELECT 1; -- b\n'\n-- c\n' --d\r--  e \r\n/* x */ -- f";
        let found: Vec<_> = lone_comments(&tokens(text))
            .iter()
            .map(|c| c.text)
            .collect();
        assert_eq!(found, ["a", "e"]);
    }
}
