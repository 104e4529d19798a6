//! Writes a product: only what differs, in one short transaction.

use pool::describe;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};

use super::draft::{Draft, DraftVariant};
use super::money::Currency;
use super::{ImportError, Report, Tally};

/// Finds the product by its handle, changes it if it differs, adds it if it is new.
const PRODUCT: &str = "
    WITH known AS (
        SELECT id FROM products WHERE handle = $1
    ), changed AS (
        UPDATE products p
        SET title = $2, description = $3, vendor = $4, category = $5, tags = $6, published = $7
        FROM known
        WHERE p.id = known.id
          AND (p.title, p.description, p.vendor, p.category, p.tags, p.published)
              IS DISTINCT FROM ($2, $3, $4, $5, $6::text[], $7)
        RETURNING p.id
    ), added AS (
        INSERT INTO products (handle, title, description, vendor, category, tags, published)
        SELECT $1, $2, $3, $4, $5, $6, $7 WHERE NOT EXISTS (SELECT FROM known)
        RETURNING id
    )
    SELECT id, (SELECT count(*) FROM changed), 0::bigint FROM known
    UNION ALL
    SELECT id, 0, 1 FROM added";

/// Puts the variants of product $1 in the order of the SKUs $2, those that are not among them behind.
/// A position is unique at every moment, so they pass through negative numbers; nothing is written
/// when the order is right already.
const ORDER: &str = "
    WITH target AS (
        SELECT v.id, v.position AS now,
               coalesce(w.position, cardinality($2::text[]) + row_number()
                        OVER (PARTITION BY w.position IS NULL ORDER BY v.position)) AS wanted
        FROM variants v
        LEFT JOIN unnest($2::text[]) WITH ORDINALITY AS w (sku, position) ON w.sku = v.sku
        WHERE v.product_id = $1
    )
    UPDATE variants v SET position = -target.wanted FROM target
    WHERE v.id = target.id AND EXISTS (SELECT FROM target WHERE now <> wanted)";

const END_ORDER: &str =
    "UPDATE variants SET position = -position WHERE product_id = $1 AND position < 0";

/// Changes the variants of product $1 that differ, except for their stock, and adds those that are
/// new with the stock of the file.
const VARIANTS: &str = "
    WITH wanted AS (
        SELECT * FROM unnest($3::text[], $4::text[], $5::jsonb[], $6::bigint[], $7::bigint[],
                             $8::integer[], $9::text[], $10::integer[], $11::text[])
        WITH ORDINALITY AS w (sku, title, options, price_minor, compare_at_minor, stock, barcode,
                              grams, image_url, position)
    ), changed AS (
        UPDATE variants v
        SET title = w.title, options = w.options, price_minor = w.price_minor,
            compare_at_minor = w.compare_at_minor, currency = $2, barcode = w.barcode,
            grams = w.grams, image_url = w.image_url
        FROM wanted w
        WHERE v.product_id = $1 AND v.sku = w.sku
          AND (v.title, v.options, v.price_minor, v.compare_at_minor, v.currency, v.barcode,
               v.grams, v.image_url)
              IS DISTINCT FROM (w.title, w.options, w.price_minor, w.compare_at_minor, $2,
                                w.barcode, w.grams, w.image_url)
        RETURNING v.id
    ), added AS (
        INSERT INTO variants (product_id, position, sku, title, options, price_minor,
                              compare_at_minor, currency, stock, barcode, grams, image_url)
        SELECT $1, position, sku, title, options, price_minor, compare_at_minor, $2, stock, barcode,
               grams, image_url
        FROM wanted w WHERE NOT EXISTS (SELECT FROM variants v WHERE v.sku = w.sku)
        RETURNING id
    )
    SELECT (SELECT count(*) FROM changed), (SELECT count(*) FROM added)";

/// Makes the images of product $1 those of the file.
const IMAGES: &str = "
    WITH wanted AS (
        SELECT * FROM unnest($2::integer[], $3::text[], $4::text[]) AS w (position, url, alt)
    ), removed AS (
        DELETE FROM images
        WHERE product_id = $1 AND position <> ALL ($2)
        RETURNING position
    ), changed AS (
        UPDATE images i SET url = w.url, alt = w.alt FROM wanted w
        WHERE i.product_id = $1 AND i.position = w.position
          AND (i.url, i.alt) IS DISTINCT FROM (w.url, w.alt)
        RETURNING i.position
    ), added AS (
        INSERT INTO images (product_id, position, url, alt)
        SELECT $1, position, url, alt FROM wanted w
        WHERE NOT EXISTS (SELECT FROM images i WHERE i.product_id = $1 AND i.position = w.position)
        RETURNING position
    )
    SELECT (SELECT count(*) FROM added), (SELECT count(*) FROM changed),
           (SELECT count(*) FROM removed)";

/// Writes `draft`, or rejects it when the database will not have it.
///
/// # Errors
/// [`ImportError::Database`] when the next product would fare no better.
pub(super) async fn store(
    conn: &mut PgConnection,
    draft: &Draft,
    currency: Currency,
    report: &mut Report,
) -> Result<(), ImportError> {
    match write(conn, draft, currency).await {
        Ok(Ok(written)) => {
            report.products += written.product;
            report.variants += written.variants;
            report.images += written.images;
            Ok(())
        }
        Ok(Err(reason)) => {
            report.reject(draft.line, reason);
            Ok(())
        }
        Err(err) if concerns_one_product(&err) => {
            let (handle, why) = (&draft.handle, describe(&err));
            report.reject(
                draft.line,
                format!("the product `{handle}` was refused: {why}"),
            );
            Ok(())
        }
        Err(err) => Err(err.into()),
    }
}

