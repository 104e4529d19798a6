//! `evenkeel catalog import`: loads product files into the shop.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sqlx::postgres::PgConnection;

use crate::store::import::{Currency, ImportError, Report, import};

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
    Import {
        /// CSV files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Currency of their prices, an ISO 4217 code.
        #[arg(long, default_value = "USD")]
        currency: Currency,
    },
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
pub async fn run(args: Args, conn: &mut PgConnection) -> ExitCode {
    let Command::Import { files, currency } = args.command;
    let mut status = ExitCode::SUCCESS;
    for path in files {
        match load(conn, &path, currency).await {
            Ok(report) => show(&path, &report),
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
