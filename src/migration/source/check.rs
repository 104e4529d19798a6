//! What an author's SQL must not hold, wherever in a file it stands: what PostgreSQL would take for
//! something else than it looks like, what only psql understands, and what the engine needs itself.

use super::{BYTE_ORDER_MARK, Kind, Problem, Token, variables};

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
    if let Some(parameter) = tokens.iter().find(|token| token.kind == Kind::Parameter) {
        return Err(Problem::new(
            parameter.at,
            format!(
                "`{}` is a parameter, and nobody gives it a value: the engine has parameters of its \
                 own; write the value itself",
                parameter.text
            ),
        ));
    }
    let variables = variables(tokens);
    match variables.iter().find(|variable| variable.text != RANGE) {
        None => Ok(()),
        Some(variable) if variable.text.eq_ignore_ascii_case(RANGE) => Err(Problem::new(
            variable.at,
            format!("write `{RANGE}` in small letters, not `{}`", variable.text),
        )),
        Some(variable) => Err(Problem::new(
            variable.at,
            format!(
                "`{}` is a variable of psql, which does not run this file: write the value itself",
                variable.text
            ),
        )),
    }
}

/// Refuses what is wrong in the value of a header's key, which the engine puts between its own SQL.
///
/// # Errors
/// The first [`Problem`].
pub fn value(tokens: &[Token<'_>]) -> Result<(), Problem> {
    batched(tokens)?;
    let mut open = Vec::new();
    for token in tokens {
        let problem = match token.kind {
            Kind::LineComment => {
                "a comment within a header's value would hide the SQL that the \
                                  engine puts behind it; put it below an empty comment line"
            }
            Kind::Mark(';') => "a header's value is a part of a statement and has no `;`",
            Kind::Mark(mark @ ('(' | '[')) => {
                open.push(mark);
                continue;
            }
            Kind::Mark(mark @ (')' | ']')) if open.pop() != Some(opening(mark)) => {
                "this closes what nothing has opened"
            }
            Kind::Mark(':') if token.is_range_of(tokens) => {
                "`:range` belongs into the statement, and once is enough"
            }
            _ => continue,
        };
        return Err(Problem::new(token.at, problem));
    }
    match (open.pop(), tokens.last()) {
        (Some(mark), Some(last)) => Err(Problem::new(last.at, format!("a `{mark}` is not closed"))),
        _ => Ok(()),
    }
}

/// Where the first `:range` stands that is no text.
pub fn range(tokens: &[Token<'_>]) -> Option<usize> {
    let variables = variables(tokens);
    let range = variables.iter().find(|variable| variable.text == RANGE);
    range.map(|range| range.at)
}

fn opening(closing: char) -> char {
    if closing == ')' { '(' } else { '[' }
}

impl Token<'_> {
    fn is_range_of(&self, tokens: &[Token<'_>]) -> bool {
        let variables = variables(tokens);
        variables.iter().any(|variable| variable.at == self.at)
    }
}

fn token(token: &Token<'_>) -> Result<(), Problem> {
    match token.kind {
        Kind::Unterminated => {
            let (what, end) = match token.text {
                text if text.starts_with("/*") => ("comment", "*/"),
                text if text.starts_with('"') || text.ends_with('"') => ("quoted name", "\""),
                text if text.starts_with('$') => ("dollar-quoted string", "its own tag"),
                _ => ("string", "'"),
            };
            let text = format!("the {what} that begins here has no end; close it with {end}");
            Err(Problem::new(token.at, text))
        }
        Kind::Mark('\\') => Err(Problem::new(
            token.at,
            "a backslash begins a command of psql, which does not run this file: take it out",
        )),
        Kind::Word | Kind::Number | Kind::Mark(_) | Kind::Parameter => {
            let odd = token
                .text
                .char_indices()
                .find_map(|(at, c)| Some((at, c, odd(c)?)));
            match odd {
                None => Ok(()),
                Some((at, character, (what, instead))) => Err(Problem::new(
                    token.at + at,
                    format!(
                        "{what} (U+{:04X}) stands outside a string; {instead}",
                        u32::from(character)
                    ),
                )),
            }
        }
        _ => Ok(()),
    }
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
            ("f(x", 2, "is not closed"),
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
