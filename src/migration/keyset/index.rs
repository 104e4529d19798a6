//! Finds the unique index behind a key, or says why there is none and what to do.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor, FromRow, Row};

use super::{Column, Keyset, table};
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
    #[error("{}", crate::db::describe(.0))]
    Database(#[from] sqlx::Error),
}

/// An index of a table, usable or not.
#[derive(Debug, FromRow)]
struct Index {
    name: String,
    /// With its schema, as SQL.
    qualified: String,
    is_primary: bool,
    plain: Vec<String>,
    quoted: Vec<String>,
    types: Vec<Option<String>>,
    collations: Vec<Option<String>>,
    /// One bit each: descending, NULLs first.
    options: Vec<i16>,
    /// Why it cannot serve a walk, whatever the header says.
    problem: Option<String>,
    /// The rows that it covers, when not all.
    predicate: Option<String>,
}

/// The primary key and whole-table indexes come first, then those in one direction.
///
/// - The types of domains are those that they stand on: a cast to the domain would refuse old
///   values that a constraint, not yet validated, forbids.
/// - An operator class without a default one in its family (`text_pattern_ops`) sorts differently
///   from `<`.
const INDEXES: &str = "
    SELECT c.relname::text AS name,
           quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS qualified,
           i.indisprimary AS is_primary,
           array_agg(coalesce(a.attname::text, '(an expression)') ORDER BY k.ord) AS plain,
           array_agg(coalesce(quote_ident(a.attname), '(an expression)') ORDER BY k.ord) AS quoted,
           array_agg(format_type(base.oid, base.modifier) ORDER BY k.ord) AS types,
           array_agg((SELECT quote_ident(cn.nspname) || '.' || quote_ident(co.collname)
                        FROM pg_collation co JOIN pg_namespace cn ON cn.oid = co.collnamespace
                       WHERE co.oid = k.collid) ORDER BY k.ord) AS collations,
           array_agg(k.option ORDER BY k.ord) AS options,
           CASE WHEN am.amname <> 'btree' THEN 'is no B-tree'
                WHEN NOT i.indisunique THEN 'is not unique'
                WHEN NOT i.indisvalid THEN 'is invalid: drop it and build it again'
                WHEN NOT i.indimmediate THEN 'is deferrable'
                WHEN i.indexprs IS NOT NULL THEN 'is on an expression'
                WHEN NOT bool_and(a.attnotnull) THEN
                     'allows NULL in ' || string_agg(quote_ident(a.attname), ', ' ORDER BY k.ord)
                                              FILTER (WHERE NOT a.attnotnull)
                     || ': make it NOT NULL'
                WHEN NOT bool_and(d.opcdefault IS NOT NULL) THEN
                     'sorts by an operator class other than the type''s own' END AS problem,
           pg_get_expr(i.indpred, i.indrelid) AS predicate
      FROM pg_index i
      JOIN pg_class c ON c.oid = i.indexrelid
      JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_am am ON am.oid = c.relam
      CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indoption::int2[], i.indcollation::oid[],
                                i.indclass::oid[])
                         WITH ORDINALITY AS k(attnum, option, collid, class, ord)
      LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
      LEFT JOIN LATERAL (
          WITH RECURSIVE stood_on(oid, modifier) AS (
              SELECT a.atttypid, a.atttypmod
              UNION ALL
              SELECT t.typbasetype, t.typtypmod
                FROM stood_on s JOIN pg_type t ON t.oid = s.oid AND t.typtype = 'd')
          SELECT s.oid, s.modifier FROM stood_on s
            JOIN pg_type t ON t.oid = s.oid AND t.typtype <> 'd') AS base ON true
      LEFT JOIN pg_opclass o ON o.oid = k.class
      LEFT JOIN pg_opclass d ON d.opcfamily = o.opcfamily AND d.opcintype = o.opcintype
                            AND d.opcdefault
     WHERE i.indrelid = to_regclass($1) AND k.ord <= i.indnkeyatts
     GROUP BY c.oid, n.nspname, am.amname, i.indexrelid
     ORDER BY i.indisprimary DESC, i.indpred IS NOT NULL, count(DISTINCT k.option & 1),
              i.indexrelid";

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
        let partitioned = table::find(conn, &definition.table).await?;
        let indexes: Vec<Index> = sqlx::query_as(INDEXES)
            .bind(&definition.table)
            .fetch_all(&mut *conn)
            .await?;
        let wanted = &definition.key;
        let mut found = Vec::new();
        for index in &indexes {
            let fits = if wanted.is_empty() {
                index.is_primary
            } else {
                wanted == &index.plain || wanted == &index.quoted
            };
            if !fits {
                continue;
            }
            match index.refusal(conn, definition).await? {
                None => return Ok(index.keyset(definition, partitioned)),
                Some(why) => found.push(format!("index `{}` {why}", index.name)),
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
        let key = wanted.join(", ");
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
        .filter(|i| i.problem.is_none() && i.predicate.is_none());
    let keys: Vec<_> = usable
        .map(|i| format!("`-- key: {}`", i.plain.join(", ")))
        .collect();
    if keys.is_empty() {
        String::new()
    } else {
        format!(" (there is {})", keys.join(", "))
    }
}

impl Index {
    /// Why a walk by this index would not meet every row in scope once; `None` when it would.
    async fn refusal(
        &self,
        conn: &mut PgConnection,
        definition: &Definition,
    ) -> Result<Option<String>, sqlx::Error> {
        if self.problem.is_some() {
            return Ok(self.problem.clone());
        }
        let Some(predicate) = &self.predicate else {
            return Ok(None);
        };
        let Some(scope) = &definition.scope else {
            return Ok(Some(format!(
                "covers a part of the rows: if the others are none of the migration's business, \
                 declare `-- where: {predicate}`"
            )));
        };
        let covered = covers(conn, definition, scope, predicate).await?;
        Ok((!covered).then(|| {
            format!(
                "covers the rows where {predicate}, of which PostgreSQL cannot tell whether they \
                 include all where {scope}: declare `-- where: {predicate}`"
            )
        }))
    }

    fn keyset(&self, definition: &Definition, partitioned: bool) -> Keyset {
        let backwards = self.options.iter().all(|option| option & 1 == 1);
        let columns: Vec<_> = (0..self.quoted.len())
            .map(|i| Column {
                name: self.quoted[i].clone(),
                type_name: self.types[i].clone().unwrap_or_default(),
                collation: self.collations[i].clone(),
                descending: !backwards && self.options[i] & 1 == 1,
                nulls_first: (self.options[i] & 2 == 2) != backwards,
            })
            .collect();
        let mixed = columns.iter().any(|column| column.descending);
        Keyset {
            table: definition.table.clone(),
            qualifier: definition.qualifier().to_owned(),
            // Partitions are told apart by plain comparisons, not by those of rows.
            expanded: mixed || (partitioned && columns.len() > 1),
            columns,
            scope: definition.scope.clone(),
            counted: match self.predicate {
                Some(_) => self.qualified.clone(),
                None => definition.table.clone(),
            },
            index: self.name.clone(),
        }
    }
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
