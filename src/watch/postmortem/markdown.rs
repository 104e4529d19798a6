//! Other people's words in Markdown: names, statements and notes show as they are and do nothing.

/// `text` within a line or a table's cell.
pub(super) fn line(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut gap = false;
    for c in text.chars() {
        if c.is_whitespace() || c.is_control() || is_invisible(c) {
            gap = !escaped.is_empty();
            continue;
        }
        if std::mem::take(&mut gap) {
            escaped.push(' ');
        }
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            // A name that begins so would be told of the document where it is published.
            '@' => escaped.push_str("&#64;"),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '#' | '|' | '~' | '$' => {
                escaped.push('\\');
                escaped.push(c);
            }
            _ => escaped.push(c),
        }
    }
    // No address becomes a link that nobody has looked at.
    escaped
        .replace("://", "&#58;//")
        .replace("www.", "www&#46;")
}

/// `text` as a quotation of several lines.
pub(super) fn quote(text: &str) -> String {
    let lines: Vec<_> = text
        .lines()
        .map(|text| format!("> {}", line(text)))
        .collect();
    lines.join("\n")
}

/// `text` as a block of code.
pub(super) fn code(language: &str, text: &str) -> String {
    let shown = |c: &char| !is_invisible(*c) && (!c.is_control() || matches!(c, '\n' | '\t'));
    let text: String = text.chars().filter(shown).collect();
    let longest = text
        .split(|c| c != '`')
        .map(str::len)
        .max()
        .unwrap_or_default();
    let fence = "`".repeat(3.max(longest + 1));
    format!("{fence}{language}\n{}\n{fence}", text.trim_end())
}

/// Characters that change the order of others or cannot be seen.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_do_nothing() {
        assert_eq!(
            line("a|b `c` *d* <b>\n# e [f](g) @all \u{202e}x"),
            "a\\|b \\`c\\` \\*d\\* &lt;b&gt; \\# e \\[f\\](g) &#64;all x"
        );
        assert_eq!(line("see https://x.y"), "see https&#58;//x.y");
    }

    #[test]
    fn code_cannot_end_its_block() {
        assert_eq!(code("sql", "a\n```\nb"), "````sql\na\n```\nb\n````");
    }

    #[test]
    fn every_line_of_a_note_is_quoted() {
        assert_eq!(quote("a\n# b"), "> a\n> \\# b");
    }
}
