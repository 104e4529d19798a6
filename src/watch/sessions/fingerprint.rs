//! Which statement it is, whatever its values: literals, parameters, comments and the length of
//! lists make no difference. And what comments say of who sent it.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use squawk_lexer::{TokenKind, tokenize};

/// Longest fingerprint, in characters.
const LONGEST: usize = 300;

/// The statement without its values: "UPDATE orders SET placed_day = ? WHERE id IN (?)". Total: what
/// is no SQL, or is cut off in the middle, has a fingerprint, too.
pub fn fingerprint(sql: &str) -> String {
    let mut text = String::new();
    let mut words: Vec<String> = Vec::new();
    for (token, word) in tokens(sql) {
        match token {
            TokenKind::Whitespace
            | TokenKind::LineComment
            | TokenKind::BlockComment { .. }
            | TokenKind::Semi => {}
            TokenKind::Literal { .. } | TokenKind::PositionalParam { .. } => value(&mut words),
            TokenKind::Ident => words.push(word.to_lowercase()),
            _ => words.push(word.to_owned()),
        }
    }
    let mut glued = true;
    for word in words {
        let closes = matches!(word.as_str(), ")" | "," | "." | "]" | ":");
        if !(glued || closes) {
            text.push(' ');
        }
        glued = matches!(word.as_str(), "(" | "." | "[" | ":");
        text.push_str(&word);
    }
    text.chars().take(LONGEST).collect()
}

/// Adds a value; those of a list are one.
fn value(words: &mut Vec<String>) {
    let ends: Vec<&str> = words.iter().rev().take(2).map(String::as_str).collect();
    match ends.as_slice() {
        [",", "?"] => {
            words.pop();
        }
        // A number's sign belongs to its value.
        ["-" | "+", "(" | "," | "=" | "<" | ">"] => {
            words.pop();
            value(words);
        }
        _ => words.push("?".to_owned()),
    }
}

/// What comments say in the form of sqlcommenter (`/* job='nightly-reprice',owner='pricing' */`), or as
/// `-- job: nightly-reprice`.
pub fn tags(sql: &str) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::new();
    for (token, word) in tokens(sql) {
        let pairs: Vec<(&str, &str)> = match token {
            TokenKind::BlockComment { .. } => {
                let words = word.trim_start_matches("/*").trim_end_matches("*/");
                words
                    .split(',')
                    .filter_map(|pair| pair.split_once('='))
                    .collect()
            }
            TokenKind::LineComment => {
                let words = word.trim_start_matches('-');
                words.split_once(':').into_iter().collect()
            }
            _ => continue,
        };
        for (key, said) in pairs {
            let key = key.trim();
            let said = said.trim().trim_matches('\'');
            let said = percent_decode_str(said).decode_utf8_lossy();
            if !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                tags.insert(key.to_lowercase(), said.into_owned());
            }
        }
    }
    tags
}

fn tokens(sql: &str) -> impl Iterator<Item = (TokenKind, &str)> {
    let mut rest = sql;
    tokenize(sql).map_while(move |token| {
        let (word, after) = rest.split_at_checked(usize::try_from(token.len).ok()?)?;
        rest = after;
        Some((token.kind, word))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_comments_and_the_length_of_lists_make_no_difference() {
        let one = fingerprint("SELECT * FROM orders WHERE id IN (1, 2, 3) AND name = 'Ann' -- hm");
        let other =
            fingerprint("select *\n FROM Orders /* x */ WHERE id IN ($1) AND name = 'B''ob';");
        assert_eq!(one, other);
        assert_eq!(one, "select * from orders where id in (?) and name = ?");
        assert_eq!(fingerprint("SET a = -5"), fingerprint("SET a = 7"));
        assert_ne!(one, fingerprint("SELECT * FROM orders WHERE id IN (1)"));
    }

    #[test]
    fn nobodys_data_is_in_it() {
        let cut_off = "INSERT INTO accounts (email) VALUES ('ann@example.org";
        assert!(!fingerprint(cut_off).contains("ann"));
    }

    #[test]
    fn comments_say_who_sent_it() {
        let tags =
            tags("-- owner: pricing\nUPDATE t SET x = 1 /*job='nightly%20reprice',trace='1'*/");
        assert_eq!(tags["job"], "nightly reprice");
        assert_eq!(tags["owner"], "pricing");
    }

    proptest! {
        #[test]
        fn whatever_is_sent_has_one(sql in ".{0,200}") {
            let _ = (fingerprint(&sql), tags(&sql));
        }
    }
}
