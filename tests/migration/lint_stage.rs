//! A database to try statements on, and what the table of the lint says of its relations.

use std::collections::BTreeMap;

use evenkeel::migration::lint::effects::{Effect, Touched};
use evenkeel::migration::lint::table::{Lock, On, Work};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Row};

/// The setup and the statements.
pub const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/migration/lint");

/// A relation of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    pub name: String,
    pub kind: String,
    pub file: i64,
    pub scans: i64,
}

pub type Oid = i64;

/// What happened to a relation, or what the table says will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deed {
    pub lock: Lock,
    pub scanned: bool,
    pub rewritten: bool,
}

pub struct Stage {
    pub sql: PgConnection,
    pub other: PgConnection,
}

impl Stage {
    pub async fn new(database: &PgConnectOptions) -> Self {
        let mut sql = database.connect().await.unwrap();
        let setup = std::fs::read_to_string(format!("{FILES}/setup.sql")).unwrap();
        sql.execute(AssertSqlSafe(setup)).await.unwrap();
        let other = database.connect().await.unwrap();
        Self { sql, other }
    }

    pub async fn relations(&mut self, statistics: &str) -> BTreeMap<Oid, Relation> {
        let sql = format!(
            "SELECT c.oid::int8, n.nspname || '.' || c.relname, c.relkind::text, \
                    coalesce(pg_relation_filenode(c.oid), 0)::int8, coalesce(s.seq_scan, 0)::int8 \
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               LEFT JOIN {statistics} s ON s.relid = c.oid \
              WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'"
        );
        let rows = self.sql.fetch_all(AssertSqlSafe(sql)).await.unwrap();
        let each = rows.into_iter().map(|row| {
            let relation = Relation {
                name: row.get(1),
                kind: row.get(2),
                file: row.get(3),
                scans: row.get(4),
            };
            (row.get(0), relation)
        });
        each.collect()
    }

    pub async fn locks(&mut self) -> BTreeMap<Oid, Lock> {
        let sql = "SELECT relation::int8, mode FROM pg_locks WHERE locktype = 'relation' AND \
                   database <> 0 AND pid = pg_backend_pid() AND granted";
        let mut locks = BTreeMap::new();
        for row in self.sql.fetch_all(sql).await.unwrap() {
            let lock = mode(row.get(1));
            let held = locks.entry(row.get(0)).or_insert(lock);
            *held = lock.max(*held);
        }
        locks
    }

    /// The relations of `touched`, as the catalogue knows them.
    async fn expand(&mut self, touched: &Touched, effect: &Effect, only: bool) -> Vec<Oid> {
        let named = match &touched.name {
            Some(name) => Some(name.to_string()),
            None => effect
                .touched
                .iter()
                .find_map(|t| Some(t.name.as_ref()?.to_string())),
        };
        let named = named.or_else(|| subject(effect));
        let Some(named) = named else {
            return Vec::new();
        };
        let named = named.replace('\'', "''");
        let query = members(touched.touch.on, &named, only);
        let Ok(rows) = self.sql.fetch_all(AssertSqlSafe(query)).await else {
            panic!("{named}: {touched:?}");
        };
        rows.into_iter()
            .filter_map(|row| row.get::<Option<Oid>, _>(0))
            .collect()
    }
}

/// The name of the type or index that an effect is about, where no relation is named.
fn subject(effect: &Effect) -> Option<String> {
    let touched = effect.touched.first()?;
    let mut quoted = touched.shown.split('`');
    quoted.nth(1).map(str::to_owned)
}

fn members(on: On, named: &str, only: bool) -> String {
    let family = format!(
        "WITH RECURSIVE f(oid) AS (SELECT to_regclass('{named}')::oid UNION \
         SELECT i.inhrelid FROM pg_inherits i JOIN f ON i.inhparent = f.oid)"
    );
    match on {
        On::Family if !only => format!("{family} SELECT oid::int8 FROM f"),
        On::Table => format!(
            "SELECT coalesce((SELECT indrelid FROM pg_index WHERE indexrelid = to_regclass('{named}')), \
             (SELECT stxrelid FROM pg_statistic_ext WHERE stxname = '{named}'), to_regclass('{named}'))::int8"
        ),
        On::Sequences => format!(
            "{family} SELECT objid::int8 FROM pg_depend JOIN f ON refobjid = f.oid JOIN pg_class c ON c.oid = objid \
             WHERE c.relkind = 'S'"
        ),
        On::Related => format!(
            "{family} SELECT confrelid::int8 FROM pg_constraint JOIN f ON conrelid = f.oid WHERE contype = 'f' \
             UNION SELECT conrelid::int8 FROM pg_constraint JOIN f ON confrelid = f.oid WHERE contype = 'f' \
             UNION SELECT inhparent::int8 FROM pg_inherits WHERE inhrelid = to_regclass('{named}') \
             UNION SELECT partdefid::int8 FROM pg_inherits JOIN pg_partitioned_table ON partrelid = inhparent \
             WHERE inhrelid = to_regclass('{named}')"
        ),
        On::DefaultPartition => format!(
            "SELECT partdefid::int8 FROM pg_partitioned_table WHERE partrelid = to_regclass('{named}') \
             AND partdefid <> 0"
        ),
        On::Users => format!(
            "SELECT c.oid::int8 FROM pg_class c JOIN pg_type t ON t.oid = to_regtype('{named}') \
             WHERE c.relkind IN ('r', 'p') AND (c.reloftype = t.oid OR t.typtype = 'd' AND EXISTS \
             (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.atttypid = t.oid))"
        ),
        On::Dependents | On::Everything => "SELECT NULL::int8".to_owned(),
        _ => format!("SELECT to_regclass('{named}')::int8"),
    }
}

pub fn mode(name: &str) -> Lock {
    match name {
        "AccessShareLock" => Lock::AccessShare,
        "RowShareLock" => Lock::RowShare,
        "RowExclusiveLock" => Lock::RowExclusive,
        "ShareUpdateExclusiveLock" => Lock::ShareUpdateExclusive,
        "ShareLock" => Lock::Share,
        "ShareRowExclusiveLock" => Lock::ShareRowExclusive,
        "ExclusiveLock" => Lock::Exclusive,
        "AccessExclusiveLock" => Lock::AccessExclusive,
        other => panic!("{other}"),
    }
}

/// What the table says of a relation.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    pub lock: Lock,
    pub work: Work,
    /// Whether it may be less: what depends on data or on other objects.
    pub at_most: bool,
}

impl Stage {
    pub async fn said(&mut self, effects: &[Effect], only: bool) -> (BTreeMap<Oid, Said>, bool) {
        let mut said: BTreeMap<Oid, Said> = BTreeMap::new();
        let mut anything = false;
        for effect in effects {
            anything |= effect.cascades;
            for touched in &effect.touched {
                let on = touched.touch.on;
                anything |= matches!(on, On::Dependents | On::Everything);
                for oid in self.expand(touched, effect, only).await {
                    let new = Said {
                        lock: touched.touch.lock,
                        work: touched.touch.work,
                        at_most: matches!(on, On::Related | On::Sequences | On::Type),
                    };
                    let old = said.entry(oid).or_insert(new);
                    if (new.lock, new.work) > (old.lock, old.work) {
                        old.at_most &= new.at_most;
                        old.lock = old.lock.max(new.lock);
                    } else if !new.at_most {
                        old.at_most = false;
                    }
                    old.work = old.work.max(new.work);
                }
            }
        }
        (said, anything)
    }
}
