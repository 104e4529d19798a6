//! Databases that Evenkeel did not create: odd names, a role of little power, and no shop.

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};

use super::fixture::migration;
use super::process::{evenkeel, url};
use crate::support::server;

/// Somebody else's database, reached as a role that owns its tables and nothing more.
struct Foreign {
    admin: PgConnectOptions,
    role: String,
    definitions: tempfile::TempDir,
    /// Whether the pace heeds the signals.
    adaptive: bool,
}

impl Foreign {
    async fn new() -> Self {
        let admin = server::blank_database().await;
        let role = format!("clerk_{}", uuid::Uuid::new_v4().simple());
        let foreign = Self {
            admin,
            role,
            definitions: tempfile::tempdir().unwrap(),
            adaptive: false,
        };
        foreign
            .run(&format!(
                r#"CREATE ROLE {role} LOGIN;
                   CREATE SCHEMA "Old Shop" AUTHORIZATION {role};
                   SET ROLE {role};
                   CREATE TABLE "Old Shop"."Order" ("Id" uuid DEFAULT gen_random_uuid() PRIMARY KEY,
                       "Net" numeric NOT NULL, "Gross" numeric);
                   INSERT INTO "Old Shop"."Order" ("Net") SELECT generate_series(1, 500)"#,
                role = foreign.role
            ))
            .await;
        let text = migration(
            "-- table: \"Old Shop\".\"Order\"\n-- alias: o\n-- pending: \"Gross\" IS NULL",
            "UPDATE \"Old Shop\".\"Order\" AS o SET \"Gross\" = \"Net\" * 1.19 WHERE :range",
        );
        std::fs::write(foreign.definitions.path().join("gross.sql"), text).unwrap();
        foreign
    }

    async fn run(&self, sql: &str) {
        let mut conn = self.admin.connect().await.unwrap();
        let done = conn.execute(AssertSqlSafe(sql.to_owned())).await;
        done.unwrap_or_else(|err| panic!("{err}: {sql}"));
    }

    async fn count(&self, sql: &str) -> i64 {
        let mut conn = self.admin.connect().await.unwrap();
        let counted = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()));
        counted.fetch_one(&mut conn).await.unwrap()
    }

    /// What `evenkeel migrate` says to `arguments`, and whether it succeeded.
    async fn migrate_as(&self, role: &str, arguments: &[&str]) -> (bool, String) {
        let url = url(&self.admin.clone().username(role));
        let directory = self.definitions.path().to_str().unwrap();
        let elsewhere = ["--database-url", &url, "--dir", directory];
        let arguments = [&["migrate"], arguments, &elsewhere].concat();
        let mut command = evenkeel(&arguments);
        if self.adaptive {
            command
                .env("EVENKEEL_PACE__ADAPTIVE", "true")
                .env("EVENKEEL_MIGRATION__BATCH_FIRST", "500")
                .env("EVENKEEL_MIGRATION__BATCH_MAX", "500");
        }
        let output = command
            .stdout(std::process::Stdio::piped())
            .output()
            .await
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        (output.status.success(), said)
    }

    async fn migrate(&self, arguments: &[&str]) -> String {
        let (succeeded, said) = self.migrate_as(&self.role, arguments).await;
        assert!(succeeded, "{arguments:?}: {said}");
        said
    }

    async fn grant_create(&self) {
        let database = self.admin.get_database().unwrap();
        let grant = format!("GRANT CREATE ON DATABASE {database} TO {}", self.role);
        self.run(&grant).await;
    }
}

