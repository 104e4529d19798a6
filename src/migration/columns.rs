//! Which columns a simple UPDATE assigns, read from its text.
//!
//! Not a parser of SQL: whatever is not plainly `UPDATE the_table [AS alias] SET a = …, (b, c) = …` has
//! no columns that are known, and its author names them in the header.

/// A piece of a statement, outside comments and string literals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    /// A name, a keyword or a number; a quoted name with its quotes.
    Word(&'a str),
    /// Anything else.
    Mark(char),
}

use Token::{Mark, Word};

/// The columns that `statement` assigns when it is a plain UPDATE of `table`, as SQL spells them;
/// empty when it is anything else.
pub fn assigned(statement: &str, table: &str) -> Vec<String> {
    try_assigned(&tokens(statement), table).unwrap_or_default()
}

fn is(token: Option<&Token<'_>>, keyword: &str) -> bool {
    matches!(token, Some(Word(word)) if word.eq_ignore_ascii_case(keyword))
}

/// `None` when the tokens are not what they should be.
fn try_assigned(tokens: &[Token<'_>], table: &str) -> Option<Vec<String>> {
    if !is(tokens.first(), "UPDATE") {
        return None;
    }
    let mut at = if is(tokens.get(1), "ONLY") { 2 } else { 1 };
    let mut name = String::new();
    loop {
        let Some(Word(part)) = tokens.get(at) else {
            return None;
        };
        name.push_str(part);
        at += 1;
        if tokens.get(at) != Some(&Mark('.')) {
            break;
        }
        name.push('.');
        at += 1;
    }
    if !name.eq_ignore_ascii_case(table) {
        return None;
    }
    while !is(tokens.get(at), "SET") {
        at += 1;
        tokens.get(at)?;
    }
    let mut columns = Vec::new();
    loop {
        at += 1;
        match tokens.get(at)? {
            Word(column) => {
                columns.push((*column).to_owned());
                at += 1;
            }
            Mark('(') => {
                while tokens.get(at)? != &Mark(')') {
                    if let Word(column) = tokens[at] {
                        columns.push(column.to_owned());
                    }
                    at += 1;
                }
                at += 1;
            }
            Mark(_) => return None,
        }
        if tokens.get(at) != Some(&Mark('=')) {
            return None;
        }
        at = end_of_value(tokens, at);
        if tokens.get(at) != Some(&Mark(',')) {
            return Some(columns);
        }
    }
}

/// Where the value that begins at `at` ends: at a comma or a clause outside parentheses.
fn end_of_value(tokens: &[Token<'_>], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while let Some(token) = tokens.get(at) {
        match token {
            Mark('(' | '[') => depth += 1,
            Mark(')' | ']') => depth = depth.saturating_sub(1),
            Mark(',') if depth == 0 => return at,
            Word(_) if depth == 0 => {
                // `x IS DISTINCT FROM y` is part of a value.
                let distinct = at > 0 && is(tokens.get(at - 1), "DISTINCT");
                let clause = ["FROM", "WHERE", "RETURNING"];
                if clause.iter().any(|word| is(Some(token), word)) && !distinct {
                    return at;
                }
            }
            _ => {}
        }
        at += 1;
    }
    at
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if first.is_whitespace() {
            first.len_utf8()
        } else if rest.starts_with("--") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if first == '\'' {
            closing(rest, '\'')
        } else if first == '"' {
            let length = closing(rest, '"');
            tokens.push(Word(&rest[..length]));
            length
        } else if first.is_alphanumeric() || first == '_' {
            let word = |c: char| !(c.is_alphanumeric() || c == '_' || c == '$');
            let length = rest.find(word).unwrap_or(rest.len());
            tokens.push(Word(&rest[..length]));
            length
        } else {
            tokens.push(Mark(first));
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

/// The length of what begins with `quote` and ends with the next one; a doubled one begins another.
fn closing(text: &str, quote: char) -> usize {
    text[1..].find(quote).map_or(text.len(), |end| end + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_update_tells_its_columns() {
        for (statement, columns) in [
            ("UPDATE t SET a = 1 WHERE :range", vec!["a"]),
            (
                "update only s.T as q set a = f(1, 2), \"B c\" = 'x, y = ''z''', (d, e) = (SELECT 1, 2)\n\
                 FROM u WHERE :range",
                vec!["a", "\"B c\"", "d", "e"],
            ),
            (
                "UPDATE t -- SET x = 1\n SET a = b IS DISTINCT FROM c, d = 2 WHERE :range",
                vec!["a", "d"],
            ),
        ] {
            let table = if statement.contains("s.T") {
                "s.t"
            } else {
                "t"
            };
            assert_eq!(assigned(statement, table), columns, "{statement}");
        }
    }

    #[test]
    fn of_anything_else_nothing_is_known() {
        for statement in [
            "DELETE FROM t WHERE :range",
            "UPDATE u SET a = 1 WHERE :range",
            "WITH x AS (SELECT 1) UPDATE t SET a = 1 WHERE :range",
            "UPDATE t",
            "UPDATE t SET",
            "UPDATE t SET (a",
            "UPDATE t SET a[1] = 2 WHERE :range",
            "",
        ] {
            assert!(assigned(statement, "t").is_empty(), "{statement}");
        }
    }
}
