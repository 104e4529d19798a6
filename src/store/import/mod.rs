//! Loads product files in Shopify's CSV format into the catalogue.
//!
//! - A bad row is rejected with its line and a reason; the rest loads. A product whose first row is
//!   bad in what concerns the product itself, or that has no good variant, is rejected as a whole.
//! - Loading a file twice changes nothing: products are found by handle and variants by SKU, and only
//!   what differs is written. A variant without a SKU gets one made of the handle and its options.
//! - A file says what the shop sells, not what is left of it: its quantity counts for new variants
//!   only. An existing variant keeps its stock, which orders have changed since.
//! - Variants that a file no longer lists stay, because orders refer to them, behind those that it
//!   lists. Images are replaced by those of the file.
//! - Descriptions are stored as plain text: tags are dropped, entities decoded. The text may hold any
//!   character, so whoever puts it into HTML has to escape it like every other text.

mod columns;
mod draft;
mod money;
mod shopify;
mod upsert;

use std::fmt;
use std::io::Read;

use serde::Serialize;
use sqlx::postgres::PgConnection;

pub use money::Currency;

/// Rejections that a report lists; further ones are only counted.
const MOST_LISTED: usize = 1000;

/// Why a file could not be loaded to its end. What was loaded before stays.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("cannot read the file: {0}")]
    Read(#[from] csv::Error),
    /// It is not a product file.
    #[error(
        "the first line has no column named {}: a product file in Shopify's CSV format is wanted",
        .0.join(" and none named ")
    )]
    NoColumns(Vec<&'static str>),
    /// The database did not answer, or refused for a reason that the file does not have.
    #[error("the database failed; what was loaded before stays, load the file again: {}", pool::summarize(.0))]
    Database(#[from] sqlx::Error),
}

/// A row, or a product, that was not loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rejection {
    /// The line of the file in which the row begins, from 1.
    pub line: u64,
    /// Why.
    pub reason: String,
}

/// How many of a kind were written and how many were as they should be already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// New.
    pub added: u64,
    /// Different from before.
    pub changed: u64,
    /// Removed.
    pub removed: u64,
    /// Left alone.
    pub unchanged: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} added, {} changed", self.added, self.changed)?;
        if self.removed > 0 {
            write!(f, ", {} removed", self.removed)?;
        }
        write!(f, ", {} unchanged", self.unchanged)
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.added += other.added;
        self.changed += other.changed;
        self.removed += other.removed;
        self.unchanged += other.unchanged;
    }
}

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Products, their own columns alone.
    pub products: Tally,
    /// Variants.
    pub variants: Tally,
    /// Images.
    pub images: Tally,
    /// What was not loaded, in order; at most 1,000 of them.
    pub rejections: Vec<Rejection>,
    /// How many rejections there are in all.
    pub rejected: u64,
}

impl Report {
    fn reject(&mut self, line: u64, reason: impl Into<String>) {
        self.rejected += 1;
        if self.rejections.len() < MOST_LISTED {
            self.rejections.push(Rejection {
                line,
                reason: reason.into(),
            });
        }
    }
}

/// Loads `file`, whose prices are in `currency`. Every product is one short transaction.
///
/// # Errors
/// [`ImportError`] when the file is no product file or the database fails; bad rows are no error but
/// part of the report.
pub async fn import(
    conn: &mut PgConnection,
    file: impl Read,
    currency: Currency,
) -> Result<Report, ImportError> {
    let mut report = Report::default();
    let mut products = shopify::Products::open(file, currency)?;
    while let Some(draft) = products.next(&mut report)? {
        upsert::store(conn, &draft, currency, &mut report).await?;
    }
    // That a product has nothing to sell is known only after its last row.
    report.rejections.sort_by_key(|rejection| rejection.line);
    Ok(report)
}
