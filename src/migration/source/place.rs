//! Where in a text something stands, for people.

use std::ops::Range;

/// A place for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// From 1. A line ends with LF, CR LF or a lone CR.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

/// Where the byte `at` of `text` stands.
pub fn position(text: &str, at: usize) -> Position {
    let before = text.get(..at).unwrap_or(text);
    // The LF of a CR LF belongs to the line that it ends.
    let splits = before.ends_with('\r') && text.get(at..).is_some_and(|r| r.starts_with('\n'));
    let before = before
        .strip_suffix('\r')
        .filter(|_| splits)
        .unwrap_or(before);
    let begin = before.rfind(['\n', '\r']).map_or(0, |end| end + 1);
    Position {
        line: breaks(before) + 1,
        column: before.get(begin..).unwrap_or_default().chars().count() + 1,
    }
}

/// How many lines end in `text`.
pub fn breaks(text: &str) -> usize {
    text.matches(['\n', '\r']).count() - text.matches("\r\n").count()
}

/// The byte behind the line of the byte `at` and behind its line break.
pub fn end_of_line(text: &str, at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    let Some(end) = rest.find(['\n', '\r']) else {
        return text.len();
    };
    let is_pair = rest.get(end..).is_some_and(|end| end.starts_with("\r\n"));
    at + end + if is_pair { 2 } else { 1 }
}

/// The byte at which the character `at` of `text`, from 0, begins.
pub fn byte(text: &str, at: usize) -> usize {
    let mut characters = text.char_indices();
    characters.nth(at).map_or(text.len(), |(byte, _)| byte)
}

/// The byte `at` of `text`, which is `file`'s, for people.
pub fn place(file: &str, text: &str, at: usize) -> String {
    let Position { line, column } = position(text, at);
    match excerpt(text, at) {
        rest if rest.is_empty() => format!("{file}, at the end of line {line}"),
        rest => format!("{file}, line {line}, column {column}, at `{rest}`"),
    }
}

/// What stands in the line of the byte `at` from there on, shortened.
pub fn excerpt(text: &str, at: usize) -> String {
    const LONGEST: usize = 60;
    let rest = text.get(at..).unwrap_or_default();
    let line = rest.split(['\n', '\r']).next().unwrap_or_default();
    let line = line.trim_end();
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line.to_owned(),
    }
}

/// `text` with everything outside `kept` replaced by spaces, so that what is left stands where it
/// stood: in the same byte, the same line.
pub fn only(text: &str, kept: Range<usize>) -> String {
    let mut shown = String::with_capacity(text.len());
    for (at, character) in text.char_indices() {
        match character {
            '\n' | '\r' => shown.push(character),
            _ if kept.contains(&at) => shown.push(character),
            _ => shown.extend(std::iter::repeat_n(' ', character.len_utf8())),
        }
    }
    shown
}

/// The byte of `text` at which its part `part` begins.
pub fn offset(text: &str, part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_with_any_line_break() {
        for text in ["a\nb\n\nßx", "a\r\nb\r\n\r\nßx", "a\rb\r\rßx"] {
            let at = text.find('x').expect("there");
            assert_eq!(position(text, at), Position { line: 4, column: 2 });
            assert_eq!(position(text, 0), Position { line: 1, column: 1 });
        }
        assert_eq!(position("a\r\nb", 2), Position { line: 1, column: 2 });
    }

    #[test]
    fn what_is_blanked_keeps_its_places() {
        let text = "größe\r\nb c\n";
        let at = text.find('c').expect("there");
        let shown = only(text, at..at + 1);
        assert_eq!(shown.len(), text.len());
        assert_eq!(shown.find('c'), Some(at));
        assert_eq!(shown.trim(), "c");
    }
}
