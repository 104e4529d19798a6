//! Finds the unique index behind a key, or says why there is none and what to do.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor, Row};

use super::catalog::{self, Index, IndexColumn};
use super::table::{self, Table};
use super::{Column, Keyset, Operators};
use crate::migration::columns;
use crate::migration::definition::Definition;

/// Why a table cannot be walked.
#[derive(Debug, thiserror::Error)]
pub enum KeysetError {
    /// There are no rows to change.
    #[error("`{0}` has no backfill, so there is nothing to walk or to verify")]
    NoBackfill(String),
    /// No such table.
    #[error("there is no table `{table}` in this database{hint}")]
    NoTable {
        /// As it was declared.
        table: String,
        /// A table whose name differs in case only.
        hint: String,
    },
    /// Something other than a table, or a table that shares its rows with others.
    #[error("`{table}` {problem}")]
    Unsuitable {
        /// As it was declared.
        table: String,
        /// What it is, and what to do.
        problem: &'static str,
    },
    /// The definition names no key and the table has no primary key.
    #[error(
        "table `{table}` has no primary key; name the columns of a unique index in the header with \
         `-- key: …`{keys}"
    )]
    NoPrimaryKey {
        /// The table.
        table: String,
        /// The keys that would do.
        keys: String,
    },
    /// No unique index has exactly these columns.
    #[error(
        "table `{table}` has no valid unique index on ({key}) in this order that reaches every row \
         once{found}; create one with CREATE UNIQUE INDEX CONCURRENTLY, or name another key{keys}"
    )]
    NoIndex {
        /// The table.
        table: String,
        /// The declared columns.
        key: String,
        /// Indexes on these columns, and why they will not do.
        found: String,
        /// The keys that would do.
        keys: String,
    },
    /// The database refused.
    #[error("{}", pool::describe(.0))]
    Database(#[from] sqlx::Error),
}

impl Keyset {
    /// Finds the unique index behind the key that `definition` declares.
    ///
    /// # Errors
    /// [`KeysetError`] says what to create or to declare.
    pub async fn resolve(
        conn: &mut PgConnection,
        definition: &Definition,
    ) -> Result<Self, KeysetError> {
        if !definition.has_backfill() {
            return Err(KeysetError::NoBackfill(definition.name.clone()));
        }
        let table = table::find(conn, &definition.table).await?;
        let indexes = catalog::indexes(conn, table.oid).await?;
        let wanted = &definition.key;
        let mut found = Vec::new();
        for index in &indexes {
            let fits = if wanted.is_empty() {
                index.is_primary
            } else {
                wanted.len() == index.columns.len()
                    && wanted
                        .iter()
                        .zip(index.columns.iter())
                        .all(|(w, c)| c.is_called(w))
            };
            if !fits {
                continue;
            }
            match index.keyset(conn, definition, &table).await? {
                Ok(keyset) => return Ok(keyset),
                Err(why) => found.push(format!("index `{}` {why}", index.name)),
            }
        }
        let table = definition.table.clone();
        let keys = usable(&indexes);
        if wanted.is_empty() && found.is_empty() {
            return Err(KeysetError::NoPrimaryKey { table, keys });
        }
        let found = match found.join("; ") {
            none if none.is_empty() => none,
            some => format!(" ({some})"),
        };
        let key = match wanted.as_slice() {
            [] => "its primary key".to_owned(),
            wanted => wanted.join(", "),
        };
        Err(KeysetError::NoIndex {
            table,
            key,
            found,
            keys,
        })
    }
}

/// The keys that need no further declaration, as a hint.
fn usable(indexes: &[Index]) -> String {
    let usable = indexes
        .iter()
        .filter(|i| i.problem.is_none() && !i.is_partial);
    let keys: Vec<_> = usable
        .map(|i| format!("`-- key: {}`", i.names().join(", ")))
        .collect();
    if keys.is_empty() {
        String::new()
    } else {
        format!(" (there is {})", keys.join(", "))
    }
}

