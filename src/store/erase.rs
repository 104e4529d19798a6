//! Removes accounts with all that belongs to them: what a sample or a load has made. Short transactions,
//! each of which leaves orders whole, and a rest as long as the work after each of them.

use std::time::{Duration, Instant};

use sqlx::Connection;
use sqlx::postgres::PgConnection;

/// Rows of one kind per transaction.
const BATCH: i64 = 200;
/// Accounts that are worked on together.
const ACCOUNTS: usize = 100;
/// How often it is begun anew because of an order that was written meanwhile.
const TURNS: u32 = 20;
/// Nobody waits for long for what is locked here, nor is waited for.
const BEGIN: &str = "BEGIN; SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '10s'; SET LOCAL jit = off";

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Accounts.
    pub accounts: u64,
    /// Their orders.
    pub orders: u64,
}

/// Deletes `accounts` with their sessions, attempts to log in, idempotency keys and orders, and puts the pieces that they
/// ordered back into stock, except those of the SKUs in `not_back`. `conn` must not be in a transaction.
///
/// # Errors
/// What the database says; what was deleted before stays so, and a repetition deletes the rest.
pub async fn erase(
    conn: &mut PgConnection,
    accounts: &[i64],
    not_back: &[String],
) -> Result<Erased, sqlx::Error> {
    let mut erased = Erased::default();
    for accounts in accounts.chunks(ACCOUNTS) {
        for turn in 1.. {
            // Whoever has no session places no further order; one that is under way may yet be written.
            rows(conn, SESSIONS, accounts).await?;
            rows(conn, KEYS, accounts).await?;
            rows(conn, ATTEMPTS, accounts).await?;
            erased.orders += orders(conn, accounts, not_back).await?;
            match rows(conn, EMPTY_ACCOUNTS, accounts).await {
                Ok(deleted) => erased.accounts += deleted,
                // foreign_key_violation: by an order that was written just now, or else by a table of
                // somebody's own.
                Err(err) if is(&err, "23503") && turn < TURNS => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(err) => return Err(err),
            }
            let left = "SELECT EXISTS (SELECT FROM accounts WHERE id = ANY ($1))";
            let left: bool = sqlx::query_scalar(left)
                .bind(accounts)
                .fetch_one(&mut *conn)
                .await?;
            if !left {
                break;
            }
        }
    }
    Ok(erased)
}

fn is(err: &sqlx::Error, code: &str) -> bool {
    err.as_database_error()
        .is_some_and(|err| err.code().as_deref() == Some(code))
}

const SESSIONS: &str = "DELETE FROM sessions WHERE (account_id, token_hash) IN (
    SELECT account_id, token_hash FROM sessions WHERE account_id = ANY ($1) LIMIT $2)";
const KEYS: &str = "DELETE FROM idempotency_keys WHERE (account_id, key) IN (
    SELECT account_id, key FROM idempotency_keys WHERE account_id = ANY ($1) LIMIT $2)";
const ATTEMPTS: &str = "DELETE FROM log_in_attempts WHERE email_hash IN (
    SELECT email_hash FROM log_in_attempts WHERE email_hash IN (
        SELECT sha256(convert_to(lower(email), 'UTF8')) FROM accounts WHERE id = ANY ($1)) LIMIT $2)";
const EMPTY_ACCOUNTS: &str = "DELETE FROM accounts WHERE id IN (
    SELECT id FROM accounts AS a WHERE id = ANY ($1)
       AND NOT EXISTS (SELECT FROM orders AS o WHERE o.account_id = a.id) LIMIT $2)";

/// Executes `delete` until it finds nothing more.
async fn rows(
    conn: &mut PgConnection,
    delete: &'static str,
    accounts: &[i64],
) -> Result<u64, sqlx::Error> {
    let mut deleted = 0;
    loop {
        let began = Instant::now();
        let mut tx = conn.begin_with(BEGIN).await?;
        let query = sqlx::query(delete).bind(accounts).bind(BATCH);
        let batch = query.execute(&mut *tx).await?.rows_affected();
        tx.commit().await?;
        deleted += batch;
        if batch < BATCH.unsigned_abs() {
            return Ok(deleted);
        }
        tokio::time::sleep(began.elapsed()).await;
    }
}

/// In the order in which whoever places an order locks them.
const LOCK_VARIANTS: &str = "
    SELECT id FROM variants WHERE id IN (
        SELECT l.variant_id FROM order_lines AS l JOIN (
            SELECT account_id, id FROM orders WHERE account_id = ANY ($1) ORDER BY account_id, id LIMIT $2
        ) AS old ON l.account_id = old.account_id AND l.order_id = old.id)
     ORDER BY id FOR NO KEY UPDATE";
const ORDERS: &str = "
    WITH old AS MATERIALIZED (
        SELECT account_id, id FROM orders WHERE account_id = ANY ($1) ORDER BY account_id, id LIMIT $2
    ), lines AS (
        DELETE FROM order_lines AS l USING old
         WHERE l.account_id = old.account_id AND l.order_id = old.id
        RETURNING l.variant_id, l.sku, l.quantity
    ), back AS (
        SELECT variant_id, sum(quantity) AS quantity FROM lines WHERE sku <> ALL ($3) GROUP BY variant_id
    ), stocked AS (
        UPDATE variants AS v SET stock = least(v.stock + back.quantity, 2147483647)::integer
          FROM back WHERE v.id = back.variant_id
    ), gone AS (
        DELETE FROM orders AS o USING old
         WHERE o.account_id = old.account_id AND o.id = old.id RETURNING 1
    )
    SELECT count(*) FROM gone";

async fn orders(
    conn: &mut PgConnection,
    accounts: &[i64],
    not_back: &[String],
) -> Result<u64, sqlx::Error> {
    let mut deleted = 0;
    loop {
        let began = Instant::now();
        let mut tx = conn.begin_with(BEGIN).await?;
        let lock = sqlx::query(LOCK_VARIANTS).bind(accounts).bind(BATCH);
        lock.execute(&mut *tx).await?;
        let batch: i64 = sqlx::query_scalar(ORDERS)
            .bind(accounts)
            .bind(BATCH)
            .bind(not_back)
            .fetch_one(&mut *tx)
            .await?;
        tx.commit().await?;
        deleted += batch.unsigned_abs();
        if batch < BATCH {
            return Ok(deleted);
        }
        tokio::time::sleep(began.elapsed()).await;
    }
}
