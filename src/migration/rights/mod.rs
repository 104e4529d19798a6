//! What a role may not do of what a migration needs, as the statements that an administrator of the
//! database runs to let it, and no more than that.

mod needs;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use sqlx::postgres::PgConnection;

use super::definition::Definition;
use crate::db::schema;

/// What the role of a connection lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lacking {
    /// The role, as SQL.
    pub role: String,
    /// Statements to run.
    pub grants: Vec<String>,
    /// What no GRANT gives, a sentence each.
    pub remarks: Vec<String>,
}

impl std::error::Error for Lacking {}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "role {} lacks rights that the migration needs.",
            self.role
        )?;
        if !self.grants.is_empty() {
            write!(
                f,
                " As an administrator of the database, or the owner of what is named, run:"
            )?;
        }
        for grant in &self.grants {
            write!(f, "\n  {grant};")?;
        }
        for remark in &self.remarks {
            write!(f, "\n  -- {remark}")?;
        }
        Ok(())
    }
}

impl Lacking {
    /// Whether it lacks nothing.
    pub fn is_nothing(&self) -> bool {
        self.grants.is_empty() && self.remarks.is_empty()
    }
}

/// Finds what the role of `conn` lacks to run `definition`, and to write the ledger where there is one.
///
/// # Errors
/// What the database says.
pub async fn lacking(
    conn: &mut PgConnection,
    definition: &Definition,
) -> Result<Lacking, sqlx::Error> {
    let role: String = sqlx::query_scalar("SELECT quote_ident(current_user)")
        .fetch_one(&mut *conn)
        .await?;
    let mut grants = schema::ledger_grants(conn, false).await?;
    let mut remarks = Vec::new();
    let mut missing: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for need in needs::of(definition) {
        let rows: Vec<(String, String, String)> = sqlx::query_as(MISSING)
            .bind(&need.name)
            .bind(need.right)
            .bind(&need.details)
            .fetch_all(&mut *conn)
            .await?;
        for (on, right, owner) in rows {
            match right.as_str() {
                needs::OWNER => remarks.push(format!(
                    "the steps that change the schema are for the owner of {on} alone, and no GRANT on it \
                     helps: run the migration as {owner}, or let {role} do all that {owner} may (GRANT \
                     {owner} TO {role})"
                )),
                needs::ALL_ROWS => {
                    grants.push(format!("ALTER ROLE {role} BYPASSRLS"));
                    remarks.push(format!(
                        "row-level security of {on} would hide rows from the migration. BYPASSRLS lets \
                         {role} see every row of every table that it may read, and takes a superuser to \
                         give; instead, {owner} can run the migration, unless row security is forced on \
                         the owner"
                    ));
                }
                _ => {
                    missing.entry(on).or_default().insert(right);
                }
            }
        }
    }
    grants.extend(missing.into_iter().map(|(on, rights)| {
        let rights: Vec<_> = rights.into_iter().collect();
        format!("GRANT {} ON {on} TO {role}", rights.join(", "))
    }));
    Ok(Lacking {
        role,
        grants,
        remarks,
    })
}

