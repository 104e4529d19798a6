//! What a statement leaves behind in the session, or takes away from the statements after it.

use squawk_syntax::ast::{self, AstNode};
use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::facts::has;
use super::functions::calls;
use super::names::{Names, parts};
use super::rules;

/// The limits that keep a statement from holding everybody up.
const LIMITS: [&str; 4] = [
    "lock_timeout",
    "statement_timeout",
    "transaction_timeout",
    "idle_in_transaction_session_timeout",
];
/// What `lock_timeout` may be raised to, in milliseconds: longer than that shoppers do not wait.
const LONGEST_WAIT: f64 = 5_000.0;

/// A setting that a statement changes.
struct Setting {
    name: String,
    /// The new value; none for the default, whatever that is.
    value: Option<Vec<String>>,
    /// Whether it ends with the transaction.
    local: bool,
}

/// What `statement` leaves behind, or, unless it is `in_transaction` with others, does not leave to them: the
/// rule, and what it is.
pub fn leaves(
    statement: &ast::Stmt,
    lenient: bool,
    in_transaction: bool,
) -> Option<(&'static str, String)> {
    let node = statement.syntax();
    let settings = settings(statement);
    let lifts = |setting: &&Setting| LIMITS.contains(&setting.name.as_str()) && !setting.limits();
    if let Some(setting) = settings.iter().find(lifts) {
        let why = format!(
            "it lifts the `{}` of the statements after it, so that they can hold everybody up for as long as they take",
            setting.name
        );
        return Some((rules::LIFTS_TIME_LIMIT, why));
    }
    let stays = |setting: &&Setting| !(setting.local || lenient && setting.is_limit());
    if let Some(setting) = settings.iter().find(stays) {
        return Some(outlives(format!("`{}`", setting.name)));
    }
    let what = match statement {
        ast::Stmt::Prepare(_) => "a prepared statement",
        ast::Stmt::Deallocate(_) => "that prepared statements are gone",
        ast::Stmt::Listen(_) | ast::Stmt::Unlisten(_) => "what the session listens to",
        ast::Stmt::Load(_) => "a library that is loaded into the server's process",
        ast::Stmt::Discard(_) => "a session without what its owner had set and prepared",
        ast::Stmt::PrepareTransaction(_) => {
            "a transaction that keeps its locks until somebody ends it"
        }
        ast::Stmt::SetRole(_) | ast::Stmt::SetSessionAuth(_)
            if !has(node, SyntaxKind::LOCAL_SCOPE) =>
        {
            "another role"
        }
        ast::Stmt::ResetRole(_) | ast::Stmt::ResetSessionAuth(_) => "another role",
        ast::Stmt::SetTransaction(_) if has(node, SyntaxKind::SESSION_CHARACTERISTICS) => {
            "how transactions begin"
        }
        ast::Stmt::Declare(_) if has(node, SyntaxKind::WITH_HOLD) => "an open cursor",
        ast::Stmt::AlterSystem(_) => "a setting of the whole server",
        ast::Stmt::AlterRole(_) | ast::Stmt::AlterUser(_) | ast::Stmt::AlterDatabase(_)
            if has(node, SyntaxKind::SET_CONFIG_PARAM)
                || has(node, SyntaxKind::RESET_CONFIG_PARAM) =>
        {
            "a setting of every session that begins after it"
        }
        _ if creates_temporary(statement) => "a temporary object",
        _ if executes_calls(statement) && calls(node).any(|call| call.outlives()) => {
            "an advisory lock of the session"
        }
        _ if !in_transaction && ends_with_transaction(statement, &settings) => {
            let why = "it is of use only until its transaction ends, and unless whoever runs the file opens one around it, that is its own: PostgreSQL refuses it, or it has no effect on the statements after it";
            return Some((rules::NEEDS_TRANSACTION, why.to_owned()));
        }
        _ => return None,
    };
    Some(outlives(what.to_owned()))
}

