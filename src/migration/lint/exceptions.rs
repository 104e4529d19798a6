//! `-- lint: allow RULE because REASON`, directly above the statement that it is about.

use super::statements::Script;
use super::{Finding, Found, rules};

const MARK: &str = "lint:";

/// The exceptions of a script.
pub struct Exceptions(Vec<Exception>);

struct Exception {
    /// Its own line.
    line: usize,
    /// The line of the statement below it.
    statement: usize,
    rule: String,
    used: bool,
}

impl Exceptions {
    /// Reads the exceptions of `script`; those that are none are added to `found`.
    pub fn of(script: &Script, found: &mut Found<'_>) -> Self {
        let comments = script.comments();
        let is_comment = |line: usize| comments.iter().any(|comment| comment.line == line);
        let mut exceptions = Vec::new();
        for comment in &comments {
            let Some(text) = comment.text.strip_prefix(MARK) else {
                continue;
            };
            let rule = match parse(text.trim()) {
                Ok(rule) => rule,
                Err((rule, why)) => {
                    found.add(comment.line, rule, why);
                    continue;
                }
            };
            let below = (comment.line + 1..).find(|line| !is_comment(*line));
            exceptions.push(Exception {
                line: comment.line,
                statement: below.unwrap_or(comment.line),
                rule,
                used: false,
            });
        }
        Self(exceptions)
    }

    /// Whether an exception accepts `finding`.
    pub fn accept(&mut self, script: &Script, finding: &Finding) -> bool {
        if rules::ABOUT_EXCEPTIONS.contains(&finding.rule) {
            return false;
        }
        let begins = script
            .statement_in(finding.line)
            .map(|statement| statement.line);
        let mut accepted = false;
        for exception in &mut self.0 {
            if begins == Some(exception.statement) && exception.rule == finding.rule {
                exception.used = true;
                accepted = true;
            }
        }
        accepted
    }

    /// An exception that accepts nothing is a mistake, or outlived what it was for.
    pub fn report_unused(&self, found: &mut Found<'_>) {
        for exception in self.0.iter().filter(|exception| !exception.used) {
            let why = format!(
                "the statement below does nothing that `{}` is about",
                exception.rule
            );
            found.add(exception.line, rules::UNUSED_EXCEPTION, why);
        }
    }
}

/// The rule of `allow RULE because REASON`, or which rule about exceptions it breaks.
fn parse(text: &str) -> Result<String, (&'static str, String)> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let ["allow", rule, rest @ ..] = words.as_slice() else {
        return Err((
            rules::UNREASONED_EXCEPTION,
            format!("`-- lint: {text}` is no exception"),
        ));
    };
    if !rules::is_known(rule) {
        return Err((
            rules::UNKNOWN_EXCEPTION,
            format!("there is no rule `{rule}`"),
        ));
    }
    match rest {
        ["because", _, ..] => Ok((*rule).to_owned()),
        _ => Err((
            rules::UNREASONED_EXCEPTION,
            format!("`{rule}` is allowed here, but nobody says why"),
        )),
    }
}
