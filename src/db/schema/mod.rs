//! Applies `migrations/schema` at start: all of it to a shop's database, and to a database that
//! Evenkeel did not create only the engine's files, which stay within the schema `evenkeel`.
//!
//! sqlx reads and checksums the files; they are applied here, because sqlx's own runner takes a
//! session-level advisory lock, which leaks through a transaction pooler. Every file runs in one
//! short transaction together with its entry in the ledger, under a `lock_timeout`: a schema step
//! that has to wait for a lock gives up before the shop queues behind it, and is tried again.

use std::time::Duration;

use rand::RngExt;
use sqlx::migrate::{Migration, Migrator};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};
use tracing::{info, warn};

mod rights;

pub use rights::{ledger_grants, refuse_unreadable};

pub(super) use rights::or_denied;

static FILES: Migrator = sqlx::migrate!("migrations/schema");

/// An arbitrary number that all Evenkeel processes agree on: one of them at a time changes the schema.
const ADVISORY_KEY: i64 = 0x4576_656e_6b65_656c;
/// A statement that waits for a lock makes everybody else wait behind it; this bounds how long.
const LOCK_TIMEOUT_MS: u32 = 200;
/// Tries before a schema step is given up; with the back-off below about 30 seconds.
const TRIES: u32 = 30;

/// Why the schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// A file that was applied earlier has changed since.
    #[error(
        "schema file {version} ({description}) was changed after it had been applied: restore it and \
         put the change into a new file"
    )]
    Changed {
        /// Number of the file.
        version: i64,
        /// Its name.
        description: String,
    },
    /// The database was written by a newer Evenkeel.
    #[error("the database has schema step {0}, which this version of Evenkeel does not know")]
    Newer(i64),
    /// The role may not do what a step does.
    #[error(
        "role {role} may not {action}; as an administrator of the database, run:{}",
        .grants.iter().map(|grant| format!("\n  {grant};")).collect::<String>()
    )]
    Denied {
        /// The role.
        role: String,
        /// What it may not do.
        action: &'static str,
        /// SQL that lets it.
        grants: Vec<String>,
    },
    /// Somebody holds a lock that the step needs.
    #[error(
        "schema step {version} could not get its lock in {TRIES} tries: end the long transaction \
         that holds it (see pg_stat_activity), then start again"
    )]
    Locked {
        /// Number of the file.
        version: i64,
    },
    /// Something of somebody else's has the name of what a file makes.
    #[error(
        "schema step {version} ({description}) cannot be applied: {said}, and Evenkeel did not make that. \
         Use a database of its own, or rename what is there; nothing of this step was applied"
    )]
    Taken {
        /// Number of the file.
        version: i64,
        /// Its name.
        description: String,
        /// What the database says.
        said: String,
    },
    /// The tables are those of an earlier version, and whoever only reads does not change them.
    #[error(
        "the tables of Evenkeel in database {database} are those of an earlier version and lack the steps \
         {}: {way_out}", .steps.join(", ")
    )]
    Earlier {
        /// The database.
        database: String,
        /// The files that it lacks.
        steps: Vec<String>,
        /// What brings it up to date.
        way_out: &'static str,
    },
    /// The server takes no changes.
    #[error(
        "the schema lacks steps, and the server is read-only (a replica, or default_transaction_read_only): \
         give the address of one that can be written to"
    )]
    ReadOnly,
    /// The database refused.
    #[error("schema: {}", pool::describe(.0))]
    Database(#[from] sqlx::Error),
}

/// The schema's version that this binary wants: the number of its last file.
pub fn latest() -> i64 {
    FILES.iter().map(|file| file.version).max().unwrap_or(0)
}

/// A file of `migrations/schema`.
#[derive(Debug)]
pub struct SchemaFile {
    /// Its path in the source tree.
    pub path: String,
    /// Its SQL.
    pub sql: &'static str,
}

