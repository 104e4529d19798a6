//! Which columns a simple UPDATE assigns, read from its text.
//!
//! Not a parser of SQL: whatever is not plainly `UPDATE the_table [AS alias] SET a = …, (b, c) = …` has
//! no columns that are known, and its author names them in the header.

use super::source::{Kind, Token, tokens};

/// The columns that `statement` assigns when it is a plain UPDATE of `table`, as SQL spells them;
/// empty when it is anything else.
pub fn assigned(statement: &str, table: &str) -> Vec<String> {
    try_assigned(&words(statement), &words(table)).unwrap_or_default()
}

/// The tokens of `text` that mean something.
fn words(text: &str) -> Vec<Token<'_>> {
    let mut words = tokens(text);
    words.retain(|token| !token.is_trivia());
    words
}

fn is(token: Option<&Token<'_>>, keyword: &str) -> bool {
    token.is_some_and(|token| token.is_word(keyword))
}

fn has(token: Option<&Token<'_>>, mark: char) -> bool {
    token.is_some_and(|token| token.kind == Kind::Mark(mark))
}

/// Whether two tokens of a name mean the same: without quotes, letters have no case.
fn same(a: &Token<'_>, b: &Token<'_>) -> bool {
    let name = |token: &Token<'_>| match token.text.strip_prefix('"') {
        Some(quoted) => quoted.trim_end_matches('"').to_owned(),
        None => token.text.to_lowercase(),
    };
    name(a) == name(b)
}

/// `None` when the tokens are not what they should be.
fn try_assigned(tokens: &[Token<'_>], table: &[Token<'_>]) -> Option<Vec<String>> {
    if !is(tokens.first(), "UPDATE") {
        return None;
    }
    let mut at = if is(tokens.get(1), "ONLY") { 2 } else { 1 };
    let named = tokens.get(at..at + table.len())?;
    let is_own = !table.is_empty() && named.iter().zip(table).all(|(a, b)| same(a, b));
    at += table.len();
    // A longer name is another table's.
    if !is_own || has(tokens.get(at), '.') {
        return None;
    }
    while !is(tokens.get(at), "SET") {
        at += 1;
        tokens.get(at)?;
    }
    let mut columns = Vec::new();
    loop {
        at += 1;
        let token = tokens.get(at)?;
        match token.kind {
            Kind::Word | Kind::Quoted => {
                columns.push(token.text.to_owned());
                at += 1;
            }
            Kind::Mark('(') => {
                at += 1;
                while !has(Some(tokens.get(at)?), ')') {
                    let column = tokens.get(at).filter(|token| token.kind != Kind::Mark(','));
                    columns.extend(column.map(|column| column.text.to_owned()));
                    at += 1;
                }
                at += 1;
            }
            _ => return None,
        }
        if !has(tokens.get(at), '=') {
            return None;
        }
        at = end_of_value(tokens, at);
        if !has(tokens.get(at), ',') {
            return Some(columns);
        }
    }
}

/// Where the value that begins at `at` ends: at a comma or a clause outside parentheses.
fn end_of_value(tokens: &[Token<'_>], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while let Some(token) = tokens.get(at) {
        match token.kind {
            Kind::Mark('(' | '[') => depth += 1,
            Kind::Mark(')' | ']') => depth = depth.saturating_sub(1),
            Kind::Mark(',') if depth == 0 => return at,
            Kind::Word if depth == 0 => {
                // `x IS DISTINCT FROM y` is part of a value.
                let distinct = at > 0 && is(tokens.get(at - 1), "DISTINCT");
                let clause = ["FROM", "WHERE", "RETURNING"];
                if clause.iter().any(|word| token.is_word(word)) && !distinct {
                    return at;
                }
            }
            _ => {}
        }
        at += 1;
    }
    at
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
            (
                "UPDATE \"t\" /* /* SET x = 1 */ , y = 2 */ SET a = $$, x = 1 WHERE $$, \
                 b = E'\\', y = 2 WHERE', c = (ARRAY[1, 2])[1] WHERE :range",
                vec!["a", "b", "c"],
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
            "UPDATE t.u SET a = 1 WHERE :range",
            "UPDATE \"T\" SET a = 1 WHERE :range",
            "UPDATE t SET a.b = 1 WHERE :range",
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
