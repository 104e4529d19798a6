//! A script as statements with their lines, their tables and the comments above them.

use squawk_syntax::ast::{self, AstNode};
use squawk_syntax::{Parse, SourceFile, SyntaxKind, SyntaxNode};

use super::creations;
use super::effects::{self, Effect};
use super::facts::{Facts, Transactions};
use super::names::Name;
use super::targets;
use crate::migration::source::psql::{self, Psql};

/// Squawk's own comments would silence it without a reason, so it does not get to see them.
const SILENCERS: [(&str, &str); 2] = [
    ("squawk-ignore", "squawk_ignore"),
    ("squawk-disable", "squawk_disable"),
];

/// A parsed script.
pub struct Script {
    /// The text, as squawk may read it.
    pub text: String,
    /// Its syntax tree; every text has one.
    pub parse: Parse<SourceFile>,
    /// The statements in order.
    pub statements: Vec<Statement>,
    /// What only psql understands; it is blank in the text.
    pub psql: Psql,
    /// Where every line begins.
    lines: Vec<usize>,
}

/// A statement of a script.
pub struct Statement {
    /// Its syntax.
    pub syntax: ast::Stmt,
    /// The line of its first word, from 1.
    pub line: usize,
    /// Its bytes in the text, without the white space and comments around it.
    pub range: std::ops::Range<usize>,
    /// What it does to relations.
    pub effects: Vec<Effect>,
    /// Whether all that it is about was created earlier in the script.
    pub on_new_table: bool,
    /// Whether it reads rows of a table that was not.
    pub reads_live: bool,
    /// The table of the script of which a trigger or rule of the script acts on what it writes.
    pub acted_on: Option<Name>,
    /// Whether it is in a transaction with other statements, as far as the script says.
    pub in_transaction: bool,
}

/// A comment that stands alone in its line.
pub struct Comment {
    /// Its line, from 1.
    pub line: usize,
    /// What follows the dashes.
    pub text: String,
}

impl Script {
    /// Parses `text`; what is not SQL is found among the errors of the tree.
    pub fn parse(text: &str) -> Self {
        let (mut text, psql) = psql::strip(text);
        // A lone CR ends a line, too.
        text = text.replace("\r\n", " \n").replace('\r', "\n");
        for (silencer, harmless) in SILENCERS {
            text = text.replace(silencer, harmless);
        }
        let parse = SourceFile::parse(&text);
        let mut lines = vec![0];
        lines.extend(text.match_indices('\n').map(|(at, _)| at + 1));
        let mut script = Self {
            text,
            parse,
            psql,
            statements: Vec::new(),
            lines,
        };
        script.read(Transactions::Unsure);
        script
    }

    /// Reads the statements as they are run.
    pub fn read(&mut self, transactions: Transactions) {
        self.statements.clear();
        let mut facts = Facts::of(transactions);
        for syntax in self.parse.tree().stmts() {
            let Some(range) = trimmed(syntax.syntax()) else {
                continue;
            };
            if ast::EmptyStmt::can_cast(syntax.syntax().kind()) {
                continue;
            }
            let syntax = executed(syntax);
            self.statements.push(Statement {
                line: self.line(range.start),
                effects: effects::of(&syntax, &facts),
                on_new_table: targets::is_about_new(&syntax, &facts.names),
                reads_live: targets::reads_live(syntax.syntax(), &facts.names),
                acted_on: targets::acted_on(syntax.syntax(), &facts.names),
                in_transaction: facts.in_transaction(),
                range,
                syntax: syntax.clone(),
            });
            creations::note(&syntax, &mut facts);
        }
    }

    /// Whether psql is to run it, as what pg_dump writes: then its session ends with it, and what it
    /// sets reaches nobody.
    pub fn is_for_psql(&self) -> bool {
        let dump = |comment: Comment| comment.text == "PostgreSQL database dump";
        !self.psql.0.is_empty() || self.comments().into_iter().any(dump)
    }

    /// The line of the byte `at`, from 1.
    pub fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|begin| *begin <= at)
    }

    /// The statement that has the byte `at`.
    pub fn statement_at(&self, at: usize) -> Option<&Statement> {
        self.statements.iter().find(|s| s.range.contains(&at))
    }

    /// The statement that has a word in `line`, the last when there are several.
    pub fn statement_in(&self, line: usize) -> Option<&Statement> {
        let within =
            |s: &&Statement| (s.line..=self.line(s.range.end.saturating_sub(1))).contains(&line);
        self.statements.iter().rfind(within)
    }

    /// The comments that stand alone in their line, in order.
    pub fn comments(&self) -> Vec<Comment> {
        let tokens = self.parse.syntax_node().descendants_with_tokens();
        let comments = tokens
            .filter_map(|element| element.into_token())
            .filter_map(|token| {
                let text =
                    (token.kind() == SyntaxKind::COMMENT).then(|| token.text().to_owned())?;
                let line = self.line(usize::from(token.text_range().start()));
                let begin = *self.lines.get(line - 1)?;
                let before = self
                    .text
                    .get(begin..usize::from(token.text_range().start()))?;
                let text = text.strip_prefix("--")?.trim().to_owned();
                before.trim().is_empty().then_some(Comment { line, text })
            });
        comments.collect()
    }
}

/// The bytes of `node` from its first word to its last.
fn trimmed(node: &SyntaxNode) -> Option<std::ops::Range<usize>> {
    let words = || {
        let tokens = node
            .descendants_with_tokens()
            .filter_map(|element| element.into_token());
        tokens.filter(|token| !token.kind().is_trivia())
    };
    let first = words().next()?.text_range().start();
    let last = words().last()?.text_range().end();
    Some(first.into()..last.into())
}

/// What EXPLAIN ANALYZE executes; any other statement as it is.
fn executed(statement: ast::Stmt) -> ast::Stmt {
    let ast::Stmt::Explain(explain) = &statement else {
        return statement;
    };
    let is_analyze = |word: &SyntaxNode| {
        let word = word.text().to_string().to_ascii_lowercase();
        word.starts_with("analy")
    };
    let options = explain.syntax().descendants();
    let analyzes = options.into_iter().any(|node| match node.kind() {
        SyntaxKind::EXPLAIN_ANALYZE => true,
        SyntaxKind::EXPLAIN_OPTION => {
            let text = node.text().to_string().to_ascii_lowercase();
            let off = ["false", "off", "no", "0"]
                .iter()
                .any(|off| text.ends_with(off));
            is_analyze(&node) && !off
        }
        _ => false,
    });
    let inner = explain.syntax().children().last().and_then(ast::Stmt::cast);
    inner.filter(|_| analyzes).unwrap_or(statement)
}
