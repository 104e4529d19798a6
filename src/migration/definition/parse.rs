//! Reads a definition's text.

use super::Definition;
use super::header::Header;
use super::place::Places;
use super::statement::{self, Statement};
use crate::migration::change;
use crate::migration::source::{Problem, check, psql, tokens};
use crate::migration::undo::{self, Down};

/// The definition in `text`, or what is wrong with it.
pub(super) fn parse(name: &str, text: &str) -> Result<Definition, Problem> {
    refuse_name(name)?;
    refuse_text(text)?;
    let (header, end) = Header::read(text)?;
    let sections = change::split(text, end)?;
    undo::refuse_outside(&sections)?;
    let expand = change::statements(&sections.expand)?;
    let contract = change::statements(&sections.contract)?;
    let has_backfill = !change::is_blank(&sections.backfill) || expand.len() + contract.len() == 0;
    let (up, down) = match has_backfill {
        true => backfill(&sections.backfill, end)?,
        false => (Statement::default(), None),
    };
    if let (false, Some(at)) = (has_backfill, header.at("pending")) {
        return Err(Problem::new(
            at,
            "the header has `-- pending: …`, but there is no backfill",
        ));
    }
    let title = header.required("title")?;
    let owner = header.required("owner")?;
    let of_backfill = |key| match has_backfill {
        true => header.required(key),
        false => Ok(header.get(key).unwrap_or_default()),
    };
    Ok(Definition {
        name: name.to_owned(),
        title,
        owner,
        table: of_backfill("table")?,
        alias: header.get("alias"),
        key: header.list("key"),
        scope: header.get("where"),
        pending: of_backfill("pending")?,
        batch_first: header.number("batch_first"),
        batch_max: header.number("batch_max"),
        checksum: header.list("checksum"),
        places: Places {
            statement: up.at,
            range: up.range,
            values: header.sql(),
        },
        statement: up.text,
        down,
        expand,
        contract,
        text: text.to_owned(),
    })
}

fn refuse_name(name: &str) -> Result<(), Problem> {
    let is_valid = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || !name.chars().all(is_valid) {
        return Err(Problem::new(
            0,
            "name the file with letters, digits, `_` and `-` only",
        ));
    }
    Ok(())
}

/// Refuses what no part of a file may hold.
fn refuse_text(text: &str) -> Result<(), Problem> {
    if let Some(at) = text.find('\0') {
        return Err(Problem::new(
            at,
            "there is a NUL character, which no SQL has: take it out",
        ));
    }
    if text.trim().is_empty() {
        return Err(Problem::new(
            0,
            "the file is empty; `evenkeel migrate new NAME` writes one to start from",
        ));
    }
    let (_, psql) = psql::strip(text);
    if let Some(found) = psql.0.iter().find(|found| !found.name.starts_with(':')) {
        let problem = match found.name.as_str() {
            psql::DATA => "rows below COPY … FROM stdin are read by psql alone: write INSERT, or \
                           load them with psql before this runs"
                .to_owned(),
            name => {
                format!("`{name}` is a command of psql, which does not run this file: take it out")
            }
        };
        return Err(Problem::new(found.at, problem));
    }
    check::sql(&tokens(text))
}

/// The statement of a backfill, and its way back.
fn backfill(text: &str, header_end: usize) -> Result<(Statement, Option<Down>), Problem> {
    let (up, back) = undo::split(text)?;
    let up = statement::read(&up, header_end)?;
    let Some(back) = back else {
        return Ok((up, None));
    };
    let statement = statement::read(&back.text, back.at).map_err(|problem| {
        Problem::new(problem.at, format!("below `-- down`: {}", problem.text))
    })?;
    let pending = back.pending.clone();
    let down = Down {
        pending: pending.and_then(|range| text.get(range).map(str::to_owned)),
        places: Places {
            statement: statement.at,
            range: statement.range,
            values: back
                .pending
                .map(|range| ("pending", range))
                .into_iter()
                .collect(),
        },
        statement: statement.text,
    };
    Ok((up, Some(down)))
}
