//! What only psql understands: its commands, its variables and the data of COPY.

use std::ops::Range;

use super::variable::{Colons, named};
use super::{Kind, Token, end_of_line, position, token_at};

/// What only psql understands of a script.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Psql {
    /// What was found, in order; each name once.
    pub found: Vec<Found>,
}

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

impl Found {
    /// Whether it is a variable and not a command or data.
    pub fn is_variable(&self) -> bool {
        self.name.starts_with(':')
    }

    fn is_harmless(&self) -> bool {
        HARMLESS.contains(&self.name.as_str())
    }
}

/// Commands of psql that a dump begins and ends with, and that run nothing.
const HARMLESS: [&str; 3] = ["\\restrict", "\\unrestrict", DATA];
/// The name of the rows that follow COPY … FROM stdin.
pub const DATA: &str = "the data of COPY";

impl Psql {
    /// One sentence about what was found and could run or stand for anything; `None` when there is
    /// nothing of the kind. The line is that of the first.
    pub fn unseen(&self) -> Option<(usize, String)> {
        let line = self.found.iter().find(|found| !found.is_harmless())?.line;
        let names = self.names(|found| !found.is_harmless());
        let sentence = format!(
            "{names} {} understood by psql alone: what they run, and what stands for them, is not \
             looked at",
            if names.contains(" and ") { "are" } else { "is" }
        );
        Some((line, sentence))
    }

    /// One sentence about what was found and is left out without any effect.
    pub fn left_out(&self) -> Option<String> {
        let names = self.names(Found::is_harmless);
        let is_plural = names.contains(" and ");
        (!names.is_empty()).then(|| {
            format!(
                "{names} {} psql's own and run nothing, so {} not looked at; any other tool than \
                 psql needs the file without",
                if is_plural { "are" } else { "is" },
                if is_plural { "they are" } else { "it is" },
            )
        })
    }

    fn names(&self, which: impl Fn(&Found) -> bool) -> String {
        let named = self.found.iter().filter(|found| which(found));
        let named = named.map(|found| format!("{} (line {})", found.name, found.line));
        let mut named: Vec<_> = named.collect();
        let last = named.pop().unwrap_or_default();
        match named.is_empty() {
            true => last,
            false => format!("{} and {last}", named.join(", ")),
        }
    }
}

/// `text` without what only psql understands, every byte of the rest where it was, and what that is.
pub fn strip(text: &str) -> (String, Psql) {
    let mut reader = Reader {
        text,
        at: 0,
        blanks: Vec::new(),
        found: Vec::new(),
    };
    reader.read();
    let mut sql = text.as_bytes().to_vec();
    for (range, instead) in reader.blanks {
        for (place, byte) in sql.iter_mut().enumerate().take(range.end).skip(range.start) {
            if !matches!(byte, b'\n' | b'\r') {
                let kept = instead.as_bytes().get(place - range.start);
                *byte = kept.copied().unwrap_or(b' ');
            }
        }
    }
    let sql = String::from_utf8(sql).unwrap_or_else(|_| text.to_owned());
    let found = reader.found;
    (sql, Psql { found })
}

/// Commands that send what was written before them, as a semicolon does.
const SENDING: [&str; 8] = [
    "\\g",
    "\\gx",
    "\\gexec",
    "\\gset",
    "\\gdesc",
    "\\watch",
    "\\crosstabview",
    "\\parse",
];
/// Commands that take the rest of their line as it is.
const WHOLE_LINE: [&str; 8] = [
    "\\copy", "\\!", "\\h", "\\help", "\\ef", "\\ev", "\\sf", "\\sv",
];

struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// What is replaced, and by what; spaces make up the length.
    blanks: Vec<(Range<usize>, &'static str)>,
    found: Vec<Found>,
}

