//! Which transactions had ended at a moment: whether a version of a row was there before a statement.

use std::str::FromStr;

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

/// A snapshot as `pg_current_snapshot()` writes it: `xmin:xmax:running,…`. Transactions below `xmin` had
/// ended, those from `xmax` on had not begun; of those in between the ones that are named were running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    xmin: u64,
    xmax: u64,
    running: Vec<u64>,
}

impl Snapshot {
    /// The SQL of the current one.
    pub const SQL: &'static str = "pg_catalog.pg_current_snapshot()::pg_catalog.text";

    /// The current one, which takes a round trip.
    ///
    /// # Errors
    /// What the database says.
    pub async fn take(conn: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let text = sqlx::query_scalar(AssertSqlSafe(format!("SELECT {}", Self::SQL)));
        let text: String = text.fetch_one(conn).await?;
        Self::read(&text)
    }

    /// Reads what the database has answered to [`SQL`](Self::SQL).
    ///
    /// # Errors
    /// [`sqlx::Error::Decode`] where it is none.
    pub fn read(text: &str) -> Result<Self, sqlx::Error> {
        text.parse()
            .map_err(|err: String| sqlx::Error::Decode(err.into()))
    }

    /// The whole number of the transaction of which a row's `xmin` has the lower 32 bits: the one that is
    /// nearest to this moment.
    pub fn whole(&self, xid: u32) -> u64 {
        // Cut to 32 bits on purpose: PostgreSQL compares row versions so, too.
        let behind = (self.xmax as u32).wrapping_sub(xid).cast_signed();
        self.xmax.wrapping_add_signed(-i64::from(behind))
    }

    /// Whether the transaction `xid` of a row's `xmin` had ended.
    pub fn had_ended(&self, xid: u32) -> bool {
        let xid = self.whole(xid);
        xid < self.xmin || xid < self.xmax && !self.running.contains(&xid)
    }
}

impl FromStr for Snapshot {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let mut parts = text.split(':');
            let (xmin, xmax) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            let running = parts.next()?.split(',').filter(|xid| !xid.is_empty());
            let running = running.map(|xid| xid.parse().ok()).collect::<Option<_>>()?;
            Some(Self {
                xmin,
                xmax,
                running,
            })
        };
        read().ok_or_else(|| format!("`{text}` is no snapshot of PostgreSQL's"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_had_ended_is_told_across_the_wrap_of_the_lower_half() {
        let high = 7_u64 << 32;
        let text = format!("{}:{}:{},{}", high - 5, high + 4, high - 5, high + 2);
        let snapshot: Snapshot = text.parse().expect("a snapshot");
        assert_eq!(snapshot.whole(u32::MAX), high - 1);
        assert_eq!(snapshot.whole(9), high + 9);
        for (xid, ended) in [
            ((high - 6) as u32, true),
            ((high - 5) as u32, false),
            ((high - 1) as u32, true),
            (1, true),
            (2, false),
            (3, true),
            (4, false),
        ] {
            assert_eq!(snapshot.had_ended(xid), ended, "{xid}");
        }
        let idle: Snapshot = "740:740:".parse().expect("a snapshot");
        assert!(idle.had_ended(739) && !idle.had_ended(740) && idle.had_ended(2));
        for broken in ["", "1:2", "1:2:x", "a:2:", "740:740:741,"] {
            let read = broken.parse::<Snapshot>();
            assert_eq!(read.is_ok(), broken == "740:740:741,", "{broken}");
        }
    }
}
