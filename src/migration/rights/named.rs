//! What only the server can name: what a function or a view of the statement reads.

use sqlx::postgres::PgConnection;

use super::Lacking;

/// What the server has named as it refused a statement: something that a function or a view reads.
///
/// # Errors
/// What the database says.
pub async fn named(
    conn: &mut PgConnection,
    refused: &sqlx::Error,
) -> Result<Option<Lacking>, sqlx::Error> {
    let sqlx::Error::Database(err) = refused else {
        return Ok(None);
    };
    if err.code().as_deref() != Some("42501") {
        return Ok(None);
    }
    let (role, table): (String, Option<String>) = sqlx::query_as(
        "SELECT quote_ident(current_user),
                (SELECT format('%I.%I', n.nspname, c.relname)
                   FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                  WHERE $1 IN ('permission denied for table ' || c.relname,
                               'permission denied for view ' || c.relname)
                    AND NOT has_table_privilege(c.oid, 'SELECT')
                  ORDER BY pg_table_is_visible(c.oid) DESC, c.oid LIMIT 1)",
    )
    .bind(err.message())
    .fetch_one(conn)
    .await?;
    let grant = table.map(|table| format!("GRANT SELECT ON TABLE {table} TO {role}"));
    Ok(Some(Lacking {
        role,
        grants: grant.into_iter().collect(),
        remarks: vec![format!(
            "the server says: {}. Something that the statement calls needs it, a function or a view; if \
             it does more than read, its text says what else to grant",
            err.message()
        )],
    }))
}
