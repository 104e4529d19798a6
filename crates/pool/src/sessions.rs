//! What a client can count on at an address, found out before it has to: PostgreSQL itself, or a pooler
//! that gives every transaction another session.
//!
//! Two clients look. The first prepares a statement, the second opens a transaction and holds it, and the
//! first runs its statement again. A pooler in transaction mode has given the first one's session to the
//! second by then: the statement runs in another session, is unknown there, or waits for the second to end.
//! Answers decide, never how long they took, so that a server under load is not taken for a pooler.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgDatabaseError, PgSeverity};
use sqlx::{AssertSqlSafe, Connection, Executor, Row};

use crate::PoolError;
use crate::settings::SIDE_CONNECTIONS;

/// How often it is looked: a pooler may have several sessions at hand.
const ROUNDS: usize = 3;
/// How long an answer is waited for before the other client makes way.
const WAIT: Duration = Duration::from_secs(2);
/// How long all of it may take, beside the connecting.
const PATIENCE: Duration = Duration::from_secs(15);

/// What stays a client's own from one transaction to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Its session, with all that is in it.
    Session,
    /// What it has prepared; a pooler gives each transaction any session.
    Statements,
}

/// Why the address cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Unsuitable {
    /// An author's SQL needs a session of its own.
    #[error(
        "the database is reached through a pooler that gives every transaction another session \
         ({0}), so what a migration sets in its session would reach shoppers: give PostgreSQL's own \
         address as database.direct_url (or with --database-url), or have the pooler use session mode"
    )]
    NoSessions(&'static str),
    /// The shop's prepared statements would fail, or meet those of others.
    #[error(
        "the database is reached through a pooler that gives every transaction another session and does \
         not keep prepared statements ({0}), so the shop's statements would fail: have the pooler use \
         session mode, or keep prepared statements (PgBouncer 1.21 or newer with max_prepared_statements \
         above 0), or give PostgreSQL's own address as database.url"
    )]
    NoStatements(&'static str),
    /// No transaction can be opened.
    #[error(
        "the database is reached through a pooler in statement mode, which refuses transactions: have it \
         use session mode, or transaction mode with prepared statements kept (PgBouncer 1.21 or newer \
         with max_prepared_statements above 0), or give PostgreSQL's own address as database.url"
    )]
    NoTransactions,
    /// There is one session for all.
    #[error(
        "the database is reached through a pooler that has one session for everybody, which a second \
         client waits for: raise its pool (PgBouncer: default_pool_size) to what every process needs, \
         which is pool.size and {SIDE_CONNECTIONS} more, or give PostgreSQL's own address as database.url"
    )]
    OneSession,
    /// The address for what needs a session leads elsewhere.
    #[error(
        "database.url ({shop}) and database.direct_url ({direct}) lead to {how}: both must lead to the \
         shop's database, one through a pooler and one straight to PostgreSQL. Correct the one that is \
         wrong, or leave database.direct_url out"
    )]
    OtherDatabase {
        /// Where `database.url` leads.
        shop: String,
        /// Where `database.direct_url` leads.
        direct: String,
        /// What they are.
        how: &'static str,
    },
    /// The pooler refuses what the driver says when it connects.
    #[error(
        "a pooler refuses the connection ({0}): with PgBouncer set ignore_startup_parameters = \
         extra_float_digits and pool_mode = session, or give PostgreSQL's own address as database.url"
    )]
    Startup(String),
}

/// What was seen.
enum Seen {
    Own,
    /// Sessions are shared, in the way that the sentence says.
    Shared {
        how: &'static str,
        keeps_statements: bool,
    },
    /// Transactions are refused.
    NoTransactions,
    /// The second client gets no session while the first has one.
    OneSession,
}

/// What a client at the address keeps between two transactions.
///
/// # Errors
/// [`PoolError::Pooler`] says what to do about a pooler that the shop cannot be served through;
/// [`PoolError::Connect`] when it cannot be found out.
pub async fn examine(
    options: &PgConnectOptions,
    connect_timeout: Duration,
) -> Result<Kept, PoolError> {
    match see(options, connect_timeout).await? {
        Seen::Own => Ok(Kept::Session),
        Seen::Shared {
            keeps_statements: true,
            ..
        } => Ok(Kept::Statements),
        Seen::Shared { how, .. } => Err(Unsuitable::NoStatements(how).into()),
        Seen::NoTransactions => Err(Unsuitable::NoTransactions.into()),
        Seen::OneSession => Err(Unsuitable::OneSession.into()),
    }
}

/// Refuses an address where two transactions of one client can be in two sessions, or those of two
/// clients in one.
///
/// # Errors
/// [`PoolError::Pooler`]; [`PoolError::Connect`] when it cannot be found out.
pub async fn refuse_shared(
    options: &PgConnectOptions,
    connect_timeout: Duration,
) -> Result<(), PoolError> {
    match see(options, connect_timeout).await? {
        Seen::Own => Ok(()),
        Seen::Shared { how, .. } => Err(Unsuitable::NoSessions(how).into()),
        Seen::NoTransactions => Err(Unsuitable::NoSessions("it refuses transactions").into()),
        Seen::OneSession => Err(Unsuitable::OneSession.into()),
    }
}