/// On what which right is missing for a need with the name `$1`, the right `$2` and the details `$3`; for
/// [`needs::OWNER`] and [`needs::ALL_ROWS`] also who the owner is. What is not there is not missing: the
/// server says that itself, and an expand step may make it. Names are looked up along the search path as
/// the server does, but also in schemas that the role may not use, since those are what this is about.
const MISSING: &str = r#"
    WITH place AS (
        SELECT n.oid AS space, n.nspname, path.ord
          FROM regexp_split_to_table('pg_catalog,' || current_setting('search_path'), '\s*,\s*')
               WITH ORDINALITY AS path (raw, ord)
          JOIN pg_namespace n ON CASE cardinality($1)
               WHEN 1 THEN raw = quote_ident(n.nspname) OR lower(raw) = n.nspname
                        OR (raw IN ('$user', '"$user"') AND n.nspname = current_user)
               ELSE n.nspname = $1[cardinality($1) - 1] END),
    relation AS (
        SELECT place.*, c.oid, c.relkind, c.relowner, format('%I.%I', nspname, relname) AS name
          FROM place JOIN pg_class c ON relnamespace = space AND relname = $1[cardinality($1)]
         WHERE $2 <> 'EXECUTE' ORDER BY ord LIMIT 1),
    -- Those that take so many arguments, in the first schema that has any.
    function AS (
        SELECT * FROM (
            SELECT place.*, f.oid, rank() OVER (ORDER BY ord) AS rank,
                   format('%s %I.%I(%s)', CASE prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END,
                          nspname, proname, pg_get_function_identity_arguments(f.oid)) AS name
              FROM place JOIN pg_proc f ON pronamespace = space AND proname = $1[cardinality($1)]
             WHERE $2 = 'EXECUTE' AND (provariadic <> 0
                   OR cardinality($3) BETWEEN pronargs - pronargdefaults AND pronargs)) AS named
         WHERE rank = 1),
    -- Also those from which a new row is filled; identity columns need no right.
    sequence AS (
        SELECT oid FROM relation WHERE $2 = 'USAGE' AND relkind = 'S'
         UNION
        SELECT p.refobjid
          FROM relation r JOIN pg_attrdef d ON d.adrelid = r.oid
          JOIN pg_depend p ON p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid
                          AND p.refclassid = 'pg_class'::regclass
         WHERE $2 = 'INSERT'),
    -- A column that an expand step adds is not there yet: then the right is wanted on the table.
    columns AS (
        SELECT count(*) > 0 AND count(*) = cardinality($3) AS known,
               string_agg(quote_ident(attname), ', ' ORDER BY attnum)
                   FILTER (WHERE NOT has_column_privilege(attrelid, attnum, 'UPDATE')) AS lacking
          FROM relation JOIN pg_attribute ON attrelid = oid AND attname = ANY ($3) AND attnum > 0
         WHERE $2 = 'UPDATE')
    SELECT 'SCHEMA ' || quote_ident(nspname), 'USAGE', ''
      FROM (SELECT space, nspname FROM relation UNION SELECT space, nspname FROM function) AS used
     WHERE NOT has_schema_privilege(space, 'USAGE')
     UNION
    SELECT 'SCHEMA ' || quote_ident(nspname), 'CREATE', ''
      FROM (SELECT space, nspname, 0 AS ord FROM relation UNION ALL SELECT space, nspname, ord FROM place
             WHERE nspname <> 'pg_catalog' ORDER BY ord LIMIT 1) AS here
     WHERE $2 = 'CREATE' AND NOT has_schema_privilege(space, 'CREATE')
     UNION
    SELECT name, 'EXECUTE', '' FROM function WHERE NOT has_function_privilege(oid, 'EXECUTE')
     UNION
    SELECT format('SEQUENCE %I.%I', nspname, relname), 'USAGE', ''
      FROM sequence JOIN pg_class c USING (oid) JOIN pg_namespace n ON n.oid = relnamespace
     WHERE CASE WHEN relkind = 'S' THEN NOT has_sequence_privilege(c.oid, 'USAGE, UPDATE') END
     UNION
    SELECT 'TABLE ' || name, CASE WHEN known THEN format('UPDATE (%s)', lacking) ELSE $2 END, ''
      FROM relation CROSS JOIN columns
     WHERE NOT CASE
           WHEN $2 NOT IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'REFERENCES') THEN true
           WHEN has_table_privilege(oid, $2) THEN true
           WHEN known THEN lacking IS NULL
           -- Which columns it fills is for the server to say.
           WHEN $2 = 'INSERT' THEN has_any_column_privilege(oid, $2)
           ELSE false END
     UNION
    SELECT name, $2, quote_ident(pg_get_userbyid(relowner))
      FROM relation
     WHERE CASE $2 WHEN 'owner' THEN NOT pg_has_role(relowner, 'USAGE')
                   WHEN 'all rows' THEN relkind IN ('r', 'p') AND row_security_active(oid) END
"#;

/// What the server has named as it refused a statement: something that a function or a view reads.
///
/// # Errors
/// What the database says.
pub async fn named(
    conn: &mut PgConnection,
    refused: &sqlx::Error,
) -> Result<Option<Lacking>, sqlx::Error> {
    let refused = refused.as_database_error();
    let Some(err) = refused.filter(|err| err.code().as_deref() == Some("42501")) else {
        return Ok(None);
    };
    let (role, grant): (String, Option<String>) = sqlx::query_as(
        "SELECT quote_ident(current_user),
                (SELECT format('GRANT SELECT ON TABLE %I.%I TO %I', nspname, relname, current_user)
                   FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
                  WHERE $1 IN ('permission denied for table ' || relname,
                               'permission denied for view ' || relname)
                    AND NOT has_table_privilege(c.oid, 'SELECT')
                  ORDER BY pg_table_is_visible(c.oid) DESC, c.oid LIMIT 1)",
    )
    .bind(err.message())
    .fetch_one(conn)
    .await?;
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
