//! Walks a table in ranges of any unique key.
//!
//! A key is an array of the text forms of its columns; the SQL made here casts them back to the
//! columns' types, so that bigint, UUID, text, timestamps and composites all take the same path.
//! Comparisons follow the order of a unique index, column by column with its operators, collation and
//! direction, so that a B-tree answers them directly (see `condition.rs`). Nothing that is made here
//! is looked up through the search path but what the author wrote.

mod catalog;
mod condition;
mod exact;
mod index;
mod table;
mod words;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor, Postgres, Row, SqlSafeStr, Transaction};

use super::definition::Definition;

pub use index::KeysetError;
pub use words::KeyNames;

/// The text forms of a key's columns.
pub type KeyValue = Vec<String>;

/// What makes every type's text form the same in every session and none of them lose anything, for
/// the transactions in which keys are read and compared: settings of the database, of the role or of
/// a pooler's last client may say otherwise. Date style and time zone are those that sqlx asks for.
/// The last has the server read an author's strings as the engine has read them ([`super::source`]).
pub const TEXT_FORMS: &str = "SET LOCAL datestyle = 'ISO, MDY'; SET LOCAL timezone = 'UTC'; \
    SET LOCAL intervalstyle = 'postgres'; SET LOCAL extra_float_digits = 1; \
    SET LOCAL bytea_output = 'hex'; SET LOCAL lc_monetary = 'C'; SET LOCAL array_nulls = on; \
    SET LOCAL standard_conforming_strings = on";

/// Opens a read-only transaction in which keys have the text forms that the ledger stores.
///
/// # Errors
/// What the database says.
pub async fn reading(conn: &mut PgConnection) -> Result<Transaction<'_, Postgres>, sqlx::Error> {
    conn.begin_with(AssertSqlSafe(format!("BEGIN READ ONLY; {TEXT_FORMS}")))
        .await
}

/// A unique key of an existing table, and the SQL that walks it.
#[derive(Clone, Debug)]
pub struct Keyset {
    table: String,
    qualifier: String,
    columns: Vec<Column>,
    /// True of the rows that are walked, when not all are.
    scope: Option<String>,
    /// Whether ranges are unions of boxes instead of row comparisons.
    expanded: bool,
    /// The relation that has as many entries as there are rows to walk.
    counted: String,
    /// The unique index that serves the walk.
    pub index: String,
    /// Whether the statement assigns a column of the key, so that rows move in the walk.
    pub moves: bool,
}

/// A column of the index, in the direction of the walk.
#[derive(Clone, Debug)]
struct Column {
    /// Quoted where needed.
    name: String,
    /// Its type with its modifier, for people.
    shown: String,
    /// The type of the operators, qualified; values are cast to it.
    operand: String,
    /// Whether the column's own type is another, which the operators take as it is.
    relabelled: bool,
    /// Whether the operators take every array, enum, range or row.
    polymorphic: bool,
    operators: Operators,
    /// Whether its order is that of the type, which need not be named and in one case cannot be:
    /// operators of all enums do not take a domain over one.
    sorts_by_default: bool,
    /// The index's, which need not be the column's.
    collation: Option<String>,
    descending: bool,
    nulls_first: bool,
}

/// The operators of an operator class, as SQL: `OPERATOR(pg_catalog.<)`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Operators {
    less: String,
    less_equal: String,
    equal: String,
    greater: String,
}

impl Keyset {
    /// The key's columns and types, for people: `account_id bigint, id bigint`.
    pub fn describe(&self) -> String {
        let columns = self.columns.iter().map(|c| {
            let direction = if c.descending { " descending" } else { "" };
            format!("{} {}{direction}", c.name, c.shown)
        });
        columns.collect::<Vec<_>>().join(", ")
    }

