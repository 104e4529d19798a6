//! What was proved, whether it still holds, and what could not be done.

use sqlx::postgres::PgConnection;

use super::{Database, MigrateError};
use crate::app::App;
use crate::config::Settings;
use crate::migration::certificate::{self, Certificate};
use crate::migration::definition;
use crate::migration::keyset::{KeyValue, Keyset};
use crate::migration::ledger;
use crate::migration::sweep::{self, Verification};
use crate::migration::undo::Direction;

/// Entries that are listed at most.
const LISTED: i64 = 1000;

/// `(a, b] `, as people read it.
fn range(lower: Option<&KeyValue>, upper: &KeyValue) -> String {
    let upper = upper.join(", ");
    match lower {
        Some(lower) => format!("after ({}) up to ({upper})", lower.join(", ")),
        None => format!("up to ({upper})"),
    }
}

pub(super) async fn quarantine(conn: &mut PgConnection, name: &str) -> Result<(), MigrateError> {
    let run = ledger::latest(conn, name).await?;
    let open = ledger::set_aside(conn, run.id, LISTED).await?;
    if open.is_empty() {
        println!("nothing of run {} is set aside", run.id);
        return Ok(());
    }
    for entry in &open {
        println!(
            "{}\n  since {}, last tried {}",
            entry.describe(),
            entry.at.format("%F %T"),
            entry.tried_at.format("%F %T UTC")
        );
    }
    println!("repair the rows or what they break, then `evenkeel migrate retry {name}`");
    Ok(())
}

pub(super) async fn certificate(
    conn: &mut PgConnection,
    name: &str,
    json: bool,
) -> Result<(), MigrateError> {
    let Some(certificate) = certificate::latest(conn, name).await? else {
        let run = ledger::latest(conn, name).await?;
        return Err(MigrateError::Incomplete(format!(
            "no run of {name} has been completed; run {} is {}",
            run.id,
            run.state.name()
        )));
    };
    if json {
        let text = serde_json::to_string_pretty(&certificate).unwrap_or_default();
        println!("{text}");
    } else {
        println!("{}", describe(&certificate));
    }
    Ok(())
}

fn describe(of: &Certificate) -> String {
    let way = match of.direction {
        Direction::Up => "",
        Direction::Down => ", the way back",
    };
    let columns = if of.columns.is_empty() {
        "the key alone".to_owned()
    } else {
        format!("the key and {}", of.columns.join(", "))
    };
    let mut lines = vec![
        format!("run {} of {}{way}: complete", of.run, of.migration),
        format!(
            "  started   by {} at {}",
            of.started_by,
            of.queued_at.format("%F %T UTC")
        ),
        format!("  certified {}", of.made_at.format("%F %T UTC")),
        format!("  file      sha256 {}", of.definition_sha256),
        format!(
            "  sweep     {} rows of {} by {}, none with {}; {} passes",
            of.sweep.rows, of.table, of.key, of.pending, of.sweep.passes
        ),
        format!(
            "  ledger    {} rows changed in {} batches",
            of.ledger.rows_changed, of.ledger.batches
        ),
        format!(
            "  checksum  {} over {columns}",
            of.checksum.as_deref().unwrap_or("unknown")
        ),
        format!(
            "  tries     {} failed and were made again, {} cancelled for shoppers",
            of.tries.failed, of.tries.cancelled
        ),
    ];
    for entry in &of.set_aside {
        let range = range(entry.lower.as_ref(), &entry.upper);
        lines.push(format!(
            "  set aside {range}, since resolved: {}",
            entry.error
        ));
    }
    for holder in &of.holders {
        let at = holder.at.format("%F %T UTC");
        lines.push(format!(
            "  held by   {}, {}, from {at}",
            holder.holder, holder.token
        ));
    }
    if let Some(spent) = super::status::describe_spent(&of.time_spent) {
        lines.push(format!("  time      {spent}"));
    }
    lines.push(format!("  ranges    {}", of.ranges.len()));
    for part in &of.ranges {
        lines.push(format!(
            "    {}: {} rows, {} changed in {} batches, checksum {}",
            range(part.lower.as_ref(), &part.upper),
            part.rows,
            part.rows_changed,
            part.batches,
            part.checksum.as_deref().unwrap_or("unknown")
        ));
    }
    lines.join("\n")
}

pub(super) async fn verify(
    settings: &Settings,
    database: &Database,
    conn: &mut PgConnection,
    name: &str,
    replica: Option<&str>,
) -> Result<(), MigrateError> {
    let proof = certificate::latest(conn, name).await?;
    let definition = match &proof {
        Some(proof) => proof.declared()?,
        None => definition::load(&settings.migration.definitions, name)?,
    };
    let mut settings = settings.clone();
    let options = match replica {
        Some(url) => {
            settings.database.direct_url = None;
            url.parse().map_err(MigrateError::Replica)?
        }
        None => database.options.clone(),
    };
    let keyset = Keyset::resolve(conn, &definition).await?;
    let pool = App::new(settings.clone(), options).pool;
    let engine = &settings.migration;
    let found = sweep::verify(&pool, engine, &definition, &keyset, proof.as_ref()).await;
    pool.close().await;
    let found = found?;
    println!("{}", summary(name, proof.as_ref(), &found));
    match found.first_range {
        Some(key) if found.pending > 0 => Err(MigrateError::Pending(found.pending, key)),
        _ => Ok(()),
    }
}

fn summary(name: &str, proof: Option<&Certificate>, found: &Verification) -> String {
    let pending = match found.pending {
        0 => "none pending".to_owned(),
        n => format!("{n} pending"),
    };
    let mut lines = vec![
        format!("{name}: {} rows, {pending}", found.rows),
        "  each as it was when it was read: what is written pending behind that is found by the next \
         verify only"
            .to_owned(),
    ];
    let Some(proof) = proof else {
        lines.push("  no run was certified, so there is nothing to compare with".to_owned());
        return lines.join("\n");
    };
    let made = proof.made_at.format("%F %T UTC");
    lines.push(format!(
        "  {} of {} ranges are as certified by run {} at {made}; {} rows came after the last",
        found.compared - found.changed_since.len(),
        found.compared,
        proof.run,
        found.arrived
    ));
    for changed in &found.changed_since {
        lines.push(format!(
            "  changed since: {}, {} rows then, {} now",
            range(changed.lower.as_ref(), &changed.upper),
            changed.rows_then,
            changed.rows_now
        ));
    }
    lines.join("\n")
}
