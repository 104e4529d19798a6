//! Reads a definition's text.

use super::{Definition, RANGE};
use crate::migration::change;
use crate::migration::undo::{self, Down};

/// Lines of the comment at the beginning of a file.
pub(super) fn header_lines(text: &str) -> usize {
    let is_comment = |line: &&str| line.trim_start().starts_with("--");
    text.lines().take_while(is_comment).count()
}
/// The definition in `text`, or a sentence about what is wrong with it.
pub(super) fn parse(name: &str, text: &str) -> Result<Definition, String> {
    let valid_name = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if !valid_name {
        return Err("name the file with letters, digits, `_` and `-` only".to_owned());
    }
    let body_at = header_lines(text);
    // An empty comment ends the header; what follows it is for people.
    let is_key = |line: &&str| !line.trim_start().trim_start_matches('-').trim().is_empty();
    let mut header = Header::default();
    for line in text.lines().take(body_at).take_while(is_key) {
        header.read(line.trim_start().trim_start_matches('-').trim())?;
    }
    let sections = change::split(text, body_at)?;
    undo::refuse_outside(&sections)?;
    let expand = change::statements(&sections.expand)?;
    let contract = change::statements(&sections.contract)?;
    let without_backfill =
        change::is_blank(&sections.backfill) && expand.len() + contract.len() > 0;
    let (statement, down) = if without_backfill {
        if header.pending.is_some() {
            return Err("the header has `-- pending: …`, but there is no backfill".to_owned());
        }
        header.table.get_or_insert_default();
        header.pending.get_or_insert_default();
        (String::new(), None)
    } else {
        let lines: Vec<&str> = sections.backfill.lines().collect();
        let (up, down) = undo::split(&lines)?;
        let down = match down {
            None => None,
            Some(Down { pending, statement }) => Some(Down {
                pending,
                statement: check_statement(&statement)
                    .map_err(|p| format!("below `-- down`: {p}"))?,
            }),
        };
        (check_statement(&up)?, down)
    };
    let required = |value: Option<String>, key: &str| {
        value.ok_or_else(|| format!("the header lacks `-- {key}: …`"))
    };
    Ok(Definition {
        name: name.to_owned(),
        title: required(header.title, "title")?,
        owner: required(header.owner, "owner")?,
        table: required(header.table, "table")?,
        alias: header.alias,
        key: header.key,
        scope: header.scope,
        pending: required(header.pending, "pending")?,
        batch_first: header.batch_first,
        batch_max: header.batch_max,
        checksum: header.checksum,
        statement,
        down,
        expand,
        contract,
        text: text.to_owned(),
    })
}

#[derive(Default)]
struct Header {
    title: Option<String>,
    owner: Option<String>,
    table: Option<String>,
    alias: Option<String>,
    key: Vec<String>,
    scope: Option<String>,
    pending: Option<String>,
    batch_first: Option<u32>,
    batch_max: Option<u32>,
    checksum: Vec<String>,
}

impl Header {
    fn read(&mut self, line: &str) -> Result<(), String> {
        let Some((key, value)) = line.split_once(':') else {
            return Err(format!(
                "`-- {line}` in the header is not `-- key: value`; put comments below an \
                 empty comment line"
            ));
        };
        let (key, value) = (key.trim(), value.trim().to_owned());
        if value.is_empty() {
            return Err(format!("`-- {key}:` has no value"));
        }
        let number = |value: &str| match value.parse::<u32>() {
            Ok(n) if n > 0 => Ok(n),
            _ => Err(format!(
                "`-- {key}: {value}` must be a whole number above zero"
            )),
        };
        let slot = match key {
            "title" => &mut self.title,
            "owner" => &mut self.owner,
            "table" => &mut self.table,
            "alias" => &mut self.alias,
            "where" => &mut self.scope,
            "pending" => &mut self.pending,
            "key" | "checksum" => {
                let columns = value.split(',').map(|c| c.trim().to_owned()).collect();
                if key == "key" {
                    self.key = columns;
                } else {
                    self.checksum = columns;
                }
                return Ok(());
            }
            "batch_first" => {
                self.batch_first = Some(number(&value)?);
                return Ok(());
            }
            "batch_max" => {
                self.batch_max = Some(number(&value)?);
                return Ok(());
            }
            _ => {
                return Err(format!(
                    "`-- {key}:` is not known; the keys are title, owner, table, alias, key, \
                     where, pending, batch_first, batch_max and checksum"
                ));
            }
        };
        if slot.replace(value).is_some() {
            return Err(format!("`-- {key}:` appears twice"));
        }
        Ok(())
    }
}

fn check_statement(body: &str) -> Result<String, String> {
    let statement = body.trim().trim_end_matches(';').trim_end();
    if statement.is_empty() {
        return Err("there is no statement below the header".to_owned());
    }
    match statement.matches(RANGE).count() {
        1 => {}
        0 => {
            return Err(format!(
                "the statement has no `{RANGE}`; write `WHERE {RANGE}` where the engine is to put \
                 the key range"
            ));
        }
        n => {
            return Err(format!(
                "the statement has `{RANGE}` {n} times; once is enough"
            ));
        }
    }
    let first = statement
        .lines()
        .find(|line| !line.trim_start().starts_with("--") && !line.trim().is_empty())
        .and_then(|line| line.split_whitespace().next())
        .unwrap_or_default()
        .to_ascii_uppercase();
    if !["UPDATE", "DELETE", "INSERT", "WITH"].contains(&first.as_str()) {
        return Err(format!(
            "the statement begins with `{first}`; a background migration is one UPDATE, DELETE, \
             INSERT or WITH statement. Schema changes belong under `-- step: expand` or \
             `-- step: contract`"
        ));
    }
    // The extended protocol, by which it runs, refuses a second statement; this only says it early.
    if statement.contains(";\n") {
        return Err("there is more than one statement; split it into several files".to_owned());
    }
    Ok(statement.to_owned())
}
