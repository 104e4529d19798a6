//! What is known of the functions that a statement calls.

use squawk_syntax::SyntaxNode;
use squawk_syntax::ast::{self, AstNode};

/// The functions of PostgreSQL, and syntax that looks like one, that are not volatile: they change
/// nothing, and do not differ from row to row.
const NOT_VOLATILE: &str = include_str!("functions.txt");

/// The volatile ones that change nothing but a sequence, or end with the transaction.
const HARMLESS: &str = "\
    random random_normal setseed gen_random_uuid clock_timestamp timeofday nextval setval currval lastval \
    array_sample array_shuffle uuidv4 uuidv7 \
    pg_advisory_xact_lock pg_advisory_xact_lock_shared pg_try_advisory_xact_lock \
    pg_try_advisory_xact_lock_shared pg_blocking_pids pg_collation_actual_version \
    pg_current_wal_flush_lsn pg_current_wal_insert_lsn pg_current_wal_lsn \
    pg_database_collation_actual_version pg_database_size pg_indexes_size pg_is_in_recovery \
    pg_is_wal_replay_paused pg_last_committed_xact pg_last_wal_receive_lsn pg_last_wal_replay_lsn \
    pg_last_xact_replay_timestamp pg_lock_status pg_notify pg_partition_ancestors pg_partition_tree \
    pg_prepared_xact pg_relation_size pg_sequence_last_value pg_table_size pg_tablespace_size \
    pg_total_relation_size pg_xact_commit_timestamp pg_xact_status txid_status";

/// Those that leave something behind in the session.
const OUTLIVING: [&str; 7] = [
    "pg_advisory_lock",
    "pg_advisory_lock_shared",
    "pg_try_advisory_lock",
    "pg_try_advisory_lock_shared",
    "pg_advisory_unlock",
    "pg_advisory_unlock_shared",
    "pg_advisory_unlock_all",
];

/// A call.
pub struct Call {
    /// The function, without its schema.
    pub name: String,
    /// Whether it is PostgreSQL's own: without a schema, or of `pg_catalog`.
    built_in: bool,
    /// The arguments, as they are written.
    pub arguments: Vec<String>,
    /// Its syntax.
    pub node: SyntaxNode,
}

/// The calls within `node`, besides those that have a syntax of their own, as EXTRACT.
pub fn calls(node: &SyntaxNode) -> impl Iterator<Item = Call> {
    node.descendants().filter_map(|node| {
        let call = ast::CallExpr::cast(node.clone())?;
        let (name, built_in) = match call.expr()? {
            ast::Expr::NameRef(name) => (name.text(), true),
            ast::Expr::FieldExpr(field) => {
                let names = field.syntax().descendants().filter_map(ast::NameRef::cast);
                let mut names: Vec<_> = names.map(|name| name.text()).collect();
                let own = names.pop()?;
                (own, names == ["pg_catalog"])
            }
            _ => return None,
        };
        let arguments = call.arg_list().map(|list| {
            let each = list
                .args()
                .map(|argument| argument.syntax().text().to_string());
            each.map(|text| text.trim().to_owned()).collect()
        });
        Some(Call {
            name,
            built_in,
            arguments: arguments.unwrap_or_default(),
            node,
        })
    })
}

impl Call {
    /// Whether it is PostgreSQL's own function `name`.
    pub fn is(&self, name: &str) -> bool {
        self.built_in && self.name == name
    }

    /// Whether it leaves something behind in the session.
    pub fn outlives(&self) -> bool {
        self.built_in && OUTLIVING.contains(&self.name.as_str())
    }

    /// Whether it takes an advisory lock until the transaction ends.
    pub fn locks_until_end(&self) -> bool {
        self.built_in && self.name.contains("advisory_xact_lock")
    }

    /// Whether it is known to do nothing that the text does not show.
    pub fn is_harmless(&self) -> bool {
        self.built_in && (self.is_not_volatile() || lists(HARMLESS, &self.name))
    }

    fn is_not_volatile(&self) -> bool {
        self.built_in && lists(NOT_VOLATILE, &self.name)
    }
}

/// Whether the value of `node` may differ from row to row.
pub fn may_differ_by_row(node: &SyntaxNode) -> bool {
    calls(node).any(|call| !call.is_not_volatile())
}

/// The names of [`NOT_VOLATILE`].
pub fn not_volatile() -> impl Iterator<Item = &'static str> {
    NOT_VOLATILE.split_ascii_whitespace()
}

fn lists(list: &str, name: &str) -> bool {
    list.split_ascii_whitespace().any(|known| known == name)
}