    /// The statement of `definition` over the keys after `$1` up to `$2`, still pending rows only.
    pub fn statement(&self, definition: &Definition, from_start: bool) -> String {
        let pieces = self.pieces(from_start);
        let range = format!("({})", pieces.join(") OR ("));
        let condition = format!("(({range}) AND ({}))", definition.pending);
        definition.over(&condition)
    }

    /// Has PostgreSQL read the statement of `definition` with its conditions, which changes nothing.
    ///
    /// # Errors
    /// What the database says, with the place in the author's file.
    pub async fn read_statement(
        &self,
        conn: &mut PgConnection,
        definition: &Definition,
    ) -> Result<(), sqlx::Error> {
        let sql = self.statement(definition, false);
        let read = conn
            .prepare(AssertSqlSafe(sql.clone()).into_sql_str())
            .await;
        read.map(drop).map_err(|err| definition.place(&sql, err))
    }

    /// Selects `expressions` over the keys after `$1` (from the beginning, when `from_start`) up to
    /// `$2`.
    pub fn select(&self, from_start: bool, expressions: &str) -> String {
        let pieces = self.pieces(from_start);
        format!(
            "{} WHERE ({})",
            self.select_all(expressions),
            pieces.join(") OR (")
        )
    }

    /// Selects `expressions` over the whole table.
    pub fn select_all(&self, expressions: &str) -> String {
        format!("SELECT {expressions} FROM {}", self.from())
    }

    /// A query of the key's columns, `k0`, `k1`, … and `further` ones that returns nothing. In a
    /// UNION it gives the others the columns' types.
    pub fn no_keys(&self, further: &str) -> String {
        let keys = self.list(|i, c| format!("NULL::{} AS k{i}", c.operand));
        format!("SELECT {keys}{further} WHERE false")
    }

    /// The columns that [`Self::no_keys`] names, as an order in which keys are walked.
    pub fn order_of_keys(&self) -> String {
        self.list(|i, c| c.order(format!("k{i}"), false))
    }

    /// The elements of the text array `array` as values of the key's columns.
    pub fn cast(&self, array: &str) -> String {
        self.list(|i, c| format!("({array})[{}]::{}", i + 1, c.operand))
    }

    /// The key's columns, as the statement knows them.
    pub fn columns(&self) -> Vec<String> {
        let names = self.columns.iter();
        names
            .map(|c| format!("{}.{}", self.qualifier, c.name))
            .collect()
    }

    /// Of the next `$3` keys after `$1` up to `$2`: the last one, whether its text form stands for it,
    /// column by column, how many there are, and how many of their rows `pending` is true for (`NULL`
    /// when that was not asked).
    pub fn next_sql(&self, from_start: bool, pending: Option<&str>) -> String {
        let (flag, pending_count) = match pending {
            Some(pending) => (
                format!("(({pending}) IS TRUE)"),
                "pg_catalog.count(*) FILTER (WHERE todo) OVER ()",
            ),
            None => ("NULL::boolean".to_owned(), "NULL::bigint"),
        };
        let selected = self.list(|i, c| format!("{} AS k{i}", c.own(&self.qualifier)));
        let from = self.from();
        let order = self.order(false);
        let pieces = self.pieces(from_start).into_iter().map(|piece| {
            format!("SELECT {selected}, {flag} AS todo FROM {from} WHERE {piece} ORDER BY {order} LIMIT $3")
        });
        let mut pieces: Vec<_> = pieces.collect();
        let next = match pieces.len() {
            1 => pieces.remove(0),
            // Each piece is read in order, and only as far as it is needed.
            _ => format!(
                "SELECT * FROM (({})) AS pieces ORDER BY {} LIMIT $3",
                pieces.join(") UNION ALL ("),
                self.order_of_keys(),
            ),
        };
        format!(
            "SELECT ARRAY[{texts}] AS upper, ARRAY[{survives}] AS survives, seen, todo
               FROM (SELECT {keys}, pg_catalog.count(*) OVER () AS seen, {pending_count} AS todo
                       FROM ({next}) AS next ORDER BY {reversed} LIMIT 1) AS last",
            texts = self.list(|i, _| text(&format!("k{i}"))),
            survives = self.list(|i, c| c.survives(&format!("k{i}"))),
            keys = self.list(|i, _| format!("k{i}")),
            reversed = self.list(|i, c| c.order(format!("k{i}"), true)),
        )
    }

