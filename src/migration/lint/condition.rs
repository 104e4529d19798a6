//! What is wrong with the pending condition of a definition: it has to be true of a row until the
//! statement has changed the row, and never again.

use squawk_syntax::SyntaxNode;
use squawk_syntax::ast::{self, AstNode, BinOp};

use super::functions::{Call, calls};
use super::{Found, rules};
use crate::migration::columns::condition;
use crate::migration::source::{Token, tokens};

/// Functions whose value changes while nothing in the database does, or differs between the sessions
/// that change rows and those that prove them done.
const CHANGING: &str = "\
    now clock_timestamp statement_timestamp transaction_timestamp timeofday random random_normal \
    gen_random_uuid uuidv4 uuidv7 nextval currval lastval current_setting pg_backend_pid txid_current \
    txid_current_snapshot pg_current_xact_id pg_current_snapshot inet_client_addr inet_client_port \
    inet_server_addr inet_server_port pg_postmaster_start_time pg_conf_load_time pg_is_in_recovery \
    current_schemas pg_try_advisory_xact_lock current_query pg_trigger_depth";

/// The same without parentheses.
const CHANGING_WORDS: [&str; 11] = [
    "current_date",
    "current_time",
    "current_timestamp",
    "localtime",
    "localtimestamp",
    "current_user",
    "session_user",
    "system_user",
    "current_role",
    "current_schema",
    "user",
];

/// What PostgreSQL reads as the moment at which the statement is planned.
const MOMENTS: [&str; 4] = ["now", "today", "tomorrow", "yesterday"];

/// Adds what is wrong with the condition `text` to `found`, in `line`.
pub fn check(text: &str, line: usize, found: &mut Found<'_>) {
    let root = condition(text);
    if let Some(what) = changing(&root, text) {
        found.add(
            line,
            rules::PENDING_CHANGES,
            format!(
                "the pending condition `{text}` asks for {what}: a row can become pending again by \
                 itself, and what proves that none is does so in another session at another time"
            ),
        );
    }
    if let Some(comparison) = root.descendants().find_map(with_null) {
        found.add(
            line,
            rules::NEVER_TRUE,
            format!(
                "in the pending condition `{text}` the comparison `{comparison}` is true of no row: \
                 nothing is equal to NULL, and nothing different from it"
            ),
        );
    }
}

/// The names of the functions that the condition `text` calls and that may be anybody's.
pub fn functions(text: &str) -> Vec<String> {
    calls(&condition(text)).map(|call| call.name).collect()
}

/// Something in the condition whose value changes by itself, as it is written.
fn changing(root: &SyntaxNode, text: &str) -> Option<String> {
    let tokens = tokens(text);
    let tokens: Vec<_> = tokens.iter().filter(|token| !token.is_trivia()).collect();
    let is_changing = |call: &Call| {
        let listed = CHANGING.split_ascii_whitespace();
        let of_today = call.is("age") && call.arguments.len() == 1;
        of_today || listed.into_iter().any(|name| call.is(name))
    };
    let word = |at: usize, token: &Token<'_>| {
        let of_something = at > 0 && tokens[at - 1].text == ".";
        !of_something && CHANGING_WORDS.iter().any(|word| token.is_word(word))
    };
    let is_time = |token: &&Token<'_>| {
        ["date", "time", "timetz", "timestamp", "timestamptz"]
            .iter()
            .any(|name| token.is_word(name))
    };
    let moment = |token: &Token<'_>| {
        let inner = token.text.trim_matches('\'').trim();
        token.text.starts_with('\'') && MOMENTS.iter().any(|m| inner.eq_ignore_ascii_case(m))
    };
    let call = calls(root).find(is_changing);
    call.map(|call| format!("`{}`", call.node.text().to_string().trim()))
        .or_else(|| {
            let mut all = tokens.iter().enumerate();
            let found = all.find(|(at, token)| word(*at, token));
            found.map(|(_, token)| format!("`{}`", token.text))
        })
        .or_else(|| {
            tokens.iter().any(is_time).then_some(())?;
            let found = tokens.iter().find(|token| moment(token))?;
            Some(format!("the time {}", found.text))
        })
}

/// `node`, when it compares something with NULL.
fn with_null(node: SyntaxNode) -> Option<String> {
    let both = ast::BinExpr::cast(node)?;
    let compares = matches!(
        both.op()?,
        BinOp::Eq(_)
            | BinOp::Neq(_)
            | BinOp::Neqb(_)
            | BinOp::LAngle(_)
            | BinOp::RAngle(_)
            | BinOp::Lteq(_)
            | BinOp::Gteq(_)
    );
    let is_null = |side: Option<ast::Expr>| {
        let text = side.map(|side| side.syntax().text().to_string());
        text.is_some_and(|text| text.trim().eq_ignore_ascii_case("null"))
    };
    (compares && (is_null(both.lhs()) || is_null(both.rhs())))
        .then(|| both.syntax().text().to_string().trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules_of(text: &str) -> Vec<&'static str> {
        let mut found = Found::new("m.sql");
        check(text, 1, &mut found);
        found.findings.iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn what_changes_by_itself_is_named() {
        for text in [
            "at < now()",
            "at < NOW ( ) - interval '1 day'",
            "at < (SELECT pg_catalog.now())",
            "at < CURRENT_TIMESTAMP(0)",
            "day <= current_date",
            "at < 'now'::timestamptz",
            "at < timestamp ' Today '",
            "age(at) > interval '1 year'",
            "random() < 0.5",
            "n = current_setting('app.n')::int",
            "owner = current_user",
        ] {
            assert_eq!(rules_of(text), [rules::PENDING_CHANGES], "{text}");
        }
        for text in [
            "x IS NULL",
            "t.now IS NULL",
            "\"now\" = 1",
            "state = 'now'",
            "p.user IS NULL",
            "\"user\" IS NULL",
            "age(a, b) > interval '1 year'",
            "at < timestamptz '2026-01-01' -- now()",
            "date_trunc('day', at) = at",
            "lower(name) <> name",
            "my.now() = 1",
        ] {
            assert_eq!(rules_of(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn what_is_never_true_is_named() {
        for text in [
            "x = NULL",
            "null <> x",
            "a > 0 AND (x != NULL OR y IS NULL)",
        ] {
            assert_eq!(rules_of(text), [rules::NEVER_TRUE], "{text}");
        }
        for text in [
            "x IS DISTINCT FROM NULL",
            "f(a => NULL)",
            "x = 'NULL'",
            "x IS NULL",
        ] {
            assert_eq!(rules_of(text), [""; 0], "{text}");
        }
    }
}
