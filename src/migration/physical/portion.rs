//! What is read by one statement: some blocks of a table, by ctid.

use sqlx::postgres::PgConnection;
use sqlx::postgres::types::Oid;
use sqlx::{AssertSqlSafe, Executor, Row};

use super::leaves::Leaf;
use super::{NAMED, Question};
use crate::migration::keyset::{KeyNames, KeyValue};

/// Tables that are read together, block by block: one table, or all partitions at once where the
/// predicates are only understood for the table above them.
#[derive(Debug)]
pub(super) struct Source {
    /// The table by whose name all are read, as SQL.
    name: String,
    /// The FROM clause, with the name by which the predicates know the table.
    from: String,
    oids: Vec<Oid>,
    filenodes: Vec<Oid>,
    /// What is read, for people.
    pub names: Vec<String>,
    /// Blocks of the largest of them.
    pub blocks: i64,
}

/// What some blocks hold.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub rows: i64,
    pub pending: i64,
    pub named: Vec<String>,
    /// Whether the tables are not those that the snapshot sees.
    pub swapped: bool,
}

impl Source {
    /// `leaf` by itself; `root` is the declared table's name without its schema.
    pub(super) fn one(question: &Question<'_>, leaf: &Leaf, root: &str) -> Self {
        let definition = question.definition;
        let (name, alias) = match &definition.alias {
            Some(alias) => (&leaf.name, format!(" AS {alias}")),
            // A predicate may name it with its schema, which an alias would hide.
            None if leaf.is_root => (&definition.table, String::new()),
            None => (&leaf.name, format!(" AS {root}")),
        };
        let from = format!("ONLY {name}{alias}");
        Self::over(name, from, std::slice::from_ref(leaf))
    }

    /// All of `leaves` through the declared table.
    pub(super) fn all(question: &Question<'_>, leaves: &[Leaf]) -> Self {
        let definition = question.definition;
        let from = match &definition.alias {
            Some(alias) => format!("{} AS {alias}", definition.table),
            None => definition.table.clone(),
        };
        Self::over(&definition.table, from, leaves)
    }

    fn over(name: &str, from: String, leaves: &[Leaf]) -> Self {
        Self {
            name: name.to_owned(),
            from,
            oids: leaves.iter().map(|leaf| leaf.oid).collect(),
            filenodes: leaves.iter().map(|leaf| leaf.filenode).collect(),
            names: leaves.iter().map(|leaf| leaf.name.clone()).collect(),
            blocks: leaves.iter().map(|leaf| leaf.blocks).max().unwrap_or(0),
        }
    }

    /// The rows in scope within a range of blocks. The predicates end with a line, for they may end
    /// with a comment.
    fn within(&self, question: &Question<'_>) -> String {
        let scope = question.definition.scope.as_deref().unwrap_or("true");
        format!(
            "FROM {} WHERE ctid OPERATOR(pg_catalog.>=) $1::pg_catalog.text::pg_catalog.tid
                   AND ctid OPERATOR(pg_catalog.<) $2::pg_catalog.text::pg_catalog.tid AND ({scope}\n)",
            self.from
        )
    }

    /// Asks the planner whether the predicates are understood here, and reading is permitted.
    ///
    /// # Errors
    /// What the database says.
    pub(super) async fn check(
        &self,
        conn: &mut PgConnection,
        question: &Question<'_>,
    ) -> Result<(), sqlx::Error> {
        let definition = question.definition;
        let scope = definition.scope.as_deref().unwrap_or("true");
        let sql = format!(
            "EXPLAIN SELECT pg_catalog.count(*) FILTER (WHERE ({}\n)) FROM {} WHERE ({scope}\n)",
            definition.pending, self.from
        );
        conn.execute(AssertSqlSafe(sql)).await?;
        // The planner does not look at rights, the executor does.
        let sql = format!("SELECT FROM {} LIMIT 0", self.from);
        conn.execute(AssertSqlSafe(sql)).await?;
        Ok(())
    }

    /// Counts the rows in the blocks from `at` on, before `to`. What is read must be the tables that the
    /// snapshot sees, and in the same files: a rewrite moves rows to where an older snapshot does not
    /// see them, and a name may mean another table by now. That is asked under the statement's own
    /// locks.
    ///
    /// # Errors
    /// What the database says.
    pub(super) async fn count(
        &self,
        conn: &mut PgConnection,
        question: &Question<'_>,
        (at, to): (i64, i64),
        name: bool,
    ) -> Result<Counted, sqlx::Error> {
        let sql = format!(
            "SELECT pg_catalog.count(*) AS rows,
                    pg_catalog.count(*) FILTER (WHERE ({}\n)) AS pending,
                    pg_catalog.count(*) FILTER (WHERE tableoid OPERATOR(pg_catalog.<>) ALL ($3::pg_catalog._oid))
                        OPERATOR(pg_catalog.>) 0::bigint OR EXISTS (
                        SELECT FROM ROWS FROM (pg_catalog.unnest($3::pg_catalog._oid),
                                               pg_catalog.unnest($4::pg_catalog._oid)) AS was (oid, filenode)
                         WHERE (pg_catalog.pg_relation_filenode(was.oid) OPERATOR(pg_catalog.=) was.filenode) IS NOT TRUE
                            OR (pg_catalog.to_regclass($5)::pg_catalog.oid OPERATOR(pg_catalog.=) was.oid) IS NOT TRUE
                               AND NOT EXISTS (
                               SELECT FROM pg_catalog.pg_partition_ancestors(was.oid) AS a (oid)
                                WHERE a.oid::pg_catalog.oid OPERATOR(pg_catalog.=)
                                      pg_catalog.to_regclass($5)::pg_catalog.oid)) AS swapped
               {}",
            question.definition.pending,
            self.within(question),
        );
        let (from, to) = (format!("({at},0)"), format!("({to},0)"));
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(&from)
            .bind(&to)
            .bind(&self.oids)
            .bind(&self.filenodes)
            .bind(&self.name)
            .fetch_one(&mut *conn)
            .await?;
        let mut counted = Counted {
            rows: row.try_get("rows")?,
            pending: row.try_get("pending")?,
            named: Vec::new(),
            swapped: row.try_get("swapped")?,
        };
        if name && counted.pending > 0 && !question.key.is_empty() {
            let keys = question.key.iter();
            let keys =
                keys.map(|column| format!("{column}::pg_catalog.text COLLATE pg_catalog.\"C\""));
            let sql = format!(
                "SELECT ARRAY[{}] {} AND ({}\n) LIMIT {NAMED}",
                keys.collect::<Vec<_>>().join(", "),
                self.within(question),
                question.definition.pending
            );
            let keys: Vec<KeyValue> = sqlx::query_scalar(AssertSqlSafe(sql))
                .bind(&from)
                .bind(&to)
                .fetch_all(conn)
                .await?;
            let names = KeyNames::new(question.key.clone());
            counted.named = keys.iter().map(|key| names.key(key)).collect();
        }
        Ok(counted)
    }
}
