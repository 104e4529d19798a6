//! A prediction, printed.

use std::time::Duration;

use indicatif::{HumanBytes, HumanCount};
use serde_json::json;
use sqlx::postgres::PgConnection;

use super::MigrateError;
use super::status::one_line;
use crate::cli::duration::human;
use crate::config::Settings;
use crate::migration::control::{self, ControlError};
use crate::migration::definition::Definition;
use crate::migration::keyset::KeysetError;
use crate::migration::ledger::Step;
use crate::migration::plan::{Estimate, Plan, Quantiles, Source, plan};
use crate::migration::rights;

pub(super) async fn show(
    settings: &Settings,
    conn: &mut PgConnection,
    definition: &Definition,
    json: bool,
) -> Result<(), MigrateError> {
    control::refuse_unsafe(definition)?;
    refuse_read_only(conn).await?;
    control::refuse_powerless(conn, definition).await?;
    let mut statements = Vec::new();
    for (step, all) in [
        (Step::Expand, &definition.expand),
        (Step::Contract, &definition.contract),
    ] {
        statements.extend(all.iter().map(|ddl| (step, one_line(&ddl.sql))));
    }
    let (plan, lacking) = match definition.has_backfill() {
        false => (None, None),
        true => match plan(conn, definition, &settings.migration).await {
            // What the expand step creates is not there yet.
            Err(KeysetError::Database(err)) if !definition.expand.is_empty() => (
                None,
                Some(format!(
                    "none before the expand step has been run: {}",
                    pool::describe(&err)
                )),
            ),
            Err(KeysetError::Database(err)) => {
                return Err(match rights::named(conn, &err).await? {
                    Some(lacking) => ControlError::from(lacking).into(),
                    None => err.into(),
                });
            }
            plan => (Some(plan?), None),
        },
    };
    if json {
        let statements: Vec<_> = statements
            .iter()
            .map(|(step, sql)| json!({ "step": step, "statement": sql }))
            .collect();
        let mut document = json!(plan.as_ref());
        match document.as_object_mut() {
            Some(plan) => {
                plan.insert("statements".to_owned(), statements.into());
            }
            None => document = json!({ "statements": statements, "no_sample": lacking }),
        }
        println!("{document:#}");
        return refuse_vain(plan.as_ref());
    }
    if let Some(why) = plan.as_ref().and_then(vain) {
        println!("DO NOT START {}: {why}", definition.name);
    }
    println!("{}: {}", definition.name, definition.title);
    for (step, sql) in statements {
        println!("  {:<9} {sql}", step.name());
    }
    if let Some(lacking) = lacking {
        println!("  samples   {lacking}");
    }
    if let Some(plan) = &plan {
        println!("{}", describe(definition, plan));
    }
    refuse_vain(plan.as_ref())
}

/// A plan tries batches, which a replica and the like do not take.
async fn refuse_read_only(conn: &mut PgConnection) -> Result<(), MigrateError> {
    let read_only: bool =
        sqlx::query_scalar("SELECT current_setting('transaction_read_only')::boolean")
            .fetch_one(conn)
            .await?;
    match read_only {
        false => Ok(()),
        true => Err(MigrateError::Told(
            "a plan tries batches and rolls them back, but the server is read-only (a replica, or \
             default_transaction_read_only): plan on one that can be written to"
                .to_owned(),
        )),
    }
}

/// Why a run would be in vain.
fn vain(plan: &Plan) -> Option<String> {
    let stays = plan.stays_pending.as_ref().map(|stays| stays.why.clone());
    let fails = || {
        let why = plan.hopeless.as_ref()?;
        let tried = plan.failures.len() + plan.samples.len();
        let failed = plan.failures.len();
        Some(format!(
            "of {tried} batches that were tried {failed} failed, and a run would fail as they did: {why}"
        ))
    };
    stays.or_else(fails)
}

/// A run that could not end, or not succeed, is no plan.
fn refuse_vain(plan: Option<&Plan>) -> Result<(), MigrateError> {
    let Some(plan) = plan else {
        return Ok(());
    };
    if let Some(stays) = &plan.stays_pending {
        return Err(MigrateError::Told(format!(
            "{} rows of the samples stayed pending although they were changed, as the plan says above",
            stays.rows
        )));
    }
    match plan.hopeless {
        Some(_) => Err(MigrateError::Told(
            "batches fail for a reason that a run would meet, too, as the plan says above"
                .to_owned(),
        )),
        None => Ok(()),
    }
}

fn takes(quantiles: Quantiles) -> String {
    let human = |s: f64| human(Duration::try_from_secs_f64(s).unwrap_or_default());
    format!(
        "about {} (P90 {})",
        human(quantiles.p50_s),
        human(quantiles.p90_s)
    )
}

fn bytes(bytes: f64) -> HumanBytes {
    HumanBytes(bytes as u64)
}

/// A number of rows, what it leaves open, and where it comes from.
fn told(estimate: &Estimate) -> String {
    let human = |rows: i64| HumanCount(u64::try_from(rows).unwrap_or_default());
    let likely = human(estimate.likely);
    let wide = (estimate.high - estimate.low) * 10 > estimate.likely;
    let spread = if wide {
        format!(
            ", between {} and {}",
            human(estimate.low),
            human(estimate.high)
        )
    } else {
        String::new()
    };
    match estimate.from {
        Source::Counted => format!("{likely} (counted)"),
        Source::Sampled => format!("about {likely}{spread} (estimated from samples)"),
        Source::Planner => format!("about {likely}{spread} (by the table's statistics)"),
    }
}

fn describe(definition: &Definition, plan: &Plan) -> String {
    let passed: i64 = plan.samples.iter().map(|s| s.rows).sum();
    let changed: i64 = plan.samples.iter().map(|s| s.changed).sum();
    let mut lines = vec![
        format!(
            "  walks     {} by {} (index {})",
            definition.table, plan.key, plan.index
        ),
        format!("  rows      {}", told(&plan.rows)),
        format!("  pending   {}", told(&plan.pending)),
        format!(
            "  samples   {} batches tried all over the table and rolled back: {} rows passed, {} changed",
            plan.samples.len(),
            HumanCount(u64::try_from(passed).unwrap_or_default()),
            HumanCount(u64::try_from(changed).unwrap_or_default())
        ),
    ];
    if let Some(full) = plan.full_speed {
        lines.push(format!("  time      {} at full speed", takes(full)));
    }
    if let Some(recent) = &plan.at_recent_duty {
        lines.push(format!(
            "            {} at the duty of recent runs, {:.0} %",
            takes(recent.takes),
            recent.duty * 100.0
        ));
    }
    for hour in &plan.by_hour {
        lines.push(format!(
            "            {} when started at {:02}:00 UTC, duty {:.0} %",
            takes(hour.takes),
            hour.hour,
            hour.duty * 100.0
        ));
    }
    if let Some(wal) = &plan.wal {
        lines.push(format!(
            "  WAL       {}, {:.0} bytes per row",
            bytes(wal.total),
            wal.per_row
        ));
    }
    if let Some(bloat) = &plan.bloat {
        lines.push(format!(
            "  bloat     up to {} of old row versions until vacuum ({:.0} rows of {} bytes, {:.0} % \
             HOT, {} indexes)",
            bytes(bloat.bytes),
            bloat.dead_rows,
            bloat.row_bytes,
            bloat.hot_share * 100.0,
            bloat.indexes
        ));
    }
    for obstacle in &plan.obstacles {
        lines.push(format!("  look at   {obstacle}"));
    }
    lines.join("\n")
}
