//! What a role may not do of what a migration needs, as the statements that an administrator of the
//! database runs to let it, and no more than that.

mod named;
mod needs;

use std::collections::BTreeMap;
use std::fmt;

use sqlx::FromRow;
use sqlx::postgres::PgConnection;

use super::definition::Definition;
use crate::db::schema;
use needs::Need;

pub use named::named;

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

/// A relation that a name leads to.
#[derive(Debug, FromRow)]
struct Relation {
    oid: i64,
    /// With its schema, as SQL.
    name: String,
    schema: String,
    owner: String,
    /// Whether the role may use the schema.
    usage: bool,
    /// Whether the role may create something in it.
    create: bool,
    /// Whether the role is, or is a member of, the owner.
    owned: bool,
    /// Whether policies hide rows from the role.
    hidden: bool,
}

/// The schemas in which the name `$1` is looked for, in order. The server's own look-up leaves out those
/// that the role may not use, and those are what this is about.
const PLACES: &str = "
    SELECT n.oid, n.nspname, place.ord
      FROM (SELECT parse_ident($1) AS parts) AS name
      CROSS JOIN LATERAL (
          SELECT parts[cardinality(parts) - 1] AS schema, 0::bigint AS ord WHERE cardinality(parts) > 1
           UNION ALL
          SELECT CASE WHEN part = '$user' THEN current_user::text ELSE part END, ord
            FROM (SELECT CASE WHEN raw LIKE '\"%' THEN replace(btrim(raw, '\"'), '\"\"', '\"')
                              ELSE lower(raw) END AS part, ord
                    FROM regexp_split_to_table('pg_catalog, ' || current_setting('search_path'),
                                               '\\s*,\\s*') WITH ORDINALITY AS path (raw, ord)) AS parts
           WHERE cardinality(parts) = 1) AS place
      JOIN pg_namespace n ON n.nspname = place.schema";

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
    let mut search = Search {
        grants: schema::ledger_grants(conn).await?,
        conn,
        schemas: Vec::new(),
        tables: BTreeMap::new(),
        further: Vec::new(),
        remarks: Vec::new(),
        role,
    };
    for need in needs::of(definition) {
        search.look(&need, definition).await?;
    }
    Ok(search.finish())
}

struct Search<'a> {
    conn: &'a mut PgConnection,
    role: String,
    grants: Vec<String>,
    schemas: Vec<String>,
    /// Privileges by table; each with its columns, where it has any.
    tables: BTreeMap<String, Vec<String>>,
    further: Vec<String>,
    remarks: Vec<String>,
}

