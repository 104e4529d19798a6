//! Why a command has no database.

use std::path::PathBuf;

use embedded_postgres::EmbeddedError;
use pool::PoolError;
use pool::address::Unreachable;
use pool::catalog::Hidden;

use crate::db::contents::NotOurs;
use crate::db::schema::SchemaError;
use crate::migration::lint::Unsafe;

/// Why there is no database.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// There is no embedded server's data, and the command makes none.
    #[error(
        "there is no shop in {}: `evenkeel serve --data-dir {}` starts one there. For another one, name its \
         data directory (--data-dir) or its database (--database-url or DATABASE_URL)", .0.display(), .0.display()
    )]
    NoCluster(PathBuf),
    /// Tables of ours do not go there unasked.
    #[error(transparent)]
    NotOurs(#[from] NotOurs),
    /// The command is about a shop, and there is none in the database.
    #[error("database {0} holds no shop; `evenkeel serve` makes one in an empty database")]
    NoShop(String),
    /// `DATABASE_URL` or `--database-url` is not a URL that PostgreSQL's clients understand.
    #[error(
        "the database's URL cannot be used: {}; it should look like postgres://user@host/database", pool::describe(.0))]
    Url(#[source] sqlx::Error),
    /// The embedded server did not start.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// `--fresh` with a database that is not ours to drop.
    #[error(
        "--fresh deletes the embedded server's data only; this database is empty once you drop and create \
         it (dropdb, createdb)"
    )]
    FreshElsewhere,
    /// A pooler does not keep what is needed.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// No connection to the database is had.
    #[error(transparent)]
    Unreachable(#[from] Box<Unreachable>),
    /// The database refuses what is asked first, or went away meanwhile.
    #[error("the database: {}", pool::describe(.0))]
    Asked(#[source] sqlx::Error),
    /// The search path hides PostgreSQL's own operators, functions or types.
    #[error(transparent)]
    Hidden(#[from] Box<Hidden>),
    /// The schema could not be applied.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// A schema file that is due would lock, rewrite or scan what shoppers use.
    #[error(transparent)]
    Unsafe(#[from] Unsafe),
    /// The address file could not be written.
    #[error("cannot write {path}: {source}")]
    AddressFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}
