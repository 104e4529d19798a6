//! What is printed when rights are lacking, run as it is printed.

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};

use super::fixture::migration;
use super::process::{evenkeel, url};
use crate::support::server;

/// Somebody else's database and a role that may do nothing in it.
struct Elsewhere {
    admin: PgConnectOptions,
    /// As SQL.
    role: String,
    /// Reaches the database as that role.
    url: String,
    definitions: tempfile::TempDir,
}

impl Elsewhere {
    async fn new(sql: &str) -> Self {
        let admin = server::blank_database().await;
        let name = format!("Clerk-{}", uuid::Uuid::new_v4().simple());
        let elsewhere = Self {
            url: url(&admin.clone().username(&name)),
            role: format!("\"{name}\""),
            admin,
            definitions: tempfile::tempdir().unwrap(),
        };
        elsewhere
            .run(&format!("CREATE ROLE {} LOGIN; {sql}", elsewhere.role))
            .await;
        elsewhere
    }

    fn declare(&self, text: &str) {
        std::fs::write(self.definitions.path().join("m.sql"), text).unwrap();
    }

    async fn run(&self, sql: &str) {
        let mut conn = self.admin.connect().await.unwrap();
        let done = conn.execute(AssertSqlSafe(sql.to_owned())).await;
        done.unwrap_or_else(|err| panic!("{err}: {sql}"));
    }

    async fn holds(&self, condition: &str) -> bool {
        let mut conn = self.admin.connect().await.unwrap();
        let sql = AssertSqlSafe(format!("SELECT {condition}"));
        sqlx::query_scalar(sql).fetch_one(&mut conn).await.unwrap()
    }

    async fn migrate_at(&self, url: &str, arguments: &[&str]) -> (bool, String) {
        let directory = self.definitions.path().to_str().unwrap();
        let flags = ["--database-url", url, "--dir", directory];
        let mut command = evenkeel(&[&["migrate"], arguments, &flags].concat());
        let output = command.stdout(std::process::Stdio::piped()).output().await;
        let output = output.unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.success(), said)
    }

    async fn migrate(&self, arguments: &[&str]) -> (bool, String) {
        self.migrate_at(&self.url, arguments).await
    }

    /// Has the administrator make the ledger by a run of `m`, and takes that away again.
    async fn make_ledger(&self) {
        let (went, said) = self.migrate_at(&url(&self.admin), &["start", "m"]).await;
        assert!(went, "{said}");
        self.run("DELETE FROM evenkeel.events; DELETE FROM evenkeel.runs")
            .await;
    }

    /// Runs what `arguments` print once, whereupon they must succeed; what was printed.
    async fn grant_what_is_printed(&self, arguments: &[&str]) -> String {
        let (went, said) = self.migrate(arguments).await;
        assert!(!went, "{said}");
        let sql: String = said
            .lines()
            .filter(|line| line.starts_with("  ") && line.ends_with(';'))
            .collect();
        assert!(!sql.is_empty(), "{said}");
        self.run(&sql).await;
        let (went, again) = self.migrate(arguments).await;
        assert!(went, "{sql}\n{again}");
        sql
    }

    async fn complete(&self) {
        let (went, said) = self.migrate(&["run", "m", "--standalone"]).await;
        assert!(went && said.contains("completed"), "{said}");
        assert!(!said.contains("no transaction in progress"), "{said}");
    }
}

const TABLES: &str = r#"
    CREATE SCHEMA "Old Shop"; CREATE SCHEMA rates; CREATE SCHEMA tools;
    CREATE TABLE "Old Shop"."Order" ("Id" uuid DEFAULT gen_random_uuid() PRIMARY KEY,
        "Net" numeric NOT NULL, "Gross" numeric);
    INSERT INTO "Old Shop"."Order" ("Net") SELECT generate_series(1, 50);
    CREATE TABLE rates.vat (rate numeric); INSERT INTO rates.vat VALUES (1.19);
    CREATE FUNCTION tools.rounded(n numeric) RETURNS numeric LANGUAGE sql
        AS 'SELECT pg_catalog.round(n, 2)';
    REVOKE EXECUTE ON FUNCTION tools.rounded FROM PUBLIC;
"#;

fn gross() -> String {
    migration(
        "-- table: \"Old Shop\".\"Order\"\n-- alias: o\n-- pending: \"Gross\" IS NULL",
        "UPDATE \"Old Shop\".\"Order\" AS o
            SET \"Gross\" = tools.rounded(\"Net\" * (SELECT max(rate) FROM rates.vat)) WHERE :range",
    )
}

