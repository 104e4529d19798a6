//! How many connections the server has for a process.

use sqlx::Row;
use sqlx::postgres::PgConnection;

/// Connections of the server, as this role sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// What can be opened at once by this role in this database: the least of `max_connections` without
    /// those that are reserved, and of the role's and the database's CONNECTION LIMIT.
    pub limit: i64,
    /// Connections that are open now, without the one that asks.
    pub taken: i64,
}

/// How connections that a process needs fit into the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// They fit.
    Fits,
    /// They fit into the limit, but not beside those that are open now.
    Tight,
    /// They never fit.
    Never,
}

impl Capacity {
    /// Asks the server.
    ///
    /// # Errors
    /// What the database says.
    pub async fn read(conn: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let row = sqlx::query(
            "SELECT least(current_setting('max_connections')::bigint
                          - current_setting('superuser_reserved_connections')::bigint
                          - coalesce(current_setting('reserved_connections', true)::bigint, 0),
                          (SELECT nullif(rolconnlimit, -1) FROM pg_catalog.pg_roles
                            WHERE rolname = current_user),
                          (SELECT nullif(datconnlimit, -1) FROM pg_catalog.pg_database
                            WHERE datname = current_database())),
                    (SELECT count(*) FROM pg_catalog.pg_stat_activity
                      WHERE backend_type = 'client backend' AND pid <> pg_backend_pid())",
        )
        .fetch_one(conn)
        .await?;
        Ok(Self {
            limit: row.try_get(0)?,
            taken: row.try_get(1)?,
        })
    }

    /// Whether a pool of `pool` connections and `beside` more can be opened.
    pub fn fits(self, pool: usize, beside: usize) -> Fit {
        let count = |connections| i64::try_from(connections).unwrap_or(i64::MAX);
        let all = count(pool).saturating_add(count(beside));
        if count(pool) > self.limit {
            Fit::Never
        } else if all > self.limit - self.taken {
            Fit::Tight
        } else {
            Fit::Fits
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_that_is_larger_than_the_server_never_fits_and_one_beside_others_is_tight() {
        let server = Capacity {
            limit: 97,
            taken: 40,
        };
        assert_eq!(server.fits(16, 7), Fit::Fits);
        assert_eq!(server.fits(50, 7), Fit::Fits);
        assert_eq!(server.fits(51, 7), Fit::Tight);
        assert_eq!(server.fits(97, 7), Fit::Tight);
        assert_eq!(server.fits(98, 7), Fit::Never);
    }
}
