//! Walks a table in ranges of any unique key.
//!
//! A key is an array of the text forms of its columns; the SQL made here casts them back to the
//! columns' types, so that bigint, UUID, text, timestamps and composites all take the same path.
//! Comparisons are row comparisons in the order of a unique index, which a B-tree answers directly.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use super::definition::{Definition, RANGE};

/// The text forms of a key's columns.
pub type KeyValue = Vec<String>;

/// A unique key of an existing table, and the SQL that walks it.
#[derive(Clone, Debug)]
pub struct Keyset {
    table: String,
    qualifier: String,
    columns: Vec<Column>,
    /// The unique index that serves the walk.
    pub index: String,
}

#[derive(Clone, Debug)]
struct Column {
    /// Quoted where needed.
    name: String,
    /// As `format_type` spells it with its modifier: `character` alone would mean `character(1)`.
    type_name: String,
}

/// Why a table cannot be walked.
#[derive(Debug, thiserror::Error)]
pub enum KeysetError {
    /// No such table.
    #[error("there is no table `{0}` in this database")]
    NoTable(String),
    /// The definition names no key and the table has no primary key.
    #[error(
        "table `{0}` has no primary key; name the columns of a unique index in the header with \
         `-- key: …`"
    )]
    NoPrimaryKey(String),
    /// No unique index has exactly these columns.
    #[error(
        "table `{table}` has no valid unique index on ({key}) in this order, over all rows, in \
         ascending order and without NULLs; create one with CREATE UNIQUE INDEX CONCURRENTLY, or \
         name another key"
    )]
    NoIndex {
        /// The table.
        table: String,
        /// The declared columns.
        key: String,
    },
    /// The database refused.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Unique, valid, immediate, whole-table B-tree indexes on plain NOT NULL columns in ascending order,
/// the primary key first.
const INDEXES: &str = "
    SELECT c.relname::text AS index_name, i.indisprimary,
           array_agg(a.attname::text ORDER BY k.ord) AS plain,
           array_agg(quote_ident(a.attname) ORDER BY k.ord) AS quoted,
           array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY k.ord) AS types
      FROM pg_index i
      JOIN pg_class c ON c.oid = i.indexrelid
      JOIN pg_am am ON am.oid = c.relam AND am.amname = 'btree'
      CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indoption::int2[]) WITH ORDINALITY AS k(attnum, option, ord)
      JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
     WHERE i.indrelid = to_regclass($1)
       AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
       AND i.indexprs IS NULL AND k.ord <= i.indnkeyatts
     GROUP BY c.relname, i.indexrelid, i.indisprimary
    HAVING bool_and(a.attnotnull AND k.option = 0)
     ORDER BY i.indisprimary DESC, i.indexrelid";

impl Keyset {
    /// Finds the unique index behind the key that `definition` declares.
    ///
    /// # Errors
    /// [`KeysetError`] says what to create or to declare.
    pub async fn resolve(
        conn: &mut PgConnection,
        definition: &Definition,
    ) -> Result<Self, KeysetError> {
        let table = &definition.table;
        let exists: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
            .bind(table)
            .fetch_one(&mut *conn)
            .await?;
        if !exists {
            return Err(KeysetError::NoTable(table.clone()));
        }
        let indexes = sqlx::query(INDEXES).bind(table).fetch_all(conn).await?;
        let wanted = &definition.key;
        for index in indexes {
            let plain: Vec<String> = index.try_get("plain")?;
            let quoted: Vec<String> = index.try_get("quoted")?;
            let fits = if wanted.is_empty() {
                index.try_get("indisprimary")?
            } else {
                wanted == &plain || wanted == &quoted
            };
            if fits {
                let types: Vec<String> = index.try_get("types")?;
                let columns = quoted.into_iter().zip(types);
                return Ok(Self {
                    table: table.clone(),
                    qualifier: definition.qualifier().to_owned(),
                    columns: columns
                        .map(|(name, type_name)| Column { name, type_name })
                        .collect(),
                    index: index.try_get("index_name")?,
                });
            }
        }
        Err(if wanted.is_empty() {
            KeysetError::NoPrimaryKey(table.clone())
        } else {
            KeysetError::NoIndex {
                table: table.clone(),
                key: wanted.join(", "),
            }
        })
    }

