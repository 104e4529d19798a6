//! What was proved, whether it still holds, and what could not be done.

use pool::describe as describe_error;
use sqlx::postgres::PgConnection;

use super::{Database, MigrateError};
use crate::app::App;
use crate::cli::elsewhere::Flags;
use crate::config::Settings;
use crate::migration::batch::session_name;
use crate::migration::certificate::{self, Certificate, Later};
use crate::migration::definition;
use crate::migration::keyset::{KeyNames, Keyset};
use crate::migration::ledger::{self, LedgerError};
use crate::migration::physical::{self, Answer, Physical, Question, Share};
use crate::migration::proofs::Verified;
use crate::migration::sweep;
use crate::migration::undo::Direction;

/// Entries that are listed at most.
const LISTED: i64 = 1000;
/// Share of the time that the second proof reads: no shopper is measured here.
const SHARE: f64 = 0.5;

pub(super) async fn quarantine(
    conn: &mut PgConnection,
    name: &str,
    flags: &Flags,
) -> Result<(), MigrateError> {
    let run = ledger::latest(conn, name).await?;
    let open = ledger::set_aside_named(conn, &run, LISTED).await?;
    if open.is_empty() {
        println!("nothing of run {} is set aside", run.id);
        return Ok(());
    }
    for entry in &open {
        println!(
            "{}: {}\n  since {}, last tried {}",
            entry.range,
            entry.error,
            entry.at.format("%F %T"),
            entry.tried_at.format("%F %T UTC")
        );
    }
    let then = format!("repair the rows or what they break, then `evenkeel migrate retry {name}`");
    println!("{}", flags.complete(&then));
    Ok(())
}

pub(super) async fn certificate(
    conn: &mut PgConnection,
    name: &str,
    json: bool,
) -> Result<(), MigrateError> {
    let Some(certificate) = certificate::latest(conn, name).await? else {
        let run = ledger::latest(conn, name).await?;
        return Err(MigrateError::Told(format!(
            "no run of {name} has been completed; run {} is {}",
            run.id,
            run.state.name()
        )));
    };
    if json {
        let text = serde_json::to_string_pretty(&certificate).unwrap_or_default();
        println!("{text}");
    } else {
        let later = certificate::newest_later(conn, certificate.run).await?;
        println!("{}", describe(&certificate, later.as_ref()));
    }
    Ok(())
}

/// What a read by physical position says, without its subject.
pub(in crate::cli) fn second(of: &Physical) -> String {
    let tables = match of.tables.len() {
        1 => "1 table".to_owned(),
        n => format!("{n} tables"),
    };
    let at = of.snapshot_at.map(|at| at.format("%F %T UTC").to_string());
    let read = format!(
        "{} rows in {tables} read by physical position as of {} within {:.1} s",
        of.rows,
        at.as_deref().unwrap_or("an unknown time"),
        of.took_s
    );
    let reason = of.reason.as_deref().unwrap_or("no reason given");
    match of.answer {
        Answer::NonePending => format!("none pending, {read}"),
        Answer::Unknown => format!("unknown: {reason}"),
        Answer::Pending => {
            let rest = match &of.reason {
                Some(reason) => format!("; not all was read: {reason}"),
                None => String::new(),
            };
            format!(
                "{} pending, {read}, for example {}{rest}",
                of.pending,
                of.examples()
            )
        }
    }
}