impl Reader<'_> {
    fn read(&mut self) {
        let mut colons = Colons::default();
        // The words of the statement so far that tell COPY … FROM stdin from others.
        let mut copy = Copying::default();
        while let Some(token) = token_at(self.text, self.at) {
            self.at = token.end();
            let is_variable = colons.pass(&token);
            let mut is_sent = token.kind == Kind::Mark(';');
            match token.kind {
                Kind::Mark('\\') => is_sent = self.command(token.at),
                Kind::Mark(':') if is_variable => self.variable(token.at),
                _ => copy.pass(&token),
            }
            if is_sent {
                if copy.reads() {
                    self.data(DATA);
                }
                copy = Copying::default();
            }
        }
    }

    fn note(&mut self, name: &str, at: usize) {
        if !self.found.iter().any(|found| found.name == name) {
            self.found.push(Found {
                name: name.to_owned(),
                at,
                line: position(self.text, at).line,
            });
        }
    }

    /// Blanks the command at the byte `at`; whether it sends the statement before it.
    fn command(&mut self, at: usize) -> bool {
        let rest = self.text.get(at..).unwrap_or_default();
        let line = rest.split(['\n', '\r']).next().unwrap_or_default();
        let behind = line.get(1..).unwrap_or_default();
        let end = match behind.chars().next() {
            // These stand for themselves.
            Some(';' | ':') => {
                self.blanks.push((at..at + 1, ""));
                self.at = at + 2;
                return false;
            }
            Some('\\' | '!') => 2,
            _ => behind
                .find(|c: char| c.is_whitespace() || c == '\\')
                .map_or(line.len(), |n| n + 1),
        };
        let name = line.get(..end).unwrap_or(line).to_owned();
        let length = match name.as_str() {
            "\\\\" => end,
            name if WHOLE_LINE.contains(&name) => line.len(),
            _ => end + arguments(line.get(end..).unwrap_or_default()),
        };
        let is_sending = SENDING.contains(&name.as_str());
        let instead = if is_sending { ";" } else { "" };
        self.blanks.push((at..at + length, instead));
        self.at = at + length;
        if name != "\\\\" {
            self.note(&name, at);
        }
        if name == "\\copy" {
            let words = super::tokens(line.get(end..).unwrap_or_default());
            let words = words.iter().filter(|token| !token.is_trivia());
            let words: Vec<_> = words.collect();
            let reads = words
                .windows(2)
                .any(|w| w[0].is_word("FROM") && w[1].is_word("STDIN"));
            if reads {
                self.data("\\copy");
            }
        }
        is_sending
    }

    fn variable(&mut self, at: usize) {
        let Some(next) = token_at(self.text, at + 1) else {
            return;
        };
        if !named(&next) {
            return;
        }
        if next.kind == Kind::Mark('{') {
            let rest = self.text.get(at..).unwrap_or_default();
            let length = rest.find('}').map_or(rest.len(), |end| end + 1);
            self.note(rest.get(..length).unwrap_or(rest), at);
            self.blanks.push((at..at + length, "true"));
            self.at = at + length;
            return;
        }
        self.note(&format!(":{}", next.text), at);
        // A name, a string or a quoted name is left, so that the statement can be parsed.
        let instead = if next.kind == Kind::Word { "_" } else { "" };
        self.blanks.push((at..at + 1, instead));
        self.at = next.end();
    }

    /// Blanks the rows below the line in which the reader is, up to `\.`.
    fn data(&mut self, name: &str) {
        let text = self.text;
        // What follows in this line is SQL to psql; hardly anybody writes any.
        let begin = end_of_line(text, self.at);
        let mut end = begin;
        while end < text.len() {
            let line = end;
            end = end_of_line(text, line);
            if text.get(line..end).unwrap_or_default().trim_end() == "\\." {
                break;
            }
        }
        if end > begin {
            self.note(name, begin);
            self.blanks.push((begin..end, ""));
            self.at = end;
        }
    }
}

/// The length of a command's arguments: up to the next backslash outside quotes, or to the end.
fn arguments(line: &str) -> usize {
    let mut quote = None;
    for (at, character) in line.char_indices() {
        match (quote, character) {
            (None, '\\') => return at,
            (None, '\'' | '"' | '`') => quote = Some(character),
            (Some(open), character) if open == character => quote = None,
            _ => {}
        }
    }
    line.len()
}

/// Tells COPY … FROM stdin from other statements.
#[derive(Default)]
struct Copying {
    is_other: bool,
    is_copy: bool,
    depth: usize,
    is_from: bool,
    reads: bool,
}

impl Copying {
    fn pass(&mut self, token: &Token<'_>) {
        if token.is_trivia() || self.is_other {
            return;
        }
        if !self.is_copy {
            self.is_copy = token.is_word("COPY");
            self.is_other = !self.is_copy;
            return;
        }
        match token.kind {
            Kind::Mark('(') => self.depth += 1,
            Kind::Mark(')') => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.reads |= self.is_from && token.is_word("STDIN");
        self.is_from = self.depth == 0 && token.is_word("FROM");
    }

    fn reads(&self) -> bool {
        self.reads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_variables_and_data_are_blanked_in_place() {
        for (text, sql, found) in [
            (
                "\\restrict aB3\n\nSELECT 1;\n\\unrestrict aB3\n",
                "\n\nSELECT 1;\n\n",
                vec![("\\restrict", 1), ("\\unrestrict", 4)],
            ),
            (
                "SELECT '\\set' \\gexec\nSELECT 2",
                "SELECT '\\set' ;\nSELECT 2",
                vec![("\\gexec", 1)],
            ),
            (
                "\\set a 'x\\y' \\\\ SELECT 1;",
                "SELECT 1;",
                vec![("\\set", 1)],
            ),
            ("SELECT 1\\; SELECT 2;", "SELECT 1 ; SELECT 2;", vec![]),
            ("\\i other.sql\n\\i third.sql", "\n", vec![("\\i", 1)]),
            ("\\! rm 'x\nSELECT 1", "\nSELECT 1", vec![("\\!", 1)]),
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
                "\n\n\nSELECT 1",
                vec![("\\copy", 1)],
            ),
            (
                "SELECT :x, :'y', :\"z\", a[:n], b::int, :{?w}, ':no' FROM t",
                "SELECT _x,  'y',  \"z\", a[:n], b::int, true , ':no' FROM t",
                vec![(":x", 1), (":'y'", 1), (":\"z\"", 1), (":{?w}", 1)],
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
            let names: Vec<_> = psql
                .found
                .iter()
                .map(|f| (f.name.as_str(), f.line))
                .collect();
            assert_eq!(names, found, "{text}");
        }
    }

    #[test]
    fn what_was_found_is_named_once() {
        let (_, script) =
            strip("\\restrict a\n\\set b 1\n\\i c\n\\i d\nSELECT :b;\n\\unrestrict a\n");
        let (line, sentence) = script.unseen().expect("commands");
        assert_eq!(line, 2);
        assert!(
            sentence.starts_with("\\set (line 2), \\i (line 3) and :b (line 5) are"),
            "{sentence}"
        );
        let note = script.left_out().expect("restrict");
        assert!(
            note.starts_with("\\restrict (line 1) and \\unrestrict (line 6) are"),
            "{note}"
        );
        let (_, dump) = strip("\\restrict a\nSELECT 1;\n\\unrestrict a\n");
        assert_eq!(dump.unseen(), None);
        assert_eq!(strip("SELECT 1;").1.left_out(), None);
    }
}
