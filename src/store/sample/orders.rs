//! Orders of the last 90 days, by the hundred thousand.
//!
//! Order number `o` of `n` belongs to account `o·accounts/n`, so that every chunk is a run of the
//! primary key and every index grows at its end; within an account, later numbers are later orders.
//! The rows are produced in that order, so nothing is sorted.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};

use super::{SampleSize, catalog, people, relax_durability};

/// Orders per transaction.
const CHUNK: u32 = 100_000;
/// Orders are spread over the variants of the first products.
const POPULAR: u32 = 6_000;

/// Writes the orders numbered from $1 until before $2, of $3 in all, to the accounts $4, whose first
/// is account number $5 of $6. The lines name the variants $7, of which there are $8.
const INSERT: &str = "
    WITH sample AS MATERIALIZED (
        SELECT o AS id, ($4::bigint[])[(o - 1) * $6 / $3 - $5 + 1] AS account_id,
               hashint8extended(o, 1) & 9223372036854775807 AS dice,
               now() - interval '90 days'
                   * (1 - least(1, ((o - 1) * $6 % $3
                                    + $6 * (hashint8extended(o, 2) & 1023) / 1024) / $3::float8))
                   AS placed_at
        FROM generate_series($1::bigint, $2::bigint - 1) AS o
    ), popular AS MATERIALIZED (
        SELECT u.n - 1 AS n, v.id, v.sku, v.price_minor, p.title || ' / ' || v.title AS title
        FROM unnest($7::bigint[]) WITH ORDINALITY AS u (id, n)
        JOIN variants v USING (id) JOIN products p ON p.id = v.product_id
    ), placed AS (
        INSERT INTO orders (account_id, id, status, currency, placed_at{COLUMN})
        SELECT account_id, id, CASE WHEN placed_at < now() - interval '5 days'
                                    THEN 'delivered' ELSE 'placed' END,
               'USD', placed_at{VALUE}
        FROM sample
    )
    INSERT INTO order_lines
        (account_id, order_id, line, variant_id, sku, title, quantity, unit_price_minor)
    SELECT s.account_id, s.id, line, v.id, v.sku, v.title, 1 + (s.dice >> 9) % 3, v.price_minor
    FROM sample s
    JOIN (VALUES (1), (2), (3), (4)) AS l (line) ON line <= 1 + s.dice % 4
    JOIN popular v ON v.n = ((s.dice >> 12) + line * 7919) % $8";

/// Whether the last order is there; the chunks are written in order, each as a whole.
pub(super) async fn is_complete(
    conn: &mut PgConnection,
    size: SampleSize,
) -> Result<bool, sqlx::Error> {
    is_written(conn, size, size.orders).await
}

/// Whether the order of this number, from 1, is there.
async fn is_written(
    conn: &mut PgConnection,
    size: SampleSize,
    number: u32,
) -> Result<bool, sqlx::Error> {
    let account = account_of(size, number - 1);
    let accounts = people::accounts(conn, account, account + 1).await?;
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM orders WHERE account_id = ANY ($1) AND id = $2)")
        .bind(accounts)
        .bind(i64::from(number))
        .fetch_one(conn)
        .await
}

/// The account of order `index`, both from 0.
fn account_of(size: SampleSize, index: u32) -> u32 {
    let account = u64::from(index) * u64::from(size.accounts) / u64::from(size.orders);
    u32::try_from(account).unwrap_or(u32::MAX)
}

pub(super) async fn fill(
    conn: &mut PgConnection,
    size: SampleSize,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<(), sqlx::Error> {
    // Orders of shoppers, if there are any meanwhile, come after those of the sample.
    sqlx::query(
        "SELECT setval('orders_id_seq', greatest($1, (SELECT last_value FROM orders_id_seq)))",
    )
    .bind(i64::from(size.orders))
    .execute(&mut *conn)
    .await?;
    let variants = catalog::variants(conn, size.products, POPULAR).await?;
    let insert = insert(conn).await?;
    let unchecked = is_superuser(conn).await?;
    for from in (0..size.orders).step_by(CHUNK as usize) {
        let to = size.orders.min(from.saturating_add(CHUNK));
        if is_written(conn, size, to).await? {
            continue;
        }
        let (first, last) = (account_of(size, from), account_of(size, to - 1));
        let accounts = people::accounts(conn, first, last + 1).await?;
        let mut tx = conn.begin().await?;
        relax_durability(&mut tx).await?;
        guide_planner(&mut tx).await?;
        if unchecked {
            tx.execute("SET LOCAL session_replication_role = replica")
                .await?;
        }
        sqlx::query(AssertSqlSafe(insert.as_str()))
            .bind(i64::from(from) + 1)
            .bind(i64::from(to) + 1)
            .bind(i64::from(size.orders))
            .bind(&accounts)
            .bind(i64::from(first))
            .bind(i64::from(size.accounts))
            .bind(&variants)
            .bind(variants.len() as i64)
            // A plan for these very arrays; it is used once per chunk.
            .persistent(false)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        progress(to.into());
    }
    Ok(())
}

/// Keeps the plan from being compiled, from spilling to disk, and from sorting the lines by variant:
/// each takes a fifth of the time or more.
async fn guide_planner(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    conn.execute("SET LOCAL jit = off").await?;
    conn.execute("SET LOCAL work_mem = '64MB'").await?;
    conn.execute("SET LOCAL enable_mergejoin = off").await?;
    Ok(())
}

/// [`INSERT`] for the schema as it is. Orders from before the day was stored have none, whatever the
/// column's default says.
async fn insert(conn: &mut PgConnection) -> Result<String, sqlx::Error> {
    let has_day: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'orders'::regclass
                        AND attname = 'placed_day' AND NOT attisdropped)",
    )
    .fetch_one(conn)
    .await?;
    let (column, value) = if has_day {
        (", placed_day", ", NULL::date")
    } else {
        ("", "")
    };
    Ok(INSERT.replace("{COLUMN}", column).replace("{VALUE}", value))
}

async fn is_superuser(conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        .fetch_one(conn)
        .await
}