impl Index {
    /// What a header may call the columns.
    fn names(&self) -> Vec<String> {
        self.columns.iter().map(|c| c.plain.clone()).collect()
    }

    /// The keyset that walks by this index, or why it would not meet every row in scope once.
    async fn keyset(
        &self,
        conn: &mut PgConnection,
        definition: &Definition,
        table: &Table,
    ) -> Result<Result<Keyset, String>, sqlx::Error> {
        if let Some(problem) = &self.problem {
            return Ok(Err(problem.clone()));
        }
        if self.is_partial
            && let Some(why) = self.leaves_out(conn, definition).await?
        {
            return Ok(Err(why));
        }
        let keyset = self.over(definition, table);
        // One that PostgreSQL does not use yet because of older transactions is not judged by that.
        if !self.is_young
            && let Some(why) = keyset.unordered(conn, self.is_partial).await?
        {
            return Ok(Err(format!("{}{why}", self.disorder())));
        }
        Ok(Ok(keyset))
    }

    /// Why this partial index does not cover all rows in scope; `None` when it does.
    async fn leaves_out(
        &self,
        conn: &mut PgConnection,
        definition: &Definition,
    ) -> Result<Option<String>, sqlx::Error> {
        let predicate = catalog::predicate(conn, self.oid).await?;
        let predicate = predicate.unwrap_or_else(|| "true".to_owned());
        let Some(scope) = &definition.scope else {
            return Ok(Some(format!(
                "covers a part of the rows: if the others are none of the migration's business, \
                 declare `-- where: {predicate}`"
            )));
        };
        let covered = covers(conn, definition, scope, &predicate).await?;
        Ok((!covered).then(|| {
            format!(
                "covers the rows where {predicate}, of which PostgreSQL cannot tell whether they \
                 include all where {scope}: declare `-- where: {predicate}`"
            )
        }))
    }

    fn over(&self, definition: &Definition, table: &Table) -> Keyset {
        let backwards = self.columns.iter().all(|column| column.descending);
        let columns = self.columns.iter().map(|column| column.walked(backwards));
        let columns: Vec<_> = columns.collect();
        let mixed = columns.iter().any(|column| column.descending);
        let alike = columns.iter().all(|c| c.operators == columns[0].operators)
            && self
                .columns
                .iter()
                .all(|column| column.leads && column.unambiguous);
        let names: Vec<_> = columns.iter().map(|column| column.name.clone()).collect();
        Keyset {
            moves: columns::assigns_one_of(&definition.statement, &definition.table, &names),
            table: definition.table.clone(),
            qualifier: definition.qualifier().to_owned(),
            // Partitions are told apart by plain comparisons, not by those of rows.
            expanded: mixed || (columns.len() > 1 && (table.partitioned || !alike)),
            columns,
            scope: definition.scope.clone(),
            counted: if self.is_partial {
                self.qualified.clone()
            } else {
                definition.table.clone()
            },
            index: self.name.clone(),
        }
    }

    /// That no query gets this index's order from it, naming the columns that it may be due to.
    fn disorder(&self) -> String {
        let odd = |column: &&IndexColumn| !(column.leads && column.class_is_default);
        let mut columns: Vec<_> = self.columns.iter().filter(odd).collect();
        if columns.is_empty() {
            columns = self.columns.iter().collect();
        }
        let columns = columns
            .iter()
            .map(|c| format!("{} by operator class {}", c.quoted, c.class));
        format!(
            "sorts {}, and PostgreSQL has no query that reads it in this order",
            columns.collect::<Vec<_>>().join(", ")
        )
    }
}

impl IndexColumn {
    /// Whether a header means this column by `name`: as it is, or quoted, needed or not.
    fn is_called(&self, name: &str) -> bool {
        name == self.plain || name == format!("\"{}\"", self.plain.replace('"', "\"\""))
    }

