//! Readings in files: CSV with a column `at` and a column for each series, or JSON lines of the same
//! names.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::reading::Reading;
use super::series::Series;

/// Why a file gives no readings.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// It cannot be read.
    #[error("cannot read {file}: {source}")]
    Read {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// A line of it is no reading.
    #[error("{file}:{line}: {problem}")]
    Line {
        /// The file.
        file: String,
        /// Counted from 1.
        line: u64,
        /// What is wrong and what to do.
        problem: String,
    },
}

/// The readings in `file`, in its order: JSON lines if it is called `*.jsonl`, else CSV.
///
/// # Errors
/// [`RecordingError`] names the file and the line.
pub fn read(path: &Path) -> Result<Vec<Reading>, RecordingError> {
    let file = path.display().to_string();
    let opened = File::open(path).map_err(|source| RecordingError::Read {
        file: file.clone(),
        source,
    })?;
    let readings = if path
        .extension()
        .is_some_and(|extension| extension == "jsonl")
    {
        json_lines(BufReader::new(opened))
    } else {
        csv(opened)
    };
    readings.map_err(|(line, problem)| RecordingError::Line {
        file,
        line,
        problem,
    })
}

/// Line and what is wrong with it.
type Problem = (u64, String);

fn csv(from: impl Read) -> Result<Vec<Reading>, Problem> {
    let mut reader = csv::Reader::from_reader(from);
    let wrong = |err: csv::Error| {
        let line = err.position().map_or(1, csv::Position::line);
        (
            line,
            format!("{err}; write one reading per line, with as many columns as the first"),
        )
    };
    let header = reader.headers().map_err(wrong)?.clone();
    let columns: Vec<Option<Series>> = header
        .iter()
        .map(|name| {
            if name == "at" {
                Ok(None)
            } else {
                series(name).map(Some)
            }
        })
        .collect::<Result<_, _>>()
        .map_err(|problem| (1, problem))?;
    if header.iter().filter(|name| *name == "at").count() != 1 {
        return Err((
            1,
            "there has to be one column `at` with the time".to_owned(),
        ));
    }
    let mut readings = Vec::new();
    for record in reader.records() {
        let record = record.map_err(wrong)?;
        let line = record.position().map_or(0, csv::Position::line);
        let time = columns
            .iter()
            .zip(&record)
            .find(|(column, _)| column.is_none());
        let mut reading = time
            .ok_or_else(|| "it has no time".to_owned())
            .and_then(|(_, text)| self::time(text))
            .map(Reading::new)
            .map_err(|problem| (line, problem))?;
        for (series, text) in columns.iter().zip(&record) {
            if let Some(series) = series {
                let value = number(text).map_err(|problem| (line, problem))?;
                reading = reading.with(*series, value);
            }
        }
        readings.push(reading);
    }
    Ok(readings)
}

fn json_lines(from: impl BufRead) -> Result<Vec<Reading>, Problem> {
    let mut readings = Vec::new();
    for (line, text) in (1..).zip(from.lines()) {
        let text = text.map_err(|err| (line, format!("cannot read it: {err}")))?;
        if !text.trim().is_empty() {
            readings.push(object(&text).map_err(|problem| (line, problem))?);
        }
    }
    Ok(readings)
}

fn object(text: &str) -> Result<Reading, String> {
    let mut object: Map<String, Value> = serde_json::from_str(text)
        .map_err(|err| format!("no JSON object: {err}; write one reading per line"))?;
    let at = object.remove("at");
    let at = at.as_ref().and_then(Value::as_str);
    let mut reading = Reading::new(time(at.unwrap_or_default())?);
    for (name, value) in object {
        let value = match value {
            Value::Null => None,
            Value::Number(number) => number.as_f64(),
            other => {
                return Err(format!(
                    "`{name}` is {other}: write a number, or null where it is unknown"
                ));
            }
        };
        reading = reading.with(series(&name)?, value);
    }
    Ok(reading)
}

fn series(name: &str) -> Result<Series, String> {
    Series::named(name).ok_or_else(|| {
        format!(
            "nothing called `{name}` is measured; write one of {}",
            Series::names()
        )
    })
}

fn time(text: &str) -> Result<DateTime<Utc>, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is no time for `at`: write it like 2024-06-20T10:00:00Z"))
}

/// An empty field is unknown, as is what came out as no number.
fn number(text: &str) -> Result<Option<f64>, String> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    text.trim()
        .parse()
        .map(Some)
        .map_err(|_| format!("`{text}` is no number; leave the field empty where it is unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let table = "at,orders_per_s,browse.p95_ms\n2024-06-20T10:00:00Z,0.5,\n2024-06-20T10:00:10Z,NaN,80\n";
        let lines = "{\"at\": \"2024-06-20T10:00:00Z\", \"orders_per_s\": 0.5}\n\
                     {\"at\": \"2024-06-20T10:00:10Z\", \"orders_per_s\": null, \"browse.p95_ms\": 80}\n";
        let (table, lines) = (
            csv(table.as_bytes()).unwrap(),
            json_lines(lines.as_bytes()).unwrap(),
        );
        let known = |readings: &[Reading]| {
            readings
                .iter()
                .map(|reading| (reading.at, reading.known()))
                .collect::<Vec<_>>()
        };
        assert_eq!(known(&table), known(&lines));
        assert_eq!(table[0].get(Series::ORDERS), Some(0.5));
        assert_eq!(table[1].get(Series::ORDERS), None);
    }

    #[test]
    fn what_is_no_reading_is_named_with_its_line() {
        for (text, line, says) in [
            ("at,orders\n", 1, "nothing called `orders`"),
            ("orders_per_s\n1\n", 1, "column `at`"),
            (
                "at,orders_per_s\n2024-06-20T10:00:00Z,1\nyesterday,1\n",
                3,
                "`yesterday` is no time",
            ),
            (
                "at,orders_per_s\n2024-06-20T10:00:00Z,few\n",
                2,
                "`few` is no number",
            ),
            (
                "at,orders_per_s\n2024-06-20T10:00:00Z\n",
                2,
                "as many columns",
            ),
        ] {
            let (at, problem) = csv(text.as_bytes()).unwrap_err();
            assert_eq!(at, line, "{problem}");
            assert!(problem.contains(says), "{problem}");
        }
        let (line, problem) = json_lines("\n{\"at\": 5}\n".as_bytes()).unwrap_err();
        assert_eq!(line, 2);
        assert!(problem.contains("is no time"), "{problem}");
    }
}
