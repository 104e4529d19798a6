//! What PostgreSQL's catalogue says of a table's indexes.
//!
//! It is asked with a search path of its own: whatever operators, functions and types other schemas
//! have, the names in these queries mean PostgreSQL's. What is read here is written qualified into
//! the SQL that walks the table.

use serde::Deserialize;
use sqlx::postgres::PgConnection;
use sqlx::postgres::types::Oid;
use sqlx::types::Json;
use sqlx::{Connection, Executor, FromRow, Postgres, Transaction};

/// Opens a transaction, or a savepoint within one, in which names are looked up in PostgreSQL's own
/// schema. Roll it back.
pub(super) async fn pinned(
    conn: &mut PgConnection,
) -> Result<Transaction<'_, Postgres>, sqlx::Error> {
    let mut tx = conn.begin().await?;
    // Temporary tables and types would come first unless they are named.
    tx.execute("SET LOCAL search_path = pg_catalog, pg_temp")
        .await?;
    Ok(tx)
}

/// The relation that `name` means to the author of a definition; `None` when there is none.
pub(super) async fn relation(
    conn: &mut PgConnection,
    name: &str,
) -> Result<Option<Oid>, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_catalog.to_regclass($1)::pg_catalog.oid")
        .bind(name)
        .fetch_one(conn)
        .await
}

/// An index of a table, usable or not.
#[derive(Debug, FromRow)]
pub(super) struct Index {
    pub oid: Oid,
    pub name: String,
    /// With its schema, as SQL.
    pub qualified: String,
    pub is_primary: bool,
    /// Covers a part of the rows.
    pub is_partial: bool,
    /// Older transactions cannot read it yet, and PostgreSQL does not plan with it until they end.
    pub is_young: bool,
    pub columns: Json<Vec<IndexColumn>>,
    /// Why it cannot serve a walk, whatever the header says.
    pub problem: Option<String>,
}

/// A key column of an index.
#[derive(Debug, Deserialize)]
pub(super) struct IndexColumn {
    /// As the table has it.
    pub plain: String,
    /// As SQL.
    pub quoted: String,
    /// Its type with its modifier, for people.
    pub shown: Option<String>,
    /// The type that the operators are used with, as SQL. It has no modifier: `character` alone would
    /// mean `character(1)`.
    pub operand: Option<String>,
    /// Whether the column's own type is another one, which is read as the operand without a change.
    pub relabelled: bool,
    /// Whether the operators are those of all arrays, enums, ranges or rows.
    pub polymorphic: bool,
    /// The operator class, as SQL.
    pub class: String,
    /// Whether it is the one that its type has unless another is named.
    pub class_is_default: bool,
    /// The operators `<`, `<=`, `=`, `>=`, `>` of the class, as SQL, whatever they are called;
    /// `None` where the class lacks one.
    pub operators: [Option<String>; 5],
    /// Whether PostgreSQL, asked for the order of these operators, thinks of this class first.
    pub leads: bool,
    /// Whether no operator class has one of these operators in another place. PostgreSQL takes a comparison of
    /// rows by the first place that it knows, and its index scan then fails.
    pub unambiguous: bool,
    /// The collation, as SQL, where the operand has one. It need not be the column's.
    pub collation: Option<String>,
    pub descending: bool,
    pub nulls_first: bool,
}

