//! A checksum of a range of rows that does not depend on their order.
//!
//! The sum of a 64-bit hash over each row's key and certified columns in their text form. Sums of
//! neighbouring ranges add up to the sum of both, so ranges can be joined without reading them again.
//! It finds rows that changed, came or went; it is no defence against somebody who forges rows.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor, Row};

use super::definition::Definition;
use super::keyset::{KeyValue, Keyset};

/// How the rows of one migration are summed.
#[derive(Clone, Debug)]
pub struct Checksum {
    /// An SQL expression over the table's rows.
    expression: String,
}

/// What a range holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summed {
    /// Rows in the range.
    pub rows: i64,
    /// Those of them that are pending.
    pub pending: i64,
    /// The sum of the rows' hashes.
    pub checksum: i128,
}

impl Summed {
    /// Joins the range that follows.
    pub fn add(&mut self, next: &Self) {
        self.rows += next.rows;
        self.pending += next.pending;
        self.checksum += next.checksum;
    }
}

impl Checksum {
    /// The sum over the key and the [certified](Definition::certified) columns.
    pub fn new(definition: &Definition, keyset: &Keyset) -> Self {
        let certified = definition.certified().into_iter();
        let certified = certified.map(|c| format!("{}.{c}", definition.qualifier()));
        Self::over(keyset.columns().into_iter().chain(certified))
    }

    fn over(columns: impl Iterator<Item = String>) -> Self {
        let columns: Vec<_> = columns.collect();
        Self {
            expression: format!(
                "coalesce(pg_catalog.sum(pg_catalog.hashtextextended(
                     ROW({})::pg_catalog.text, 0)::numeric), 0)::pg_catalog.text",
                columns.join(", ")
            ),
        }
    }

    /// Asks the planner whether the columns exist, reading nothing.
    ///
    /// # Errors
    /// What the database says.
    pub async fn check(&self, conn: &mut PgConnection, keyset: &Keyset) -> Result<(), sqlx::Error> {
        let sql = format!("EXPLAIN {}", keyset.select_all(&self.expression));
        conn.execute(AssertSqlSafe(sql)).await?;
        Ok(())
    }

    /// Sums the rows after `lower` up to `upper` and counts those that are pending, in one short
    /// statement when the range is a batch's.
    ///
    /// # Errors
    /// What the database says, for example that a certified column no longer exists.
    pub async fn read(
        &self,
        conn: &mut PgConnection,
        definition: &Definition,
        keyset: &Keyset,
        lower: Option<&KeyValue>,
        upper: &KeyValue,
    ) -> Result<Summed, sqlx::Error> {
        let expressions = format!(
            "pg_catalog.count(*) AS rows, pg_catalog.count(*) FILTER (WHERE ({})) AS pending, {} AS checksum",
            definition.pending, self.expression
        );
        let sql = keyset.select(lower.is_none(), &expressions);
        let row = sqlx::query(AssertSqlSafe(sql.clone()))
            .bind(lower)
            .bind(upper)
            .fetch_one(conn)
            .await
            .map_err(|err| definition.place(&sql, err))?;
        // 64-bit numbers, one per row, so that 128 bits are plenty.
        let digits: &str = row.try_get("checksum")?;
        let checksum = digits
            .parse()
            .map_err(|err| sqlx::Error::Decode(Box::new(err)))?;
        Ok(Summed {
            rows: row.try_get("rows")?,
            pending: row.try_get("pending")?,
            checksum,
        })
    }
}