async fn see(options: &PgConnectOptions, connect_timeout: Duration) -> Result<Seen, PoolError> {
    let look = async {
        loop {
            let connect = || PgConnection::connect_with(options);
            let (client, other) = tokio::try_join!(connect(), connect())?;
            // Until there is an answer: what was slow says nothing.
            if let Some(seen) = look(client, other).await? {
                break Ok(seen);
            }
        }
    };
    let patience = connect_timeout * 2 + PATIENCE;
    let seen = tokio::time::timeout(patience, look).await;
    seen.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
        .map_err(|err| match refused_parameter(&err) {
            Some(refusal) => Unsuitable::Startup(refusal).into(),
            None => PoolError::Connect(err),
        })
}

/// What was seen; `None` when it has to be looked again.
async fn look(
    mut client: PgConnection,
    mut other: PgConnection,
) -> Result<Option<Seen>, sqlx::Error> {
    let (mine, theirs) = (Statement::new(), Statement::new());
    let lost = |how| Seen::Shared {
        how,
        keeps_statements: false,
    };
    let mut shared = None;
    for _ in 0..ROUNDS {
        let Some(first) = mine.run(&mut client).await? else {
            return Ok(Some(lost(
                "a statement that a client had prepared was lost",
            )));
        };
        match tokio::time::timeout(WAIT, other.execute("BEGIN")).await {
            Ok(Ok(_)) => {}
            Ok(Err(err)) if refuses_transactions(&err) => return Ok(Some(Seen::NoTransactions)),
            Ok(Err(err)) => return Err(err),
            Err(_) => return one_session(first, client, other).await,
        }
        let Some(held) = theirs.run(&mut other).await? else {
            return Ok(Some(lost(
                "two clients were in one session, with statements of one name",
            )));
        };
        let Some(second) = answer(&mine, &mut client, &mut other).await? else {
            return Ok(Some(lost(
                "a statement that a client had prepared was unknown in its next transaction",
            )));
        };
        if held == first {
            shared = Some("two clients were in one session");
        } else if second != first {
            shared = Some("two transactions of one client were in two sessions");
        }
    }
    // Whoever does not hear it finds the socket closed.
    let _ = tokio::join!(client.close(), other.close());
    // Only what was never lost in any of the rounds is kept.
    Ok(Some(shared.map_or(Seen::Own, |how| Seen::Shared {
        how,
        keeps_statements: true,
    })))
}

/// Whether `other`, which has waited for a session, gets the one of `client` once that leaves; `None` when
/// it gets another, so that it was only slow.
async fn one_session(
    first: i32,
    client: PgConnection,
    mut other: PgConnection,
) -> Result<Option<Seen>, sqlx::Error> {
    let _ = client.close().await;
    // Reads the answer to what was asked before.
    let got = Statement::new().run(&mut other).await?;
    Ok((got == Some(first)).then_some(Seen::OneSession))
}

/// The session in which `client` runs its statement again while `other` is in a transaction, which ends
/// with it, or before when there is no other session.
async fn answer(
    mine: &Statement,
    client: &mut PgConnection,
    other: &mut PgConnection,
) -> Result<Option<i32>, sqlx::Error> {
    let asked = mine.run(client);
    tokio::pin!(asked);
    let answered = tokio::time::timeout(WAIT, &mut asked).await.ok();
    other.execute("ROLLBACK").await?;
    match answered {
        Some(answered) => answered,
        None => asked.await,
    }
}

/// A statement that is prepared under a name and tells in which session it runs. No other client has one
/// like it: under the same name it might run a statement of somebody else's.
struct Statement {
    sql: String,
    nonce: String,
}

impl Statement {
    fn new() -> Self {
        let nonce = uuid::Uuid::new_v4().simple().to_string();
        let sql = format!("SELECT pg_catalog.pg_backend_pid()::text || ' {nonce}'");
        Self { sql, nonce }
    }

    /// The process id of the session; `None` when the statement is lost, or another one ran.
    async fn run(&self, conn: &mut PgConnection) -> Result<Option<i32>, sqlx::Error> {
        let answer = sqlx::query(AssertSqlSafe(self.sql.as_str()))
            .fetch_one(conn)
            .await
            .and_then(|row| row.try_get::<String, _>(0));
        match answer {
            Ok(answer) => Ok(answer
                .strip_suffix(&self.nonce)
                .and_then(|pid| pid.trim_end().parse().ok())),
            Err(err) if ends_session(&err) => Err(err),
            Err(_) => Ok(None),
        }
    }
}

/// Whether it is about the connection, or the server at large, rather than about one statement.
fn ends_session(err: &sqlx::Error) -> bool {
    match err {
        sqlx::Error::Database(database) => {
            let err = database.try_downcast_ref::<PgDatabaseError>();
            err.is_none_or(|err| {
                matches!(err.severity(), PgSeverity::Fatal | PgSeverity::Panic)
                    || ["53", "57"]
                        .iter()
                        .any(|class| err.code().starts_with(class))
            })
        }
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) => true,
        // What does not fit the statement is another statement's.
        _ => false,
    }
}

/// PgBouncer's statement mode ends the connection with a sentence and without a code of its own.
fn refuses_transactions(err: &sqlx::Error) -> bool {
    let database = err.as_database_error();
    database.is_some_and(|refusal| {
        !ends_session(err) || refusal.message().contains("statement pooling")
    })
}

/// A pooler's refusal of something that our driver says when it connects.
fn refused_parameter(err: &sqlx::Error) -> Option<String> {
    let message = err.as_database_error()?.message();
    message
        .starts_with("unsupported startup parameter")
        .then(|| message.to_owned())
}
