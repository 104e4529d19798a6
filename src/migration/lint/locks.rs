//! What a script does to live tables: the verdict of the table of statements, squawk's, and ours.

use squawk_linter::{Linter, Rule};
use squawk_syntax::ast::{self, AstNode};
use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::effects::{Effect, Touched};
use super::facts::{has, is_concurrent};
use super::functions;
use super::rows;
use super::statements::{Script, Statement};
use super::table::{On, Row, Work};
use super::waiting::{Waiting, ending};
use super::{Found, Kind, rules, session};

/// Adds to `found` what is unsafe in `script`, run as `kind` says.
pub fn check(script: &Script, kind: Kind, found: &mut Found<'_>) {
    syntax(script, found);
    squawk(script, kind, found);
    let ends_with_psql = script.is_for_psql();
    for statement in &script.statements {
        // One finding of a kind is enough for a statement, but not for all that share its line.
        let shares = |other: &Statement| other.line == statement.line;
        let shared = script.statements.iter().filter(|s| shares(s)).count() > 1;
        let since = if shared { found.findings.len() } else { 0 };
        for effect in &statement.effects {
            judge(script, statement, effect, since, found);
        }
        whole(statement, kind, found);
        rows::check(statement, kind, found);
        unseen(script, statement, found);
        if !(kind == Kind::Raw && ends_with_psql)
            && let Some((rule, why)) = session::leaves(
                &statement.syntax,
                kind == Kind::Raw,
                statement.in_transaction,
            )
        {
            found.add(statement.line, rule, why);
        }
    }
    // A change runs every statement in a transaction of its own.
    if matches!(kind, Kind::Schema | Kind::Raw) {
        under_lock(script, kind, found);
    }
    if kind == Kind::Raw {
        without_limit(script, found);
    }
}

/// Adds what is not SQL, once for every line.
pub fn syntax(script: &Script, found: &mut Found<'_>) {
    let mut last = 0;
    for error in script.parse.errors() {
        let line = script.line(error.range().start().into());
        if line != last {
            found.add(line, rules::SYNTAX, error.message());
        }
        last = line;
    }
}

fn squawk(script: &Script, kind: Kind, found: &mut Found<'_>) {
    let wanted = rules::LEFT_TO_SQUAWK.into_iter().filter(|rule| match rule {
        // Ours says it of a file's only statement, too.
        Rule::BanConcurrentIndexCreationInTransaction => kind != Kind::Schema,
        // What a change is for: by then nothing reads it.
        Rule::BanDropColumn | Rule::BanDropTable => kind != Kind::Contract,
        _ => true,
    });
    let mut linter = Linter::from(wanted);
    linter.settings.assume_in_transaction = kind == Kind::Schema;
    let root = script.parse.syntax_node();
    for violation in linter.lint(&script.parse, &script.text) {
        let at = usize::from(violation.text_range.start());
        let statement = script.statement_at(at);
        if statement.is_some_and(|statement| statement.on_new_table) {
            continue;
        }
        let node = root.covering_element(violation.text_range);
        let validates = node.kind() == SyntaxKind::VALIDATE_CONSTRAINT;
        if violation.code == Rule::ConstraintMissingNotValid && !validates {
            continue;
        }
        let rule = rules::SQUAWK
            .iter()
            .find(|(rule, ..)| *rule == violation.code);
        if let Some((_, name, _)) = rule {
            found.add(script.line(at), name, violation.message);
        }
    }
}

/// Adds what follows from the table of statements.
fn judge(
    script: &Script,
    statement: &Statement,
    effect: &Effect,
    since: usize,
    found: &mut Found<'_>,
) {
    let line = line_of(script, &effect.node).unwrap_or(statement.line);
    let Some(row) = effect.row else {
        let why = format!(
            "unknown statement: `{}`; nothing is known of its locks",
            beginning(&effect.node)
        );
        return found.add(line, rules::UNKNOWN, why);
    };
    let rule = broken(row, effect);
    if let Some(rule) = rule.filter(|rule| !found.has_since(since, line, rule)) {
        found.add(line, rule, describe(row, effect));
    }
    let said = [Some(rules::REACHES_UNNAMED), Some(rules::OPAQUE)].contains(&rule);
    // Squawk has a rule for it.
    let truncates = row.node == SyntaxKind::TRUNCATE;
    let said = said || found.has_since(since, line, rules::REACHES_UNNAMED);
    if effect.cascades && !statement.on_new_table && !said && !truncates {
        let why = "CASCADE takes along whatever depends on it, under ACCESS EXCLUSIVE where that belongs to a table, and none of it is named";
        found.add(line, rules::REACHES_UNNAMED, why);
    }
}

