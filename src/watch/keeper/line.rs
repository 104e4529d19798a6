//! A connection to the database that is given up rather than waited for.

use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection};

/// Asks over one connection, and opens another when that is lost.
pub(super) struct Line {
    options: PgConnectOptions,
    patience: Duration,
    conn: Option<PgConnection>,
}

/// No answer, and why.
#[derive(Debug)]
pub(super) struct Unheard {
    /// In words.
    pub(super) problem: String,
    /// Whether the server may be gone.
    pub(super) lost: bool,
}

impl Line {
    /// A line that waits no longer than `patience` for an answer.
    pub(super) fn new(options: PgConnectOptions, patience: Duration) -> Self {
        Self {
            options,
            patience,
            conn: None,
        }
    }

    /// Another to the same database.
    pub(super) fn another(&self, patience: Duration) -> Self {
        Self::new(self.options.clone(), patience)
    }

    /// Runs `work` on the connection. One on which it fails, or does not end in time, is not used again.
    pub(super) async fn ask<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Unheard> {
        let answer = tokio::time::timeout(self.patience, async {
            let conn = match &mut self.conn {
                Some(conn) => conn,
                None => self.conn.insert(self.options.connect().await?),
            };
            work(conn).await
        });
        let unheard = match answer.await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(err)) => Unheard {
                // Whoever refuses a statement answers.
                lost: !is_refusal(&err),
                problem: pool::summarize(&err),
            },
            Err(_) => Unheard {
                lost: true,
                problem: format!("no answer within {:?}", self.patience),
            },
        };
        self.conn = None;
        Err(unheard)
    }
}

/// Whether a server that lives says no to what was asked, rather than to being asked. The classes of
/// SQLSTATE are: 08 connection, 53 resources, 57 the server's operators.
fn is_refusal(err: &sqlx::Error) -> bool {
    let code = err.as_database_error().and_then(|err| err.code());
    code.is_some_and(|code| {
        !["08", "53", "57"]
            .iter()
            .any(|class| code.starts_with(class))
    })
}
