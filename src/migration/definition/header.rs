//! The header: the line comments with which a file begins.

use std::ops::Range;

use crate::migration::source::{
    BYTE_ORDER_MARK, Kind, Problem, Token, breaks, check, offset, tokens, tokens_in,
};
use crate::migration::{change, undo};

/// What a header may say.
const KEYS: [&str; 10] = [
    "title",
    "owner",
    "table",
    "alias",
    "key",
    "where",
    "pending",
    "batch_first",
    "batch_max",
    "checksum",
];
/// Keys whose values are for people.
const PROSE: [&str; 2] = ["title", "owner"];
/// Keys whose values are numbers.
const NUMBERS: [&str; 2] = ["batch_first", "batch_max"];
/// Keys whose values are lists of columns.
const LISTS: [&str; 2] = ["key", "checksum"];

/// The keys of a header, each with the bytes of its value.
#[derive(Debug, Default)]
pub(super) struct Header<'a> {
    text: &'a str,
    values: Vec<(&'static str, Range<usize>)>,
}

impl<'a> Header<'a> {
    /// Reads the header of `text`; also the byte at which it ends.
    pub(super) fn read(text: &'a str) -> Result<(Self, usize), Problem> {
        let mut header = Self {
            text,
            values: Vec::new(),
        };
        let (lines, end) = lines(text);
        for (at, line) in lines {
            let content = line.trim_start_matches('-').trim();
            // An empty comment ends the header; what follows it is for people.
            if content.is_empty() {
                break;
            }
            header.line(at, content)?;
        }
        Ok((header, end))
    }

    fn line(&mut self, at: usize, line: &str) -> Result<(), Problem> {
        let refuse = |why: &str| Err(Problem::new(at, format!("`-- {line}` {why}")));
        let Some((name, value)) = line.split_once(':') else {
            return refuse(
                "in the header is not `-- key: value`; put comments below an empty comment line",
            );
        };
        let (name, value) = (name.trim(), value.trim());
        let Some(key) = KEYS.into_iter().find(|key| *key == name) else {
            let keys = KEYS.join(", ");
            let text = format!("`-- {name}:` is not known; the keys are {keys}");
            return Err(Problem::new(at, text));
        };
        if value.is_empty() {
            return refuse("has no value");
        }
        if self.range(key).is_some() {
            return refuse("has a key that appears twice");
        }
        if NUMBERS.contains(&key) && !value.parse::<u32>().is_ok_and(|n| n > 0) {
            return refuse("must be a whole number above zero");
        }
        let begin = offset(self.text, value);
        let range = begin..begin + value.len();
        if !PROSE.contains(&key) {
            check::value(&tokens_in(self.text, range.clone()))?;
        }
        if LISTS.contains(&key)
            && columns(self.text, range.clone())
                .iter()
                .any(Range::is_empty)
        {
            return refuse("names an empty column: take a comma out");
        }
        self.values.push((key, range));
        Ok(())
    }

    fn range(&self, key: &str) -> Option<Range<usize>> {
        let found = self.values.iter().find(|(known, _)| *known == key);
        found.map(|(_, range)| range.clone())
    }

    fn text(&self, range: Range<usize>) -> String {
        self.text.get(range).unwrap_or_default().to_owned()
    }

    /// Where the value of `key` begins.
    pub(super) fn at(&self, key: &str) -> Option<usize> {
        self.range(key).map(|range| range.start)
    }

    /// The value of `key`.
    pub(super) fn get(&self, key: &str) -> Option<String> {
        self.range(key).map(|range| self.text(range))
    }

    /// The value of `key`, which has to be there.
    pub(super) fn required(&self, key: &str) -> Result<String, Problem> {
        let lacking = || Problem::new(0, format!("the header lacks `-- {key}: …`"));
        self.get(key).ok_or_else(lacking)
    }

    /// The columns that `key` lists.
    pub(super) fn list(&self, key: &str) -> Vec<String> {
        let ranges = self.range(key).map(|range| columns(self.text, range));
        let ranges = ranges.unwrap_or_default().into_iter();
        ranges.map(|range| self.text(range)).collect()
    }

    /// The number that `key` has.
    pub(super) fn number(&self, key: &str) -> Option<u32> {
        self.get(key).and_then(|value| value.parse().ok())
    }

    /// What the engine puts into its SQL, each column of a list by itself.
    pub(super) fn sql(&self) -> Vec<(&'static str, Range<usize>)> {
        let values = self.values.iter();
        let values = values.filter(|(key, _)| !PROSE.contains(key) && !NUMBERS.contains(key));
        let values = values.flat_map(|(key, range)| {
            let parts = match LISTS.contains(key) {
                true => columns(self.text, range.clone()),
                false => vec![range.clone()],
            };
            parts.into_iter().map(|part| (*key, part))
        });
        values.collect()
    }
}

/// Whether `text` begins with the header of a definition.
pub fn is_definition(text: &str) -> bool {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let (lines, _) = lines(text);
    let mut keys = lines.iter().filter_map(|(_, line)| line.split_once(':'));
    keys.any(|(key, _)| key.trim_start_matches('-').trim() == "title")
}

/// The line comments with which `text` begins, each with its place, and where they end: at an empty
/// line, at a marker, or at anything else. Empty lines and `/* … */` may stand before.
fn lines(text: &str) -> (Vec<(usize, &str)>, usize) {
    let mut lines = Vec::new();
    let mut end = 0;
    for token in tokens(text) {
        match token.kind {
            Kind::LineComment if is_marker(&token) => break,
            Kind::LineComment => {
                lines.push((token.at, token.text));
                end = token.end();
            }
            _ if lines.is_empty() && token.is_trivia() => end = token.end(),
            Kind::Whitespace if breaks(token.text) < 2 => {}
            _ => break,
        }
    }
    (lines, end)
}

fn is_marker(comment: &Token<'_>) -> bool {
    let text = comment.text.trim_start_matches('-').trim();
    undo::is_marker(text) || change::step(text).is_some()
}

/// The parts of `range` between commas that stand in no parentheses, without white space.
fn columns(text: &str, range: Range<usize>) -> Vec<Range<usize>> {
    let mut parts = Vec::from_iter(std::iter::once(range.start..range.start));
    let mut depth = 0_usize;
    for token in tokens_in(text, range) {
        match token.text {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            "," if depth == 0 => {
                parts.push(token.end()..token.end());
                continue;
            }
            _ if token.kind == Kind::Whitespace => continue,
            _ => {}
        }
        if let Some(part) = parts.last_mut() {
            if part.start == part.end {
                part.start = token.at;
            }
            part.end = token.end();
        }
    }
    parts
}