    /// The table's columns as an order that the index answers, against the walk if `reversed`.
    fn order(&self, reversed: bool) -> String {
        self.list(|_, c| c.order_own(&self.qualifier, reversed))
    }

    /// `item` of every column, separated by commas.
    fn list(&self, item: impl Fn(usize, &Column) -> String) -> String {
        let items = self.columns.iter().enumerate().map(|(i, c)| item(i, c));
        items.collect::<Vec<_>>().join(", ")
    }

    /// The table, by the name that the statement gives it.
    pub fn from(&self) -> String {
        if self.qualifier == self.table {
            self.table.clone()
        } else {
            format!("{} AS {}", self.table, self.qualifier)
        }
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
                upper: self.exact(&row, "upper")?,
                seen: row.try_get("seen")?,
                todo: row.try_get("todo")?,
            })
        })
        .transpose()
    }

    /// The last key in the order of the walk; `None` when there is none.
    ///
    /// # Errors
    /// What the database says.
    pub async fn last(&self, conn: &mut PgConnection) -> Result<Option<KeyValue>, sqlx::Error> {
        let sql = format!(
            "SELECT ARRAY[{}] AS key, ARRAY[{}] AS survives FROM {} WHERE {} ORDER BY {} LIMIT 1",
            self.list(|_, c| text(&c.own(&self.qualifier))),
            self.list(|_, c| c.survives(&c.own(&self.qualifier))),
            self.from(),
            self.scope.as_deref().unwrap_or("true"),
            self.order(true),
        );
        let row = sqlx::query(AssertSqlSafe(sql)).fetch_optional(conn).await?;
        row.map(|row| self.exact(&row, "key")).transpose()
    }

    /// The keys of at most `most` rows drawn at random from `percent` of the table's pages.
    ///
    /// # Errors
    /// What the database says.
    pub async fn draw(
        &self,
        conn: &mut PgConnection,
        percent: f64,
        most: usize,
    ) -> Result<Vec<KeyValue>, sqlx::Error> {
        let sql = format!(
            "SELECT ARRAY[{}] FROM {} TABLESAMPLE SYSTEM ({percent}) WHERE {} \
             ORDER BY pg_catalog.random() LIMIT {most}",
            self.list(|_, c| text(&c.own(&self.qualifier))),
            self.from(),
            self.scope.as_deref().unwrap_or("true"),
        );
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(conn).await
    }

    /// How many rows the planner believes the walk to have; -1 when it knows nothing.
    ///
    /// # Errors
    /// What the database says.
    pub async fn estimate(&self, conn: &mut PgConnection) -> Result<i64, sqlx::Error> {
        let counted = catalog::relation(conn, &self.counted).await?;
        let mut tx = catalog::pinned(conn).await?;
        // What is partitioned has no rows of its own.
        let estimate = sqlx::query_scalar(
            "SELECT CASE WHEN max(c.reltuples) < 0 THEN -1
                         ELSE sum(greatest(c.reltuples, 0)) END::bigint
               FROM pg_class c
              WHERE c.oid = $1 AND c.relkind IN ('r', 'i')
                 OR c.oid IN (SELECT relid FROM pg_partition_tree($1) WHERE isleaf)",
        )
        .bind(counted)
        .fetch_one(&mut *tx)
        .await?;
        tx.rollback().await?;
        Ok(estimate)
    }
}

/// The text form of `value`. Its collation is always the same, because a session refuses a statement
/// that it has prepared once the result's differs: when the column's was changed, or the table swapped.
fn text(value: &str) -> String {
    format!("{value}::pg_catalog.text COLLATE pg_catalog.\"C\"")
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
