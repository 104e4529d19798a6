//! A sample shop: what a shop of some size looks like, for the first start and for the demo.
//!
//! Everything is derived from numbers, so the same size gives the same shop. It is written in short
//! transactions, each of which can be repeated without effect, so a fill that was interrupted is
//! taken up by the next one.

mod catalog;
mod departments;
mod orders;
mod people;
mod removal;

use sqlx::Executor;
use sqlx::postgres::PgConnection;

use super::passwords::{PasswordError, Passwords};

pub use removal::{Removed, remove};

/// The password of every sample account.
pub const DEMO_PASSWORD: &str = "evenkeel-demo";
/// Pieces of every variant: more than any demo sells.
pub const STOCK: i32 = 1_000_000;

/// How large a sample shop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleSize {
    /// Products, of three variants each. At least 2.
    pub products: u32,
    /// Accounts. At least 1.
    pub accounts: u32,
    /// Orders of the last 90 days, of one to four lines each; without a stored total, as they were
    /// before totals were stored. At least 1.
    pub orders: u32,
}

impl Default for SampleSize {
    fn default() -> Self {
        Self {
            products: 2_000,
            accounts: 2_000,
            orders: 20_000,
        }
    }
}

/// Why a shop could not be filled.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// The shop has products of its own.
    #[error("the shop has products that are no samples: a sample shop needs an empty database")]
    NotEmpty,
    /// The size cannot be had.
    #[error("a sample shop needs at least 2 products, 1 account and 1 order")]
    TooSmall,
    /// The demo password could not be hashed.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The database did not answer, or refused.
    #[error("the sample shop could not be written or removed: {}", pool::summarize(.0))]
    Database(#[from] sqlx::Error),
}

/// Whether the shop is empty, or holds a sample of this size that is not complete.
///
/// # Errors
/// When the database does not answer.
pub async fn is_wanted(conn: &mut PgConnection, size: SampleSize) -> Result<bool, SampleError> {
    Ok(is_empty(conn).await? || is_unfinished(conn, size).await?)
}

/// Whether the shop holds a sample of this size that is not complete.
///
/// # Errors
/// When the database does not answer.
pub async fn is_unfinished(conn: &mut PgConnection, size: SampleSize) -> Result<bool, SampleError> {
    Ok(is_there(conn).await? && !orders::is_complete(conn, size).await?)
}

/// Whether sample products are in the shop.
///
/// # Errors
/// When the database does not answer.
pub async fn is_there(conn: &mut PgConnection) -> Result<bool, SampleError> {
    Ok(catalog::has_begun(conn).await?)
}

/// Whether there are no products at all.
///
/// # Errors
/// When the database does not answer.
pub async fn is_empty(conn: &mut PgConnection) -> Result<bool, SampleError> {
    Ok(
        sqlx::query_scalar("SELECT NOT EXISTS (SELECT FROM products)")
            .fetch_one(conn)
            .await?,
    )
}

/// Fills an empty shop, or completes a fill that was interrupted; does nothing to a complete one.
/// `progress` is told how much of how much is done. `conn` must not be in a transaction.
///
/// On a connection of a superuser foreign keys are not checked row by row, which the sample does not
/// need and which takes most of the time.
///
/// # Errors
/// [`SampleError`]; what was written before stays.
pub async fn fill(
    conn: &mut PgConnection,
    size: SampleSize,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<(), SampleError> {
    if size.products < 2 || size.accounts < 1 || size.orders < 1 {
        return Err(SampleError::TooSmall);
    }
    if !is_empty(conn).await? && !catalog::has_begun(conn).await? {
        return Err(SampleError::NotEmpty);
    }
    if !is_wanted(conn, size).await? {
        return Ok(());
    }
    let (products, accounts) = (u64::from(size.products), u64::from(size.accounts));
    let total = products + accounts + u64::from(size.orders);
    catalog::fill(conn, size.products, &|done| progress(done, total)).await?;
    let turn = Passwords::new(1).turn(0).await?;
    let hash = turn.hash(DEMO_PASSWORD.to_owned()).await?;
    people::fill(conn, size.accounts, &hash, &|done| {
        progress(products + done, total)
    })
    .await?;
    let before = products + accounts;
    orders::fill(conn, size, &|done| progress(before + done, total)).await?;
    // Otherwise autovacuum comes soon, and disturbs whatever is measured then.
    conn.execute("VACUUM (ANALYZE) products, variants, accounts, orders, order_lines")
        .await?;
    Ok(())
}

/// Begins every transaction of the sample: if the computer loses power, the sample is filled again.
async fn relax_durability(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    conn.execute("SET LOCAL synchronous_commit = off").await?;
    Ok(())
}

/// A number that depends on `n` and `salt` and on nothing else, and looks random. Splitmix64.
fn scramble(n: u64, salt: u64) -> u64 {
    let mut z = n
        .wrapping_add(salt.wrapping_mul(0x2545_f491_4f6c_dd1d))
        .wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// One of `from`, chosen by `n` and `salt`.
fn pick<'a>(from: &[&'a str], n: u64, salt: u64) -> &'a str {
    from[(scramble(n, salt) % from.len() as u64) as usize]
}