fn describe(of: &Certificate, later: Option<&Later>) -> String {
    let names = KeyNames::described(&of.key);
    let columns = if of.columns.is_empty() {
        "the key alone".to_owned()
    } else {
        format!("the key and {}", of.columns.join(", "))
    };
    let mut lines = vec![
        format!(
            "run {} of {} {}: complete",
            of.run,
            of.migration,
            of.direction.has()
        ),
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
        format!("  second    {}", second(&of.physical)),
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
    if let Some(later) = later {
        lines.push(format!(
            "  later     {} by {}: by key {} rows, {} pending; second proof: {}",
            later.made_at.format("%F %T UTC"),
            later.actor,
            later.rows,
            later.pending,
            second(&later.physical)
        ));
    }
    for entry in &of.set_aside {
        let range = names.range(entry.lower.as_ref(), &entry.upper);
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
    lines.push(format!(
        "  ranges    {}; a batch counts in the range in which it ended, with all rows that it changed, those of \
         the range before and those that are gone since included",
        of.ranges.len()
    ));
    for part in &of.ranges {
        lines.push(format!(
            "    {}: {} rows, checksum {}; {} batches ended in it and changed {} rows",
            names.range(part.lower.as_ref(), &part.upper),
            part.rows,
            part.checksum.as_deref().unwrap_or("unknown"),
            part.batches,
            part.rows_changed,
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
            url.parse().map_err(|err| {
                MigrateError::Told(format!(
                    "--replica cannot be used: {}; it should look like postgres://user@host/database",
                    describe_error(&err)
                ))
            })?
        }
        None => database.options.clone(),
    };
    let keyset = Keyset::resolve(conn, &definition).await?;
    let pool = App::new(settings.clone(), options).pool;
    let engine = &settings.migration;
    let by_key = sweep::verify(&pool, engine, &definition, &keyset, proof.as_ref()).await?;
    let session = session_name(name, proof.as_ref().map_or(0, |p| p.run), physical::SESSION);
    let question = Question::new(&definition, &keyset, session);
    let mut share = Share {
        duty: SHARE,
        target: engine.batch_target,
    };
    let Ok(physical) =
        physical::read(&pool, engine, &question, engine.proof_limit, &mut share).await;
    pool.close().await;
    let found = Verified {
        direction: proof.as_ref().map_or(Direction::Up, |p| p.direction),
        condition: definition.pending.clone(),
        by_key,
        physical,
    };
    println!("{}", summary(name, proof.as_ref(), &found));
    if let Some(proof) = &proof {
        keep(conn, proof, &found).await?;
    }
    let left = found.direction.left();
    match &found.by_key.first_range {
        Some(key) if !found.by_key.is_complete() => Err(MigrateError::Told(format!(
            "{} rows {left}; the first of them stands at {} or before it",
            found.by_key.pending,
            keyset.names().key(key)
        ))),
        _ if found.is_pending() => Err(MigrateError::Told(format!(
            "{} rows {left} that the walk by key did not meet, for example {}: they came after it had \
             passed, or the index does not lead to them; ask again, and if they are still there, check \
             the index (amcheck's bt_index_check) or repair it (REINDEX INDEX CONCURRENTLY)",
            found.physical.pending,
            found.physical.examples()
        ))),
        _ => Ok(()),
    }
}

/// Keeps `found` beside the certificate, where this role may, and says what the newest run is when that
/// is another one.
async fn keep(
    conn: &mut PgConnection,
    proof: &Certificate,
    found: &Verified,
) -> Result<(), MigrateError> {
    match ledger::latest(conn, &proof.migration).await {
        Ok(run) if run.id != proof.run => println!(
            "  run {} of {}{} is newer, and {}: what it has changed is counted against run {}",
            run.id,
            run.migration,
            run.direction.mark(),
            run.state.name(),
            proof.run
        ),
        Ok(_) | Err(LedgerError::NeverRun(_)) => {}
        Err(err) => return Err(err.into()),
    }
    let by_key = (found.by_key.rows, found.by_key.pending);
    let actor = super::actor();
    let kept = certificate::store_later(conn, proof.run, &actor, by_key, &found.physical).await;
    if let Err(err) = kept {
        println!(
            "  not kept beside the certificate: {}",
            pool::describe(&err)
        );
    }
    Ok(())
}

fn summary(name: &str, proof: Option<&Certificate>, found: &Verified) -> String {
    let by_key = &found.by_key;
    let sentence = found.sentence();
    let mut lines = vec![match (proof, found.direction) {
        (Some(proof), Direction::Down) => {
            format!(
                "{name}: run {} {}: {sentence}",
                proof.run,
                found.direction.has()
            )
        }
        _ => format!("{name}: {sentence}"),
    }];
    if let (Some(proof), Direction::Up) = (proof, found.direction) {
        lines.push(format!("  run {} {}", proof.run, found.direction.has()));
    }
    lines.push(format!(
        "  asked of every row, by key and by physical position: {}",
        found.condition
    ));
    lines.push(format!("  second proof: {}", second(&found.physical)));
    lines.push(
        "  a row that is written so after it was read is counted by neither: ask again once no \
         process writes such rows any more"
            .to_owned(),
    );
    let Some(proof) = proof else {
        lines.push("  no run was certified, so there is nothing to compare with".to_owned());
        return lines.join("\n");
    };
    let made = proof.made_at.format("%F %T UTC");
    lines.push(format!(
        "  {} of {} ranges are as certified by run {} at {made}; {} rows came after the last",
        by_key.compared - by_key.changed_since.len(),
        by_key.compared,
        proof.run,
        by_key.arrived
    ));
    let names = KeyNames::described(&proof.key);
    for changed in &by_key.changed_since {
        lines.push(format!(
            "  changed since: {}, {} rows then, {} now",
            names.range(changed.lower.as_ref(), &changed.upper),
            changed.rows_then,
            changed.rows_now
        ));
    }
    lines.join("\n")
}