/// Whether all that `statement` does is gone when its transaction ends.
fn ends_with_transaction(statement: &ast::Stmt, settings: &[Setting]) -> bool {
    let node = statement.syntax();
    match statement {
        ast::Stmt::SetTransaction(_)
        | ast::Stmt::SetConstraints(_)
        | ast::Stmt::SetRole(_)
        | ast::Stmt::SetSessionAuth(_)
        | ast::Stmt::Lock(_)
        | ast::Stmt::Declare(_)
        | ast::Stmt::SavepointCreate(_)
        | ast::Stmt::ReleaseSavepoint(_)
        | ast::Stmt::Rollback(ast::Rollback::RollbackToSavepoint(_)) => true,
        _ if drops_on_commit(node) => true,
        _ if settings.iter().any(|setting| setting.local) => true,
        _ => executes_calls(statement) && calls(node).any(|call| call.locks_until_end()),
    }
}

fn outlives(what: String) -> (&'static str, String) {
    let why = format!(
        "what it changes stays behind when it is done, for whoever uses the session next: {what}"
    );
    (rules::OUTLIVES, why)
}

/// Whether `statement` creates what only its session sees, and what is still there after the commit.
fn creates_temporary(statement: &ast::Stmt) -> bool {
    let node = statement.syntax();
    let creates = match statement {
        ast::Stmt::CreateTable(_)
        | ast::Stmt::CreateTableAs(_)
        | ast::Stmt::CreateView(_)
        | ast::Stmt::CreateSequence(_)
        | ast::Stmt::SelectInto(_) => node.descendants().find(|node| {
            matches!(
                node.kind(),
                SyntaxKind::TABLE_NAME | SyntaxKind::VIEW | SyntaxKind::SEQUENCE
            )
        }),
        _ => None,
    };
    let Some(created) = creates else {
        return false;
    };
    let temporary = has(node, SyntaxKind::TEMP);
    let name = Names::default().place(&parts(&created), temporary);
    Names::is_temporary(&name) && !drops_on_commit(node)
}

/// Whether what it creates is gone when the transaction ends.
pub fn drops_on_commit(node: &SyntaxNode) -> bool {
    node.descendants()
        .any(|on| on.kind() == SyntaxKind::ON_COMMIT && has(&on, SyntaxKind::DROP))
}

/// What the search path is after `statement`, when that is another than before, none when nobody knows;
/// and whether only until the transaction ends.
pub fn search_path(statement: &ast::Stmt) -> Option<(Option<Vec<String>>, bool)> {
    let settings = settings(statement);
    if let Some(setting) = settings.into_iter().rfind(|s| s.name == "search_path") {
        return Some((setting.value, setting.local));
    }
    match statement {
        ast::Stmt::Discard(_)
        | ast::Stmt::SetRole(_)
        | ast::Stmt::SetSessionAuth(_)
        | ast::Stmt::ResetRole(_)
        | ast::Stmt::ResetSessionAuth(_) => Some((None, false)),
        ast::Stmt::Reset(reset) if has(reset.syntax(), SyntaxKind::ALL) => Some((None, false)),
        _ => None,
    }
}

/// Whether the statements after `statement` wait for locks within a limit, when it decides that; and
/// whether only until the transaction ends.
pub fn limits_waiting(statement: &ast::Stmt) -> Option<(bool, bool)> {
    let forgets = match statement {
        ast::Stmt::Discard(discard) => names_all(discard.syntax()),
        ast::Stmt::Reset(reset) => names_all(reset.syntax()),
        _ => false,
    };
    if forgets {
        return Some((false, false));
    }
    let settings = settings(statement);
    let last = settings.into_iter().rfind(|s| s.name == "lock_timeout")?;
    Some((last.limits(), last.local))
}

/// Whether it says ALL.
fn names_all(node: &SyntaxNode) -> bool {
    has(node, SyntaxKind::ALL) || has(node, SyntaxKind::ALL_KW)
}

impl Setting {
    fn is_limit(&self) -> bool {
        LIMITS.contains(&self.name.as_str())
    }

