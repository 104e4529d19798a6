//! The rows of a CSV file by the names of their columns.

use std::collections::HashMap;
use std::io::{Chain, Read};

use csv::{ByteRecord, ReaderBuilder, Terminator};

use super::ImportError;

/// Without these a file is no product file.
const REQUIRED: [&str; 3] = ["Handle", "Title", "Variant Price"];

/// A CSV file with a header. A byte order mark, CRLF and line breaks in quotes are fine.
pub(super) struct Table<R> {
    csv: csv::Reader<Chain<R, &'static [u8]>>,
    names: Vec<String>,
    index: HashMap<String, usize>,
    record: ByteRecord,
}

/// A row whose every field is text.
pub(super) struct Row<'a> {
    /// The line in which it begins.
    pub(super) line: u64,
    fields: Vec<&'a str>,
    index: &'a HashMap<String, usize>,
}

/// A row that is no text, and why.
pub(super) struct BadRow {
    pub(super) line: u64,
    pub(super) reason: String,
}

impl<R: Read> Table<R> {
    pub(super) fn open(file: R) -> Result<Self, ImportError> {
        let mut csv = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            // Not CRLF, which leaves open whether the line feed has been counted yet. The return
            // before it is trimmed with the field.
            .terminator(Terminator::Any(b'\n'))
            // The last line is terminated like all the others, so that lines can be counted.
            .from_reader(file.chain(&b"\n"[..]));
        let mut record = ByteRecord::new();
        csv.read_byte_record(&mut record)?;
        let names: Vec<String> = record
            .iter()
            .map(|name| String::from_utf8_lossy(name).trim().to_owned())
            .collect();
        // The first of two columns of one name counts.
        let columns = names.iter().enumerate().rev();
        let index: HashMap<_, _> = columns.map(|(i, name)| (name.clone(), i)).collect();
        let missing = REQUIRED
            .into_iter()
            .filter(|name| !index.contains_key(*name));
        let missing: Vec<_> = missing.collect();
        if !missing.is_empty() {
            return Err(ImportError::NoColumns(missing));
        }
        Ok(Self {
            csv,
            names,
            index,
            record,
        })
    }

    /// The next row that is not blank.
    pub(super) fn next(&mut self) -> Result<Option<Result<Row<'_>, BadRow>>, ImportError> {
        loop {
            if !self.csv.read_byte_record(&mut self.record)? {
                return Ok(None);
            }
            let blank = self
                .record
                .iter()
                .all(|field| field.trim_ascii().is_empty());
            if !blank {
                break;
            }
        }
        // Blank lines before the row are skipped unseen, so its line is counted from its end.
        let breaks = self.record.as_slice().iter().filter(|byte| **byte == b'\n');
        let line = self.csv.position().line() - 1 - breaks.count() as u64;
        Ok(Some(self.row(line)))
    }

    fn row(&self, line: u64) -> Result<Row<'_>, BadRow> {
        let bad = |reason| BadRow { line, reason };
        let (wanted, found) = (self.names.len(), self.record.len());
        if wanted != found {
            return Err(bad(format!(
                "has {found} fields, but the first line names {wanted} columns; is a quote missing?"
            )));
        }
        let mut fields = Vec::with_capacity(found);
        for (name, field) in self.names.iter().zip(&self.record) {
            let text = std::str::from_utf8(field)
                .map_err(|_| bad(format!("{name} is not UTF-8: save the file as UTF-8")))?;
            if text.contains('\0') {
                return Err(bad(format!("{name} holds a NUL character")));
            }
            fields.push(text.trim());
        }
        Ok(Row {
            line,
            fields,
            index: &self.index,
        })
    }
}

impl<'a> Row<'a> {
    /// The field without spaces around it; empty when there is no such column.
    pub(super) fn get(&self, column: &str) -> &'a str {
        self.index.get(column).map_or("", |i| self.fields[*i])
    }

    /// The field, if it has at most `limit` characters.
    pub(super) fn text(&self, column: &str, limit: usize) -> Result<&'a str, String> {
        let text = self.get(column);
        // Bytes first: cheap, and right for most.
        if text.len() > limit && text.chars().count() > limit {
            return Err(format!("{column} is longer than {limit} characters"));
        }
        Ok(text)
    }
}
