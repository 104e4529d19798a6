//! Products and their variants, as shoppers see them.

use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnection;
use sqlx::{FromRow, Postgres, QueryBuilder};
use utoipa::ToSchema;

use super::StoreError;
use super::page::{Cursor, Page};

/// Which products to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only this category.
    pub category: Option<String>,
    /// Only products whose title, vendor, category or description has these words.
    pub words: Option<String>,
    /// Continue behind this product.
    pub after: Option<Cursor>,
    /// Most products to return.
    pub limit: u32,
}

/// A product in a list.
#[derive(Debug, Serialize, FromRow, ToSchema)]
pub struct ProductSummary {
    /// Number of the product.
    pub id: i64,
    /// Name of the product in addresses.
    pub handle: String,
    /// Name for people.
    pub title: String,
    /// Who makes it.
    pub vendor: String,
    /// Where it is listed.
    pub category: String,
    /// Lowest price of its variants in the minor unit of `currency`; absent without variants.
    pub from_price_minor: Option<i64>,
    /// ISO 4217 code.
    pub currency: Option<String>,
    /// Whether any variant is in stock.
    pub in_stock: bool,
    /// Address of its first image.
    pub image: Option<String>,
}

/// A product with everything that its page shows. The database writes it as JSON, see [`detail`].
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Product {
    /// Number of the product.
    pub id: i64,
    /// Name of the product in addresses.
    pub handle: String,
    /// Name for people.
    pub title: String,
    /// What it is, as plain text.
    pub description: String,
    /// Who makes it.
    pub vendor: String,
    /// Where it is listed.
    pub category: String,
    /// Words that it is tagged with.
    pub tags: Vec<String>,
    /// What can be bought, in order.
    pub variants: Vec<Variant>,
    /// Images, in order.
    pub images: Vec<Image>,
}

/// What can be bought: the thing that has a price and a stock.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Stock keeping unit, by which it is ordered.
    pub sku: String,
    /// Name for people.
    pub title: String,
    /// What distinguishes it, e.g. `{"Size": "M"}`.
    #[schema(value_type = Object)]
    pub options: serde_json::Value,
    /// Price in the minor unit of `currency`.
    pub price_minor: i64,
    /// Former price, if it is reduced.
    pub compare_at_minor: Option<i64>,
    /// ISO 4217 code.
    pub currency: String,
    /// Pieces in stock.
    pub stock: i32,
    /// Address of its image.
    pub image_url: Option<String>,
}

/// An image of a product.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Its address.
    pub url: String,
    /// What it shows, for those who do not see it.
    pub alt: String,
}

/// A page of published products in order of their number. One statement.
///
/// # Errors
/// [`StoreError`].
pub async fn list(
    conn: &mut PgConnection,
    filter: &Filter,
) -> Result<Page<ProductSummary>, StoreError> {
    // Conditions are added only when asked for, so that every shape of the query has its own plan.
    let mut sql = QueryBuilder::<Postgres>::new(
        "SELECT p.id, p.handle, p.title, p.vendor, p.category,
                v.from_price_minor, v.currency, coalesce(v.in_stock, false) AS in_stock, i.image
         FROM products p
         LEFT JOIN LATERAL (
             SELECT min(price_minor) AS from_price_minor,
                    (array_agg(currency ORDER BY price_minor))[1] AS currency,
                    bool_or(stock > 0) AS in_stock
             FROM variants WHERE product_id = p.id
         ) v ON true
         LEFT JOIN LATERAL (
             SELECT url AS image FROM images WHERE product_id = p.id ORDER BY position LIMIT 1
         ) i ON true
         WHERE p.published AND p.id > ",
    );
    sql.push_bind(filter.after.map_or(0, |cursor| cursor.0));
    if let Some(category) = &filter.category {
        sql.push(" AND p.category = ").push_bind(category);
    }
    if let Some(words) = &filter.words {
        sql.push(" AND p.search @@ websearch_to_tsquery('simple', ")
            .push_bind(words)
            .push(")");
    }
    sql.push(" ORDER BY p.id LIMIT ")
        .push_bind(i64::from(filter.limit) + 1);
    let rows = sql.build_query_as().fetch_all(conn).await?;
    Ok(Page::cut(rows, filter.limit, |p: &ProductSummary| p.id))
}

/// The statement of [`detail`]; `$1` is the handle.
///
/// This is the busiest request of a shop. PostgreSQL writes the document as fast as it writes rows
/// of columns, and nothing has to be decoded and encoded again on the way.
pub const DETAIL: &str = "
    SELECT row_to_json(product)::text FROM (
        SELECT p.id, p.handle, p.title, p.description, p.vendor, p.category, p.tags,
               (SELECT coalesce(json_agg(v), '[]') FROM (
                    SELECT sku, title, options, price_minor, compare_at_minor, currency, stock,
                           image_url
                    FROM variants WHERE product_id = p.id ORDER BY position
                ) v) AS variants,
               (SELECT coalesce(json_agg(i), '[]') FROM (
                    SELECT url, alt FROM images WHERE product_id = p.id ORDER BY position
                ) i) AS images
        FROM products p WHERE handle = $1 AND published
    ) product";

/// The published product called `handle` as the JSON text of a [`Product`], or `None`. One statement.
///
/// # Errors
/// [`StoreError`].
pub async fn detail(conn: &mut PgConnection, handle: &str) -> Result<Option<String>, StoreError> {
    let json = sqlx::query_scalar(DETAIL)
        .bind(handle)
        .fetch_optional(conn)
        .await?;
    Ok(json)
}

/// The names of all categories that have a published product, in alphabetical order. One statement,
/// which jumps from one category to the next in the index instead of reading every product.
///
/// # Errors
/// [`StoreError`].
pub async fn categories(conn: &mut PgConnection) -> Result<Vec<String>, StoreError> {
    let names = sqlx::query_scalar(
        "WITH RECURSIVE names AS (
             (SELECT category FROM products WHERE published ORDER BY category LIMIT 1)
             UNION ALL
             SELECT (SELECT p.category FROM products p
                     WHERE p.published AND p.category > names.category
                     ORDER BY p.category LIMIT 1)
             FROM names WHERE names.category IS NOT NULL
         )
         SELECT category FROM names WHERE category <> ''",
    )
    .fetch_all(conn)
    .await?;
    Ok(names)
}
