//! Orders: placed exactly once, with stock that never falls below zero.

mod place;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::FromRow;
use sqlx::postgres::PgConnection;
use utoipa::ToSchema;

pub use place::{PLACE, Placement, WantedLine, place};
use pool::PoolError;

use super::StoreError;
use super::page::{Cursor, Page};
use super::sessions::{self, Token};

/// A placed order without its lines.
#[derive(Clone, Debug, Serialize, FromRow, ToSchema)]
pub struct OrderSummary {
    /// Number of the order.
    pub id: i64,
    /// `placed`.
    pub status: String,
    /// ISO 4217 code.
    pub currency: String,
    /// Sum of its lines in the minor unit of `currency`.
    pub total_minor: i64,
    /// When it was placed.
    pub placed_at: DateTime<Utc>,
}

/// A line of a placed order: what was bought, as it was called and priced at that time.
#[derive(Debug, Serialize, FromRow, ToSchema)]
pub struct OrderLine {
    /// Position in the order, from 1.
    pub line: i32,
    /// Stock keeping unit.
    pub sku: String,
    /// Name for people.
    pub title: String,
    /// Pieces.
    pub quantity: i32,
    /// Price of one piece in the minor unit of the order's currency.
    pub unit_price_minor: i64,
}

/// A placed order.
#[derive(Debug, Serialize, ToSchema)]
pub struct Order {
    /// Everything but the lines.
    #[serde(flatten)]
    pub summary: OrderSummary,
    /// What was bought.
    pub lines: Vec<OrderLine>,
}

/// Why an order was not placed or not found.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The session has ended or never existed.
    #[error("there is no such session")]
    NoSession,
    /// Nothing of this number belongs to the account.
    #[error("there is no such order")]
    NotFound,
    /// Lines, counted from 0, that name no variant on sale.
    #[error("unknown sku")]
    UnknownSku(Vec<usize>),
    /// The lines have different currencies.
    #[error("the lines have different currencies")]
    MixedCurrencies,
    /// SKUs of which fewer pieces are left than ordered.
    #[error("out of stock: {}", .0.join(", "))]
    OutOfStock(Vec<String>),
    /// The sum of the lines cannot be expressed.
    #[error("the total is too large")]
    TotalTooLarge,
    /// An earlier request with the same key had another content.
    #[error("the idempotency key belongs to another request")]
    KeyReused,
    /// The database did not answer. Whether the order was placed is unknown.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<PoolError> for OrderError {
    fn from(err: PoolError) -> Self {
        Self::Store(err.into())
    }
}

impl From<sqlx::Error> for OrderError {
    fn from(err: sqlx::Error) -> Self {
        let err = StoreError::from(err);
        match err.code().as_deref() {
            // numeric_value_out_of_range
            Some("22003") => Self::TotalTooLarge,
            _ => Self::Store(err),
        }
    }
}

/// The columns of an [`OrderSummary`]. Orders from before the total was stored are added up.
macro_rules! order_columns {
    () => {
        "o.id, o.status, o.currency, o.placed_at, coalesce(o.total_minor, (
             SELECT sum(l.quantity * l.unit_price_minor)::bigint FROM order_lines l
             WHERE l.account_id = o.account_id AND l.order_id = o.id), 0) AS total_minor"
    };
}

/// The session's orders, newest first. Two statements.
///
/// # Errors
/// [`OrderError::NoSession`], [`OrderError::Store`].
pub async fn history(
    conn: &mut PgConnection,
    token: &Token,
    after: Option<Cursor>,
    limit: u32,
) -> Result<Page<OrderSummary>, OrderError> {
    require_session(conn, token).await?;
    let rows = sqlx::query_as(concat!(
        "SELECT ",
        order_columns!(),
        " FROM orders o WHERE account_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3"
    ))
    .bind(token.account())
    .bind(after.map_or(i64::MAX, |cursor| cursor.0))
    .bind(i64::from(limit) + 1)
    .fetch_all(conn)
    .await?;
    Ok(Page::cut(rows, limit, |order: &OrderSummary| order.id))
}

/// One of the session's orders. Two statements.
///
/// # Errors
/// [`OrderError::NotFound`], whether the order belongs to somebody else or to nobody.
pub async fn find(conn: &mut PgConnection, token: &Token, id: i64) -> Result<Order, OrderError> {
    require_session(conn, token).await?;
    load(conn, token.account(), id).await
}

async fn require_session(conn: &mut PgConnection, token: &Token) -> Result<(), OrderError> {
    if sessions::is_open(conn, token).await? {
        Ok(())
    } else {
        Err(OrderError::NoSession)
    }
}

/// A row of an order with one of its lines, or with none.
#[derive(FromRow)]
struct LoadedRow {
    #[sqlx(flatten)]
    summary: OrderSummary,
    line: Option<i32>,
    sku: Option<String>,
    title: Option<String>,
    quantity: Option<i32>,
    unit_price_minor: Option<i64>,
}

impl LoadedRow {
    fn line(self) -> Option<OrderLine> {
        Some(OrderLine {
            line: self.line?,
            sku: self.sku?,
            title: self.title?,
            quantity: self.quantity?,
            unit_price_minor: self.unit_price_minor?,
        })
    }
}

async fn load(conn: &mut PgConnection, account: i64, id: i64) -> Result<Order, OrderError> {
    let rows: Vec<LoadedRow> = sqlx::query_as(concat!(
        "SELECT ",
        order_columns!(),
        ", l.line, l.sku, l.title, l.quantity, l.unit_price_minor
         FROM orders o
         LEFT JOIN order_lines l ON l.account_id = o.account_id AND l.order_id = o.id
         WHERE o.account_id = $1 AND o.id = $2 ORDER BY l.line"
    ))
    .bind(account)
    .bind(id)
    .fetch_all(conn)
    .await?;
    let summary = rows.first().ok_or(OrderError::NotFound)?.summary.clone();
    let lines = rows.into_iter().filter_map(LoadedRow::line).collect();
    Ok(Order { summary, lines })
}
