//! Placing an order: one statement, one round trip.

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use sqlx::FromRow;
use sqlx::postgres::PgConnection;

use super::{Order, OrderError, OrderLine, OrderSummary, load};
use crate::store::sessions::Token;

/// A line of an order that somebody wants to place.
#[derive(Clone, Debug)]
pub struct WantedLine {
    /// Stock keeping unit of a variant; at most one line per variant.
    pub sku: String,
    /// Pieces, at least one.
    pub quantity: i32,
}

/// How a placement ended.
#[derive(Debug)]
pub enum Placement {
    /// A new order.
    New(Order),
    /// The order that an earlier request with the same key has placed.
    Replayed(Order),
}

/// Checks the session, claims the idempotency key, takes the stock and writes the order, all or
/// nothing, in one statement and thus one round trip.
///
/// - Variants are locked in the order of their ids, so that orders for the same ones cannot deadlock,
///   and with their newest state: whoever waited here sees what the order before has left over.
/// - The key is claimed only by an order that can be placed, and everything after depends on the
///   claim. A concurrent request with the same key waits for this one at the key's index entry.
/// - The arrays pass through `asked`, which hides their length from the planner. Otherwise it finds a
///   plan for exactly so many lines cheaper than one for any number, and makes a new one for every
///   order, which takes longer than the order itself.
///
/// Its parameters: `$1` account, `$2` hash of the session's token, `$3` idempotency key, `$4` hash of
/// the request, `$5` SKUs, `$6` quantities.
pub const PLACE: &str = "
    WITH asked AS MATERIALIZED (
        SELECT $5::text[] AS skus, $6::integer[] AS quantities
    ), session AS MATERIALIZED (
        SELECT account_id FROM sessions
        WHERE account_id = $1 AND token_hash = $2 AND expires_at > now()
    ), locked AS MATERIALIZED (
        SELECT v.id, v.sku, v.stock, v.price_minor, v.currency,
               concat_ws(' / ', p.title, nullif(v.title, '')) AS title
        FROM variants v JOIN products p ON p.id = v.product_id
        WHERE v.sku = ANY ((SELECT skus FROM asked)::text[]) AND p.published AND EXISTS (SELECT FROM session)
        ORDER BY v.id
        FOR NO KEY UPDATE OF v
    ), wanted AS MATERIALIZED (
        SELECT w.line::integer, w.sku, w.quantity,
               l.id AS variant_id, l.stock, l.price_minor, l.currency, l.title
        FROM asked
        CROSS JOIN unnest(asked.skus, asked.quantities) WITH ORDINALITY AS w (sku, quantity, line)
        LEFT JOIN locked l ON l.sku = w.sku
    ), claimed AS (
        INSERT INTO idempotency_keys (account_id, key, request_hash, order_id)
        SELECT account_id, $3, $4, nextval('orders_id_seq')
        FROM session
        WHERE (SELECT bool_and(coalesce(stock >= quantity, false)) AND count(DISTINCT currency) = 1
               FROM wanted)
        ON CONFLICT DO NOTHING
        RETURNING account_id, order_id
    ), placed AS (
        INSERT INTO orders (account_id, id, currency, total_minor)
        SELECT c.account_id, c.order_id, min(w.currency), sum(w.price_minor * w.quantity::numeric)
        FROM claimed c CROSS JOIN wanted w GROUP BY c.account_id, c.order_id
        RETURNING account_id, id, status, currency, total_minor, placed_at
    ), taken AS (
        UPDATE variants v SET stock = v.stock - w.quantity
        FROM placed, wanted w WHERE v.id = w.variant_id
    ), written AS (
        INSERT INTO order_lines
            (account_id, order_id, line, variant_id, sku, title, quantity, unit_price_minor)
        SELECT p.account_id, p.id, w.line, w.variant_id, w.sku, w.title, w.quantity, w.price_minor
        FROM placed p CROSS JOIN wanted w
    )
    SELECT p.id, p.status, p.total_minor, p.placed_at, w.line, w.sku, w.quantity,
           coalesce(w.stock >= w.quantity, false) AS in_stock, w.currency, w.title,
           w.price_minor AS unit_price_minor
    FROM session LEFT JOIN placed p ON true CROSS JOIN wanted w
    ORDER BY w.line";

