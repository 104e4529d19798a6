//! What an author's SQL must not hold, wherever in a file it stands: what PostgreSQL would take for
//! something else than it looks like, what only psql understands, and what the engine needs itself.

use squawk_lexer::LiteralKind;

use super::{BYTE_ORDER_MARK, Kind, Problem, Token, Variable, variables};

/// Where the engine puts the range.
pub const RANGE: &str = ":range";

/// Refuses what is wrong in a statement or in a part of one.
///
/// # Errors
/// The first [`Problem`].
pub fn sql(tokens: &[Token<'_>]) -> Result<(), Problem> {
    tokens.iter().try_for_each(token)
}

/// As [`sql`], of what the engine runs in batches, or puts into such a statement: it has parameters
/// of its own, and only `:range` stands for something.
///
/// # Errors
/// The first [`Problem`].
pub fn batched(tokens: &[Token<'_>]) -> Result<(), Problem> {
    sql(tokens)?;
    let is_parameter = |token: &&Token<'_>| matches!(token.kind, Kind::PositionalParam { .. });
    if let Some(Token { at, text, .. }) = tokens.iter().find(is_parameter) {
        let text = format!(
            "`{text}` is a parameter, and nobody gives it a value: the engine has parameters of its \
             own; write the value itself"
        );
        return Err(Problem::new(*at, text));
    }
    let mut variables = variables(tokens).into_iter();
    match variables.find(|variable| variable.text != RANGE) {
        None => Ok(()),
        Some(Variable { at, text }) if text.eq_ignore_ascii_case(RANGE) => Err(Problem::new(
            at,
            format!("write `{RANGE}` in small letters, not `{text}`"),
        )),
        Some(variable) => Err(unknown(&variable)),
    }
}

/// What is wrong with a variable that psql would know.
pub fn unknown(Variable { at, text }: &Variable) -> Problem {
    let text = format!(
        "`{text}` is a variable of psql, which does not run this file: write the value itself"
    );
    Problem::new(*at, text)
}

/// Refuses what is wrong in the value of a header's key, which the engine puts between its own SQL.
///
/// # Errors
/// The first [`Problem`].
pub fn value(tokens: &[Token<'_>]) -> Result<(), Problem> {
    batched(tokens)?;
    if let Some(at) = range(tokens) {
        return Err(Problem::new(
            at,
            "`:range` belongs into the statement, and once is enough",
        ));
    }
    let mut open = Vec::new();
    for token in tokens {
        let problem = match token.text {
            "(" | "[" => {
                open.push(token);
                continue;
            }
            ")" if open.pop().is_none_or(|opening| opening.text != "(") => CLOSES_NOTHING,
            "]" if open.pop().is_none_or(|opening| opening.text != "[") => CLOSES_NOTHING,
            ";" => "a header's value is a part of a statement and has no `;`",
            _ if token.kind == Kind::LineComment => {
                "a comment within a header's value would hide the SQL that the engine puts behind \
                 it; put it below an empty comment line"
            }
            _ => continue,
        };
        return Err(Problem::new(token.at, problem));
    }
    open.pop().map_or(Ok(()), |opening| {
        let text = format!("this `{}` is not closed", opening.text);
        Err(Problem::new(opening.at, text))
    })
}

const CLOSES_NOTHING: &str = "this closes what nothing has opened";

/// Where the first `:range` stands that is no text.
pub fn range(tokens: &[Token<'_>]) -> Option<usize> {
    let mut variables = variables(tokens).into_iter();
    let range = variables.find(|variable| variable.text == RANGE);
    range.map(|range| range.at)
}

fn token(token: &Token<'_>) -> Result<(), Problem> {
    if let Some((what, end)) = without_end(token.kind) {
        let text = format!("the {what} that begins here has no end; close it with {end}");
        return Err(Problem::new(token.at, text));
    }
    match token.kind {
        Kind::LineComment | Kind::BlockComment { .. } | Kind::QuotedIdent { .. } => Ok(()),
        Kind::Literal {
            kind: LiteralKind::Int { .. } | LiteralKind::Numeric { .. },
        } => plain(token),
        Kind::Literal { .. } => Ok(()),
        _ if token.text == "\\" => Err(Problem::new(
            token.at,
            "a backslash begins a command of psql, which does not run this file: take it out",
        )),
        _ => plain(token),
    }
}

/// What a token is that the text ends in, and what would have ended it.
fn without_end(kind: Kind) -> Option<(&'static str, &'static str)> {
    Some(match kind {
        Kind::BlockComment { terminated: false } => ("comment", "*/"),
        Kind::QuotedIdent {
            terminated: false, ..
        } => ("quoted name", "\""),
        Kind::Literal { kind } => match kind {
            LiteralKind::DollarQuotedString { terminated: false } => {
                ("dollar-quoted string", "its own tag")
            }
            LiteralKind::Str { terminated: false }
            | LiteralKind::NationalStr { terminated: false }
            | LiteralKind::ByteStr { terminated: false }
            | LiteralKind::BitStr { terminated: false }
            | LiteralKind::UnicodeEscStr { terminated: false }
            | LiteralKind::EscStr { terminated: false } => ("string", "'"),
            _ => return None,
        },
        _ => return None,
    })
}

/// Refuses characters that are none of SQL's.
fn plain(token: &Token<'_>) -> Result<(), Problem> {
    let mut characters = token.text.char_indices();
    let found = characters.find_map(|(at, c)| Some((at, u32::from(c), odd(c)?)));
    found.map_or(Ok(()), |(at, code, (what, instead))| {
        let text = format!("{what} (U+{code:04X}) stands outside a string; {instead}");
        Err(Problem::new(token.at + at, text))
    })
}

/// What a character is that looks like a piece of SQL and is none, and what to do. PostgreSQL takes
/// most of them for letters of a name.
fn odd(character: char) -> Option<(&'static str, &'static str)> {
    Some(match character {
        BYTE_ORDER_MARK => ("a byte-order mark", "take it out"),
        '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{2064}' | '\u{AD}' => {
            ("an invisible character", "take it out")
        }
        '‘' | '’' | '‚' | '‛' | '′' | '´' | '＇' => ("a typographic quote", "write '"),
        '“' | '”' | '„' | '‟' | '″' | '«' | '»' | '＂' => {
            ("a typographic quote", "write \" or '")
        }
        '‐' | '‑' | '‒' | '–' | '—' | '―' | '−' | '－' => {
            ("a typographic dash", "write -")
        }
        '；' | '，' | '（' | '）' | '：' | '＝' | '．' | '＊' | '＋' | '＜' | '＞' => {
            ("a full-width character", "write the plain one")
        }
        '…' => ("an ellipsis", "write what it stands for"),
        ' ' | '\t' | '\n' | '\r' | '\u{B}' | '\u{C}' => return None,
        c if c.is_whitespace() => ("a space that is none to SQL", "write a plain one"),
        c if c.is_control() => ("a control character", "take it out"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tokens;
    use super::*;

    fn problem(of: fn(&[Token<'_>]) -> Result<(), Problem>, text: &str) -> Option<(usize, String)> {
        let checked = of(&tokens(text));
        checked.err().map(|problem| (problem.at, problem.text))
    }

    #[test]
    fn what_looks_like_sql_and_is_none_is_found_outside_strings() {
        for (text, at, said) in [
            ("a\u{a0}= 1", 1, "U+00A0"),
            ("a = ‘x’", 4, "write '"),
            ("a = “x”", 4, "write \" or '"),
            ("a – b", 2, "write -"),
            ("a = 1\u{feff}", 5, "byte-order mark"),
            ("a = \u{200b}1", 4, "invisible"),
            ("f（1）", 1, "full-width"),
            ("a\u{3000}b", 1, "U+3000"),
            ("a = \u{1}", 4, "control"),
            ("a = 'x", 4, "string that begins here has no end"),
            ("/* a", 0, "*/"),
            ("\"a", 0, "quoted name"),
            ("$x$ a", 0, "dollar-quoted"),
            ("\\set a 1", 0, "psql"),
        ] {
            let (found, message) = problem(sql, text).expect(text);
            assert_eq!(found, at, "{text}: {message}");
            assert!(message.contains(said), "{text}: {message}");
        }
        for fine in [
            "'a\u{a0}‘’—\\'",
            "$$“”$$",
            "/* – */",
            "-- …\n",
            "\"a\u{a0}b\"",
            "größe = 'é'",
        ] {
            assert_eq!(problem(sql, fine), None, "{fine}");
        }
    }

    #[test]
    fn what_a_batch_gives_no_value_is_refused() {
        for (text, at, said) in [
            ("a = $1", 4, "`$1` is a parameter"),
            ("a = :x", 4, "`:x` is a variable of psql"),
            ("a = :'x'", 4, "`:'x'` is a variable of psql"),
            ("a = :\"x\"", 4, "psql"),
            ("WHERE :RANGE", 6, "small letters"),
            ("WHERE :ranges", 6, "`:ranges` is a variable of psql"),
        ] {
            let (found, message) = problem(batched, text).expect(text);
            assert_eq!(found, at, "{text}");
            assert!(message.contains(said), "{text}: {message}");
        }
        for fine in [
            "a::range",
            "a[1:n]",
            "a[:n]",
            "':x $1'",
            "$$:x $1$$",
            "f(a := 1)",
            "f(a => 1)",
            "a ?| b AND c ? 'd' AND e @? '$.f'",
            "JSON_OBJECT('a':b, c :d)",
            "WHERE :range",
        ] {
            assert_eq!(problem(batched, fine), None, "{fine}");
        }
    }

    #[test]
    fn a_value_cannot_reach_beyond_itself() {
        for (text, at, said) in [
            ("x IS NULL -- really", 10, "comment"),
            ("x IS NULL;", 9, "no `;`"),
            ("x) OR (true", 1, "closes what"),
            ("f(x", 1, "is not closed"),
            ("a[1)", 3, "closes what"),
            (":range", 0, "belongs into the statement"),
        ] {
            let (found, message) = problem(value, text).expect(text);
            assert_eq!(found, at, "{text}");
            assert!(message.contains(said), "{text}: {message}");
        }
        assert_eq!(problem(value, "x /* a */ = ANY (b[1:2])"), None);
    }
}
