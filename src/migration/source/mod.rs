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

pub use place::{Position, breaks, end_of_line, excerpt, offset, only, place, position};
pub use variable::{Variable, variables};

use std::ops::Range;

use squawk_lexer::{LiteralKind, TokenKind, tokenize};

/// What some editors put at the beginning of a file in UTF-8.
pub const BYTE_ORDER_MARK: char = '\u{feff}';

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// White space.
    Space,
    /// `-- …`, without the end of its line.
    LineComment,
    /// `/* … */`, nested ones within it.
    BlockComment,
    /// A name or a keyword without quotes.
    Word,
    /// A name in double quotes.
    Quoted,
    /// A string of any kind.
    Text,
    /// A number.
    Number,
    /// `$1`
    Parameter,
    /// A string, quoted name or comment that the text ends in.
    Unterminated,
    /// Any other single character.
    Mark(char),
}

/// A piece of SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
            Kind::Space | Kind::LineComment | Kind::BlockComment
        )
    }

    /// Whether it is the keyword `word`.
    pub fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word)
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
    let rest = text.get(at..)?;
    let first = tokenize(rest).next()?;
    let mut length = first.len as usize;
    let mut kind = kind(first.kind, rest)?;
    // `E'…'` goes on behind a line break, and there, too, a backslash hides a quote.
    let is_escaped = matches!(
        first.kind,
        TokenKind::Literal {
            kind: LiteralKind::EscStr { terminated: true }
        }
    );
    while is_escaped && let Some(gap) = rest.get(length..).and_then(continuation) {
        length += gap;
        match rest.get(length..).and_then(end_of_escaped) {
            Some(end) => length += end,
            None => {
                kind = Kind::Unterminated;
                length = rest.len();
            }
        }
    }
    Some(Token {
        kind,
        at,
        text: rest.get(..length)?,
    })
}

fn kind(kind: TokenKind, rest: &str) -> Option<Kind> {
    Some(match kind {
        TokenKind::Eof => return None,
        // At the beginning of what it reads the lexer skips a byte-order mark; PostgreSQL never does.
        TokenKind::Whitespace if rest.starts_with(BYTE_ORDER_MARK) => Kind::Mark(BYTE_ORDER_MARK),
        TokenKind::Whitespace => Kind::Space,
        TokenKind::LineComment => Kind::LineComment,
        TokenKind::BlockComment { terminated: true } => Kind::BlockComment,
        TokenKind::Ident => Kind::Word,
        TokenKind::QuotedIdent {
            terminated: true, ..
        } => Kind::Quoted,
        TokenKind::BlockComment { .. } | TokenKind::QuotedIdent { .. } => Kind::Unterminated,
        TokenKind::PositionalParam { .. } => Kind::Parameter,
        TokenKind::Literal { kind } => match kind {
            LiteralKind::Int { .. } | LiteralKind::Numeric { .. } => Kind::Number,
            LiteralKind::Str { terminated }
            | LiteralKind::NationalStr { terminated }
            | LiteralKind::ByteStr { terminated }
            | LiteralKind::BitStr { terminated }
            | LiteralKind::DollarQuotedString { terminated }
            | LiteralKind::UnicodeEscStr { terminated }
            | LiteralKind::EscStr { terminated } => match terminated {
                true => Kind::Text,
                false => Kind::Unterminated,
            },
        },
        _ => Kind::Mark(rest.chars().next()?),
    })
}

/// The length of what stands between two parts of one string: white space with a line break, and
/// line comments.
fn continuation(rest: &str) -> Option<usize> {
    let mut length = 0;
    let mut has_break = false;
    for token in tokenize(rest) {
        match token.kind {
            TokenKind::Whitespace => {
                let space = rest.get(length..length + token.len as usize)?;
                has_break |= space.contains(['\n', '\r']);
            }
            TokenKind::LineComment => {}
            TokenKind::Literal {
                kind: LiteralKind::Str { .. },
            } if has_break => return Some(length),
            _ => return None,
        }
        length += token.len as usize;
    }
    None
}

/// The length of the string that begins with a quote and in which a backslash hides the next
/// character; `None` when it has no end.
fn end_of_escaped(rest: &str) -> Option<usize> {
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => {
                characters.next();
            }
            '\'' if characters.peek().is_some_and(|(_, next)| *next == '\'') => {
                characters.next();
            }
            '\'' => return Some(at + 1),
            _ => {}
        }
    }
    None
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
            Kind::Space => is_first |= token.text.contains(['\n', '\r']),
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
    fn words(text: &str) -> Vec<(Kind, &str)> {
        let all = tokens(text);
        assert_eq!(all.iter().map(|t| t.text).collect::<String>(), text);
        let words = all.into_iter().filter(|token| token.kind != Kind::Space);
        words.map(|token| (token.kind, token.text)).collect()
    }

    #[test]
    fn strings_names_and_comments_are_single_tokens() {
        for (text, kind) in [
            ("'a;b''c\n:range'", Kind::Text),
            ("'C:\\'", Kind::Text),
            ("E'it\\'s; \\\\'", Kind::Text),
            ("e'a'\n  -- between\n  'b\\'; c'", Kind::Text),
            ("U&'\\0441;'", Kind::Text),
            ("N'a;'", Kind::Text),
            ("B'01'", Kind::Text),
            ("x'1F'", Kind::Text),
            ("$$a; 'b $x$ c$$", Kind::Text),
            ("$tag$a; $ta$ $$ $tagg$ b$tag$", Kind::Text),
            ("$größe$;$größe$", Kind::Text),
            ("\"a;\"\"b -- c\"", Kind::Quoted),
            ("U&\"d\\0061t;\"", Kind::Quoted),
            ("/* a; /* b */ c; */", Kind::BlockComment),
            ("-- it's; /* no", Kind::LineComment),
            ("naïve$1", Kind::Word),
            ("1.5e-3", Kind::Number),
            ("$12", Kind::Parameter),
            ("'no end", Kind::Unterminated),
            ("E'a'\n'b\\'", Kind::Unterminated),
            ("\"no end", Kind::Unterminated),
            ("$a$ no end $b$", Kind::Unterminated),
            ("/* /* no end */", Kind::Unterminated),
        ] {
            assert_eq!(words(text), [(kind, text)], "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_a_string_is_none() {
        let mark = Kind::Mark;
        for (text, wanted) in [
            ("1;", vec![(Kind::Number, "1"), (mark(';'), ";")]),
            (
                "a::text",
                vec![
                    (Kind::Word, "a"),
                    (mark(':'), ":"),
                    (mark(':'), ":"),
                    (Kind::Word, "text"),
                ],
            ),
            (
                "a ?& b",
                vec![
                    (Kind::Word, "a"),
                    (mark('?'), "?"),
                    (mark('&'), "&"),
                    (Kind::Word, "b"),
                ],
            ),
            ("a$b$c", vec![(Kind::Word, "a$b$c")]),
            // Parts of a plain string are strings of their own: no backslash hides a quote in them.
            (
                "'a'\n'b\\'",
                vec![(Kind::Text, "'a'"), (Kind::Text, "'b\\'")],
            ),
            // Without a line break the second is no part of the first.
            (
                "E'a' 'b\\'",
                vec![(Kind::Text, "E'a'"), (Kind::Text, "'b\\'")],
            ),
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
