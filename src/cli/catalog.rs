//! `evenkeel catalog import`: loads product files into the shop.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sqlx::postgres::PgConnection;

use super::database::{Database, DatabaseError};
use crate::config::Settings;
use crate::store::import::{Currency, ImportError, Report, import};
use crate::store::sample::{self, Removed, SampleError};

/// Rejections that are printed per file; the rest is only counted.
const MOST_PRINTED: usize = 50;

/// Largest file that is read. A file with a quote that is never closed is one field, held in memory.
const MOST_BYTES: u64 = 256 * 1024 * 1024;

/// Look after the catalogue.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Load product files in Shopify's CSV format.
    ///
    /// Bad rows are reported with their line and skipped; the rest loads. Loading a file again
    /// changes nothing. The stock of variants that exist is left alone. Ends with 1 if a file could
    /// not be read at all, or not to its end; the other files are loaded all the same.
    Import(Import),
    /// Remove the sample shop's products, its people and their orders from the shop where it stands.
    ///
    /// In small transactions, beside whoever shops. Sample products that somebody has changed stay, and so
    /// do the orders of all other accounts; both are named.
    RemoveSample,
}

/// What to load.
#[derive(Debug, clap::Args)]
pub struct Import {
    /// CSV files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Currency of their prices, an ISO 4217 code.
    #[arg(long, default_value = "USD")]
    currency: Currency,
    /// Make the shop's tables, and an embedded server's data, where they are not there yet, also beside what
    /// others keep in the database.
    #[arg(long)]
    create: bool,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// There is no shop.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The sample was not removed, or not all of it; it can be tried again.
    #[error(transparent)]
    Sample(#[from] SampleError),
}

/// Why a file was not loaded.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("cannot open it: {0}")]
    Open(#[from] std::io::Error),
    #[error("it has {0} bytes, but at most {MOST_BYTES} are read: split it between two products")]
    TooLarge(u64),
    #[error(transparent)]
    Import(#[from] ImportError),
}

/// Runs the command on the shop's database, prints what it did and returns the exit status.
///
/// # Errors
/// [`CatalogError`] when there is no shop to work on, or the sample cannot be removed.
pub async fn run(args: Args, settings: &Settings) -> Result<ExitCode, CatalogError> {
    let create = matches!(&args.command, Command::Import(import) if import.create);
    let database = Database::shared_or_new(settings, create).await?;
    let done = on(&database, args.command, settings).await;
    database.close().await?;
    done
}

async fn on(
    database: &Database,
    command: Command,
    settings: &Settings,
) -> Result<ExitCode, CatalogError> {
    match command {
        Command::Import(import) => {
            let mut conn = database.shop_or_new(import.create).await?;
            let done = import.run(&mut conn).await;
            if sample::is_there(&mut conn).await? {
                eprintln!(
                    "these products stand beside those of the sample shop, which shoppers can order as \
                     well: `evenkeel catalog remove-sample` removes it"
                );
            }
            Ok(done)
        }
        Command::RemoveSample => {
            let mut conn = database.shop_as_it_is().await?;
            show_removed(&sample::remove(&mut conn).await?);
            if settings.database.sample_shop == Some(true) {
                eprintln!(
                    "database.sample_shop is true: the next start of a shop without products fills it again"
                );
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn show_removed(removed: &Removed) {
    println!(
        "removed: {} sample products, {} sample accounts with {} orders",
        removed.products, removed.erased.accounts, removed.erased.orders
    );
    if removed.kept > 0 {
        println!(
            "kept: {} sample products that somebody has changed: {}",
            removed.kept,
            named(&removed.changed, removed.kept)
        );
    }
    if removed.real_orders > 0 {
        let orders = removed.orders.iter();
        let orders: Vec<_> = orders
            .map(|(account, order)| format!("{order} of account {account}"))
            .collect();
        println!(
            "untouched: orders of other accounts that name products which are no longer sold ({}): {}",
            removed.real_orders,
            named(&orders, removed.real_orders)
        );
    }
}

/// `some` of so many.
fn named(some: &[String], all: u64) -> String {
    let more = all.saturating_sub(some.len() as u64);
    match more {
        0 => some.join(", "),
        more => format!("{} and {more} more", some.join(", ")),
    }
}

impl Import {
    /// Loads the files, prints what that did and returns the exit status.
    pub async fn run(&self, conn: &mut PgConnection) -> ExitCode {
        import_all(conn, &self.files, self.currency).await
    }
}

async fn import_all(conn: &mut PgConnection, files: &[PathBuf], currency: Currency) -> ExitCode {
    let mut status = ExitCode::SUCCESS;
    for path in files {
        match load(conn, path, currency).await {
            Ok(report) => show(path, &report),
            Err(err) => {
                eprintln!("{}: {err}", path.display());
                status = ExitCode::FAILURE;
            }
        }
    }
    status
}

async fn load(
    conn: &mut PgConnection,
    path: &Path,
    currency: Currency,
) -> Result<Report, FileError> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    if size > MOST_BYTES {
        return Err(FileError::TooLarge(size));
    }
    Ok(import(conn, BufReader::new(file), currency).await?)
}

fn show(path: &Path, report: &Report) {
    let path = path.display();
    println!("{path}");
    println!("  products: {}", report.products);
    println!("  variants: {}", report.variants);
    println!("  images:   {}", report.images);
    if report.rejected == 0 {
        return;
    }
    println!("  rejected: {}", report.rejected);
    for rejection in report.rejections.iter().take(MOST_PRINTED) {
        eprintln!("{path}:{}: {}", rejection.line, rejection.reason);
    }
    let more = report.rejected.saturating_sub(MOST_PRINTED as u64);
    if more > 0 {
        eprintln!("{path}: {more} more");
    }
}
