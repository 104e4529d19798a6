//! Products: departments with the things they sell, in materials and variants.

use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::departments::{ADJECTIVES, DEPARTMENTS, Department, VARIANTS, VENDORS};
use super::{STOCK, pick, relax_durability, scramble};

/// Products per transaction.
pub(super) const CHUNK: u32 = 500;
/// Product number `n`, from 0.
struct Product {
    n: u64,
    department: &'static Department,
    title: String,
    handle: String,
    material: &'static str,
    adjective: &'static str,
}

impl Product {
    fn number(n: u64) -> Self {
        let department = &DEPARTMENTS[(n % DEPARTMENTS.len() as u64) as usize];
        // Every thing in every material under every adjective, before any of them comes again.
        let mut rest = n / DEPARTMENTS.len() as u64;
        let mut next = |choices: &[&'static str]| {
            let count = choices.len() as u64;
            let choice = choices[(rest % count) as usize];
            rest /= count;
            choice
        };
        let thing = next(&department.things);
        let adjective = next(&ADJECTIVES);
        let material = next(&department.materials);
        let edition = if rest > 0 {
            format!(" No. {}", rest + 1)
        } else {
            String::new()
        };
        let title = format!("{adjective} {material} {thing}{edition}");
        let handle = title
            .to_lowercase()
            .replace(". ", "-")
            .replace([' ', '&'], "-");
        // The department keeps things apart that several of them sell.
        let handle = format!("{handle}-{}", department.name.to_lowercase());
        Self {
            n,
            department,
            title,
            handle,
            material,
            adjective,
        }
    }

    fn description(&self) -> String {
        let material = self.material.to_lowercase();
        let from = pick(
            &[
                "our own workshop",
                "a family business",
                "a small studio",
                "the coast",
            ],
            self.n,
            1,
        );
        let department = self.department;
        format!(
            "{} in {material}, from {from}. {}",
            self.title, department.use_of
        )
    }

    /// In cents; the second and third variant cost a little more.
    fn price(&self, variant: usize) -> i64 {
        let (low, high) = self.department.prices;
        let dollars = low + scramble(self.n, 2) % (high - low) + variant as u64 * (low / 4);
        let cents = [0, 50, 90, 99][(scramble(self.n, 3) % 4) as usize];
        i64::try_from(dollars * 100 + cents).unwrap_or(i64::MAX)
    }
}

/// Whether the first sample product is there, as the sample has it.
pub(super) async fn has_begun(conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let first = found(conn, 0, 1).await?;
    Ok(first.iter().any(|product| product.is_same))
}

/// A sample product that is in the shop.
#[derive(sqlx::FromRow)]
pub(super) struct Found {
    pub(super) id: i64,
    pub(super) handle: String,
    /// Whether it is called and described as the sample does it.
    pub(super) is_same: bool,
}

/// The sample products from number `from` until before `to` that are there.
pub(super) async fn found(
    conn: &mut PgConnection,
    from: u32,
    to: u32,
) -> Result<Vec<Found>, sqlx::Error> {
    let products: Vec<_> = (from..to).map(|n| Product::number(n.into())).collect();
    let descriptions: Vec<String> = products.iter().map(Product::description).collect();
    let handles: Vec<&str> = products.iter().map(|p| &*p.handle).collect();
    let titles: Vec<&str> = products.iter().map(|p| &*p.title).collect();
    sqlx::query_as(
        "SELECT p.id, p.handle, p.title = s.title AND p.description = s.description AS is_same
           FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS s (handle, title, description, n)
           JOIN products AS p USING (handle) ORDER BY n",
    )
    .bind(handles)
    .bind(titles)
    .bind(descriptions)
    .fetch_all(conn)
    .await
}

pub(super) async fn fill(
    conn: &mut PgConnection,
    count: u32,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<(), sqlx::Error> {
    for from in (0..count).step_by(CHUNK as usize) {
        let to = count.min(from + CHUNK);
        let products: Vec<_> = (from..to).map(|n| Product::number(n.into())).collect();
        insert(conn, &products).await?;
        progress(to.into());
    }
    Ok(())
}

async fn insert(conn: &mut PgConnection, products: &[Product]) -> Result<(), sqlx::Error> {
    let text = |of: fn(&Product) -> &str| -> Vec<&str> { products.iter().map(of).collect() };
    let descriptions: Vec<String> = products.iter().map(Product::description).collect();
    let vendors: Vec<&str> = products.iter().map(|p| pick(&VENDORS, p.n, 4)).collect();
    let variants = products
        .iter()
        .flat_map(|p| (0..VARIANTS).map(move |v| (p, v)));
    let prices: Vec<i64> = variants.map(|(p, v)| p.price(v)).collect();
    let values: Vec<&str> = products.iter().flat_map(|p| p.department.values).collect();
    let mut tx = conn.begin().await?;
    relax_durability(&mut tx).await?;
    sqlx::query(
        "WITH sample AS MATERIALIZED (
             SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[],
                                  $6::text[], $7::text[], $8::text[])
             WITH ORDINALITY AS s (handle, title, description, vendor, category, material,
                                   adjective, option, n)
         ), added AS (
             INSERT INTO products (handle, title, description, vendor, category, tags)
             SELECT handle, title, description, vendor, category,
                    ARRAY[lower(material), lower(adjective)]
             FROM sample ORDER BY n
             ON CONFLICT DO NOTHING
             RETURNING id, handle
         )
         INSERT INTO variants (product_id, position, sku, title, options, price_minor, currency,
                               stock)
         SELECT a.id, v.position, s.handle || '/' || lower(v.value), v.value,
                jsonb_build_object(s.option, v.value), v.price, 'USD', $11
         FROM added a
         JOIN sample s USING (handle)
         JOIN (SELECT (i - 1) / $12 + 1 AS n, (i - 1) % $12 + 1 AS position, price, value
               FROM unnest($9::bigint[], $10::text[]) WITH ORDINALITY AS u (price, value, i)) v
           USING (n)
         ORDER BY a.id, v.position",
    )
    .bind(text(|p| &p.handle))
    .bind(text(|p| &p.title))
    .bind(descriptions)
    .bind(vendors)
    .bind(text(|p| p.department.name))
    .bind(text(|p| p.material))
    .bind(text(|p| p.adjective))
    .bind(text(|p| p.department.option))
    .bind(prices)
    .bind(values)
    .bind(STOCK)
    .bind(VARIANTS as i32)
    .execute(&mut *tx)
    .await?;
    tx.commit().await
}

/// The numbers of up to `limit` sample variants, of the first products.
pub(super) async fn variants(
    conn: &mut PgConnection,
    products: u32,
    limit: u32,
) -> Result<Vec<i64>, sqlx::Error> {
    let products = u64::from(products.min(limit.div_ceil(VARIANTS as u32)));
    let handles: Vec<String> = (0..products).map(|n| Product::number(n).handle).collect();
    sqlx::query_scalar(
        "SELECT v.id FROM variants v JOIN products p ON p.id = v.product_id
         WHERE p.handle = ANY ($1) ORDER BY v.id",
    )
    .bind(handles)
    .fetch_all(conn)
    .await
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn handles_are_distinct_and_can_stand_in_addresses() {
        let handles: HashSet<String> = (0..100_000).map(|n| Product::number(n).handle).collect();
        assert_eq!(handles.len(), 100_000);
        let fit = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let unfit = handles.iter().find(|handle| !handle.chars().all(fit));
        assert_eq!(unfit, None);
    }
}
