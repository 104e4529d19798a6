//! Shopify's product CSV: a product is a row with a title and the rows below it with its handle,
//! each of which may hold a variant, an image or both.

use std::collections::HashMap;
use std::io::Read;

use super::columns::{Row, Table};
use super::draft::{self, Draft};
use super::money::Currency;
use super::{ImportError, Report};

/// The products of a file, one after the other.
pub(super) struct Products<R> {
    table: Table<R>,
    currency: Currency,
    /// The product that the rows being read belong to.
    current: Current,
    /// The line in which each product began.
    began: HashMap<String, u64>,
}

#[derive(Default)]
enum Current {
    /// Before the first product.
    #[default]
    None,
    /// Its rows are being read.
    Open(Box<Draft>),
    /// Its first row, in `line`, was rejected, and so are the others.
    Rejected { handle: String, line: u64 },
}

impl Current {
    fn handle(&self) -> Option<&str> {
        match self {
            Current::None => None,
            Current::Open(draft) => Some(&draft.handle),
            Current::Rejected { handle, .. } => Some(handle),
        }
    }
}

impl<R: Read> Products<R> {
    pub(super) fn open(file: R, currency: Currency) -> Result<Self, ImportError> {
        Ok(Self {
            table: Table::open(file)?,
            currency,
            current: Current::None,
            began: HashMap::new(),
        })
    }

    /// The next product that can be loaded.
    pub(super) fn next(&mut self, report: &mut Report) -> Result<Option<Draft>, ImportError> {
        loop {
            let Some(row) = self.table.next()? else {
                let last = std::mem::take(&mut self.current);
                return Ok(close(last, report));
            };
            let row = match row {
                Ok(row) => row,
                Err(bad) => {
                    report.reject(bad.line, bad.reason);
                    continue;
                }
            };
            let handle = match draft::handle(&row) {
                Ok(handle) => handle,
                Err(reason) => {
                    report.reject(row.line, reason);
                    continue;
                }
            };
            if self.current.handle() == Some(&handle) {
                match &mut self.current {
                    Current::Open(draft) => read_row(draft, &row, self.currency, report),
                    Current::Rejected { line, .. } => {
                        report.reject(
                            row.line,
                            format!("its product, in line {line}, was rejected"),
                        );
                    }
                    Current::None => {}
                }
                continue;
            }
            let next = begin(handle, &row, self.currency, &mut self.began, report);
            let finished = std::mem::replace(&mut self.current, next);
            if let Some(draft) = close(finished, report) {
                return Ok(Some(draft));
            }
        }
    }
}

/// The product that `row` begins.
fn begin(
    handle: String,
    row: &Row<'_>,
    currency: Currency,
    began: &mut HashMap<String, u64>,
    report: &mut Report,
) -> Current {
    let line = row.line;
    let draft = match began.get(&handle) {
        Some(line) => Err(format!(
            "the product `{handle}` began in line {line}: its rows must stand together"
        )),
        None if row.get("Title").is_empty() => Err(format!(
            "Title is empty, but `{handle}` is not the product of the row above"
        )),
        None => Draft::begin(handle.clone(), row),
    };
    match draft {
        Ok(mut draft) => {
            began.insert(handle, line);
            read_row(&mut draft, row, currency, report);
            Current::Open(Box::new(draft))
        }
        Err(reason) => {
            report.reject(line, reason);
            Current::Rejected { handle, line }
        }
    }
}

/// Reads the variant and the image of a row; what is wrong with one does not spoil the other.
fn read_row(draft: &mut Draft, row: &Row<'_>, currency: Currency, report: &mut Report) {
    let variant = draft.add_variant(row, currency);
    let image = draft.add_image(row);
    for reason in [variant, image].into_iter().filter_map(Result::err) {
        report.reject(row.line, reason);
    }
}

fn close(current: Current, report: &mut Report) -> Option<Draft> {
    let Current::Open(draft) = current else {
        return None;
    };
    if draft.variants.is_empty() {
        let handle = &draft.handle;
        report.reject(
            draft.line,
            format!("the product `{handle}` has no variant that can be sold"),
        );
        return None;
    }
    Some(draft.finish())
}
