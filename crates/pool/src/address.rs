//! Where a database is, for people, why it cannot be reached, and whether two addresses lead to one.

use std::io::ErrorKind;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Executor, Row};

use crate::sessions::Unsuitable;
use crate::{PoolError, describe};

/// How long the answers of two servers may take, beside the connecting.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where `options` lead: host, port, database and user, and not the password.
pub fn place(options: &PgConnectOptions) -> String {
    let host = match options.get_socket() {
        Some(socket) => format!("socket {}", socket.display()),
        None if options.get_host().starts_with('/') => format!("socket {}", options.get_host()),
        None => format!("host {}", options.get_host()),
    };
    let user = options.get_username();
    format!(
        "{host}, port {}, database {}, user {user}",
        options.get_port(),
        options.get_database().unwrap_or(user)
    )
}

/// A connection that was not opened: where to, why, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to the database at {place}: {}; {}", self.why(), self.way_out())]
pub struct Unreachable {
    place: String,
    /// What names the address, for people.
    named_by: &'static str,
    user: String,
    database: String,
    source: sqlx::Error,
}

impl Unreachable {
    /// That `options`, which `named_by` gives, did not lead to a session because of `source`.
    pub fn new(options: &PgConnectOptions, named_by: &'static str, source: sqlx::Error) -> Self {
        let user = options.get_username();
        Self {
            place: place(options),
            named_by,
            user: user.to_owned(),
            database: options.get_database().unwrap_or(user).to_owned(),
            source,
        }
    }

    fn why(&self) -> String {
        match &self.source {
            sqlx::Error::Io(err) if err.kind() == ErrorKind::TimedOut => {
                "it did not answer in time".to_owned()
            }
            sqlx::Error::Io(err) => err.to_string(),
            sqlx::Error::Tls(err) => format!("no TLS: {err}"),
            err => describe(err),
        }
    }

    fn way_out(&self) -> String {
        let Self { named_by, .. } = self;
        match &self.source {
            sqlx::Error::Io(err) => match err.kind() {
                ErrorKind::ConnectionRefused | ErrorKind::NotFound => format!(
                    "nothing listens there: start PostgreSQL, or correct host and port in {named_by}"
                ),
                ErrorKind::PermissionDenied => {
                    "this process may not use the socket: see its directory's permissions"
                        .to_owned()
                }
                // The standard library has no kind for it.
                _ if err.to_string().contains("lookup address") => format!(
                    "the host's name leads nowhere: correct it in {named_by}, or see the name service"
                ),
                _ => format!(
                    "see the network between here and there, or correct host and port in {named_by}"
                ),
            },
            sqlx::Error::Tls(_) => format!(
                "see the server's setting ssl and its certificate, or change sslmode in {named_by} \
                 (disable, prefer, require, verify-ca, verify-full)"
            ),
            sqlx::Error::Database(err) => {
                self.refused(err.code().as_deref().unwrap_or_default(), err.message())
            }
            _ => format!("correct {named_by}"),
        }
    }

    /// What to do about the server's refusal.
    fn refused(&self, code: &str, message: &str) -> String {
        let Self {
            named_by,
            user,
            database,
            ..
        } = self;
        match code {
            "28P01" => format!(
                "give the right password in {named_by} (postgres://user:password@host/database), by \
                 PGPASSWORD or in ~/.pgpass"
            ),
            "28000" if message.contains("pg_hba.conf") => {
                "have the server let this user in from here: a line in its pg_hba.conf".to_owned()
            }
            "28000" => format!("create the user (createuser {user}), or correct it in {named_by}"),
            "3D000" => {
                format!("create the database (createdb {database}), or correct it in {named_by}")
            }
            "42501" => format!(r#"allow it: GRANT CONNECT ON DATABASE "{database}" TO "{user}""#),
            "53300" => {
                "end other connections, or raise max_connections or the CONNECTION LIMIT of \
                        the user or the database"
                    .to_owned()
            }
            "57P01" | "57P02" | "57P03" => "try again in a moment".to_owned(),
            _ => format!("see the server's log, or correct {named_by}"),
        }
    }
}

/// What tells a database from every other one and needs no right: its number, and when its server was
/// started, to the microsecond. A copy of a server has the same numbers and another start.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    number: String,
    started: String,
    /// For people.
    name: String,
}

impl Identity {
    /// Asks without a prepared statement, which a pooler may lose.
    async fn ask(conn: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let row = conn
            .fetch_one(
                "SELECT d.oid::pg_catalog.text, d.datname::pg_catalog.text,
                        (pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time())
                            OPERATOR(pg_catalog.*) 1000000::pg_catalog.float8)::pg_catalog.int8
                            ::pg_catalog.text
                   FROM pg_catalog.pg_database AS d
                  WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()",
            )
            .await?;
        Ok(Self {
            number: row.try_get(0)?,
            name: row.try_get(1)?,
            started: row.try_get(2)?,
        })
    }
}

/// Refuses a direct address that leads to another database than the shop's.
///
/// # Errors
/// [`PoolError::Pooler`] names both; [`PoolError::Connect`] when it cannot be found out.
pub async fn refuse_another(
    shop: &PgConnectOptions,
    direct: &PgConnectOptions,
    connect_timeout: Duration,
) -> Result<(), PoolError> {
    let look = async {
        let connect = PgConnection::connect_with;
        let (mut through, mut straight) = tokio::try_join!(connect(shop), connect(direct))?;
        // Last the one that ends with its server: a restart in between is an error, and no difference.
        let found = Identity::ask(&mut through).await?;
        let other = Identity::ask(&mut straight).await?;
        // Whoever does not hear it finds the socket closed.
        let _ = tokio::join!(through.close(), straight.close());
        Ok((found, other))
    };
    let looked = tokio::time::timeout(connect_timeout * 2 + PATIENCE, look).await;
    let looked = looked.unwrap_or_else(|_| Err(sqlx::Error::Io(ErrorKind::TimedOut.into())));
    let (found, other) = looked.map_err(PoolError::Connect)?;
    if found == other {
        return Ok(());
    }
    let how = if found.name == other.name {
        "databases of one name on two servers"
    } else {
        "two databases"
    };
    Err(Unsuitable::OtherDatabase {
        shop: place(shop),
        direct: place(direct),
        how,
    }
    .into())
}
