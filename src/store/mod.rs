//! The shop's domain with its SQL. Functions take a connection; the caller owns the transaction.

pub mod accounts;
pub mod catalog;
pub mod erase;
pub mod generated;
pub mod import;
pub mod log_ins;
pub mod orders;
pub mod page;
pub mod passwords;
pub mod sample;
pub mod sessions;

use pool::PoolError;

/// Why the shop's data could not be read or written, as opposed to a refusal by the domain.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection, or no time.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// PostgreSQL refused, or the connection broke.
    #[error("{}", pool::summarize(.0))]
    Sql(#[from] sqlx::Error),
}

/// What a caller can make of a [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The same request may succeed in a moment.
    Retry,
    /// The request holds text that PostgreSQL cannot store, e.g. a NUL character.
    Correct,
    /// A fault of this program.
    Report,
}

impl StoreError {
    /// Whether trying again helps.
    pub fn remedy(&self) -> Remedy {
        let sql = match self {
            Self::Pool(_) => return Remedy::Retry,
            Self::Sql(sql) => sql,
        };
        match sql {
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => Remedy::Retry,
            sqlx::Error::Database(err) => err.code().map_or(Remedy::Report, |code| by_code(&code)),
            _ => Remedy::Report,
        }
    }

    /// The name of the constraint that a statement violated.
    pub fn constraint(&self) -> Option<&str> {
        match self {
            Self::Sql(sqlx::Error::Database(err)) => err.constraint(),
            _ => None,
        }
    }

    /// PostgreSQL's five-character code.
    pub fn code(&self) -> Option<String> {
        match self {
            Self::Sql(sqlx::Error::Database(err)) => err.code().map(Into::into),
            _ => None,
        }
    }
}

fn by_code(code: &str) -> Remedy {
    match code {
        // serialization_failure, deadlock_detected, lock_not_available, query_canceled (also by
        // statement_timeout), read_only_sql_transaction (the server was demoted)
        "40001" | "40P01" | "55P03" | "57014" | "25006" => Remedy::Retry,
        // character_not_in_repertoire, untranslatable_character
        "22021" | "22P05" => Remedy::Correct,
        // connection exceptions, insufficient resources, operator intervention
        _ if ["08", "53", "57P"]
            .iter()
            .any(|class| code.starts_with(class)) =>
        {
            Remedy::Retry
        }
        _ => Remedy::Report,
    }
}