impl Search<'_> {
    fn finish(self) -> Lacking {
        let role = &self.role;
        let mut grants = self.grants;
        let tables = self.tables.iter();
        grants.extend(
            self.schemas
                .iter()
                .map(|s| format!("GRANT USAGE ON SCHEMA {s} TO {role}")),
        );
        grants
            .extend(tables.map(|(t, p)| format!("GRANT {} ON TABLE {t} TO {role}", p.join(", "))));
        grants.extend(self.further);
        Lacking {
            role: self.role,
            grants,
            remarks: self.remarks,
        }
    }

    fn add(list: &mut Vec<String>, what: String) {
        if !list.contains(&what) {
            list.push(what);
        }
    }

    async fn look(&mut self, need: &Need, definition: &Definition) -> Result<(), sqlx::Error> {
        match need {
            Need::Table {
                name,
                privilege,
                columns,
            } => self.table(name, privilege, columns, definition).await,
            Need::Function { name, arguments } => self.function(name, *arguments).await,
            Need::Sequence { name } => match self.relation(name).await? {
                Some(sequence) => self.sequence(&sequence).await,
                None => Ok(()),
            },
            Need::Owner { name, statement } => {
                self.owner(name, statement).await?;
                Ok(())
            }
            Need::Create { name } => self.create(name).await,
        }
    }

    /// The relation `name`; `None` when there is none, which the server says itself.
    async fn relation(&mut self, name: &str) -> Result<Option<Relation>, sqlx::Error> {
        let sql = format!(
            "SELECT c.oid::bigint AS oid, format('%I.%I', p.nspname, c.relname) AS name,
                    quote_ident(p.nspname) AS schema, quote_ident(pg_get_userbyid(c.relowner)) AS owner,
                    has_schema_privilege(p.oid, 'USAGE') AS usage,
                    has_schema_privilege(p.oid, 'CREATE') AS create,
                    pg_has_role(c.relowner, 'USAGE') AS owned,
                    c.relkind IN ('r', 'p') AND row_security_active(c.oid) AS hidden
               FROM ({PLACES}) AS p
               JOIN pg_class c ON c.relnamespace = p.oid
                              AND c.relname = (SELECT n[cardinality(n)] FROM parse_ident($1) AS n)
              ORDER BY p.ord LIMIT 1"
        );
        sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(name)
            .fetch_optional(&mut *self.conn)
            .await
    }

    async fn table(
        &mut self,
        name: &str,
        privilege: &'static str,
        columns: &[String],
        definition: &Definition,
    ) -> Result<(), sqlx::Error> {
        let Some(table) = self.relation(name).await? else {
            return Ok(());
        };
        if !table.usage {
            Self::add(&mut self.schemas, table.schema.clone());
        }
        // A column that an expand step adds is not there yet: then it is wanted on the table.
        let (whole, known, some, lacking): (bool, i64, bool, Vec<String>) = sqlx::query_as(
            "SELECT has_table_privilege($1::oid, $2),
                    count(a.attnum),
                    has_any_column_privilege($1::oid, $2),
                    coalesce(array_agg(quote_ident(a.attname) ORDER BY a.attnum)
                             FILTER (WHERE NOT has_column_privilege($1::oid, a.attnum, $2)), '{}')
               FROM (SELECT) AS one
               LEFT JOIN pg_attribute a ON a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped
                                       AND (a.attname = ANY($3) OR quote_ident(a.attname) = ANY($3))",
        )
        .bind(table.oid)
        .bind(if privilege == "DELETE" { "UPDATE" } else { privilege })
        .bind(columns)
        .fetch_one(&mut *self.conn)
        .await?;
        let whole = if privilege == "DELETE" {
            sqlx::query_scalar("SELECT has_table_privilege($1::oid, 'DELETE')")
                .bind(table.oid)
                .fetch_one(&mut *self.conn)
                .await?
        } else {
            whole
        };
        let by_column = !columns.is_empty() && usize::try_from(known) == Ok(columns.len());
        let wanted = if whole || (by_column && lacking.is_empty()) {
            None
        } else if by_column {
            Some(format!("{privilege} ({})", lacking.join(", ")))
        } else if privilege == "INSERT" && some {
            // By column, and which ones the statement fills is for the server to say.
            None
        } else {
            Some(privilege.to_owned())
        };
        if let Some(wanted) = wanted {
            Self::add(self.tables.entry(table.name.clone()).or_default(), wanted);
        }
        if privilege == "INSERT" {
            self.defaults(&table).await?;
        }
        if table.hidden && name == definition.table {
            let role = &self.role;
            Self::add(&mut self.further, format!("ALTER ROLE {role} BYPASSRLS"));
            Self::add(
                &mut self.remarks,
                format!(
                    "row-level security of {} would hide rows from the migration. BYPASSRLS lets {role} \
                     see every row of every table that it may read, and takes a superuser to give; \
                     instead, {} can run the migration, unless row security is forced on the owner",
                    table.name, table.owner
                ),
            );
        }
        Ok(())
    }

    /// The sequences from which a new row's columns are filled. Those of identity columns need no right.
    async fn defaults(&mut self, table: &Relation) -> Result<(), sqlx::Error> {
        let sequences: Vec<String> = sqlx::query_scalar(
            "SELECT DISTINCT format('%I.%I', n.nspname, s.relname)
               FROM pg_attrdef d
               JOIN pg_depend p ON p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid
                               AND p.refclassid = 'pg_class'::regclass
               JOIN pg_class s ON s.oid = p.refobjid AND s.relkind = 'S'
               JOIN pg_namespace n ON n.oid = s.relnamespace
              WHERE d.adrelid = $1::oid",
        )
        .bind(table.oid)
        .fetch_all(&mut *self.conn)
        .await?;
        for name in sequences {
            if let Some(sequence) = self.relation(&name).await? {
                self.sequence(&sequence).await?;
            }
        }
        Ok(())
    }

    async fn sequence(&mut self, sequence: &Relation) -> Result<(), sqlx::Error> {
        if !sequence.usage {
            Self::add(&mut self.schemas, sequence.schema.clone());
        }
        let may: bool = sqlx::query_scalar(
            "SELECT has_sequence_privilege($1::oid, 'USAGE') OR has_sequence_privilege($1::oid, 'UPDATE')",
        )
        .bind(sequence.oid)
        .fetch_one(&mut *self.conn)
        .await?;
        if !may {
            let grant = format!("GRANT USAGE ON SEQUENCE {} TO {}", sequence.name, self.role);
            Self::add(&mut self.further, grant);
        }
        Ok(())
    }

    /// Functions of this name that take so many arguments, in the first schema that has any.
    async fn function(&mut self, name: &str, arguments: i32) -> Result<(), sqlx::Error> {
        let sql = format!(
            "WITH found AS (
                 SELECT f.oid, p.oid AS space, p.nspname, f.proname, f.prokind,
                        dense_rank() OVER (ORDER BY p.ord) AS rank
                   FROM ({PLACES}) AS p
                   JOIN pg_proc f ON f.pronamespace = p.oid
                                 AND f.proname = (SELECT n[cardinality(n)] FROM parse_ident($1) AS n)
                  WHERE f.provariadic <> 0 OR $2 BETWEEN f.pronargs - f.pronargdefaults AND f.pronargs)
             SELECT quote_ident(nspname), has_schema_privilege(space, 'USAGE'),
                    CASE WHEN NOT has_function_privilege(oid, 'EXECUTE') THEN
                         format('GRANT EXECUTE ON %s %I.%I(%s)',
                                CASE prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END,
                                nspname, proname, pg_get_function_identity_arguments(oid)) END
               FROM found WHERE rank = 1"
        );
        // What is no name of a function (a type, a keyword) finds none.
        let found: Vec<(String, bool, Option<String>)> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(name)
            .bind(arguments)
            .fetch_all(&mut *self.conn)
            .await?;
        for (schema, usage, grant) in found {
            if !usage {
                Self::add(&mut self.schemas, schema);
            }
            let role = &self.role;
            if let Some(grant) = grant {
                Self::add(&mut self.further, format!("{grant} TO {role}"));
            }
        }
        Ok(())
    }

    async fn owner(&mut self, name: &str, statement: &str) -> Result<(), sqlx::Error> {
        let Some(relation) = self.relation(name).await? else {
            return Ok(());
        };
        if relation.owned {
            return Ok(());
        }
        let (owner, name, role) = (&relation.owner, &relation.name, &self.role);
        let remark = format!(
            "`{statement}` is for the owner of {name} alone, and no GRANT on it helps: run the migration \
             as {owner}, or let {role} do all that {owner} may (GRANT {owner} TO {role}), or make {role} \
             the owner (ALTER TABLE {name} OWNER TO {role}), which takes from {owner} what it has not \
             been granted"
        );
        Self::add(&mut self.remarks, remark);
        Ok(())
    }

    /// The right to create `name`, or something beside the table of this name, in its schema.
    async fn create(&mut self, name: &str) -> Result<(), sqlx::Error> {
        let place = match self.relation(name).await? {
            Some(table) => Some((table.schema, table.create)),
            None => {
                let sql = format!(
                    "SELECT quote_ident(p.nspname), has_schema_privilege(p.oid, 'CREATE')
                       FROM ({PLACES}) AS p WHERE p.ord <> 1 ORDER BY p.ord LIMIT 1"
                );
                sqlx::query_as(sqlx::AssertSqlSafe(sql))
                    .bind(name)
                    .fetch_optional(&mut *self.conn)
                    .await?
            }
        };
        if let Some((schema, false)) = place {
            let grant = format!("GRANT CREATE ON SCHEMA {schema} TO {}", self.role);
            Self::add(&mut self.further, grant);
        }
        Ok(())
    }
}
