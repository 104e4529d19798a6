//! Addresses of databases: one that leads nowhere is told with the way out, and two lead to one database.

use std::net::TcpListener;
use std::time::Duration;

use evenkeel::store::StoreError;
use pool::gate::{Admission, Gate};
use pool::settings::{Limits, Share};
use pool::{Addresses, Class, Pool, PoolError};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Row};

use crate::migration::process::{evenkeel, url};
use crate::support::server;
use crate::support::wire::CountingProxy;

const PATIENCE: Duration = Duration::from_secs(60);
const SERVE: [&str; 5] = [
    "serve",
    "--listen",
    "127.0.0.1:0",
    "--ops-listen",
    "127.0.0.1:0",
];

/// What a command says that must fail, with these URLs.
async fn refusal(arguments: &[&str], url: &str, direct: Option<&str>) -> String {
    let mut command = evenkeel(arguments);
    command.env("DATABASE_URL", url);
    if let Some(direct) = direct {
        command.env("EVENKEEL_DATABASE__DIRECT_URL", direct);
    }
    let ended = tokio::time::timeout(PATIENCE, command.output()).await;
    let ended = ended.expect("the command ends").unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(!ended.status.success(), "{said}");
    assert!(!said.contains("geheim"), "{said}");
    said
}

/// A role that has to show a password, which others on the server have not.
async fn role_with_password(database: &PgConnectOptions) -> String {
    let role = format!("clerk_{}", uuid::Uuid::new_v4().simple());
    let mut admin = database.connect().await.unwrap();
    let create = format!("CREATE ROLE {role} LOGIN PASSWORD 'richtig'");
    admin.execute(AssertSqlSafe(create)).await.unwrap();
    let file = admin.fetch_one("SHOW hba_file").await.unwrap();
    let file: String = file.get(0);
    let lines = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("local all {role} scram-sha-256\n{lines}")).unwrap();
    admin.execute("SELECT pg_reload_conf()").await.unwrap();
    role
}

#[tokio::test]
async fn a_database_that_is_not_reached_is_named_without_its_password_and_with_the_way_out() {
    let database = server::empty_database().await;
    let there = url(&database);
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let refused = format!("postgres://clerk:geheim@127.0.0.1:{free}/shop");
    let user = database.get_username();
    let name = database.get_database().unwrap();
    let role = role_with_password(&database).await;
    let locked = there.replace(&format!("{user}@"), &format!("{role}:geheim@"));
    let port = format!("port {}", database.get_port());
    let role = format!("user {role}");
    for (wrong, parts) in [
        (
            refused.as_str(),
            &[
                "host 127.0.0.1",
                &format!("port {free}"),
                "database shop",
                "user clerk",
                "refused",
                "start PostgreSQL",
            ][..],
        ),
        (
            "postgres://clerk:geheim@nowhere.invalid/shop",
            &["host nowhere.invalid", "port 5432", "the host's name"],
        ),
        (
            "postgres://clerk:geheim@localhost/shop?host=/nonexistent",
            &["socket /nonexistent", "start PostgreSQL"],
        ),
        (
            &there.replace(name, "not_there"),
            &["database not_there", &port, "createdb not_there"],
        ),
        (
            &there.replace(&format!("{user}@"), "nobody:geheim@"),
            &["user nobody", "createuser nobody"],
        ),
        (
            &format!("{there}&sslmode=require"),
            &[&port, "TLS", "sslmode"],
        ),
        (&locked, &[&role, &port, "give the right password"]),
    ] {
        for arguments in [
            &SERVE[..],
            &["migrate", "status"],
            &["migrate", "start", "orders_total"],
        ] {
            let said = refusal(arguments, wrong, None).await;
            for part in parts.iter().chain(&["cannot connect", "DATABASE_URL"]) {
                assert!(
                    said.contains(part),
                    "{arguments:?} {wrong}: {said}\nlacks {part}"
                );
            }
        }
    }
    // The one of the two that is wrong is named.
    let said = refusal(&["migrate", "status"], &there, Some(&refused)).await;
    assert!(
        said.contains("database.direct_url") && said.contains("user clerk"),
        "{said}"
    );
    // While the way of the shop is out of order, an operator has the other.
    let status = evenkeel(&["migrate", "status"])
        .env("DATABASE_URL", &refused)
        .env("EVENKEEL_DATABASE__DIRECT_URL", &there)
        .stderr(std::process::Stdio::piped())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8(status.stderr).unwrap();
    assert!(
        status.status.success() && said.contains("is not known"),
        "{said}"
    );
}

