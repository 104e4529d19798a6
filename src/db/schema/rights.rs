//! What a role may not do to the schema, as the statements that let it.

use sqlx::postgres::PgConnection;

use super::SchemaError;

/// Does `work`, and says what to grant when the role may not.
pub(in crate::db) async fn or_denied<T>(
    conn: &mut PgConnection,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, SchemaError>,
) -> Result<T, SchemaError> {
    match work(conn).await {
        // insufficient_privilege
        Err(SchemaError::Database(sqlx::Error::Database(err)))
            if err.code().as_deref() == Some("42501") =>
        {
            Err(denied(conn, sqlx::Error::Database(err)).await?)
        }
        // read_only_sql_transaction
        Err(SchemaError::Database(sqlx::Error::Database(err)))
            if err.code().as_deref() == Some("25006") =>
        {
            Err(SchemaError::ReadOnly)
        }
        done => done,
    }
}

/// What to grant so that `refused` does not happen again.
async fn denied(conn: &mut PgConnection, refused: sqlx::Error) -> Result<SchemaError, sqlx::Error> {
    let (role, database, may_create): (String, String, bool) = sqlx::query_as(
        "SELECT quote_ident(current_user), quote_ident(current_database()),
                has_database_privilege(current_database(), 'CREATE')",
    )
    .fetch_one(&mut *conn)
    .await?;
    let owner: Option<(String, bool)> = sqlx::query_as(
        "SELECT quote_ident(pg_get_userbyid(nspowner)), pg_has_role(nspowner, 'usage')
           FROM pg_namespace WHERE nspname = 'evenkeel'",
    )
    .fetch_optional(&mut *conn)
    .await?;
    let (action, grants) = match owner {
        // Then it is the schema of the shop's tables in which it may not create.
        None if may_create => return Ok(SchemaError::Database(refused)),
        None => (
            "create the schema `evenkeel`, in which the engine keeps its ledger",
            vec![format!("GRANT CREATE ON DATABASE {database} TO {role}")],
        ),
        Some((owner, false)) => {
            let grants = ledger_grants(conn, false).await?;
            if grants.is_empty() {
                (
                    "bring the engine's ledger up to date, which belongs to another role",
                    vec![format!("GRANT {owner} TO {role}")],
                )
            } else {
                ("use the engine's ledger, the schema `evenkeel`", grants)
            }
        }
        Some((_, true)) => return Ok(SchemaError::Database(refused)),
    };
    Ok(SchemaError::Denied {
        role,
        action,
        grants,
    })
}

/// What the engine does to the tables of its ledger; to those that are not here it adds rows and changes
/// them. From those that are marked retention deletes old rows, in a shop's database alone; it locks them first,
/// which takes `UPDATE`.
const LEDGER: [(&str, &str, bool); 10] = [
    ("schema_steps", "SELECT", false),
    ("runs", "SELECT, INSERT, UPDATE", true),
    ("batches", "SELECT, INSERT", true),
    ("quarantine", "SELECT, INSERT, UPDATE", true),
    ("events", "SELECT, INSERT", true),
    ("steps", "SELECT, INSERT, UPDATE", true),
    ("throttles", "SELECT, INSERT, UPDATE", true),
    ("certificates", "SELECT, INSERT", true),
    ("proofs", "SELECT, INSERT", true),
    ("readings", "SELECT, INSERT, UPDATE, DELETE", false),
];

/// The statements that let the role of `conn` use the engine's ledger where another role has made it, or
/// read it when it is to be `only_read`; where there is none, the one that lets it make one. None when it may.
///
/// # Errors
/// What the database says.
pub async fn ledger_grants(
    conn: &mut PgConnection,
    only_read: bool,
) -> Result<Vec<String>, sqlx::Error> {
    let names = LEDGER.map(|(name, ..)| name);
    let privileges = LEDGER.map(|(_, privileges, _)| privileges);
    let swept = LEDGER.map(|(.., swept)| swept);
    sqlx::query_scalar(
        "SELECT format('GRANT USAGE ON SCHEMA evenkeel TO %I', current_user)
           FROM pg_namespace WHERE nspname = 'evenkeel' AND NOT has_schema_privilege(oid, 'USAGE')
         UNION ALL
         SELECT format('GRANT CREATE ON DATABASE %I TO %I', current_database(), current_user)
          WHERE NOT $3 AND NOT has_database_privilege(current_database(), 'CREATE')
            AND NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'evenkeel')
         UNION ALL
         SELECT format('GRANT %s ON TABLE evenkeel.%I TO %I', string_agg(wanted, ', ' ORDER BY ord),
                       relname, current_user)
           FROM (SELECT c.relname, one.wanted, one.ord
                   FROM pg_namespace n
                   JOIN pg_class c ON c.relnamespace = n.oid AND c.relkind = 'r'
                   LEFT JOIN unnest($1::text[], $2::text[], $4::boolean[]) AS known (name, privileges, swept)
                          ON known.name = c.relname
                  CROSS JOIN (SELECT count(DISTINCT relname) = 3 AS is_shop FROM pg_class
                               WHERE relkind = 'r'
                                 AND relname IN ('idempotency_keys', 'log_in_attempts', 'order_lines')) AS shop
                  CROSS JOIN LATERAL unnest(string_to_array(
                             CASE WHEN known.swept AND is_shop THEN 'SELECT, INSERT, UPDATE, DELETE'
                                  ELSE coalesce(known.privileges, 'SELECT, INSERT, UPDATE') END, ', '))
                             WITH ORDINALITY AS one (wanted, ord)
                  WHERE n.nspname = 'evenkeel' AND NOT has_table_privilege(c.oid, one.wanted)
                    AND (NOT $3 OR one.wanted = 'SELECT')
                    -- The watch's, which keeps its record in a shop's database alone.
                    AND c.relname NOT LIKE ALL ('{incident%,watch%,changes,order_marks}'::text[])) AS lacking
          GROUP BY relname",
    )
    .bind(names)
    .bind(privileges)
    .bind(only_read)
    .bind(swept)
    .fetch_all(conn)
    .await
}

/// Refuses a role that may not read the ledger.
///
/// # Errors
/// [`SchemaError::Denied`] says what to grant.
pub async fn refuse_unreadable(conn: &mut PgConnection) -> Result<(), SchemaError> {
    let grants = ledger_grants(conn, true).await?;
    if grants.is_empty() {
        return Ok(());
    }
    let role = sqlx::query_scalar("SELECT quote_ident(current_user)");
    Err(SchemaError::Denied {
        role: role.fetch_one(conn).await?,
        action: "read the engine's ledger, the schema `evenkeel`",
        grants,
    })
}
