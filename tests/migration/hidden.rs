//! A search path that hides PostgreSQL's own operators, functions or types is refused by name before
//! anything is read or written; one that hides nothing is none of our business.

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use tempfile::TempDir;

use super::fixture::UPDATE;
use super::process::{evenkeel, url};
use crate::support::server;

/// Somebody else's database with a table to migrate.
struct Theirs {
    database: PgConnectOptions,
    definitions: TempDir,
}

impl Theirs {
    async fn with(objects: &str, search_path: &str) -> Self {
        let database = server::empty_database().await;
        let definitions = TempDir::new().unwrap();
        let text = format!(
            "-- title: t\n-- owner: test\n-- table: public.t\n-- pending: NOT done\n\n{}",
            UPDATE.replace(" t ", " public.t ")
        );
        std::fs::write(definitions.path().join("m.sql"), text).unwrap();
        let mut sql = database.connect().await.unwrap();
        let name = database.get_database().unwrap();
        let made = format!(
            "CREATE SCHEMA evil; {objects};
             CREATE TABLE public.t (id bigint PRIMARY KEY, done boolean NOT NULL DEFAULT false,
                                    n int NOT NULL DEFAULT 0);
             INSERT INTO public.t (id) SELECT generate_series(1, 30);
             ALTER DATABASE {name} SET search_path = {search_path}"
        );
        sql.execute(AssertSqlSafe(made)).await.unwrap();
        Self {
            database,
            definitions,
        }
    }

    /// Whether `evenkeel migrate COMMAND` ended well, and what it said.
    async fn migrate(&self, command: &[&str]) -> (bool, String) {
        let (url, directory) = (url(&self.database), self.definitions.path());
        let directory = directory.to_str().unwrap();
        let mut arguments = vec!["migrate"];
        arguments.extend(command);
        arguments.extend(["--database-url", &url, "--dir", directory]);
        let mut process = evenkeel(&arguments);
        let output = process.output().await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.success(), said)
    }

    async fn changed(&self) -> i64 {
        // In a session without the path.
        let database = self.database.clone().options([("search_path", "public")]);
        sqlx::query_scalar("SELECT count(*) FROM public.t WHERE done")
            .fetch_one(&mut database.connect().await.unwrap())
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn what_hides_postgresqls_own_is_refused_by_name_by_every_command() {
    for (objects, named) in [
        (
            "CREATE FUNCTION evil.no(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT false';
             CREATE OPERATOR evil.= (FUNCTION = evil.no, LEFTARG = text, RIGHTARG = text)",
            "operator =(text,text) in schema evil",
        ),
        (
            "CREATE FUNCTION evil.no(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT true';
             CREATE OPERATOR evil.> (FUNCTION = evil.no, LEFTARG = bigint, RIGHTARG = bigint)",
            "operator >(bigint,bigint) in schema evil",
        ),
        (
            "CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT NULL::timestamptz'",
            "function now() in schema evil",
        ),
        (
            "CREATE DOMAIN evil.timestamptz AS pg_catalog.timestamptz",
            "type timestamptz in schema evil",
        ),
    ] {
        let theirs = Theirs::with(objects, "evil, pg_catalog, public").await;
        for command in [
            &["list"][..],
            &["plan", "m"],
            &["start", "m"],
            &["run", "m", "--standalone"],
            &["status", "m"],
            &["verify", "m"],
        ] {
            let (went_well, said) = theirs.migrate(command).await;
            assert!(!went_well, "{command:?}");
            assert!(said.contains(named), "{command:?}: {said}");
            assert!(said.contains("Put pg_catalog first"), "{said}");
        }
        let mut serve = evenkeel(&["serve", "--listen", "127.0.0.1:0"]);
        let serve = serve.env("DATABASE_URL", url(&theirs.database));
        let output = serve.output().await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(named), "{said}");
        assert_eq!(theirs.changed().await, 0);
    }
}

#[tokio::test]
async fn a_search_path_that_hides_nothing_is_taken_as_it_is() {
    // An overload for a type of its own, as extensions have it, and a schema behind PostgreSQL's.
    let overload = "CREATE TYPE evil.colour AS ENUM ('red');
         CREATE FUNCTION evil.lower(evil.colour) RETURNS text LANGUAGE sql AS 'SELECT ''r''';
         CREATE FUNCTION evil.same(evil.colour, evil.colour) RETURNS boolean LANGUAGE sql
             AS 'SELECT true';
         CREATE OPERATOR evil.= (FUNCTION = evil.same, LEFTARG = evil.colour, RIGHTARG = evil.colour)";
    let hiding = "CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql
         AS 'SELECT NULL::timestamptz'";
    for (objects, search_path) in [
        (overload, "evil, pg_catalog, public"),
        (hiding, "pg_catalog, evil, public"),
        (hiding, "evil, public"),
        (hiding, "''"),
    ] {
        let theirs = Theirs::with(objects, search_path).await;
        let (went_well, said) = theirs.migrate(&["run", "m", "--standalone"]).await;
        assert!(went_well, "{search_path}: {said}");
        assert_eq!(theirs.changed().await, 30, "{search_path}");
    }
}