impl SchemaFile {
    /// Its name without `.sql`.
    pub fn name(&self) -> String {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name.trim_end_matches(".sql").to_owned()
    }
}

/// Which files a database is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The shop's and the engine's.
    Everything,
    /// The engine's only: the database is somebody else's.
    Engine,
}

/// Whether file `version` is one of the shop's, which no database has without having been asked for a shop.
pub(super) fn is_the_shops(version: i64) -> bool {
    let file = FILES.iter().find(|file| file.version == version);
    file.is_some_and(|file| !Part::Engine.has(file))
}

/// What was read from tables of ours; nothing where nobody has made them.
///
/// # Errors
/// Any other error that `read` is.
pub fn none_if_absent<T: Default>(read: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
    match read {
        // undefined_table
        Err(sqlx::Error::Database(err)) if err.code().as_deref() == Some("42P01") => {
            Ok(T::default())
        }
        read => read,
    }
}

impl Part {
    fn has(self, file: &Migration) -> bool {
        // `NNNN_engine.sql` or `NNNN_engine_….sql`.
        self == Self::Everything
            || file.description == "engine"
            || file.description.starts_with("engine ")
    }
}

/// The files of `part` that [`apply`] or [`apply_engine`] would apply, in order. Reads only.
///
/// # Errors
/// As [`apply`].
pub async fn pending(conn: &mut PgConnection, part: Part) -> Result<Vec<SchemaFile>, SchemaError> {
    let applied = or_denied(conn, async |conn| Ok(applied(conn).await?)).await?;
    let lacking = FILES.iter().filter(|file| part.has(file));
    let lacking = lacking.filter(|file| !applied.contains(&file.version));
    Ok(lacking.map(describe).collect())
}

async fn applied(conn: &mut PgConnection) -> Result<Vec<i64>, sqlx::Error> {
    // From the catalog, because resolving the name wants a right to the schema.
    let installed: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                         WHERE n.nspname = 'evenkeel' AND c.relname = 'schema_steps')",
    )
    .fetch_one(&mut *conn)
    .await?;
    if !installed {
        return Ok(Vec::new());
    }
    sqlx::query_scalar("SELECT version FROM evenkeel.schema_steps")
        .fetch_all(conn)
        .await
}

/// Every file that this binary has.
pub fn shipped() -> Vec<SchemaFile> {
    FILES.iter().map(describe).collect()
}

fn describe(file: &'static Migration) -> SchemaFile {
    SchemaFile {
        path: format!(
            "migrations/schema/{:04}_{}.sql",
            file.version,
            file.description.replace(' ', "_")
        ),
        sql: file.sql.as_str(),
    }
}

/// Applies every file up to and including `version` that the database lacks, and returns the
/// numbers of those that it applied. Safe to call from several processes at once.
///
/// # Errors
/// [`SchemaError`]; steps before the failing one stay applied.
pub async fn apply(conn: &mut PgConnection, version: i64) -> Result<Vec<i64>, SchemaError> {
    apply_files(conn, |file| file.version <= version).await
}

/// Applies all files but one that the database lacks, for whoever plays the time before that one.
///
/// # Errors
/// As [`apply`].
pub async fn apply_without(conn: &mut PgConnection, version: i64) -> Result<Vec<i64>, SchemaError> {
    apply_files(conn, |file| file.version != version).await
}

/// Applies the engine's files that the database lacks and none of the shop's, and returns their
/// numbers.
///
/// # Errors
/// As [`apply`].
pub async fn apply_engine(conn: &mut PgConnection) -> Result<Vec<i64>, SchemaError> {
    apply_files(conn, |file| Part::Engine.has(file)).await
}

async fn apply_files(
    conn: &mut PgConnection,
    wanted: impl Fn(&Migration) -> bool,
) -> Result<Vec<i64>, SchemaError> {
    or_denied(conn, async |conn| apply_wanted(conn, &wanted).await).await
}