/// The rule that `effect` breaks.
fn broken(row: &'static Row, effect: &Effect) -> Option<&'static str> {
    let works =
        |touched: &&Touched| touched.live && touched.touch.work.is_long() && touched.is_strong();
    let working = effect.touched.iter().find(works);
    let must_work = row
        .touches
        .iter()
        .any(|touch| touch.work.is_long() && touch.lock.is_strong());
    if !row.rule.is_empty() {
        let live = match (row.touches.is_empty(), must_work) {
            (true, _) => true,
            (_, true) => working.is_some(),
            (_, false) => effect.strong_lock().is_some(),
        };
        return live.then_some(row.rule);
    }
    let working = working?;
    Some(match working.touch.work {
        Work::MayRewrite | Work::Rewrites => rules::REWRITING_TABLE,
        _ => rules::SCAN_UNDER_LOCK,
    })
}

/// What `effect` does, as a sentence.
fn describe(row: &Row, effect: &Effect) -> String {
    let tied = |t: &Touched| matches!(t.touch.on, On::Related | On::Sequences);
    let strong = |t: &&Touched| t.live && t.is_strong() && !tied(t);
    let each = effect.touched.iter().filter(strong).map(|t| {
        let work = match t.touch.work {
            Work::Nothing | Work::Looks => "",
            Work::MayScan if row.node == SyntaxKind::ADD_CONSTRAINT => {
                ", and reads all of it unless the key's columns are NOT NULL already"
            }
            Work::MayScan => ", and reads all of it unless it is partitioned",
            Work::Scans => ", and reads all of it",
            Work::MayRewrite => {
                ", and copies all of it unless the types are known to be stored alike"
            }
            Work::Rewrites => ", and copies or replaces all of it",
        };
        format!("{} on {}{work}", t.touch.lock, t.shown)
    });
    let each: Vec<_> = each.collect();
    match effect.worst() {
        Some(worst) if !each.is_empty() => {
            let stays = match row.rule {
                rules::LIVE_TRIGGER_OR_RULE => {
                    "; and it acts on what every process does there from then on"
                }
                _ => "",
            };
            format!(
                "it takes {}: {}{stays} (PostgreSQL: {})",
                each.join("; "),
                worst.touch.lock.keeps_out(),
                row.page
            )
        }
        _ => format!(
            "the lint cannot see what it does (PostgreSQL: {})",
            row.page
        ),
    }
}

/// Adds what is wrong with a statement whatever tables it is about.
fn whole(statement: &Statement, kind: Kind, found: &mut Found<'_>) {
    let mut add = |rule, why: &str| found.add(statement.line, rule, why);
    let concurrently = is_concurrent(statement.syntax.syntax());
    match &statement.syntax {
        ast::Stmt::Begin(_) | ast::Stmt::Commit(_) | ast::Stmt::Rollback(_)
            if kind != Kind::Raw =>
        {
            add(
                rules::TRANSACTION_CONTROL,
                "the rest of the file would run outside the transaction that Evenkeel has opened",
            );
        }
        ast::Stmt::CreateIndex(_)
        | ast::Stmt::DropIndex(_)
        | ast::Stmt::Reindex(_)
        | ast::Stmt::AlterTable(_)
            if kind == Kind::Schema && concurrently =>
        {
            add(
                rules::CONCURRENT_IN_TRANSACTION,
                "a schema file is one transaction, in which PostgreSQL refuses CONCURRENTLY",
            );
        }
        ast::Stmt::AlterTable(alter) if !statement.on_new_table && validates_beside(alter) => add(
            rules::SCAN_UNDER_LOCK,
            "all subcommands run under the strongest lock of any: VALIDATE CONSTRAINT reads the whole table while the others keep everybody out",
        ),
        ast::Stmt::CreateIndex(create)
            if matches!(kind, Kind::Expand | Kind::Contract)
                && concurrently
                && create.index().is_none() =>
        {
            add(
                rules::UNNAMED_INDEX,
                "an invalid index that a failed try left behind cannot be found again",
            );
        }
        _ => {}
    }
}

/// Whether it validates a constraint and does something else, too.
fn validates_beside(alter: &ast::AlterTable) -> bool {
    let validates = |action: ast::AlterTableAction| {
        matches!(action, ast::AlterTableAction::ValidateConstraint(_))
    };
    let scans = alter
        .actions()
        .filter(|action| validates(action.clone()))
        .count();
    scans > 0 && scans < alter.actions().count()
}

/// Adds the functions that are called, and the programs that are run.
fn unseen(script: &Script, statement: &Statement, found: &mut Found<'_>) {
    let node = statement.syntax.syntax();
    let runs = matches!(
        statement.syntax,
        ast::Stmt::Select(_)
            | ast::Stmt::CompoundSelect(_)
            | ast::Stmt::ParenSelect(_)
            | ast::Stmt::SelectInto(_)
            | ast::Stmt::Values(_)
            | ast::Stmt::Insert(_)
            | ast::Stmt::Update(_)
            | ast::Stmt::Delete(_)
            | ast::Stmt::Merge(_)
            | ast::Stmt::CreateTableAs(_)
            | ast::Stmt::CreateMaterializedView(_)
            | ast::Stmt::Declare(_)
            | ast::Stmt::Copy(_)
    );
    if !runs || has(node, SyntaxKind::WITH_NO_DATA) {
        return;
    }
    let known =
        |call: &functions::Call| call.is_harmless() || call.outlives() || call.is("set_config");
    if let Some(call) = functions::calls(node).find(|call| !known(call)) {
        let line = line_of(script, &call.node).unwrap_or(statement.line);
        let why = format!("the lint cannot see what the function `{}` does", call.name);
        return found.add(line, rules::OPAQUE, why);
    }
    if has(node, SyntaxKind::EXECUTE) {
        let why = "the lint cannot see what the prepared statement does";
        return found.add(statement.line, rules::OPAQUE, why);
    }
    if has(node, SyntaxKind::PROGRAM_KW) {
        let why = "it runs a program on the database's machine";
        found.add(statement.line, rules::OPAQUE, why);
    }
}

/// A strong lock that a transaction takes is kept until its last statement is done, so what works
/// in the same file works while nobody can use the table.
fn under_lock(script: &Script, kind: Kind, found: &mut Found<'_>) {
    let mut held: Option<(usize, &Touched)> = None;
    let mut in_transaction = kind == Kind::Schema;
    for statement in &script.statements {
        match statement.syntax {
            ast::Stmt::Begin(_) => in_transaction = true,
            _ if ending(&statement.syntax).is_some() && kind == Kind::Raw => {
                (held, in_transaction) = (None, false);
            }
            _ => {}
        }
        // Each statement by itself is what whoever runs a script may do, too.
        let works = rows::works(statement, kind).is_some()
            || in_transaction && scans(statement, script, found);
        if let Some((line, lock)) = held.filter(|_| works) {
            let why = format!(
                "the lock that line {line} takes on {} is kept until the transaction ends: nobody uses the table while this works",
                lock.shown
            );
            found.add(statement.line, rules::WRITE_UNDER_LOCK, why);
        }
        if held.is_none() {
            let strong = statement.effects.iter().find_map(Effect::strong_lock);
            held = strong.map(|lock| (statement.line, lock));
        }
    }
}

/// Whether a statement reads the whole of a live table, which only matters under an earlier lock and
/// has not been said by another rule.
fn scans(statement: &Statement, script: &Script, found: &Found<'_>) -> bool {
    let scans = |effect: &Effect| {
        let line = line_of(script, &effect.node).unwrap_or(statement.line);
        let mut touched = effect.touched.iter();
        effect
            .row
            .is_some_and(|row| row.node == SyntaxKind::VALIDATE_CONSTRAINT)
            && touched.any(|t| t.live && t.touch.work == Work::Scans)
            && !found.has_since(0, line, "constraint-missing-not-valid")
    };
    statement.effects.iter().any(scans)
}

/// Adds the strong locks that are waited for without a limit.
fn without_limit(script: &Script, found: &mut Found<'_>) {
    let mut waiting = Waiting::default();
    for statement in &script.statements {
        waiting.note(&statement.syntax);
        let strong = statement.effects.iter().filter_map(Effect::strong_lock);
        if let Some(strong) = strong.max_by_key(|t| t.touch.lock)
            && !waiting.is_limited()
        {
            let why = format!(
                "it waits for {} on {} for as long as it takes, and everybody who comes after it waits behind it",
                strong.touch.lock, strong.shown
            );
            found.add(statement.line, "require-lock-timeout", why);
        }
    }
}

fn line_of(script: &Script, node: &SyntaxNode) -> Option<usize> {
    let tokens = node
        .descendants_with_tokens()
        .filter_map(|element| element.into_token());
    let first = tokens.into_iter().find(|token| !token.kind().is_trivia())?;
    Some(script.line(first.text_range().start().into()))
}

/// The first words of `node`.
fn beginning(node: &SyntaxNode) -> String {
    let text = node.text().to_string();
    let words: Vec<_> = text.split_whitespace().take(6).collect();
    words.join(" ")
}