#[tokio::test]
async fn all_that_is_lacking_is_printed_at_once_and_nothing_more() {
    for first in [&["plan", "m"][..], &["start", "m"][..]] {
        let elsewhere = Elsewhere::new(TABLES).await;
        elsewhere.declare(&gross());
        let printed = elsewhere.grant_what_is_printed(first).await;
        assert_eq!(printed.matches(';').count(), 7, "{printed}");
        assert!(!printed.contains("ALL"), "{printed}");
        elsewhere.complete().await;
        let role = &elsewhere.role.trim_matches('"');
        let too_much = format!(
            r#"has_table_privilege('{role}', '"Old Shop"."Order"', 'INSERT, DELETE, TRUNCATE, UPDATE')
               OR has_table_privilege('{role}', 'rates.vat', 'INSERT, UPDATE, DELETE')
               OR has_schema_privilege('{role}', 'tools', 'CREATE')"#
        );
        assert!(!elsewhere.holds(&too_much).await, "{printed}");
    }
}

#[tokio::test]
async fn a_ledger_of_another_role_is_used_by_what_is_printed() {
    let elsewhere = Elsewhere::new(TABLES).await;
    elsewhere.declare(&gross());
    elsewhere.make_ledger().await;
    let printed = elsewhere.grant_what_is_printed(&["start", "m"]).await;
    assert!(!printed.contains("CREATE ON DATABASE"), "{printed}");
    elsewhere.complete().await;
    for command in ["pause", "status", "verify", "certificate", "quarantine"] {
        let (_, said) = elsewhere.migrate(&[command, "m"]).await;
        assert!(!said.contains("permission denied"), "{command}: {said}");
    }
    let role = &elsewhere.role.trim_matches('"');
    let too_much = format!("has_table_privilege('{role}', 'evenkeel.events', 'UPDATE, DELETE')");
    assert!(!elsewhere.holds(&too_much).await, "{printed}");
}

/// Retention is a shop's alone.
#[tokio::test]
async fn retention_deletes_from_a_ledger_of_another_role_by_what_is_printed() {
    const SHOP: &str = "CREATE TABLE idempotency_keys (); CREATE TABLE log_in_attempts (); CREATE TABLE order_lines ()";
    let elsewhere = Elsewhere::new(&format!("{TABLES}{SHOP}")).await;
    elsewhere.declare(&gross());
    elsewhere.make_ledger().await;
    elsewhere.grant_what_is_printed(&["start", "m"]).await;
    let role = elsewhere
        .admin
        .clone()
        .username(elsewhere.role.trim_matches('"'));
    let mut role = role.connect().await.unwrap();
    for table in [
        "batches",
        "certificates",
        "events",
        "proofs",
        "quarantine",
        "runs",
        "steps",
        "throttles",
    ] {
        let delete = format!(
            "DELETE FROM evenkeel.{table} WHERE ctid IN (
                 SELECT ctid FROM evenkeel.{table} LIMIT 0 FOR UPDATE SKIP LOCKED)"
        );
        let deleted = role.execute(AssertSqlSafe(delete)).await;
        deleted.unwrap_or_else(|err| panic!("{table}: {err}"));
    }
}

#[tokio::test]
async fn inserts_and_deletes_need_rights_and_sequences_of_their_own() {
    let elsewhere = Elsewhere::new(
        "CREATE TABLE t (id bigint PRIMARY KEY, n int); INSERT INTO t SELECT i, i FROM generate_series(1, 30) AS i;
         CREATE SEQUENCE number; CREATE TABLE bin (no serial, number bigint DEFAULT 0, id bigint UNIQUE)",
    )
    .await;
    elsewhere.declare(&migration(
        "-- table: t\n-- pending: NOT EXISTS (SELECT FROM bin WHERE bin.id = t.id)",
        "INSERT INTO bin (number, id) SELECT nextval('number'), t.id FROM t WHERE :range
             ON CONFLICT (id) DO UPDATE SET number = 0",
    ));
    let printed = elsewhere.grant_what_is_printed(&["start", "m"]).await;
    assert!(
        printed.contains("GRANT USAGE ON SEQUENCE public.number"),
        "{printed}"
    );
    assert!(
        printed.contains("GRANT USAGE ON SEQUENCE public.bin_no_seq"),
        "{printed}"
    );
    assert!(
        printed.contains("INSERT, SELECT, UPDATE ON TABLE public.bin"),
        "{printed}"
    );
    elsewhere.complete().await;

    elsewhere.declare(&migration(
        "-- table: t\n-- pending: n > 0",
        "DELETE FROM t WHERE :range",
    ));
    let printed = elsewhere.grant_what_is_printed(&["start", "m"]).await;
    assert!(
        printed.contains("GRANT DELETE ON TABLE public.t"),
        "{printed}"
    );
    elsewhere.complete().await;
}