/// A row of [`PLACE`]: one per wanted line; the order's columns are NULL when none was placed, the
/// variant's when there is none on sale.
#[derive(FromRow)]
struct PlacedRow {
    id: Option<i64>,
    status: Option<String>,
    total_minor: Option<i64>,
    placed_at: Option<DateTime<Utc>>,
    line: i32,
    sku: String,
    quantity: i32,
    in_stock: bool,
    currency: Option<String>,
    title: Option<String>,
    unit_price_minor: Option<i64>,
}

/// Places an order of `lines` for the session's account, once per `key` however often it is called.
/// One statement for a new order, three for a repeated one.
///
/// # Errors
/// [`OrderError`]; nothing is stored then, except with [`OrderError::Store`], after which it is
/// unknown: call again with the same key.
pub async fn place(
    conn: &mut PgConnection,
    token: &Token,
    key: &str,
    lines: &[WantedLine],
) -> Result<Placement, OrderError> {
    let (skus, quantities): (Vec<&str>, Vec<i32>) =
        lines.iter().map(|l| (l.sku.as_str(), l.quantity)).unzip();
    let request_hash = request_hash(lines);
    let rows: Vec<PlacedRow> = sqlx::query_as(PLACE)
        .bind(token.account())
        .bind(token.hash())
        .bind(key)
        .bind(&request_hash)
        .bind(&skus)
        .bind(&quantities)
        .fetch_all(&mut *conn)
        .await?;
    if rows.is_empty() {
        return Err(OrderError::NoSession);
    }
    if let Some(order) = placed_order(&rows) {
        return Ok(Placement::New(order));
    }
    // Either the key has been used, then the earlier order counts whatever has become of the stock
    // since, or this order cannot be placed.
    let earlier: Option<(Vec<u8>, i64)> = sqlx::query_as(
        "SELECT request_hash, order_id FROM idempotency_keys WHERE account_id = $1 AND key = $2",
    )
    .bind(token.account())
    .bind(key)
    .fetch_optional(&mut *conn)
    .await?;
    match earlier {
        None => Err(refusal(&rows)),
        Some((hash, _)) if hash != request_hash => Err(OrderError::KeyReused),
        Some((_, id)) => Ok(Placement::Replayed(load(conn, token.account(), id).await?)),
    }
}

fn request_hash(lines: &[WantedLine]) -> Vec<u8> {
    let mut hash = Sha256::new();
    for line in lines {
        // The length in front keeps two lines from being read as another pair of lines.
        hash.update((line.sku.len() as u64).to_be_bytes());
        hash.update(&line.sku);
        hash.update(line.quantity.to_be_bytes());
    }
    hash.finalize().to_vec()
}

fn placed_order(rows: &[PlacedRow]) -> Option<Order> {
    let first = rows.first()?;
    let summary = OrderSummary {
        id: first.id?,
        status: first.status.clone()?,
        currency: first.currency.clone()?,
        total_minor: first.total_minor?,
        placed_at: first.placed_at?,
    };
    let lines = rows.iter().map(|row| {
        Some(OrderLine {
            line: row.line,
            sku: row.sku.clone(),
            title: row.title.clone()?,
            quantity: row.quantity,
            unit_price_minor: row.unit_price_minor?,
        })
    });
    let lines = lines.collect::<Option<_>>()?;
    Some(Order { summary, lines })
}

fn refusal(rows: &[PlacedRow]) -> OrderError {
    let unknown = rows
        .iter()
        .enumerate()
        .filter(|(_, r)| r.currency.is_none());
    let unknown: Vec<usize> = unknown.map(|(line, _)| line).collect();
    if !unknown.is_empty() {
        return OrderError::UnknownSku(unknown);
    }
    if rows
        .windows(2)
        .any(|pair| pair[0].currency != pair[1].currency)
    {
        return OrderError::MixedCurrencies;
    }
    let short = rows.iter().filter(|row| !row.in_stock);
    OrderError::OutOfStock(short.map(|row| row.sku.clone()).collect())
}