    /// The key's columns and types, for people: `account_id bigint, id bigint`.
    pub fn describe(&self) -> String {
        let columns = self
            .columns
            .iter()
            .map(|c| format!("{} {}", c.name, c.type_name));
        columns.collect::<Vec<_>>().join(", ")
    }

    /// `(q.a, q.b)`
    fn row(&self, qualifier: &str) -> String {
        let columns = self
            .columns
            .iter()
            .map(|c| format!("{qualifier}.{}", c.name));
        format!("({})", columns.collect::<Vec<_>>().join(", "))
    }

    /// `(($n::text[])[1]::bigint, ($n::text[])[2]::uuid)`
    fn param(&self, n: usize) -> String {
        let values = self
            .columns
            .iter()
            .enumerate()
            .map(|(i, c)| format!("(${n}::text[])[{}]::{}", i + 1, c.type_name));
        format!("({})", values.collect::<Vec<_>>().join(", "))
    }

    /// The keys after `$1` (all, when it is NULL at `from_start`) up to and including `$2`.
    fn between(&self, qualifier: &str, from_start: bool) -> String {
        let row = self.row(qualifier);
        let upper = format!("{row} <= {}", self.param(2));
        if from_start {
            // The parameter must appear, or PostgreSQL could not tell its type.
            format!("($1::text[] IS NULL AND {upper})")
        } else {
            format!("({row} > {} AND {upper})", self.param(1))
        }
    }

    /// The statement of `definition` over the keys after `$1` up to `$2`, still pending rows only.
    pub fn statement(&self, definition: &Definition, from_start: bool) -> String {
        let range = self.between(&self.qualifier, from_start);
        let condition = format!("({range} AND ({}))", definition.pending);
        definition.statement.replace(RANGE, &condition)
    }

    /// Selects `expressions` over the keys after `$1` (from the beginning, when `from_start`) up to
    /// `$2`.
    pub fn select(&self, from_start: bool, expressions: &str) -> String {
        let between = self.between(&self.qualifier, from_start);
        format!("{} WHERE {between}", self.select_all(expressions))
    }

    /// Selects `expressions` over the whole table.
    pub fn select_all(&self, expressions: &str) -> String {
        format!("SELECT {expressions} FROM {}", self.from())
    }

    /// The table, with the name that the statement gives it.
    pub fn from(&self) -> String {
        let Self {
            table, qualifier, ..
        } = self;
        if qualifier == table {
            table.clone()
        } else {
            format!("{table} AS {qualifier}")
        }
    }

    /// A query of the key's columns, `k0`, `k1`, … and `further` ones that returns nothing. In a
    /// UNION it gives the others the columns' types and collations.
    pub fn no_keys(&self, further: &str) -> String {
        let keys = self.columns.iter().enumerate();
        let keys = keys.map(|(i, c)| format!("walked.{} AS k{i}", c.name));
        let keys = keys.collect::<Vec<_>>().join(", ");
        format!(
            "(SELECT {keys}{further} FROM {} AS walked LIMIT 0)",
            self.table
        )
    }

    /// The names that [`Self::no_keys`] gives the key's columns.
    pub fn numbered(&self) -> Vec<String> {
        (0..self.columns.len()).map(|i| format!("k{i}")).collect()
    }

    /// The elements of the text array `array` as values of the key's columns.
    pub fn cast(&self, array: &str) -> String {
        let values = self.columns.iter().enumerate();
        let values = values.map(|(i, c)| format!("({array})[{}]::{}", i + 1, c.type_name));
        values.collect::<Vec<_>>().join(", ")
    }

    /// The key's columns, as the statement knows them.
    pub fn columns(&self) -> Vec<String> {
        let names = self.columns.iter();
        names
            .map(|c| format!("{}.{}", self.qualifier, c.name))
            .collect()
    }

