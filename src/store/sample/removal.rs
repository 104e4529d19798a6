//! Removes a sample shop where it stands beside a real one.

use std::time::Instant;

use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::{SampleError, catalog, people};
use crate::store::erase::{self, Erased};

/// Sample products and people are looked for up to these numbers, which no sample reaches.
const MOST_PRODUCTS: u32 = 100_000;
const MOST_PEOPLE: u32 = 200_000;
/// Products per transaction.
const PRODUCTS: usize = 100;
/// People that are looked for at a time.
const PEOPLE: u32 = 5_000;
/// Order lines that are read at a time.
const LINES: i64 = 20_000;
/// Things of a kind that are named.
const NAMED: usize = 20;

/// What was removed, and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Products, with their variants and images.
    pub products: u64,
    /// Handles of sample products that somebody has changed, at most 20: they stay.
    pub changed: Vec<String>,
    /// How many stay.
    pub kept: u64,
    /// People and their orders.
    pub erased: Erased,
    /// Orders of other accounts that name what is no longer sold, at most 20 as (account, order): they
    /// stay as they are, with what was bought.
    pub orders: Vec<(i64, i64)>,
    /// How many these are.
    pub real_orders: u64,
}

/// Deletes the sample's products, its people and their orders, in small transactions, beside whoever shops.
/// Nothing else changes. A removal that was interrupted is taken up by the next.
///
/// # Errors
/// When the database does not answer, or refuses.
pub async fn remove(conn: &mut PgConnection) -> Result<Removed, SampleError> {
    let mut removed = Removed::default();
    let mut kept = Vec::new();
    // From the first on: without it no start takes the sample for one whose filling was interrupted.
    for from in (0..MOST_PRODUCTS).step_by(catalog::CHUNK as usize) {
        let found = catalog::found(conn, from, from + catalog::CHUNK).await?;
        for found in found.chunks(PRODUCTS) {
            let (same, changed): (Vec<_>, Vec<_>) = found.iter().partition(|found| found.is_same);
            removed.products += delete(conn, same.iter().map(|found| found.id).collect()).await?;
            removed.kept += changed.len() as u64;
            kept.extend(changed.iter().map(|found| found.id));
            let room = NAMED.saturating_sub(removed.changed.len());
            let named = changed.iter().take(room).map(|found| found.handle.clone());
            removed.changed.extend(named);
        }
    }
    // The sample's orders took nothing from the stock of its products.
    let skus = "SELECT sku FROM variants WHERE product_id = ANY ($1)";
    let skus: Vec<String> = sqlx::query_scalar(skus)
        .bind(&kept)
        .fetch_all(&mut *conn)
        .await?;
    for from in (0..MOST_PEOPLE).step_by(PEOPLE as usize) {
        let accounts = people::accounts(conn, from, from + PEOPLE).await?;
        let erased = erase::erase(conn, &accounts, &skus).await?;
        removed.erased.accounts += erased.accounts;
        removed.erased.orders += erased.orders;
    }
    find_orders(conn, &mut removed).await?;
    Ok(removed)
}

async fn delete(conn: &mut PgConnection, products: Vec<i64>) -> Result<u64, sqlx::Error> {
    if products.is_empty() {
        return Ok(0);
    }
    let began = Instant::now();
    let mut tx = conn
        .begin_with("BEGIN; SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '10s'")
        .await?;
    let deleted = sqlx::query("DELETE FROM products WHERE id = ANY ($1)")
        .bind(&products)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    tokio::time::sleep(began.elapsed()).await;
    Ok(deleted.rows_affected())
}

/// Finds the orders that name a variant which is gone; nothing but this removes variants.
async fn find_orders(conn: &mut PgConnection, removed: &mut Removed) -> Result<(), sqlx::Error> {
    let mut last = (0_i64, 0_i64, 0_i32);
    let mut newest = None;
    loop {
        let lines: Vec<(i64, i64, i32, bool)> = sqlx::query_as(
            "SELECT account_id, order_id, line,
                    NOT EXISTS (SELECT FROM variants AS v WHERE v.id = l.variant_id)
               FROM order_lines AS l WHERE (account_id, order_id, line) > ($1, $2, $3)
              ORDER BY account_id, order_id, line LIMIT $4",
        )
        .bind(last.0)
        .bind(last.1)
        .bind(last.2)
        .bind(LINES)
        .fetch_all(&mut *conn)
        .await?;
        for (account, order, ..) in lines.iter().filter(|(.., gone)| *gone) {
            if newest.replace((*account, *order)) == Some((*account, *order)) {
                continue;
            }
            removed.real_orders += 1;
            if removed.orders.len() < NAMED {
                removed.orders.push((*account, *order));
            }
        }
        match lines.last() {
            Some((account, order, line, _)) => last = (*account, *order, *line),
            None => return Ok(()),
        }
    }
}
