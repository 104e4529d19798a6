//! What a script does to live tables: squawk's verdict and ours.

use squawk_linter::{Linter, Rule};
use squawk_syntax::ast::{self, AstNode};

use super::statements::{Script, Statement};
use super::{Found, Kind, rules};

const COPIED: &str = "the table is copied while nobody can read it";

/// Adds to `found` what is unsafe in `script`, run as `kind` says.
pub fn check(script: &Script, kind: Kind, found: &mut Found<'_>) {
    syntax(script, found);
    squawk(script, kind, found);
    for statement in &script.statements {
        if !statement.on_new_table {
            own(statement, kind, found);
        }
    }
    // A change runs every statement in a transaction of its own.
    if matches!(kind, Kind::Schema | Kind::Raw) {
        under_lock(script, found);
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
    let wanted = rules::SQUAWK
        .map(|(rule, ..)| rule)
        .into_iter()
        .filter(|rule| match rule {
            Rule::RequireLockTimeout => kind == Kind::Raw,
            // Ours says it of a file's only statement, too.
            Rule::BanConcurrentIndexCreationInTransaction => kind != Kind::Schema,
            // What a change is for: by then nothing reads it.
            Rule::BanDropColumn | Rule::BanDropTable => kind != Kind::Contract,
            _ => true,
        });
    let mut linter = Linter::from(wanted);
    linter.settings.assume_in_transaction = kind == Kind::Schema;
    for violation in linter.lint(&script.parse, &script.text) {
        let at = usize::from(violation.text_range.start());
        if script
            .statement_at(at)
            .is_some_and(|statement| statement.on_new_table)
        {
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

fn own(statement: &Statement, kind: Kind, found: &mut Found<'_>) {
    let mut add = |rule, why: &str| found.add(statement.line, rule, why);
    match &statement.syntax {
        ast::Stmt::Update(_) | ast::Stmt::Delete(_) | ast::Stmt::Merge(_) => add(
            rules::UNBATCHED_WRITE,
            "it locks every row that it changes until all are done, and writes them to the WAL at once",
        ),
        ast::Stmt::Insert(insert) if copies_rows(insert) => add(
            rules::UNBATCHED_WRITE,
            "it copies rows in one transaction, however many there are",
        ),
        ast::Stmt::Select(_) | ast::Stmt::CompoundSelect(_) if writes(statement) => add(
            rules::UNBATCHED_WRITE,
            "it locks every row that it changes until all are done",
        ),
        ast::Stmt::CreateTableAs(_) | ast::Stmt::CreateMaterializedView(_) => add(
            rules::UNBATCHED_WRITE,
            "it reads and copies whole tables in one transaction",
        ),
        ast::Stmt::Lock(_) => add(
            rules::LOCK_TABLE,
            "everybody waits for the table until this transaction ends",
        ),
        ast::Stmt::Truncate(_) => add(
            rules::TRUNCATE,
            "it waits for every reader and keeps everybody out, and the rows are gone",
        ),
        ast::Stmt::Cluster(_) => add(rules::REWRITING_TABLE, COPIED),
        ast::Stmt::Vacuum(vacuum) if is_full(vacuum) => add(rules::REWRITING_TABLE, COPIED),
        ast::Stmt::Begin(_) | ast::Stmt::Commit(_) | ast::Stmt::Rollback(_)
            if kind != Kind::Raw =>
        {
            add(
                rules::TRANSACTION_CONTROL,
                "the rest of the file would run outside the transaction that Evenkeel has opened",
            );
        }
        ast::Stmt::Refresh(refresh) if refresh.concurrently_token().is_none() => add(
            rules::REFRESH_LOCKS,
            "nobody reads the view while it is computed anew",
        ),
        ast::Stmt::Do(_) | ast::Stmt::Call(_) | ast::Stmt::Execute(_) => {
            add(rules::OPAQUE, "the lint cannot see what it does");
        }
        ast::Stmt::CreateIndex(_) | ast::Stmt::DropIndex(_)
            if kind == Kind::Schema && is_concurrent(statement) =>
        {
            add(
                rules::CONCURRENT_IN_TRANSACTION,
                "a schema file is one transaction, in which PostgreSQL refuses CONCURRENTLY",
            );
        }
        ast::Stmt::CreateIndex(create)
            if matches!(kind, Kind::Expand | Kind::Contract)
                && is_concurrent(statement)
                && create.index().is_none() =>
        {
            add(
                rules::UNNAMED_INDEX,
                "an invalid index that a failed try left behind cannot be found again",
            );
        }
        ast::Stmt::AlterTable(alter) => alter
            .actions()
            .for_each(|action| own_action(&action, &mut add)),
        _ => {}
    }
}

fn own_action(action: &ast::AlterTableAction, add: &mut impl FnMut(&'static str, &str)) {
    use ast::AlterTableAction as Action;
    match action {
        Action::AddColumn(column) => {
            let filled = column
                .ty()
                .is_some_and(|ty| is_serial(&ty.syntax().text().to_string()))
                || column.constraints().any(|c| is_identity(&c));
            if filled {
                add(
                    rules::ADDING_FILLED_FIELD,
                    "every row gets a number, so the table is rewritten while nobody can read it",
                );
            }
            let checked = |c| matches!(c, ast::Constraint::CheckConstraint(_));
            if column.constraints().any(checked) {
                add(
                    rules::ADDING_CHECKED_FIELD,
                    "the table is scanned for the condition while nobody can read it",
                );
            }
        }
        Action::SetLogged(_)
        | Action::SetUnlogged(_)
        | Action::SetAccessMethod(_)
        | Action::SetTablespace(_) => add(rules::REWRITING_TABLE, COPIED),
        Action::AttachPartition(_) => add(
            rules::ATTACHING_PARTITION,
            "the partition is scanned for rows that do not belong there, and nobody writes to it meanwhile",
        ),
        _ => {}
    }
}

/// A strong lock that a transaction takes is kept until its last statement is done, so a write in
/// the same file is done while nobody can use the table.
fn under_lock(script: &Script, found: &mut Found<'_>) {
    let locking = script.statements.iter().find(|s| {
        !s.on_new_table
            && matches!(
                s.syntax,
                ast::Stmt::AlterTable(_)
                    | ast::Stmt::Lock(_)
                    | ast::Stmt::Truncate(_)
                    | ast::Stmt::CreateTrigger(_)
            )
    });
    let Some(locking) = locking else {
        return;
    };
    for statement in script
        .statements
        .iter()
        .filter(|s| !s.on_new_table && writes(s))
    {
        let why = format!(
            "the lock that line {} takes on `{}` is kept until the transaction ends: nobody uses the table while this works",
            locking.line,
            locking.table.as_deref().unwrap_or("a table"),
        );
        found.add(statement.line, rules::WRITE_UNDER_LOCK, why);
    }
}

/// Whether a statement changes rows that were there before.
fn writes(statement: &Statement) -> bool {
    let changes = |node: squawk_syntax::SyntaxNode| {
        ast::Update::can_cast(node.kind())
            || ast::Delete::can_cast(node.kind())
            || ast::Merge::can_cast(node.kind())
    };
    let is_row_statement = matches!(
        statement.syntax,
        ast::Stmt::Update(_)
            | ast::Stmt::Delete(_)
            | ast::Stmt::Merge(_)
            | ast::Stmt::Insert(_)
            | ast::Stmt::Select(_)
            | ast::Stmt::CompoundSelect(_)
    );
    is_row_statement && statement.syntax.syntax().descendants().any(changes)
}

fn is_full(vacuum: &ast::Vacuum) -> bool {
    let options = vacuum.vacuum_option_list();
    let options = options.map(|list| list.syntax().text().to_string().to_ascii_lowercase());
    vacuum.full_token().is_some() || options.is_some_and(|options| options.contains("full"))
}

fn is_concurrent(statement: &Statement) -> bool {
    match &statement.syntax {
        ast::Stmt::CreateIndex(create) => create.concurrently_token().is_some(),
        ast::Stmt::DropIndex(drop) => drop.concurrently_token().is_some(),
        _ => false,
    }
}

/// Whether an INSERT takes its rows from a table.
fn copies_rows(insert: &ast::Insert) -> bool {
    match insert.insert_source() {
        Some(source) => source
            .syntax()
            .descendants()
            .any(|node| ast::FromClause::can_cast(node.kind())),
        None => false,
    }
}

fn is_serial(type_name: &str) -> bool {
    let name = type_name.trim().to_ascii_lowercase();
    [
        "serial",
        "bigserial",
        "smallserial",
        "serial2",
        "serial4",
        "serial8",
    ]
    .contains(&name.as_str())
}

fn is_identity(constraint: &ast::Constraint) -> bool {
    let text = constraint.syntax().text().to_string().to_ascii_lowercase();
    matches!(constraint, ast::Constraint::GeneratedConstraint(_)) && text.contains("identity")
}