    /// Of the next `$3` keys after `$1` up to `$2`: the last one, how many there are, and how many
    /// of their rows `pending` is true for (`NULL` when that was not asked).
    pub fn next_sql(&self, from_start: bool, pending: Option<&str>) -> String {
        let Self {
            table, qualifier, ..
        } = self;
        let alias = if qualifier == table {
            String::new()
        } else {
            format!(" AS {qualifier}")
        };
        let names = |prefix: &str| {
            let names = self
                .columns
                .iter()
                .enumerate()
                .map(|(i, _)| format!("{prefix}k{i}"));
            names.collect::<Vec<_>>()
        };
        let selected: Vec<_> = self
            .columns
            .iter()
            .enumerate()
            .map(|(i, c)| format!("{qualifier}.{} AS k{i}", c.name))
            .collect();
        let texts: Vec<_> = names("").iter().map(|k| format!("{k}::text")).collect();
        let descending: Vec<_> = names("").iter().map(|k| format!("{k} DESC")).collect();
        let ascending: Vec<_> = self
            .columns
            .iter()
            .map(|c| format!("{qualifier}.{}", c.name))
            .collect();
        let (flag, pending_count) = match pending {
            Some(pending) => (
                format!("(({pending}) IS TRUE)"),
                "count(*) FILTER (WHERE todo) OVER ()",
            ),
            None => ("NULL::boolean".to_owned(), "NULL::bigint"),
        };
        format!(
            "SELECT ARRAY[{texts}] AS upper, count(*) OVER () AS seen, {pending_count} AS todo
               FROM (SELECT {selected}, {flag} AS todo
                       FROM {table}{alias} WHERE {between}
                      ORDER BY {ascending} LIMIT $3) AS next
              ORDER BY {descending} LIMIT 1",
            texts = texts.join(", "),
            selected = selected.join(", "),
            between = self.between(qualifier, from_start),
            ascending = ascending.join(", "),
            descending = descending.join(", "),
        )
    }

    /// The next `rows` keys after `after` up to `end`; `None` when there are none.
    ///
    /// # Errors
    /// What the database says.
    pub async fn next(
        &self,
        conn: &mut PgConnection,
        after: Option<&KeyValue>,
        end: &KeyValue,
        rows: u32,
        pending: Option<&str>,
    ) -> Result<Option<Range>, sqlx::Error> {
        let sql = self.next_sql(after.is_none(), pending);
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(after)
            .bind(end)
            .bind(i64::from(rows))
            .fetch_optional(conn)
            .await?;
        row.map(|row| {
            Ok(Range {
                lower: after.cloned(),
                upper: row.try_get("upper")?,
                seen: row.try_get("seen")?,
                todo: row.try_get("todo")?,
            })
        })
        .transpose()
    }

    /// The greatest key of the table; `None` when it is empty.
    ///
    /// # Errors
    /// What the database says.
    pub async fn last(&self, conn: &mut PgConnection) -> Result<Option<KeyValue>, sqlx::Error> {
        let columns = |f: fn(&Column) -> String| {
            let columns: Vec<_> = self.columns.iter().map(f).collect();
            columns.join(", ")
        };
        let sql = format!(
            "SELECT ARRAY[{}] FROM {} AS walked ORDER BY {} LIMIT 1",
            columns(|c| format!("walked.{}::text", c.name)),
            self.table,
            columns(|c| format!("walked.{} DESC", c.name)),
        );
        sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_optional(conn)
            .await
    }

    /// How many rows the planner believes the table has; -1 when it was never analysed.
    ///
    /// # Errors
    /// What the database says.
    pub async fn estimate(&self, conn: &mut PgConnection) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar("SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass($1)")
            .bind(&self.table)
            .fetch_one(conn)
            .await
    }
}

/// A half-open range of keys: after `lower`, up to and including `upper`.
#[derive(Clone, Debug)]
pub struct Range {
    /// Exclusive; `None` from the beginning of the table.
    pub lower: Option<KeyValue>,
    /// Inclusive.
    pub upper: KeyValue,
    /// Keys in the range.
    pub seen: i64,
    /// Rows still to be changed, where that was asked.
    pub todo: Option<i64>,
}