/// Whether an error has to do with these rows: data exceptions, violated constraints, limits, locks
/// held by others, deadlocks.
fn concerns_one_product(err: &sqlx::Error) -> bool {
    let code = err.as_database_error().and_then(|err| err.code());
    let classes = ["22", "23", "54", "40", "55"];
    code.is_some_and(|code| classes.iter().any(|class| code.starts_with(class)) || code == "57014")
}

struct Written {
    product: Tally,
    variants: Tally,
    images: Tally,
}

async fn write(
    conn: &mut PgConnection,
    draft: &Draft,
    currency: Currency,
) -> Result<Result<Written, String>, sqlx::Error> {
    let mut tx = conn.begin().await?;
    // Shoppers come first: an import waits for nobody and holds no lock for long.
    tx.execute("SET LOCAL lock_timeout = '1s'").await?;
    tx.execute("SET LOCAL statement_timeout = '10s'").await?;
    let (id, changed, added): (i64, i64, i64) = sqlx::query_as(PRODUCT)
        .bind(&draft.handle)
        .bind(&draft.title)
        .bind(&draft.description)
        .bind(&draft.vendor)
        .bind(&draft.category)
        .bind(&draft.tags)
        .bind(draft.published)
        .fetch_one(&mut *tx)
        .await?;
    let skus: Vec<&str> = draft.variants.iter().map(|v| v.sku.as_str()).collect();
    if let Some(reason) = taken_elsewhere(&mut tx, id, &skus).await? {
        // Dropping the transaction undoes the product.
        return Ok(Err(reason));
    }
    let written = Written {
        product: tally(added, changed, 0, 1),
        variants: write_variants(&mut tx, id, draft, &skus, currency).await?,
        images: write_images(&mut tx, id, draft).await?,
    };
    tx.commit().await?;
    Ok(Ok(written))
}

async fn taken_elsewhere(
    conn: &mut PgConnection,
    product: i64,
    skus: &[&str],
) -> Result<Option<String>, sqlx::Error> {
    let taken: Option<(String, String)> = sqlx::query_as(
        "SELECT v.sku, p.handle FROM variants v JOIN products p ON p.id = v.product_id
         WHERE v.sku = ANY ($1) AND v.product_id <> $2 ORDER BY v.sku LIMIT 1",
    )
    .bind(skus)
    .bind(product)
    .fetch_optional(conn)
    .await?;
    Ok(taken.map(|(sku, handle)| format!("SKU `{sku}` belongs to the product `{handle}`")))
}

async fn write_variants(
    conn: &mut PgConnection,
    product: i64,
    draft: &Draft,
    skus: &[&str],
    currency: Currency,
) -> Result<Tally, sqlx::Error> {
    let moved = sqlx::query(ORDER)
        .bind(product)
        .bind(skus)
        .execute(&mut *conn)
        .await?
        .rows_affected();
    if moved > 0 {
        sqlx::query(END_ORDER)
            .bind(product)
            .execute(&mut *conn)
            .await?;
    }
    fn column<'a, T>(draft: &'a Draft, of: impl Fn(&'a DraftVariant) -> T) -> Vec<T> {
        draft.variants.iter().map(of).collect()
    }
    let (changed, added): (i64, i64) = sqlx::query_as(VARIANTS)
        .bind(product)
        .bind(currency.code())
        .bind(skus)
        .bind(column(draft, |v| v.title.as_str()))
        .bind(column(draft, |v| &v.options))
        .bind(column(draft, |v| v.price_minor))
        .bind(column(draft, |v| v.compare_at_minor))
        .bind(column(draft, |v| v.stock))
        .bind(column(draft, |v| v.barcode.as_deref()))
        .bind(column(draft, |v| v.grams))
        .bind(column(draft, |v| v.image_url.as_deref()))
        .fetch_one(conn)
        .await?;
    // A new order rewrites every variant that was there before.
    let changed = if moved > 0 {
        skus.len() as i64 - added
    } else {
        changed
    };
    Ok(tally(added, changed, 0, skus.len()))
}

async fn write_images(
    conn: &mut PgConnection,
    product: i64,
    draft: &Draft,
) -> Result<Tally, sqlx::Error> {
    let positions: Vec<i32> = draft.images.iter().map(|image| image.position).collect();
    let urls: Vec<&str> = draft
        .images
        .iter()
        .map(|image| image.url.as_str())
        .collect();
    let alts: Vec<&str> = draft
        .images
        .iter()
        .map(|image| image.alt.as_str())
        .collect();
    let (added, changed, removed): (i64, i64, i64) = sqlx::query_as(IMAGES)
        .bind(product)
        .bind(positions)
        .bind(urls)
        .bind(alts)
        .fetch_one(conn)
        .await?;
    Ok(tally(added, changed, removed, draft.images.len()))
}

/// Counts of the database out of `all` rows of the file.
fn tally(added: i64, changed: i64, removed: i64, all: usize) -> Tally {
    let [added, changed, removed] = [added, changed, removed].map(i64::unsigned_abs);
    Tally {
        added,
        changed,
        removed,
        unchanged: (all as u64).saturating_sub(added + changed),
    }
}