    /// The column in the direction of a walk, which goes through the whole index `backwards` or not.
    fn walked(&self, backwards: bool) -> Column {
        let operator = |strategy: usize| self.operators[strategy - 1].clone().unwrap_or_default();
        Column {
            name: self.quoted.clone(),
            shown: self.shown.clone().unwrap_or_default(),
            operand: self.operand.clone().unwrap_or_default(),
            relabelled: self.relabelled,
            polymorphic: self.polymorphic,
            operators: Operators {
                less: operator(1),
                less_equal: operator(2),
                equal: operator(3),
                greater: operator(5),
            },
            sorts_by_default: self.polymorphic && self.relabelled && self.class_is_default,
            collation: self.collation.clone(),
            descending: !backwards && self.descending,
            nulls_first: self.nulls_first != backwards,
        }
    }
}

impl Keyset {
    /// Why PostgreSQL would have to sort the table to walk it; `None` when it reads an index in order,
    /// of rows in scope only if the index is `partial`.
    async fn unordered(
        &self,
        conn: &mut PgConnection,
        partial: bool,
    ) -> Result<Option<String>, sqlx::Error> {
        let mut tx = conn.begin().await?;
        // With every other way made dear, a plan that sorts is one that has to.
        tx.execute(
            "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; \
             SET LOCAL enable_sort = off; SET LOCAL enable_incremental_sort = off; \
             SET LOCAL enable_indexscan = on; SET LOCAL enable_indexonlyscan = on",
        )
        .await?;
        let sql = format!(
            "EXPLAIN (FORMAT JSON) SELECT {} FROM {} WHERE {} ORDER BY {} LIMIT 1",
            self.list(|_, c| c.own(&self.qualifier)),
            self.from(),
            self.scope.as_deref().filter(|_| partial).unwrap_or("true"),
            self.order(false),
        );
        let explained = tx.fetch_one(AssertSqlSafe(sql)).await;
        tx.rollback().await?;
        match explained {
            Ok(row) => {
                let plan: serde_json::Value = row.try_get(0)?;
                Ok(sorts(&plan[0]["Plan"]).then(String::new))
            }
            // No such operator for these types, more than one, or one that no B-tree sorts by.
            Err(sqlx::Error::Database(err))
                if ["42883", "42725", "42809"].contains(&err.code().as_deref().unwrap_or("")) =>
            {
                Ok(Some(format!(" ({})", err.message())))
            }
            Err(err) => Err(err),
        }
    }
}

/// Whether `plan` or a part of it sorts.
fn sorts(plan: &serde_json::Value) -> bool {
    let sorts_itself = plan["Node Type"]
        .as_str()
        .is_some_and(|node| node.ends_with("Sort"));
    let parts = plan["Plans"].as_array();
    sorts_itself || parts.is_some_and(|parts| parts.iter().any(sorts))
}

/// Whether every row where `scope` is one where `predicate`: PostgreSQL's planner is asked to prove
/// that no row is in the one and not in the other.
async fn covers(
    conn: &mut PgConnection,
    definition: &Definition,
    scope: &str,
    predicate: &str,
) -> Result<bool, sqlx::Error> {
    let mut tx = conn.begin().await?;
    tx.execute("SET LOCAL constraint_exclusion = on").await?;
    let alias = definition
        .alias
        .as_ref()
        .map_or(String::new(), |alias| format!(" AS {alias}"));
    let sql = format!(
        "EXPLAIN (FORMAT JSON) SELECT FROM {}{alias} WHERE ({scope}) AND NOT ({predicate})",
        definition.table
    );
    let row = tx.fetch_one(AssertSqlSafe(sql)).await?;
    let plan: serde_json::Value = row.try_get(0)?;
    tx.rollback().await?;
    Ok(plan[0]["Plan"]["One-Time Filter"] == "false")
}
