//! Whether the statements of a script wait for locks within a limit, through its transactions and
//! savepoints: a setting that is rolled back was never made.

use squawk_syntax::SyntaxKind;
use squawk_syntax::ast::{self, AstNode};

use super::facts::has;
use super::session;

/// What is known of `lock_timeout` at a statement.
#[derive(Debug, Default)]
pub struct Waiting {
    now: Limits,
    /// As it was at BEGIN.
    begun: Option<Limits>,
    /// As it was at each savepoint that is still there.
    savepoints: Vec<(String, Limits)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Limits {
    session: bool,
    /// Until the transaction ends, instead of the session's.
    local: Option<bool>,
}

/// How `statement` ends the transaction that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// What was set stays.
    Commit,
    /// What was set is as before.
    Rollback,
}

/// Whether `statement` ends its transaction; going back to a savepoint does not, nor what is done with a
/// prepared one.
pub fn ending(statement: &ast::Stmt) -> Option<Ending> {
    match statement {
        ast::Stmt::Commit(ast::Commit::CommitTransaction(_)) => Some(Ending::Commit),
        ast::Stmt::Rollback(ast::Rollback::RollbackTransaction(_)) => Some(Ending::Rollback),
        _ => None,
    }
}

impl Waiting {
    /// Whether a statement waits within a limit.
    pub fn is_limited(&self) -> bool {
        self.now.local.unwrap_or(self.now.session)
    }

    /// Takes note of what `statement` sets, begins or ends.
    pub fn note(&mut self, statement: &ast::Stmt) {
        match statement {
            ast::Stmt::Begin(_) => self.begun = Some(self.now),
            ast::Stmt::SavepointCreate(savepoint) => {
                let name = savepoint.savepoint().map(|name| text(name.syntax()));
                self.savepoints.push((name.unwrap_or_default(), self.now));
            }
            ast::Stmt::Rollback(ast::Rollback::RollbackToSavepoint(back)) => {
                let name = back.savepoint_ref().map(|name| text(name.syntax()));
                let name = name.unwrap_or_default();
                if let Some(at) = self.savepoints.iter().rposition(|(of, _)| *of == name) {
                    self.now = self.savepoints[at].1;
                    self.savepoints.truncate(at + 1);
                }
            }
            _ => {}
        }
        if let Some(ending) = ending(statement) {
            let begun = self.begun.take();
            self.savepoints.clear();
            if ending == Ending::Rollback {
                self.now = begun.unwrap_or(self.now);
            }
            self.now.local = None;
            if has(statement.syntax(), SyntaxKind::AND_CHAIN) {
                self.begun = Some(self.now);
            }
        }
        if let Some((limits, until_end)) = session::limits_waiting(statement) {
            match until_end {
                true => self.now.local = Some(limits),
                false => {
                    self.now = Limits {
                        session: limits,
                        local: None,
                    }
                }
            }
        }
    }
}

fn text(name: &squawk_syntax::SyntaxNode) -> String {
    name.text().to_string().trim().to_lowercase()
}