#[tokio::test]
async fn a_direct_address_of_another_database_is_refused_before_anything_is_done() {
    let shop = server::empty_database().await;
    let other = server::blank_database().await;
    let through = CountingProxy::start(&shop).await;
    let through = format!(
        "postgres://{}:geheim@127.0.0.1:{}/{}?sslmode=disable",
        shop.get_username(),
        through.options.get_port(),
        shop.get_database().unwrap(),
    );
    for arguments in [
        &SERVE[..],
        &["migrate", "status"],
        &["migrate", "start", "orders_total"],
    ] {
        let said = refusal(arguments, &through, Some(&url(&other))).await;
        for part in [
            "database.url",
            "database.direct_url",
            "host 127.0.0.1",
            shop.get_database().unwrap(),
            other.get_database().unwrap(),
            "two databases",
        ] {
            assert!(said.contains(part), "{arguments:?}: {said}\nlacks {part}");
        }
    }
    // Nor with the same name and number on another server.
    let twin = server::OwnServer::start("twin").await;
    let mut admin = twin.database.connect().await.unwrap();
    let name = shop.get_database().unwrap();
    let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
    admin.execute(create).await.unwrap();
    let same_name = url(&twin.database.clone().database(name));
    let said = refusal(&["migrate", "status"], &through, Some(&same_name)).await;
    assert!(said.contains("one name on two servers"), "{said}");
    twin.stop().await;
    // By whatever way, the same one is the same.
    let status = evenkeel(&["migrate", "start", "orders_total"])
        .env("DATABASE_URL", &through)
        .env("EVENKEEL_DATABASE__DIRECT_URL", url(&shop))
        .output()
        .await
        .unwrap();
    assert!(status.status.success(), "{status:?}");
}

#[tokio::test]
async fn no_authors_sql_runs_in_another_database_than_the_shops() {
    let (shop, other) = (
        server::empty_database().await,
        server::empty_database().await,
    );
    let limits = Limits {
        acquire: PATIENCE,
        hold: Some(PATIENCE),
    };
    let pool = |direct: &PgConnectOptions| {
        let gate = Gate::new(Admission::new(4, [Share { min: 0, max: 4 }; 4]));
        let addresses = Addresses {
            shop: shop.clone(),
            direct: Some(direct.clone()),
        };
        Pool::new(addresses, 4, PATIENCE, gate, [limits; 4])
    };
    let create = async |conn: &mut PgConnection| {
        conn.execute("CREATE TABLE made ()").await?;
        Ok::<_, StoreError>(())
    };
    let wrong = pool(&other);
    for done in [
        wrong.author().run(create).await,
        wrong.run_alone(create).await,
    ] {
        let refused = matches!(done, Err(StoreError::Pool(PoolError::Pooler(_))));
        assert!(refused, "{done:?}");
    }
    for database in [&shop, &other] {
        let mut conn = database.connect().await.unwrap();
        let made = conn.fetch_one("SELECT to_regclass('made') IS NULL").await;
        assert!(made.unwrap().get::<bool, _>(0));
    }
    // Shoppers need no session, and are served.
    let read = async |conn: &mut PgConnection| Ok::<_, StoreError>(conn.execute("SELECT 1").await?);
    wrong.run(Class::Browse, read).await.unwrap();
    pool(&shop).author().run(create).await.unwrap();
}
