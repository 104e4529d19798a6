//! What only psql understands: its commands, its variables and the rows below COPY … FROM stdin.

use std::ops::Range;

use super::{Token, end_of_line, position, token_at, tokens, variables};

/// What only psql understands of a script, in order; each name once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Psql(pub Vec<Found>);

/// Something that only psql understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// A command with its backslash, a variable with its colon, or [`DATA`].
    pub name: String,
    /// The byte at which it first begins.
    pub at: usize,
    /// The line of that, from 1.
    pub line: usize,
}

/// The name of the rows that follow COPY … FROM stdin.
pub const DATA: &str = "the data of COPY";
/// What a dump consists of and what runs nothing.
const HARMLESS: [&str; 3] = ["\\restrict", "\\unrestrict", DATA];

impl Psql {
    /// What could run or stand for anything, in one sentence, and the line of the first; `None` when
    /// there is nothing of the kind.
    pub fn unseen(&self) -> Option<(usize, String)> {
        let (line, names) = self.names(false)?;
        let what = "understood by psql alone: what runs, and what stands there, is not looked at";
        Some((line, format!("{names}: {what}")))
    }

    /// What is left out without any effect, in one sentence.
    pub fn left_out(&self) -> Option<String> {
        let (_, names) = self.names(true)?;
        Some(format!(
            "{names}: psql's own, left out; no other tool takes the file with it"
        ))
    }

    fn names(&self, harmless: bool) -> Option<(usize, String)> {
        let named = self.0.iter();
        let named = named.filter(|found| HARMLESS.contains(&found.name.as_str()) == harmless);
        let line = named.clone().next()?.line;
        let named = named.map(|found| format!("{} (line {})", found.name, found.line));
        Some((line, named.collect::<Vec<_>>().join(", ")))
    }

    fn note(&mut self, text: &str, name: &str, at: usize) {
        if !self.0.iter().any(|found| found.name == name) {
            let (name, line) = (name.to_owned(), position(text, at).line);
            self.0.push(Found { name, at, line });
        }
    }
}

/// `text` without what only psql understands, every byte of the rest where it was, and what that is.
pub fn strip(text: &str) -> (String, Psql) {
    let mut found = Psql::default();
    let mut sql = text.as_bytes().to_vec();
    let mut statement = Vec::new();
    let mut at = 0;
    while let Some(token) = token_at(text, at) {
        let ends = match token.text {
            // `\;` is a semicolon.
            "\\" if !text[token.end()..].starts_with(';') => {
                let line = text[at..].split(['\n', '\r']).next().unwrap_or_default();
                let name = line.split_whitespace().next().unwrap_or_default();
                found.note(text, name, at);
                // What was written before it is sent, as by a semicolon.
                blank(&mut sql, at..at + line.len(), b';');
                at += line.len();
                if name == "\\copy" {
                    statement = tokens(&line[1..]);
                }
                true
            }
            _ => {
                at = token.end();
                token.text == ";"
            }
        };
        if !ends {
            statement.push(token);
            continue;
        }
        if reads_rows(&statement) {
            let begin = end_of_line(text, at);
            at = end_of_rows(text, begin);
            if at > begin {
                found.note(text, DATA, begin);
                blank(&mut sql, begin..at, b' ');
            }
        }
        statement.clear();
    }
    let rest = String::from_utf8_lossy(&sql).into_owned();
    for variable in variables(&tokens(&rest)) {
        found.note(text, &variable.text, variable.at);
        // What follows is left, so that the statement can be parsed.
        let is_word = variable.text[1..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
        let instead = if is_word { b'_' } else { b' ' };
        blank(&mut sql, variable.at..variable.at + 1, instead);
    }
    found.0.sort_by_key(|found| found.at);
    (String::from_utf8_lossy(&sql).into_owned(), found)
}

/// Replaces `range` by spaces, and its first byte by `first`; line breaks stay.
fn blank(sql: &mut [u8], range: Range<usize>, first: u8) {
    for (place, byte) in sql[range].iter_mut().enumerate() {
        if !matches!(byte, b'\n' | b'\r') {
            *byte = if place == 0 { first } else { b' ' };
        }
    }
}

/// Whether it is COPY … FROM stdin.
fn reads_rows(statement: &[Token<'_>]) -> bool {
    let mut words = statement.iter().filter(|token| !token.is_trivia());
    words.next().is_some_and(|first| first.is_word("COPY"))
        && words.any(|word| word.is_word("FROM"))
        && words.next().is_some_and(|word| word.is_word("STDIN"))
}

/// The byte behind the line `\.` that ends the rows which begin at the byte `at`, or the end.
fn end_of_rows(text: &str, mut at: usize) -> usize {
    while at < text.len() {
        let line = at;
        at = end_of_line(text, line);
        if text[line..at].trim_end() == "\\." {
            break;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_variables_and_rows_are_blanked_in_place() {
        for (text, sql, found) in [
            (
                "\\restrict aB3\n\nSELECT 1;\n\\unrestrict aB3\n",
                ";\n\nSELECT 1;\n;\n",
                vec![("\\restrict", 1), ("\\unrestrict", 4)],
            ),
            (
                "SELECT '\\set' \\gexec\nSELECT 2",
                "SELECT '\\set' ;\nSELECT 2",
                vec![("\\gexec", 1)],
            ),
            ("SELECT 1\\; SELECT 2;", "SELECT 1\\; SELECT 2;", vec![]),
            ("\\i other.sql\n\\i it's", ";\n;", vec![("\\i", 1)]),
            (
                "COPY t (a, \"from\") FROM stdin WITH (DELIMITER ',');\nit's, 1\n\\N\t2\n\\.\nSELECT 1;",
                "COPY t (a, \"from\") FROM stdin WITH (DELIMITER ',');\n\n\n\nSELECT 1;",
                vec![(DATA, 2)],
            ),
            (
                "copy t from STDIN \\g\n1\n\\.\r\nSELECT 1",
                "copy t from STDIN ;\n\n\r\nSELECT 1",
                vec![("\\g", 1), (DATA, 2)],
            ),
            (
                "COPY t TO stdout;\nSELECT 1;",
                "COPY t TO stdout;\nSELECT 1;",
                vec![],
            ),
            (
                "\\copy t from stdin csv\n1;'\n\\.\nSELECT 1",
                ";\n\n\nSELECT 1",
                vec![("\\copy", 1), (DATA, 2)],
            ),
            (
                "SELECT :x, :'y', :\"z\", a[:n], b::int, ':no' FROM t",
                "SELECT _x,  'y',  \"z\", a[:n], b::int, ':no' FROM t",
                vec![(":x", 1), (":'y'", 1), (":\"z\"", 1)],
            ),
            (
                "-- \\a :b\n/* \\c */ $$ \\d :e $$",
                "-- \\a :b\n/* \\c */ $$ \\d :e $$",
                vec![],
            ),
            ("", "", vec![]),
        ] {
            let (left, psql) = strip(text);
            assert_eq!(left.len(), text.len(), "{text}");
            let shown: Vec<_> = left.split('\n').map(str::trim).collect();
            let wanted: Vec<_> = sql.split('\n').map(str::trim).collect();
            assert_eq!(shown, wanted, "{text}");
            let names = psql.0.iter().map(|f| (f.name.as_str(), f.line));
            assert_eq!(names.collect::<Vec<_>>(), found, "{text}");
        }
    }
}
