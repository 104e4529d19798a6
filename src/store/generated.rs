//! Accounts that a load generator makes in a shop, and how they are told from those of people.

use sqlx::postgres::PgConnection;

/// The domain of their addresses. Nobody can have mail there: `.invalid` is reserved (RFC 2606). The shop
/// registers nobody at it, so every account of this domain was written to the database by a load, which removes
/// it.
pub const DOMAIN: &str = "load.evenkeel.invalid";
/// Domains that are reserved for examples, of which the sample shop's people are.
const EXAMPLES: [&str; 3] = ["example.com", "example.org", "example.net"];
/// People that are counted, at most.
pub const COUNTED: i64 = 1000;

/// The address of account `number` of a load that writes it to the database.
fn address(load: uuid::Uuid, number: usize) -> String {
    format!("load-{}-{number}@{DOMAIN}", load.simple())
}

/// Whether an address is of the load generator's domain, at which people are not registered.
pub fn is_reserved(email: &str) -> bool {
    let domain = email.rsplit_once('@').map(|(_, domain)| domain);
    domain.is_some_and(|domain| domain.eq_ignore_ascii_case(DOMAIN))
}

/// Makes `count` accounts whose password has `password_hash`, and returns their addresses.
///
/// # Errors
/// What the database says; then there are none.
pub async fn create(
    conn: &mut PgConnection,
    load: uuid::Uuid,
    count: usize,
    password_hash: &str,
) -> Result<Vec<String>, sqlx::Error> {
    let addresses: Vec<String> = (0..count).map(|number| address(load, number)).collect();
    sqlx::query(
        "INSERT INTO accounts (email, email_key, name, password_hash)
         SELECT email, lower(email), 'Shopper', $2 FROM unnest($1::text[]) AS email",
    )
    .bind(&addresses)
    .bind(password_hash)
    .execute(conn)
    .await?;
    Ok(addresses)
}

/// All accounts that loads have made.
///
/// # Errors
/// What the database says.
pub async fn accounts(conn: &mut PgConnection) -> Result<Vec<i64>, sqlx::Error> {
    // In these letters alone: what lower() makes of others depends on the database's locale.
    sqlx::query_scalar("SELECT id FROM accounts WHERE split_part(email, '@', -1) = $1 ORDER BY id")
        .bind(DOMAIN)
        .fetch_all(conn)
        .await
}

/// How many accounts are people's, counted up to [`COUNTED`]: neither a load's nor of a domain that is
/// reserved for examples.
///
/// # Errors
/// What the database says.
pub async fn people(conn: &mut PgConnection) -> Result<i64, sqlx::Error> {
    let reserved: Vec<&str> = EXAMPLES.into_iter().chain([DOMAIN]).collect();
    sqlx::query_scalar(
        "SELECT count(*) FROM (SELECT FROM accounts
          WHERE lower(split_part(email, '@', -1)) <> ALL ($1) LIMIT $2) AS people",
    )
    .bind(reserved)
    .bind(COUNTED)
    .fetch_one(conn)
    .await
}
