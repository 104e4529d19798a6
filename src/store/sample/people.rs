//! Accounts, some of them from before addresses were compared without letter case.

use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::{pick, relax_durability, scramble};

/// Accounts per transaction.
const CHUNK: u32 = 5_000;
/// Of ten accounts, how many are old.
const LEGACY_OF_TEN: u64 = 4;

#[rustfmt::skip]
const FIRST: [&str; 32] = [
    "Ada", "Bruno", "Carla", "Daniel", "Elif", "Femi", "Grace", "Hugo", "Ines", "Jonas", "Keiko",
    "Liam", "Mara", "Noah", "Olga", "Pablo", "Quinn", "Rosa", "Samir", "Tove", "Uma", "Viktor",
    "Wanda", "Xavier", "Yara", "Zoe", "Amir", "Birgit", "Chen", "Dalia", "Emeka", "Freya",
];
#[rustfmt::skip]
const LAST: [&str; 32] = [
    "Abbott", "Brandt", "Costa", "Dubois", "Eriksen", "Fischer", "Garcia", "Haddad", "Ito",
    "Jensen", "Kowalski", "Lindgren", "Moreau", "Novak", "Okafor", "Petrov", "Quist", "Rossi",
    "Silva", "Tanaka", "Ueda", "Varga", "Weber", "Xu", "Yilmaz", "Zhang", "Adeyemi", "Byrne",
    "Cohen", "Doyle", "Evans", "Fontaine",
];
/// Domains that are reserved for examples: nobody receives mail there.
const DOMAINS: [&str; 3] = ["example.com", "example.org", "example.net"];

/// Account number `n`, from 0.
struct Person {
    name: String,
    email: String,
    legacy: bool,
}

impl Person {
    fn number(n: u64) -> Self {
        let (first, last) = (pick(&FIRST, n, 11), pick(&LAST, n, 12));
        let domain = pick(&DOMAINS, n, 13);
        let legacy = scramble(n, 14) % 10 < LEGACY_OF_TEN;
        // The number keeps addresses apart, in whatever letter case.
        let email = match scramble(n, 15) % 3 {
            _ if !legacy => format!("{first}.{last}.{n}@{domain}").to_lowercase(),
            0 => format!("{first}.{last}.{n}@{domain}"),
            1 => format!(
                "{}.{last}.{n}@{}",
                first.to_lowercase(),
                domain.to_uppercase()
            ),
            _ => format!("{first}.{}.{n}@{domain}", last.to_uppercase()),
        };
        Self {
            name: format!("{first} {last}"),
            email,
            legacy,
        }
    }
}

pub(super) async fn fill(
    conn: &mut PgConnection,
    count: u32,
    password_hash: &str,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<(), sqlx::Error> {
    for from in (0..count).step_by(CHUNK as usize) {
        let to = count.min(from + CHUNK);
        let people: Vec<_> = (from..to).map(|n| Person::number(n.into())).collect();
        insert(conn, from, &people, password_hash).await?;
        progress(to.into());
    }
    Ok(())
}

async fn insert(
    conn: &mut PgConnection,
    from: u32,
    people: &[Person],
    password_hash: &str,
) -> Result<(), sqlx::Error> {
    let emails: Vec<&str> = people.iter().map(|person| person.email.as_str()).collect();
    let names: Vec<&str> = people.iter().map(|person| person.name.as_str()).collect();
    let legacy: Vec<bool> = people.iter().map(|person| person.legacy).collect();
    let mut tx = conn.begin().await?;
    relax_durability(&mut tx).await?;
    // Old accounts are two to four years old, the others half a year to a year: all of them older
    // than the orders.
    sqlx::query(
        "INSERT INTO accounts (email, email_key, name, password_hash, created_at)
         SELECT email, CASE WHEN NOT legacy THEN lower(email) END, name, $4,
                now() - CASE WHEN legacy THEN interval '2 years' ELSE interval '180 days' END
                      * (1 + ($5 + n) % 997 / 997.0)
         FROM unnest($1::text[], $2::text[], $3::boolean[])
              WITH ORDINALITY AS s (email, name, legacy, n)
         ORDER BY n
         ON CONFLICT DO NOTHING",
    )
    .bind(emails)
    .bind(names)
    .bind(legacy)
    .bind(password_hash)
    .bind(i64::from(from))
    .execute(&mut *tx)
    .await?;
    tx.commit().await
}

/// The numbers of the accounts from `from` until before `to`, in the order in which they were made.
pub(super) async fn accounts(
    conn: &mut PgConnection,
    from: u32,
    to: u32,
) -> Result<Vec<i64>, sqlx::Error> {
    let emails: Vec<String> = (from..to).map(|n| Person::number(n.into()).email).collect();
    sqlx::query_scalar("SELECT id FROM accounts WHERE email = ANY ($1) ORDER BY id")
        .bind(emails)
        .fetch_all(conn)
        .await
}
