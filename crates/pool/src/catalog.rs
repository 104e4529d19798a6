//! Whether PostgreSQL's own operators, functions and types mean what they say.
//!
//! They stand in `pg_catalog`, which is searched first unless the search path names it behind other
//! schemas. Then an object of the same name and arguments in one of those hides it: `=` compares by
//! somebody else's rules, and every statement that the shop and the engine send may mean something else.

use sqlx::postgres::PgConnection;

/// An object that hides one of PostgreSQL's own.
#[derive(Debug, thiserror::Error)]
#[error(
    "the search path of role {role} in database {database} finds {object} in schema {schema} before \
     PostgreSQL's own, so no statement would mean what it says. Put pg_catalog first, or leave it out of \
     the path, where it comes first by itself; see ALTER ROLE {role} SET search_path, and ALTER DATABASE \
     {database} SET search_path"
)]
pub struct Hidden {
    /// The role of the session.
    pub role: String,
    /// Its database.
    pub database: String,
    /// The schema that comes first.
    pub schema: String,
    /// What it holds, such as `operator =(text,text)`.
    pub object: String,
}

/// What hides something of PostgreSQL's own from the statements of `conn`; `None` when nothing does. Only
/// objects of exactly the same arguments count: others are chosen for their own types alone.
///
/// # Errors
/// What the database says.
pub async fn hidden(conn: &mut PgConnection) -> Result<Option<Hidden>, sqlx::Error> {
    // Every operator and function is named with its schema: this statement, too, is read by that path.
    let found: Option<(String, String, String, String)> = sqlx::query_as(
        r#"WITH path AS (
             SELECT schema, n
               FROM pg_catalog.unnest(pg_catalog.current_schemas(true)) WITH ORDINALITY AS path (schema, n)
         ), before AS (
             SELECT space.oid, space.nspname, path.n
               FROM path JOIN pg_catalog.pg_namespace AS space
                 ON space.nspname OPERATOR(pg_catalog.=) path.schema
              WHERE path.n OPERATOR(pg_catalog.<) (
                    SELECT n FROM path WHERE schema OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.name)
                -- The session's own objects hide relations and types alone.
                AND space.oid OPERATOR(pg_catalog.<>) pg_catalog.pg_my_temp_schema()
         ), hiding AS (
             SELECT before.n, before.nspname,
                    'operator ' OPERATOR(pg_catalog.||) theirs.oprname::pg_catalog.text
                        OPERATOR(pg_catalog.||) '(' OPERATOR(pg_catalog.||)
                        pg_catalog.concat_ws(',',
                            CASE WHEN theirs.oprleft OPERATOR(pg_catalog.<>) 0::pg_catalog.oid
                                 THEN pg_catalog.format_type(theirs.oprleft, NULL) END,
                            pg_catalog.format_type(theirs.oprright, NULL))
                        OPERATOR(pg_catalog.||) ')' AS object
               FROM before
               JOIN pg_catalog.pg_operator AS theirs
                 ON theirs.oprnamespace OPERATOR(pg_catalog.=) before.oid
               JOIN pg_catalog.pg_operator AS ours
                 ON ours.oprname OPERATOR(pg_catalog.=) theirs.oprname
                AND ours.oprleft OPERATOR(pg_catalog.=) theirs.oprleft
                AND ours.oprright OPERATOR(pg_catalog.=) theirs.oprright
                AND ours.oprnamespace OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace
             UNION ALL
             SELECT before.n, before.nspname,
                    'function ' OPERATOR(pg_catalog.||) theirs.proname::pg_catalog.text
                        OPERATOR(pg_catalog.||) '(' OPERATOR(pg_catalog.||)
                        pg_catalog.pg_get_function_identity_arguments(theirs.oid)
                        OPERATOR(pg_catalog.||) ')'
               FROM before
               JOIN pg_catalog.pg_proc AS theirs
                 ON theirs.pronamespace OPERATOR(pg_catalog.=) before.oid
               JOIN pg_catalog.pg_proc AS ours
                 ON ours.proname OPERATOR(pg_catalog.=) theirs.proname
                AND ours.proargtypes OPERATOR(pg_catalog.=) theirs.proargtypes
                AND ours.pronamespace OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace
             UNION ALL
             SELECT before.n, before.nspname,
                    'type ' OPERATOR(pg_catalog.||) theirs.typname::pg_catalog.text
               FROM before
               JOIN pg_catalog.pg_type AS theirs
                 ON theirs.typnamespace OPERATOR(pg_catalog.=) before.oid
               JOIN pg_catalog.pg_type AS ours
                 ON ours.typname OPERATOR(pg_catalog.=) theirs.typname
                AND ours.typnamespace OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace
                -- Arrays come with the types that they are of.
                AND theirs.typcategory OPERATOR(pg_catalog.<>) 'A'::pg_catalog."char"
         )
         SELECT current_user::pg_catalog.text, pg_catalog.current_database()::pg_catalog.text,
                nspname::pg_catalog.text, object
           FROM hiding ORDER BY n, object LIMIT 1"#,
    )
    .fetch_optional(conn)
    .await?;
    Ok(found.map(|(role, database, schema, object)| Hidden {
        role,
        database,
        schema,
        object,
    }))
}