    /// Whether there is still a limit, and for a lock one that shoppers can bear.
    fn limits(&self) -> bool {
        let value = self.value.as_ref().and_then(|value| value.first());
        let Some(milliseconds) = value.and_then(|value| milliseconds(value)) else {
            return false;
        };
        milliseconds >= 0.5 && (self.name != "lock_timeout" || milliseconds <= LONGEST_WAIT)
    }
}

fn milliseconds(value: &str) -> Option<f64> {
    let value = value.trim();
    let unit = value
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(value.len());
    let (number, unit) = value.split_at(unit);
    let factor = match unit {
        "" | "ms" => 1.0,
        "us" => 0.001,
        "s" => 1_000.0,
        "min" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return None,
    };
    Some(number.trim().parse::<f64>().ok()? * factor)
}

/// Whether the functions in `statement` are called now, and not by whoever uses what it creates.
fn executes_calls(statement: &ast::Stmt) -> bool {
    !matches!(
        statement,
        ast::Stmt::CreateFunction(_)
            | ast::Stmt::CreateProcedure(_)
            | ast::Stmt::CreateView(_)
            | ast::Stmt::CreateRule(_)
            | ast::Stmt::CreatePolicy(_)
            | ast::Stmt::CreateTrigger(_)
            | ast::Stmt::CreateTable(_)
            | ast::Stmt::Explain(_)
            | ast::Stmt::Prepare(_)
    )
}

/// The settings that `statement` changes for its session or transaction.
fn settings(statement: &ast::Stmt) -> Vec<Setting> {
    let node = statement.syntax();
    let mut settings: Vec<_> = calls(node)
        .filter(|call| executes_calls(statement) && call.is("set_config"))
        .map(|call| Setting {
            name: call
                .arguments
                .first()
                .map_or_else(String::new, |name| plain(name)),
            value: call.arguments.get(1).and_then(|value| list(value)),
            local: call.arguments.get(2).is_some_and(|local| is_true(local)),
        })
        .collect();
    if matches!(statement, ast::Stmt::Set(_) | ast::Stmt::Reset(_)) {
        settings.push(setting(node));
    }
    settings
}

/// What SET or RESET changes.
fn setting(node: &SyntaxNode) -> Setting {
    let name = node
        .descendants()
        .find(|node| node.kind() == SyntaxKind::CONFIG_PARAMETER_REF)
        .map(|name| parts(&name).join("."));
    let values = node.descendants().find(|node| {
        node.kind() == SyntaxKind::TO_CONFIG_VALUE && !has(node, SyntaxKind::DEFAULT_KW)
    });
    let value = values.map(|values| {
        let each = values
            .children()
            .map(|value| plain(&value.text().to_string()));
        each.filter(|schema| !schema.is_empty()).collect()
    });
    let schema = node
        .descendants()
        .find(|node| node.kind() == SyntaxKind::SET_SCHEMA_VALUE);
    let (name, value) = match schema {
        Some(schema) => {
            let text = schema
                .children()
                .last()
                .map(|value| plain(&value.text().to_string()));
            ("search_path".to_owned(), text.map(|text| vec![text]))
        }
        None => (
            name.unwrap_or_else(|| "the session's settings".to_owned()),
            value,
        ),
    };
    Setting {
        name,
        value,
        local: has(node, SyntaxKind::LOCAL_SCOPE),
    }
}

/// A name or a string as PostgreSQL understands it.
fn plain(text: &str) -> String {
    let text = text.trim();
    let within = |quote: char| {
        let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
        Some(inner.replace(&format!("{quote}{quote}"), &quote.to_string()))
    };
    within('\'')
        .or_else(|| within('"'))
        .unwrap_or_else(|| text.to_lowercase())
}

/// The names of a list in a string, as `'a, "B"'`; none when it is no string.
fn list(text: &str) -> Option<Vec<String>> {
    let inner = text.trim().strip_prefix('\'')?.strip_suffix('\'')?;
    let names = inner.split(',').map(plain);
    Some(names.filter(|name| !name.is_empty()).collect())
}

fn is_true(text: &str) -> bool {
    matches!(
        plain(text).as_str(),
        "true" | "t" | "on" | "yes" | "y" | "1"
    )
}