async fn apply_wanted(
    conn: &mut PgConnection,
    wanted: &impl Fn(&Migration) -> bool,
) -> Result<Vec<i64>, SchemaError> {
    let known: Vec<i64> = FILES.iter().map(|file| file.version).collect();
    let there = self::applied(conn).await?;
    if let Some(newer) = there.into_iter().filter(|v| !known.contains(v)).max() {
        return Err(SchemaError::Newer(newer));
    }
    let mut applied = Vec::new();
    for file in FILES.iter().filter(|file| wanted(file)) {
        if apply_with_patience(conn, file).await? {
            info!(version = file.version, description = %file.description, "schema step applied");
            applied.push(file.version);
        }
    }
    Ok(applied)
}

async fn apply_with_patience(
    conn: &mut PgConnection,
    file: &Migration,
) -> Result<bool, SchemaError> {
    for attempt in 1..=TRIES {
        match apply_one(conn, file).await {
            Err(SchemaError::Database(sqlx::Error::Database(err)))
                if err.code().as_deref() == Some("55P03") =>
            {
                let pause = Duration::from_millis(100 * u64::from(attempt.min(10)));
                let jittered = pause.mul_f64(rand::rng().random_range(0.75..1.25));
                warn!(
                    version = file.version,
                    attempt, "schema step waits for a lock"
                );
                tokio::time::sleep(jittered).await;
            }
            other => return other,
        }
    }
    Err(SchemaError::Locked {
        version: file.version,
    })
}

/// The ledger of applied files, made with the first of them: a file that fails leaves nothing behind. Only
/// what is missing is created: IF NOT EXISTS wants the right to create in any case.
const LEDGER_TABLE: &str = "DO $$ BEGIN
         IF to_regnamespace('evenkeel') IS NULL THEN
             CREATE SCHEMA evenkeel;
         END IF;
         IF to_regclass('evenkeel.schema_steps') IS NULL THEN
             CREATE TABLE evenkeel.schema_steps (
                 version bigint PRIMARY KEY,
                 description text NOT NULL,
                 checksum bytea NOT NULL,
                 applied_at timestamptz NOT NULL DEFAULT now()
             );
         END IF;
     END $$";

/// That the name of what `file` makes is taken, if that is why the database refused it.
fn taken(file: &Migration, refused: sqlx::Error) -> SchemaError {
    let code = refused
        .as_database_error()
        .and_then(|err| err.code().map(|code| code.into_owned()));
    match code.as_deref() {
        // duplicate_table, duplicate_column, duplicate_object, duplicate_function
        Some("42P07" | "42701" | "42710" | "42723") => SchemaError::Taken {
            version: file.version,
            description: file.description.to_string(),
            said: pool::summarize(&refused),
        },
        _ => refused.into(),
    }
}

async fn apply_one(conn: &mut PgConnection, file: &Migration) -> Result<bool, SchemaError> {
    let mut tx = conn.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(ADVISORY_KEY)
        .execute(&mut *tx)
        .await?;
    tx.execute(LEDGER_TABLE).await?;
    let known: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT checksum FROM evenkeel.schema_steps WHERE version = $1")
            .bind(file.version)
            .fetch_optional(&mut *tx)
            .await?;
    if let Some(checksum) = known {
        return if checksum == *file.checksum {
            Ok(false)
        } else {
            Err(SchemaError::Changed {
                version: file.version,
                description: file.description.to_string(),
            })
        };
    }
    let timeout = format!("SET LOCAL lock_timeout = '{LOCK_TIMEOUT_MS}ms'");
    tx.execute(AssertSqlSafe(timeout)).await?;
    let done = tx.execute(AssertSqlSafe(file.sql.as_str())).await;
    done.map_err(|refused| taken(file, refused))?;
    sqlx::query(
        "INSERT INTO evenkeel.schema_steps (version, description, checksum) VALUES ($1, $2, $3)",
    )
    .bind(file.version)
    .bind(&*file.description)
    .bind(&*file.checksum)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(true)
}