#[tokio::test]
async fn a_database_without_a_shop_is_migrated_from_the_first_command_to_the_last() {
    let foreign = Foreign::new().await;
    foreign.grant_create().await;
    foreign.migrate(&["new", "started_from"]).await;
    assert!(foreign.migrate(&["list"]).await.contains("gross"));
    let plan = foreign.migrate(&["plan", "gross"]).await;
    assert!(plan.contains(r#""Id" uuid"#), "{plan}");
    foreign.migrate(&["start", "gross"]).await;
    foreign.migrate(&["pause", "gross"]).await;
    let (went, said) = foreign
        .migrate_as(&foreign.role, &["run", "gross", "--standalone"])
        .await;
    assert!(!went && said.contains("paused"), "{said}");
    foreign.migrate(&["resume", "gross"]).await;
    let run = foreign.migrate(&["run", "gross", "--standalone"]).await;
    assert!(run.contains("going on with run 1 of gross"), "{run}");
    assert!(run.contains("500 rows changed"), "{run}");
    let status = foreign.migrate(&["status", "gross"]).await;
    assert!(status.contains("completed"), "{status}");
    let verified = foreign.migrate(&["verify", "gross"]).await;
    assert!(verified.contains("500 rows, none pending"), "{verified}");
    assert!(
        verified.contains("second proof: none pending, 500 rows in 1 table"),
        "{verified}"
    );
    // Again: nothing is left to do, and only who insists gets a run.
    for again in [
        &["start", "gross"][..],
        &["run", "gross", "--standalone"][..],
    ] {
        let (went, said) = foreign.migrate_as(&foreign.role, again).await;
        let complete = "`gross` is complete: run 1 of it was certified at ";
        assert!(!went && said.contains(complete), "{said}");
        assert!(said.contains("start gross --again --dir "), "{said}");
    }
    let run = foreign
        .migrate(&["run", "gross", "--standalone", "--again"])
        .await;
    assert!(run.contains("0 rows changed"), "{run}");

    let right = r#"SELECT count(*) FROM "Old Shop"."Order" WHERE "Gross" = "Net" * 1.19"#;
    assert_eq!(foreign.count(right).await, 500);
    let elsewhere = r#"SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE relkind IN ('r', 'p', 'v') AND nspname NOT IN ('evenkeel', 'pg_catalog', 'information_schema')
           AND nspname NOT LIKE 'pg_toast%'"#;
    assert_eq!(foreign.count(elsewhere).await, 1, "only the table itself");
    let shop = "SELECT count(*) FROM evenkeel.schema_steps WHERE description NOT LIKE 'engine%'";
    assert_eq!(foreign.count(shop).await, 0);
}

#[tokio::test]
async fn a_change_of_several_steps_needs_no_shop_either() {
    let mut foreign = Foreign::new().await;
    foreign.adaptive = true;
    foreign.grant_create().await;
    // A role of little power cannot see everybody's transactions, and a statement waits for what it
    // cannot know, but not for ever.
    let _other = foreign.admin.connect().await.unwrap();
    let change = "-- title: T\n-- owner: o\n-- table: \"Old Shop\".\"Order\"\n-- pending: \"Vat\" IS NULL\n\n\
        -- step: expand\nALTER TABLE \"Old Shop\".\"Order\" ADD COLUMN \"Vat\" numeric;\n\n\
        -- step: backfill\nUPDATE \"Old Shop\".\"Order\" SET \"Vat\" = \"Net\" * 0.19 WHERE :range;\n\n\
        -- step: contract\n\
        CREATE INDEX CONCURRENTLY order_vat ON \"Old Shop\".\"Order\" (\"Vat\");\n";
    let index_only = "-- title: T\n-- owner: o\n\n-- step: contract\n\
        CREATE INDEX CONCURRENTLY order_net ON \"Old Shop\".\"Order\" (\"Net\");\n";
    for (name, text) in [("vat", change), ("net", index_only)] {
        let path = foreign.definitions.path().join(format!("{name}.sql"));
        std::fs::write(&path, text).unwrap();
        foreign.migrate(&["lint", path.to_str().unwrap()]).await;
        foreign.migrate(&["plan", name]).await;
        let run = foreign.migrate(&["run", name, "--standalone"]).await;
        assert!(run.contains("completed"), "{run}");
    }
    let indexes = "SELECT count(*) FROM pg_index WHERE indisvalid
                     AND indexrelid::regclass::text IN ('\"Old Shop\".order_vat', '\"Old Shop\".order_net')";
    assert_eq!(foreign.count(indexes).await, 2);
    let right = r#"SELECT count(*) FROM "Old Shop"."Order" WHERE "Vat" = "Net" * 0.19"#;
    assert_eq!(foreign.count(right).await, 500);
    foreign
        .migrate(&[
            "throttle", "vat", "--for", "1m", "--duty", "0", "--why", "t",
        ])
        .await;
    let said = foreign.migrate(&["throttle", "--list"]).await;
    assert!(said.contains("vat works 0 %"), "{said}");
}

#[tokio::test]
async fn proof_repair_and_the_way_back_need_no_shop_either() {
    let foreign = Foreign::new().await;
    foreign.grant_create().await;
    let path = foreign.definitions.path().join("gross.sql");
    let text = std::fs::read_to_string(&path).unwrap();
    let back = r#"UPDATE "Old Shop"."Order" AS o SET "Gross" = NULL WHERE :range"#;
    std::fs::write(&path, format!("{text}\n-- down\n{back}\n")).unwrap();
    let constraint = r#"ALTER TABLE "Old Shop"."Order" ADD CONSTRAINT cheap CHECK ("Gross" < 590)"#;
    foreign.run(constraint).await;
    let (went, said) = foreign
        .migrate_as(&foreign.role, &["run", "gross", "--standalone"])
        .await;
    assert!(!went && said.contains("migrate retry gross"), "{said}");
    let open = foreign.migrate(&["quarantine", "gross"]).await;
    assert!(open.contains("cheap"), "{open}");
    foreign
        .run(r#"ALTER TABLE "Old Shop"."Order" DROP CONSTRAINT cheap"#)
        .await;
    foreign.migrate(&["retry", "gross"]).await;
    let done = foreign.migrate(&["run", "gross", "--standalone"]).await;
    assert!(done.contains("completed"), "{done}");
    let certificate = foreign.migrate(&["certificate", "gross"]).await;
    assert!(
        certificate.contains("sweep     500 rows") && certificate.contains("set aside"),
        "{certificate}"
    );
    let replica = url(&foreign.admin.clone().username(&foreign.role));
    let same = foreign
        .migrate(&["verify", "gross", "--replica", &replica])
        .await;
    assert!(same.contains("ranges are as certified"), "{same}");
    // Behind the last sweep: no run of ours hears of it, the next verify does.
    foreign
        .run(r#"INSERT INTO "Old Shop"."Order" ("Net") VALUES (7)"#)
        .await;
    let (went, said) = foreign
        .migrate_as(&foreign.role, &["verify", "gross"])
        .await;
    assert!(!went && said.contains("1 rows are still pending"), "{said}");
}

/// Both outcomes of a command are looked at.
async fn says(foreign: &Foreign, arguments: &[&str], succeeds: bool, words: &[&str]) {
    let (went, said) = foreign.migrate_as(&foreign.role, arguments).await;
    assert_eq!(went, succeeds, "{arguments:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{arguments:?} lacks {word}: {said}");
    }
}

#[tokio::test]
async fn after_an_undo_everything_says_that_the_change_is_taken_back() {
    let foreign = Foreign::new().await;
    foreign.grant_create().await;
    let path = foreign.definitions.path().join("gross.sql");
    let text = std::fs::read_to_string(&path).unwrap();
    let back = r#"UPDATE "Old Shop"."Order" AS o SET "Gross" = NULL WHERE :range"#;
    std::fs::write(&path, format!("{text}\n-- down\n{back}\n")).unwrap();
    foreign.migrate(&["run", "gross", "--standalone"]).await;
    let made = ["run 1 of gross made the change", "second    none pending"];
    says(&foreign, &["certificate", "gross"], true, &made).await;

    foreign.migrate(&["undo", "gross"]).await;
    says(&foreign, &["list"], true, &["undo queued"]).await;
    let newer = [
        "run 1 made the change",
        "run 2 of gross, the way back is newer, and queued",
    ];
    says(&foreign, &["verify", "gross"], true, &newer).await;
    let undone = foreign.migrate(&["run", "gross", "--standalone"]).await;
    assert!(undone.contains("500 rows changed"), "{undone}");
    let left = r#"SELECT count(*) FROM "Old Shop"."Order" WHERE "Gross" IS NOT NULL"#;
    assert_eq!(foreign.count(left).await, 0);
    assert!(undone.contains("second proof: none pending"), "{undone}");
    let taken = "run 2 of gross, the way back: completed, the change is taken back";
    says(&foreign, &["list"], true, &["gross", "taken back"]).await;
    says(
        &foreign,
        &["status"],
        true,
        &[taken, "run 1 of gross: completed"],
    )
    .await;
    says(
        &foreign,
        &["status", "gross"],
        true,
        &[taken, "second proof: none pending"],
    )
    .await;
    let certificate = [
        "run 2 of gross took the change back",
        "none with (\"Gross\" IS NULL) IS NOT TRUE",
    ];
    says(&foreign, &["certificate", "gross"], true, &certificate).await;
    let verified = [
        "gross: run 2 took the change back: 500 rows, none of them still has it",
        "(\"Gross\" IS NULL) IS NOT TRUE",
        "second proof: none pending, 500 rows",
    ];
    says(&foreign, &["verify", "gross"], true, &verified).await;
    // What was found since is kept beside the certificate.
    says(
        &foreign,
        &["certificate", "gross"],
        true,
        &["later", "by key 500 rows, 0 pending"],
    )
    .await;
    foreign
        .run(r#"INSERT INTO "Old Shop"."Order" ("Net", "Gross") VALUES (7, 8)"#)
        .await;
    let still = [
        "501 rows, 1 of them still have it",
        "1 rows still have the change",
    ];
    says(&foreign, &["verify", "gross"], false, &still).await;
    says(
        &foreign,
        &["certificate", "gross"],
        true,
        &["by key 501 rows, 1 pending"],
    )
    .await;

    // And there again.
    let again = foreign.migrate(&["run", "gross", "--standalone"]).await;
    assert!(again.contains("500 rows changed"), "{again}");
    says(&foreign, &["list"], true, &["completed"]).await;
    let made = ["gross: 501 rows, none pending", " made the change"];
    says(&foreign, &["verify", "gross"], true, &made).await;
}

#[tokio::test]
async fn a_role_without_the_rights_is_told_what_to_grant() {
    let foreign = Foreign::new().await;
    // Whoever only looks needs no ledger.
    foreign.migrate(&["list"]).await;
    let start = ["start", "gross"];
    let (went, said) = foreign.migrate_as(&foreign.role, &start).await;
    let database = foreign.admin.get_database().unwrap();
    let grant = format!("GRANT CREATE ON DATABASE {database} TO {}", foreign.role);
    assert!(!went && said.contains(&grant), "{said}");
    foreign.grant_create().await;
    foreign.migrate(&start).await;
    // The ledger is there now: the right to create one is needed no longer.
    let revoke = format!("REVOKE CREATE ON DATABASE {database} FROM {}", foreign.role);
    foreign.run(&revoke).await;
    foreign.migrate(&["list"]).await;
    // Another role may be let in.
    let other = format!("other_{}", foreign.role);
    foreign.run(&format!("CREATE ROLE {other} LOGIN")).await;
    let (went, said) = foreign.migrate_as(&other, &["list"]).await;
    let grant = format!("GRANT USAGE ON SCHEMA evenkeel TO {other};");
    assert!(!went && said.contains(&grant), "{said}");
    let grants = said.lines().filter(|line| line.starts_with("  GRANT "));
    foreign.run(&grants.collect::<String>()).await;
    let (went, said) = foreign.migrate_as(&other, &["list"]).await;
    assert!(went, "{said}");
}

#[tokio::test]
async fn rows_that_row_level_security_hides_are_not_overlooked() {
    let foreign = Foreign::new().await;
    foreign.grant_create().await;
    foreign
        .run(
            r#"ALTER TABLE "Old Shop"."Order" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"#,
        )
        .await;
    let (went, said) = foreign.migrate_as(&foreign.role, &["start", "gross"]).await;
    assert!(!went && said.contains("row-level security"), "{said}");
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_no_reason_to_take_the_shops_definitions() {
    let foreign = Foreign::new().await;
    foreign.grant_create().await;
    let url = url(&foreign.admin.clone().username(&foreign.role));
    let arguments = [
        "migrate",
        "list",
        "--database-url",
        &url,
        "--dir",
        "/nowhere",
    ];
    let output = evenkeel(&arguments).output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && said.contains("no directory /nowhere"),
        "{said}"
    );
}