/// The primary key and whole-table indexes come first, then those in one direction.
///
/// - Values are cast to the type that a domain stands on: a cast to the domain would refuse old
///   values that a constraint, not yet validated, forbids.
/// - Where the operators are of another type (`text` for `varchar`, `oid` for `regclass`), column and
///   value are cast to that: then exactly these operators fit, and none that somebody has made for
///   the column's type. Such types differ in name only, so the index still answers.
/// - Operators of all arrays, enums, ranges or rows are found by their qualified name, where one of
///   the same name for exactly this type would come first.
const INDEXES: &str = "
    SELECT c.oid, c.relname::text AS name,
           quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS qualified,
           i.indisprimary AS is_primary, i.indpred IS NOT NULL AS is_partial,
           i.indcheckxmin AS is_young,
           jsonb_agg(jsonb_build_object(
               'plain', coalesce(a.attname::text, '(an expression)'),
               'quoted', coalesce(quote_ident(a.attname), '(an expression)'),
               'shown', format_type(base.oid, base.modifier),
               'operand', (SELECT quote_ident(tn.nspname) || '.' || quote_ident(t.typname)
                             FROM pg_namespace tn WHERE tn.oid = t.typnamespace),
               'relabelled', a.atttypid IS DISTINCT FROM t.oid,
               'polymorphic', given.typtype = 'p',
               'class', quote_ident(opn.nspname) || '.' || quote_ident(o.opcname),
               'class_is_default', o.opcdefault,
               'operators', op.names,
               'leads', op.leads,
               'unambiguous', op.unambiguous,
               'collation', (SELECT quote_ident(cn.nspname) || '.' || quote_ident(co.collname)
                               FROM pg_collation co JOIN pg_namespace cn ON cn.oid = co.collnamespace
                              WHERE co.oid = k.collid AND t.typcollation <> 0),
               'descending', k.option & 1 = 1,
               'nulls_first', k.option & 2 = 2) ORDER BY k.ord) AS columns,
           CASE WHEN am.amname <> 'btree' THEN 'is no B-tree'
                WHEN NOT i.indisunique THEN 'is not unique'
                WHEN NOT i.indisvalid THEN 'is invalid: drop it and build it again'
                WHEN NOT i.indimmediate THEN 'is deferrable'
                WHEN i.indexprs IS NOT NULL THEN 'is on an expression'
                WHEN NOT bool_and(a.attnotnull) THEN
                     'allows NULL in ' || string_agg(quote_ident(a.attname), ', ' ORDER BY k.ord)
                                              FILTER (WHERE NOT a.attnotnull)
                     || ': make it NOT NULL'
                WHEN bool_or(op.missing) OR bool_or(op.hidden) THEN
                     'sorts ' || string_agg(
                         quote_ident(a.attname) || ' by operator class ' || quote_ident(opn.nspname)
                         || '.' || quote_ident(o.opcname) || CASE WHEN op.missing
                             THEN ', whose family lacks one of the operators <, <=, =, >=, > for its type: add it with ALTER OPERATOR FAMILY'
                             ELSE ', an operator of which is hidden by another of the same name and schema for exactly this type: rename that' END,
                         ', ' ORDER BY k.ord) FILTER (WHERE op.missing OR op.hidden)
                WHEN bool_or(named.by_name) THEN
                     'has ' || string_agg(quote_ident(a.attname), ', ' ORDER BY k.ord)
                                   FILTER (WHERE named.by_name)
                     || ', which holds names of tables, functions or the like (regclass and others): their text depends on the search path, so that a key cannot be stored'
           END AS problem
      FROM pg_index i
      JOIN pg_class c ON c.oid = i.indexrelid
      JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_am am ON am.oid = c.relam
      CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indoption::int2[], i.indcollation::oid[],
                                i.indclass::oid[])
                         WITH ORDINALITY AS k(attnum, option, collid, class, ord)
      JOIN pg_opclass o ON o.oid = k.class
      JOIN pg_namespace opn ON opn.oid = o.opcnamespace
      JOIN pg_type given ON given.oid = o.opcintype
      LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
      LEFT JOIN LATERAL (
          WITH RECURSIVE stood_on(oid, modifier) AS (
              SELECT a.atttypid, a.atttypmod
              UNION ALL
              SELECT t.typbasetype, t.typtypmod
                FROM stood_on s JOIN pg_type t ON t.oid = s.oid AND t.typtype = 'd')
          SELECT s.oid, s.modifier FROM stood_on s
            JOIN pg_type t ON t.oid = s.oid AND t.typtype <> 'd') AS base ON true
      LEFT JOIN pg_type t ON t.oid = CASE given.typtype WHEN 'p' THEN base.oid ELSE given.oid END
      CROSS JOIN LATERAL (
          SELECT jsonb_agg('OPERATOR(' || quote_ident(pn.nspname) || '.' || p.oprname || ')' ORDER BY s) AS names,
                 NOT bool_and(p.oid IS NOT NULL) AS missing,
                 bool_and((SELECT min(f.amopfamily) FROM pg_amop f
                            WHERE f.amopopr = p.oid AND f.amopmethod = am.oid) = o.opcfamily) IS TRUE AS leads,
                 NOT bool_or(EXISTS (SELECT FROM pg_amop f WHERE f.amopopr = p.oid AND f.amopmethod = am.oid
                                                             AND f.amopstrategy <> s)) AS unambiguous,
                 bool_or(given.typtype = 'p' AND EXISTS (
                     SELECT FROM pg_operator x
                      WHERE x.oprname = p.oprname AND x.oprnamespace = p.oprnamespace AND x.oid <> p.oid
                        AND x.oprleft IN (a.atttypid, base.oid) AND x.oprright IN (a.atttypid, base.oid))) AS hidden
            FROM generate_series(1, 5) AS s
            LEFT JOIN pg_amop m ON m.amopfamily = o.opcfamily AND m.amopstrategy = s AND m.amoppurpose = 's'
                               AND m.amoplefttype = o.opcintype AND m.amoprighttype = o.opcintype
            LEFT JOIN pg_operator p ON p.oid = m.amopopr
            LEFT JOIN pg_namespace pn ON pn.oid = p.oprnamespace) AS op
      CROSS JOIN LATERAL (
          WITH RECURSIVE part(oid) AS (
              SELECT t.oid
              UNION
              SELECT next.oid FROM part JOIN pg_type h ON h.oid = part.oid, LATERAL (
                  SELECT h.typelem WHERE h.typelem <> 0
                  UNION ALL SELECT h.typbasetype WHERE h.typbasetype <> 0
                  UNION ALL SELECT m.atttypid FROM pg_attribute m
                             WHERE m.attrelid = h.typrelid AND m.attnum > 0 AND NOT m.attisdropped
                  UNION ALL SELECT r.rngsubtype FROM pg_range r WHERE h.oid IN (r.rngtypid, r.rngmultitypid)
              ) AS next(oid))
          SELECT EXISTS (SELECT FROM part JOIN pg_type r ON r.oid = part.oid
                          WHERE r.typnamespace = 'pg_catalog'::regnamespace
                            AND r.typname ~ '^reg(class|collation|config|dictionary|namespace|oper|operator|proc|procedure|role|type)$') AS by_name) AS named
     WHERE i.indrelid = $1 AND k.ord <= i.indnkeyatts
     GROUP BY c.oid, n.nspname, am.amname, i.indexrelid
     ORDER BY i.indisprimary DESC, i.indpred IS NOT NULL, count(DISTINCT k.option & 1),
              i.indexrelid";

/// The indexes of the table `table`.
pub(super) async fn indexes(
    conn: &mut PgConnection,
    table: Oid,
) -> Result<Vec<Index>, sqlx::Error> {
    let mut tx = pinned(conn).await?;
    // The query's joins stand in their best order. Looking for a better one takes PostgreSQL 27 to 60 ms,
    // at each start of a drive; the query as it stands takes 4.
    tx.execute("SET LOCAL join_collapse_limit = 1").await?;
    let indexes = sqlx::query_as(INDEXES)
        .bind(table)
        .fetch_all(&mut *tx)
        .await?;
    tx.rollback().await?;
    Ok(indexes)
}

/// The predicate of the partial index `index`, in words that mean the same to the author.
pub(super) async fn predicate(
    conn: &mut PgConnection,
    index: Oid,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT pg_catalog.pg_get_expr(i.indpred, i.indrelid) FROM pg_catalog.pg_index AS i
          WHERE i.indexrelid OPERATOR(pg_catalog.=) $1",
    )
    .bind(index)
    .fetch_one(conn)
    .await
}
