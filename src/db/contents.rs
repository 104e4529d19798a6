//! Whose a database is, by what it holds: ours to put tables into, or somebody else's.

use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::schema::{self, SchemaError};

/// Things of somebody else's that a message names.
const NAMED: usize = 3;

/// Whose a database is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Nobody's: it is empty, or holds nothing but the engine's ledger.
    Nobodys,
    /// A shop's: files of the shop have been applied to it.
    Shops,
    /// Somebody else's, with or without the engine's ledger.
    Others,
    /// Somebody else's, and so is the schema `evenkeel` in it.
    OthersAndTaken,
}

/// What a database holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Its name.
    pub database: String,
    /// Whose it is.
    pub whose: Whose,
    /// Whether the ledger of applied schema files is there.
    pub has_ledger: bool,
    /// Some of what is somebody else's, as `schema.name`, tables first.
    examples: Vec<String>,
    /// How many things are somebody else's.
    others: i64,
}

/// A database into which the tables of Evenkeel do not go unasked.
#[derive(Debug, thiserror::Error)]
pub enum NotOurs {
    /// The shop's tables would stand beside somebody else's.
    #[error(
        "database {database} is not Evenkeel's: it holds {holds}. So the shop's tables are not put there: \
         give the shop an empty database (for example createdb shop, and its address as DATABASE_URL), or \
         say --create to have its tables made beside what is there. To migrate this database without a \
         shop, use `evenkeel migrate`, which makes nothing but the schema `evenkeel`"
    )]
    Others {
        /// The database.
        database: String,
        /// Some of what stands there.
        holds: String,
    },
    /// There is a schema of the ledger's name that is not ours.
    #[error(
        "database {database} has a schema `evenkeel` that Evenkeel did not make: it holds {holds}, and no \
         ledger. Evenkeel keeps its own tables in a schema of that name: rename this one (ALTER SCHEMA \
         evenkeel RENAME TO …), or use another database"
    )]
    Taken {
        /// The database.
        database: String,
        /// Some of what stands there.
        holds: String,
    },
}

impl Contents {
    /// Looks at the database of `conn`, in one snapshot. Reads only.
    ///
    /// # Errors
    /// [`SchemaError::Denied`] when the role may not read the ledger; what the database says.
    pub async fn read(conn: &mut PgConnection) -> Result<Self, SchemaError> {
        schema::or_denied(conn, async |conn| Ok(look(conn).await?)).await
    }

    /// Refuses to put the shop's tables beside those of somebody else, unless `create` asks for that.
    ///
    /// # Errors
    /// [`NotOurs`] names what stands there.
    pub fn refuse_shop(&self, create: bool) -> Result<(), NotOurs> {
        self.refuse_taken()?;
        if self.whose != Whose::Others || create {
            return Ok(());
        }
        Err(NotOurs::Others {
            database: self.database.clone(),
            holds: self.holds(),
        })
    }

    /// Refuses a database in which somebody else has a schema `evenkeel`.
    ///
    /// # Errors
    /// [`NotOurs::Taken`].
    pub fn refuse_taken(&self) -> Result<(), NotOurs> {
        if self.whose != Whose::OthersAndTaken {
            return Ok(());
        }
        Err(NotOurs::Taken {
            database: self.database.clone(),
            holds: self.holds(),
        })
    }

    /// What is somebody else's, in a few words.
    pub fn holds(&self) -> String {
        let named = self.examples.join(", ");
        match self.others - i64::try_from(self.examples.len()).unwrap_or(i64::MAX) {
            ..=0 => named,
            more => format!("{named} and {more} more"),
        }
    }
}

/// Tables, views, sequences, functions and types that belong to no extension and to nothing else: in the
/// schema `evenkeel` when `$1`, else outside of it.
const THINGS: &str = "
    SELECT format('%I.%I', nspname, name)
      FROM (SELECT relnamespace AS space, relname AS name, 'pg_class'::regclass AS class, oid,
                   relkind NOT IN ('r', 'p') AS later
              FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
             UNION ALL
            SELECT pronamespace, proname, 'pg_proc'::regclass, oid, true FROM pg_proc
             UNION ALL
            SELECT typnamespace, typname, 'pg_type'::regclass, oid, true
              FROM pg_type WHERE typtype IN ('e', 'd', 'r')) AS things
      JOIN pg_namespace AS n ON n.oid = space
     WHERE nspname <> 'information_schema' AND nspname NOT LIKE 'pg\\_%'
       AND (nspname = 'evenkeel') = $1
       AND NOT EXISTS (SELECT FROM pg_depend AS d
                        WHERE d.classid = class AND d.objid = things.oid AND d.deptype IN ('a', 'e', 'i'))
     ORDER BY later, 1";

async fn look(conn: &mut PgConnection) -> Result<Contents, sqlx::Error> {
    let mut tx = conn
        .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        .await?;
    let database: String = sqlx::query_scalar("SELECT current_database()::text")
        .fetch_one(&mut *tx)
        .await?;
    // From the catalog, because resolving the name wants a right to the schema.
    let has_ledger: bool = sqlx::query_scalar(
        "SELECT count(*) = 3 FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
           JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE n.nspname = 'evenkeel' AND c.relname = 'schema_steps'
            AND attname IN ('version', 'description', 'checksum') AND NOT attisdropped",
    )
    .fetch_one(&mut *tx)
    .await?;
    let mut things: Vec<String> = sqlx::query_scalar(THINGS)
        .bind(false)
        .fetch_all(&mut *tx)
        .await?;
    let whose = if has_ledger {
        let applied: Vec<i64> = sqlx::query_scalar("SELECT version FROM evenkeel.schema_steps")
            .fetch_all(&mut *tx)
            .await?;
        if applied.into_iter().any(schema::is_the_shops) {
            Whose::Shops
        } else if things.is_empty() {
            Whose::Nobodys
        } else {
            Whose::Others
        }
    } else {
        let taken: Vec<String> = sqlx::query_scalar(THINGS)
            .bind(true)
            .fetch_all(&mut *tx)
            .await?;
        if !taken.is_empty() {
            things = taken;
            Whose::OthersAndTaken
        } else if things.is_empty() {
            Whose::Nobodys
        } else {
            Whose::Others
        }
    };
    tx.commit().await?;
    Ok(Contents {
        database,
        whose,
        has_ledger,
        others: i64::try_from(things.len()).unwrap_or(i64::MAX),
        examples: things.into_iter().take(NAMED).collect(),
    })
}