#[tokio::test]
async fn hidden_rows_take_a_role_that_bypasses_policies() {
    let elsewhere = Elsewhere::new(
        "CREATE TABLE t (id bigint PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1);
         ALTER TABLE t ENABLE ROW LEVEL SECURITY",
    )
    .await;
    let count = migration(
        "-- table: t\n-- pending: n > 0",
        "UPDATE t SET n = 0 WHERE :range",
    );
    elsewhere.declare(&count);
    let printed = elsewhere.grant_what_is_printed(&["plan", "m"]).await;
    assert!(printed.contains("BYPASSRLS"), "{printed}");
    elsewhere.complete().await;
}

#[tokio::test]
async fn a_schema_step_is_for_the_owner_and_the_way_back_needs_rights_too() {
    let elsewhere = Elsewhere::new(
        "CREATE ROLE keeper_of_t; CREATE TABLE t (id bigint PRIMARY KEY, n int); \
                        INSERT INTO t VALUES (1, 1); ALTER TABLE t OWNER TO keeper_of_t",
    );
    let elsewhere = elsewhere.await;
    elsewhere.declare(
        "-- title: T\n-- owner: o\n-- table: t\n-- pending: m IS NULL\n\n-- step: expand\n\
         ALTER TABLE t ADD COLUMN m int;\n\n-- step: backfill\nUPDATE t SET m = n WHERE :range;\n\n\
         -- step: contract\nCREATE INDEX CONCURRENTLY t_m ON t (m);\n",
    );
    let (went, said) = elsewhere.migrate(&["start", "m"]).await;
    assert!(
        !went && said.contains("for the owner of public.t alone"),
        "{said}"
    );
    assert!(said.contains("as keeper_of_t"), "{said}");
    let role = &elsewhere.role;
    elsewhere
        .run(&format!(
            "ALTER TABLE t OWNER TO {role}; DROP ROLE keeper_of_t"
        ))
        .await;
    elsewhere.grant_what_is_printed(&["start", "m"]).await;
    elsewhere.complete().await;

    elsewhere
        .run(&format!(
            "ALTER TABLE t OWNER TO {}",
            elsewhere.admin.get_username()
        ))
        .await;
    let text = migration(
        "-- table: t\n-- pending: n > 0",
        "UPDATE t SET n = 0 WHERE :range",
    );
    elsewhere.declare(&format!(
        "{text}\n-- down\nUPDATE t SET n = 1 WHERE :range\n"
    ));
    let printed = elsewhere.grant_what_is_printed(&["start", "m"]).await;
    assert!(printed.contains("UPDATE (n)"), "{printed}");
    elsewhere.complete().await;
    elsewhere
        .run(&format!("REVOKE UPDATE (n) ON t FROM {role}"))
        .await;
    elsewhere.grant_what_is_printed(&["undo", "m"]).await;
    elsewhere.complete().await;
}

#[tokio::test]
async fn what_a_function_reads_is_named_by_the_server() {
    let elsewhere = Elsewhere::new(
        "CREATE TABLE t (id bigint PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1);
         CREATE TABLE secret (n int);
         CREATE FUNCTION low(int) RETURNS int LANGUAGE plpgsql
             AS 'BEGIN RETURN (SELECT count(*) FROM secret) - $1; END'",
    )
    .await;
    elsewhere.declare(&migration(
        "-- table: t\n-- pending: n > 0",
        "UPDATE t SET n = low(n) WHERE :range",
    ));
    let database = elsewhere.admin.get_database().unwrap();
    let role = &elsewhere.role;
    elsewhere
        .run(&format!(
            "GRANT CREATE ON DATABASE {database} TO {role}; GRANT SELECT, UPDATE ON t TO {role}"
        ))
        .await;
    let printed = elsewhere.grant_what_is_printed(&["plan", "m"]).await;
    assert!(
        printed.contains("GRANT SELECT ON TABLE public.secret"),
        "{printed}"
    );
}
