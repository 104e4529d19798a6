//! Looking at products.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use garde::Validate;
use pool::Class;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::ApiError;
use super::extract::{Path, Query, one_line};
use crate::app::App;
use crate::store::catalog::{self, Filter, Product, ProductSummary};
use crate::store::page::{Cursor, Page};

/// The addresses of the catalogue.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(detail))
        .routes(routes!(categories))
}

#[derive(Debug, Deserialize, Validate, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only products of this category.
    #[garde(inner(length(chars, max = 200), custom(one_line)))]
    #[param(
        max_length = 200,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$",
        example = "Clothing"
    )]
    #[serde(default)]
    category: Option<String>,
    /// Only products with these words; `"quoted phrases"`, `or` and `-without` work.
    #[garde(inner(length(chars, max = 200), custom(one_line)))]
    #[param(
        max_length = 200,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$",
        example = "linen shirt"
    )]
    #[serde(default)]
    q: Option<String>,
    /// Where the page before ended: its `next`.
    #[garde(skip)]
    #[param(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{10}[AEIMQUYcgkosw048]$")]
    #[serde(default)]
    after: Option<Cursor>,
    /// Most products to return.
    #[garde(range(min = 1, max = 100))]
    #[param(minimum = 1, maximum = 100, default = 20)]
    #[serde(default = "default_limit")]
    limit: u32,
}

/// Rows of a page when nobody asks for another number.
pub fn default_limit() -> u32 {
    20
}

/// List products.
#[utoipa::path(get, path = "/api/products", tag = "products", params(ListQuery),
    responses((status = OK, body = Page<ProductSummary>)))]
async fn list(
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<ProductSummary>>, ApiError> {
    let filter = Filter {
        category: query.category,
        words: query.q.filter(|words| !words.trim().is_empty()),
        after: query.after,
        limit: query.limit,
    };
    let page = app
        .pool
        .run(Class::Browse, async |conn| {
            catalog::list(conn, &filter).await
        })
        .await?;
    Ok(Json(page))
}

/// Show a product with its variants and images.
#[utoipa::path(get, path = "/api/products/{handle}", tag = "products",
    params(("handle" = String, Path, description = "Name of the product in addresses",
        min_length = 1, pattern = r"^[^\u0000]+$", example = "everyday-linen-shirt-clothing")),
    responses((status = OK, body = Product)))]
async fn detail(State(app): State<App>, Path(handle): Path<String>) -> Result<Response, ApiError> {
    let product = app
        .pool
        .run(Class::Browse, async |conn| {
            catalog::detail(conn, &handle).await
        })
        .await?;
    let json = product.ok_or_else(|| ApiError::not_found("product"))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

/// List the categories that have products.
#[utoipa::path(get, path = "/api/categories", tag = "products",
    responses((status = OK, body = Vec<String>)))]
async fn categories(State(app): State<App>) -> Result<Json<Vec<String>>, ApiError> {
    let names = app.pool.run(Class::Browse, catalog::categories).await?;
    Ok(Json(names))
}
