//! What docs/backup.md tells to do, done with the commands that stand there.

use std::path::Path;
use std::process::{Command, Stdio};

use embedded_postgres::client_program;
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;

use super::{count, directory, embedded_shop, execute, said, stop};
use crate::migration::process::{evenkeel, evenkeel_on, url};
use crate::support::server;

/// The client programs, where they are installed.
fn installed() -> bool {
    let all = ["psql", "pg_dump", "pg_restore", "pg_basebackup"];
    let installed = all.iter().all(|name| client_program(name, None).is_some());
    let required = std::env::var_os("REQUIRE_PSQL").is_some_and(|wanted| wanted == "1");
    assert!(installed || !required, "{all:?} are not all installed");
    installed
}

/// Types `command` into a shell in which PostgreSQL's programs and `evenkeel` are found.
fn shell(command: &str, variables: &[(&str, &Path)]) -> String {
    let programs = client_program("pg_basebackup", None).unwrap();
    let ours = Path::new(env!("CARGO_BIN_EXE_evenkeel")).parent().unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let path = [programs.parent().unwrap().to_owned(), ours.to_owned()]
        .into_iter()
        .chain(std::env::split_paths(&path));
    let mut shell = Command::new("sh");
    shell
        .args(["-euc", command])
        .env("PATH", std::env::join_paths(path).unwrap())
        .env_remove("DATABASE_URL")
        .env("EVENKEEL_DATABASE__SAMPLE_SHOP", "false")
        .stdin(Stdio::null());
    for (name, value) in variables {
        shell.env(name, value);
    }
    let output = shell.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    assert!(output.status.success(), "{command}: {text}");
    text
}

async fn with_products(database: &PgConnectOptions) {
    let products = "INSERT INTO products (handle, title) VALUES ('a', 'A'), ('b', 'B')";
    execute(database, products).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_is_restored_into_another_embedded_server_and_into_ones_own() {
    if !installed() {
        return;
    }
    let dir = directory();
    let path = |name: &str| dir.path().join(name);
    let (old, new, dump) = (path("old"), path("new"), path("shop.dump"));
    let (shop, database) = embedded_shop(old.to_str().unwrap(), &[]).await;
    with_products(&database).await;
    shell(
        r#"pg_dump --format=custom --file="$DUMP" "$(cat "$OLD/url")""#,
        &[("OLD", &old), ("DUMP", &dump)],
    );
    stop(shop).await;
    // Into a new data directory, as before an upgrade of PostgreSQL.
    shell(
        r#"pg_restore --no-owner --file="$SCRIPT" "$DUMP" &&
           evenkeel psql --create --data-dir "$NEW" -- -X -q -1 -v ON_ERROR_STOP=1 -f "$SCRIPT""#,
        &[
            ("NEW", &new),
            ("DUMP", &dump),
            ("SCRIPT", &path("shop.sql")),
        ],
    );
    let (shop, restored) = embedded_shop(new.to_str().unwrap(), &[]).await;
    assert_eq!(count(&restored, "products").await, 2);
    stop(shop).await;
    // Into a server of one's own.
    let own = server::blank_database().await;
    let address = url(&own);
    shell(
        r#"pg_restore --no-owner --exit-on-error --dbname="$ADDRESS" "$DUMP""#,
        &[("ADDRESS", Path::new(&address)), ("DUMP", &dump)],
    );
    assert_eq!(count(&own, "products").await, 2);
    let (code, list) = said(evenkeel_on(&own, &["migrate", "list"])).await;
    assert!(code == Some(0) && list.contains("orders_total"), "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_backup_starts_in_place_of_the_data() {
    if !installed() {
        return;
    }
    let dir = directory();
    let path = |name: &str| dir.path().join(name);
    let (data, copy) = (path("data"), path("copy"));
    let (shop, database) = embedded_shop(data.to_str().unwrap(), &[]).await;
    with_products(&database).await;
    shell(
        r#"pg_basebackup --pgdata="$COPY" --checkpoint=fast --dbname="$(cat "$DATA/url")""#,
        &[("DATA", &data), ("COPY", &copy)],
    );
    execute(&database, "DELETE FROM products").await;
    stop(shop).await;
    shell(
        r#"mv "$DATA/pgdata" "$DATA/pgdata.before"
           cp -a "$COPY" "$DATA/pgdata"
           chown -R --reference="$DATA/pgdata.before" "$DATA/pgdata""#,
        &[("DATA", &data), ("COPY", &copy)],
    );
    let (shop, restored) = embedded_shop(data.to_str().unwrap(), &[]).await;
    assert_eq!(count(&restored, "products").await, 2);
    stop(shop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_uses_the_server_that_runs_or_starts_it_and_hands_on_arguments_and_status() {
    if !installed() {
        return;
    }
    let dir = directory();
    let data = dir.path().join("data");
    let data = data.to_str().unwrap();
    let ask = |sql: &'static str| {
        let words = ["psql", "--data-dir", data, "--", "-XAtc", sql];
        said(evenkeel(&words))
    };
    let (code, told) = ask("SELECT 1").await;
    assert!(
        code == Some(1) && told.contains("there is no shop in"),
        "{told}"
    );

    let (shop, database) = embedded_shop(data, &[]).await;
    let mut conn = database.connect().await.unwrap();
    let begun = "SELECT pg_postmaster_start_time()::text";
    let begun: String = sqlx::query_scalar(begun)
        .fetch_one(&mut conn)
        .await
        .unwrap();
    let (code, told) = ask("SELECT pg_postmaster_start_time(), count(*) FROM orders").await;
    assert_eq!((code, told.trim()), (Some(0), &*format!("{begun}|0")));
    let (code, _) = ask("SELECT nonsense").await;
    assert_eq!(code, Some(1));
    drop(conn);
    stop(shop).await;

    let (code, told) = ask("SELECT current_database()").await;
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(told.trim(), "evenkeel");
    // Its server has gone with it.
    assert!(database.connect().await.is_err());
}
