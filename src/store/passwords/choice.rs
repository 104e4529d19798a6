//! Which passwords are too easy to guess to be chosen.
//!
//! The list is that of Django 5.2 (`common.txt.license`): the most frequent ones of the leaks that
//! Have I Been Pwned collected, in lower case. NIST SP 800-63B asks for such a list, for the words that the
//! context suggests, and for nothing about digits and capitals.

use std::collections::{BTreeSet, HashSet};
use std::sync::LazyLock;

static COMMON: LazyLock<HashSet<&str>> =
    LazyLock::new(|| include_str!("common.txt").lines().collect());

/// What is wrong with `password` as the choice of somebody with this e-mail address and name, for that
/// person; `None` when nothing is.
pub fn objection(password: &str, email: &str, name: &str) -> Option<&'static str> {
    let password = password.to_lowercase();
    let core = core(&password);
    if password.trim().is_empty() {
        return Some("only blanks: choose something that others cannot guess");
    }
    if password.chars().collect::<BTreeSet<_>>().len() < 4 {
        return Some(
            "the same few characters over and over: choose something longer that others cannot guess",
        );
    }
    if is_own(&password, core, &email.to_lowercase(), &name.to_lowercase()) {
        return Some("made of your own address or name: choose something that others cannot guess");
    }
    if COMMON.contains(password.as_str()) || COMMON.contains(core) {
        return Some(
            "one of the passwords that are tried first, perhaps with digits around it: choose another, such \
             as a few words that do not belong together",
        );
    }
    None
}

/// What is left without the digits and punctuation around it, which are guessed soon.
fn core(password: &str) -> &str {
    password.trim_matches(|c: char| !c.is_alphabetic())
}

fn is_own(password: &str, core_of_password: &str, email: &str, name: &str) -> bool {
    let local = email.rsplit_once('@').map_or(email, |(local, _)| local);
    let together: String = name.split_whitespace().collect();
    let own = [email, local, name, &together];
    password == email
        || own
            .iter()
            .map(|own| core(own))
            .any(|own| !own.is_empty() && own == core_of_password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tried_first_is_refused_and_a_few_words_are_not() {
        for refused in [
            "password",
            "Password",
            "12345678",
            "qwertyuiop",
            "P@ssw0rd",
            "Dragon2024!",
            "        ",
            "\u{a0}\u{2003}      ",
            "aaaaaaaa",
            "abababab",
            "ann.smith@example.org",
            "Ann.Smith",
            "ann.smith1990",
            "Ann Smith",
            "annsmith42",
        ] {
            let objection = objection(refused, "Ann.Smith@example.org", "Ann Smith");
            assert!(objection.is_some(), "{refused}");
        }
        for accepted in [
            "correct horse battery staple",
            "annuals and perennials",
            "4f7c1a92e0",
            "Wolkenbruch über Köln",
            "пять тихих кошек",
        ] {
            assert_eq!(
                objection(accepted, "ann@example.org", ""),
                None,
                "{accepted}"
            );
        }
    }
}
