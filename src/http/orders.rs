//! Placing orders and looking at them.

use std::collections::HashSet;

use axum::extract::State;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use garde::Validate;
use pool::Class;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::{ApiError, FieldError};
use super::extract::{FromShopper, IdempotencyKey, Path, Query, SessionToken, one_line};
use super::products::default_limit;
use crate::app::App;
use crate::store::orders::{self, Order, OrderSummary, Placement, WantedLine};
use crate::store::page::{Cursor, Page};

/// Tells an answer that repeats an earlier one from the answer to a new order.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The address at which orders are placed: checkout.
pub fn placing() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(place))
}

/// The addresses at which orders are looked at: account.
pub fn reading() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(history))
        .routes(routes!(detail))
}

#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewOrder {
    /// What to buy: 1 to 100 lines, each with another SKU.
    #[garde(length(min = 1, max = 100), dive)]
    #[schema(min_items = 1, max_items = 100)]
    lines: Vec<NewLine>,
}

#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewLine {
    /// Stock keeping unit of a variant.
    #[garde(length(chars, min = 1, max = 200), custom(one_line))]
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$",
        example = "everyday-linen-shirt-clothing/small"
    )]
    sku: String,
    /// Pieces.
    #[garde(range(min = 1, max = 1000))]
    #[schema(minimum = 1, maximum = 1000, example = 1)]
    quantity: i32,
}

impl NewOrder {
    fn wanted(self) -> Result<Vec<WantedLine>, ApiError> {
        let mut seen = HashSet::new();
        let lines = self.lines.iter().enumerate();
        let repeated = lines.filter(|(_, line)| !seen.insert(&line.sku));
        let errors: Vec<FieldError> = repeated
            .map(|(i, _)| FieldError {
                field: format!("lines[{i}].sku"),
                message: "an earlier line has this SKU: put the sum of both into one".to_owned(),
            })
            .collect();
        if !errors.is_empty() {
            return Err(ApiError::invalid(errors));
        }
        let lines = self.lines.into_iter();
        Ok(lines
            .map(|NewLine { sku, quantity }| WantedLine { sku, quantity })
            .collect())
    }
}

/// Place an order.
///
/// Safe to repeat with the same `Idempotency-Key`: the order is placed once, and every repetition is
/// answered with it, marked by the header `Idempotent-Replayed: true`.
#[utoipa::path(post, path = "/api/orders", tag = "orders", request_body = NewOrder,
    params(("Idempotency-Key" = String, Header, description = "A random text per order",
        min_length = 1, max_length = 255, pattern = "^[!-~]+$",
        example = "0b1f6a5e-7f0c-4d0a-9a53-1c9f1d7c2f11")),
    security(("bearer" = []), ("cookie" = [])),
    responses(
        (status = CREATED, body = Order, headers(("Idempotent-Replayed" = String,
            description = "`true` when an earlier request with this key has placed the order"))),
        (status = CONFLICT, description = "Something is not on sale, not on sale in the currency of the \
            rest, or fewer pieces of it are left")))]
async fn place(
    State(app): State<App>,
    // Whoever is not logged in is told that before anything else.
    _: SessionToken,
    IdempotencyKey(key): IdempotencyKey,
    FromShopper(token, order): FromShopper<NewOrder>,
) -> Result<Response, ApiError> {
    let lines = order.wanted()?;
    let placement = app
        .pool
        .run(Class::Checkout, async |conn| {
            orders::place(conn, &token, &key, &lines).await
        })
        .await
        .map_err(ApiError::placing)?;
    Ok(match placement {
        Placement::New(order) => (StatusCode::CREATED, axum::Json(order)).into_response(),
        Placement::Replayed(order) => {
            (StatusCode::CREATED, [(REPLAYED, "true")], axum::Json(order)).into_response()
        }
    })
}

#[derive(Debug, Deserialize, Validate, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct HistoryQuery {
    /// Where the page before ended: its `next`.
    #[garde(skip)]
    #[param(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{10}[AEIMQUYcgkosw048]$")]
    #[serde(default)]
    after: Option<Cursor>,
    /// Most orders to return.
    #[garde(range(min = 1, max = 100))]
    #[param(minimum = 1, maximum = 100, default = 20)]
    #[serde(default = "default_limit")]
    limit: u32,
}

/// List one's orders, newest first.
#[utoipa::path(get, path = "/api/orders", tag = "orders", params(HistoryQuery),
    security(("bearer" = []), ("cookie" = [])),
    responses((status = OK, body = Page<OrderSummary>)))]
async fn history(
    State(app): State<App>,
    SessionToken(token): SessionToken,
    Query(query): Query<HistoryQuery>,
) -> Result<axum::Json<Page<OrderSummary>>, ApiError> {
    let page = app
        .pool
        .run(Class::Account, async |conn| {
            orders::history(conn, &token, query.after, query.limit).await
        })
        .await?;
    Ok(axum::Json(page))
}

/// Show one of one's orders.
#[utoipa::path(get, path = "/api/orders/{id}", tag = "orders",
    params(("id" = i64, Path, description = "Number of the order")),
    security(("bearer" = []), ("cookie" = [])), responses((status = OK, body = Order)))]
async fn detail(
    State(app): State<App>,
    SessionToken(token): SessionToken,
    Path(id): Path<i64>,
) -> Result<axum::Json<Order>, ApiError> {
    let order = app
        .pool
        .run(Class::Account, async |conn| {
            orders::find(conn, &token, id).await
        })
        .await?;
    Ok(axum::Json(order))
}
