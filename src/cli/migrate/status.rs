//! Runs, for people.

use std::time::Duration;

use chrono::{DateTime, Utc};
use pressure::cost::Cost;
use sqlx::postgres::PgConnection;

use super::MigrateError;
use crate::cli::duration::human;
use crate::cli::elsewhere::Flags;
use crate::config::Settings;
use crate::migration::control;
use crate::migration::late::Late;
use crate::migration::ledger::{self, Phase, Run, State, Step};
use crate::migration::progress::Progress;
use crate::migration::spent;
use crate::migration::undo::Direction;

/// Prints the newest run of `name`, once or until it ends.
pub(super) async fn show(
    conn: &mut PgConnection,
    name: &str,
    watch: bool,
    flags: &Flags,
) -> Result<(), MigrateError> {
    let terminal = console::Term::stdout();
    loop {
        let run = ledger::latest(conn, name).await?;
        let ended = !matches!(run.state, State::Queued | State::Running | State::Paused);
        let progress = Progress::of(conn, run).await?;
        let text = flags.complete(&describe(&progress));
        println!("{text}");
        if !watch || ended {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        if terminal.is_term() {
            // A line that cannot be cleared is merely printed again.
            let _ = terminal.clear_last_lines(text.lines().count());
        }
    }
}

/// Prints the newest runs, a line each.
pub(super) async fn show_all(conn: &mut PgConnection) -> Result<(), MigrateError> {
    let runs = ledger::recent(conn, 50).await?;
    if runs.is_empty() {
        println!("no migration has been started");
    }
    for run in runs {
        println!("{}", headline(&Progress::of(conn, run).await?));
    }
    Ok(())
}

/// Prints what is declared and what has run.
pub(super) async fn list(settings: &Settings, conn: &mut PgConnection) -> Result<(), MigrateError> {
    let mut broken = 0;
    for migration in control::list(conn, &settings.migration.definitions).await? {
        let state = match &migration.run {
            Some(run) => state(run, migration.stands),
            None => "never run".to_owned(),
        };
        let what = match migration.definition {
            Some(Ok(definition)) => definition.title,
            Some(Err(err)) => {
                broken += 1;
                format!("BROKEN: {err}")
            }
            None => "(its file is gone)".to_owned(),
        };
        println!("{:<28} {state:<10} {what}", migration.name);
    }
    match broken {
        0 => Ok(()),
        broken => Err(MigrateError::Told(format!(
            "{broken} of the files cannot be used; the list says why (BROKEN)"
        ))),
    }
}

/// A run's state in a word or two, and how the rows `stands` as long as it is not complete.
fn state(run: &Run, stands: Option<Direction>) -> String {
    let complete = |direction| match direction {
        Direction::Up => "completed",
        Direction::Down => "taken back",
    };
    if run.state == State::Completed {
        return complete(run.direction).to_owned();
    }
    let now = match run.direction {
        Direction::Up => run.state.name().to_owned(),
        Direction::Down => format!("undo {}", run.state.name()),
    };
    match stands {
        Some(before) => format!("{now} (before: {})", complete(before)),
        None => now,
    }
}

/// A run in a line.
pub(in crate::cli) fn headline(progress: &Progress) -> String {
    let run = &progress.run;
    let state = match (run.state, run.step, run.phase) {
        (State::Running, ..) if progress.silent_s.is_some() => "running, but its process is silent",
        (State::Running, ..) if !progress.driven => "running, but its lease has run out",
        (State::Running, Some(Step::Expand), _) => "running the expand step",
        (State::Running, Some(Step::Contract), _) => "running the contract step",
        (State::Running, _, Phase::Sweep)
            if run.second_proof().is_some_and(|p| p.is_under_way()) =>
        {
            "running the second proof"
        }
        (State::Running, _, Phase::Sweep) => "running the final sweep",
        (State::Completed, ..) if run.direction == Direction::Down => {
            "completed, the change is taken back"
        }
        (state, ..) => state.name(),
    };
    let done = progress
        .done
        .map_or(String::new(), |done| format!(", {:.1} %", done * 100.0));
    format!(
        "run {} of {}{}: {state}{done}, {} rows changed in {} batches",
        run.id,
        run.migration,
        run.direction.mark(),
        run.rows_changed,
        run.batches
    )
}

/// A run with what limits it and what it waits for.
pub(in crate::cli) fn describe(progress: &Progress) -> String {
    let mut lines = vec![headline(progress)];
    lines.extend(describe_end(progress));
    lines.extend(describe_absence(progress));
    if let Some(rate) = progress.rows_per_s {
        let eta = |s: Option<f64>| {
            s.and_then(|s| Duration::try_from_secs_f64(s).ok())
                .map(human)
        };
        let eta = match (
            progress.eta.and_then(|e| eta(e.p50_s)),
            progress.eta.and_then(|e| eta(e.p90_s)),
        ) {
            (Some(p50), Some(p90)) => format!(", done in about {p50} (P90 {p90})"),
            (Some(p50), None) => format!(", done in about {p50}, or much later"),
            (None, _) => String::new(),
        };
        lines.push(format!("  {rate:.0} rows/s{eta}"));
    }
    if let (Some(late), Some(deadline)) = (progress.late, progress.run.deadline) {
        lines.extend(describe_late(&progress.run.migration, late, deadline));
    }
    if let (State::Running, Some(pace)) = (progress.run.state, &progress.run.pace) {
        let duty = pace["duty"].as_f64().unwrap_or(0.0);
        lines.push(format!(
            "  works {:.0} % of the time, pauses the rest",
            duty * 100.0
        ));
        for cause in pace["causes"].as_array().into_iter().flatten() {
            let text = |key: &str| cause[key].as_str().unwrap_or_default();
            lines.push(match text("source") {
                spent::RETRYING => format!("  tries again after: {}", text("reason")),
                source => format!(
                    "  limited by {source} ({}): {}",
                    text("verdict"),
                    text("reason")
                ),
            });
        }
        let costs: Vec<Cost> = serde_json::from_value(pace["costs"].clone()).unwrap_or_default();
        lines.extend(costs.iter().map(describe_cost));
    }
    if let Some(spent) = describe_spent(&progress.run.time_spent) {
        lines.push(format!("  time went into: {spent}"));
    }
    let proof = progress.run.second_proof();
    if let Some(proof) = proof.filter(|proof| !proof.is_under_way()) {
        let proof = super::proof::second(&proof);
        lines.push(format!("  second proof: {proof}"));
    }
    for statement in &progress.statements {
        let state = match (&statement.done_at, &statement.waits_for) {
            (Some(_), _) => "done".to_owned(),
            (None, Some(why)) => format!("tried {} times, waits: {why}", statement.tries),
            (None, None) if progress.run.state == State::Failed => "failed".to_owned(),
            (None, None) => "under way".to_owned(),
        };
        let sql = one_line(&statement.statement);
        lines.push(format!("  {}: {sql}: {state}", statement.step.name()));
    }
    for range in &progress.set_aside {
        lines.push(format!("  set aside: {}: {}", range.range, range.error));
    }
    lines.join("\n")
}

/// Why a run failed, and what to do about it.
fn describe_end(progress: &Progress) -> Vec<String> {
    let run = &progress.run;
    let Some(error) = &run.error else {
        return Vec::new();
    };
    let mut lines = vec![format!("  because {error}")];
    let name = &run.migration;
    if run.state == State::Failed && !error.contains("migrate retry") {
        let anew = match run.direction {
            Direction::Up => "start",
            Direction::Down => "undo",
        };
        lines.push(format!(
            "  after a fix, `evenkeel migrate resume {name}` goes on where it stopped, by the file as it \
             was then; after a change of the file, `evenkeel migrate {anew} {name}` begins anew"
        ));
    }
    lines
}

/// That nobody drives a run, and what can be done.
fn describe_absence(progress: &Progress) -> Vec<String> {
    let Some(presence) = progress.presence else {
        return Vec::new();
    };
    let name = &progress.run.migration;
    let mut lines = Vec::new();
    if progress.run.state == State::Running && progress.silent_s.is_none() {
        let holder = progress.run.lease_holder.as_deref();
        lines.push(format!(
            "  {} has not renewed its lease, as when the database cannot be reached; it is not known to \
             have ended",
            holder.unwrap_or("its process"),
        ));
    } else if let Some(silent) = progress.silent_s {
        let silent = Duration::try_from_secs_f64(silent).unwrap_or_default();
        lines.push(format!(
            "  {} was to renew its lease {} ago and has not: it died, froze or lost the database; the \
             run goes on at its cursor when another takes it",
            progress.run.lease_holder.as_deref().unwrap_or("its process"),
            human(silent)
        ));
    }
    lines.push(match presence.nobody() {
        Some(why) => {
            format!(
                "  {why}: `evenkeel migrate run {name} --standalone` drives it in this terminal"
            )
        }
        None => "  a process of the shop will take it".to_owned(),
    });
    lines
}

/// That a run will be late, and what can be done.
fn describe_late(name: &str, late: Late, deadline: DateTime<Utc>) -> Vec<String> {
    let deadline = deadline.format("%Y-%m-%d %H:%M UTC");
    let by = late.by_s.and_then(|s| Duration::try_from_secs_f64(s).ok());
    let Some(by) = by else {
        return vec![format!(
            "  whether it will be done by {deadline} cannot be told"
        )];
    };
    let mut lines = vec![format!(
        "  will be done {} after its deadline, {deadline}",
        human(by)
    )];
    lines.push(match late.extra_ms {
        Some(extra_ms) => format!(
            "  to make it, shoppers would have to pay about {extra_ms:.1} ms more at the 95th \
             percentile: `evenkeel migrate spend {name} --extra-ms {extra_ms:.1} --for 1h --why …` \
             lets them"
        ),
        None => "  it is not held back by what shoppers may pay: see what limits it".to_owned(),
    });
    lines
}

/// What the migration does to a class of shoppers.
fn describe_cost(cost: &Cost) -> String {
    format!(
        "  costs {}: {:+.1} ms at the 99th percentile (95 % CI {:+.1} to {:+.1})",
        cost.class, cost.p99_ms, cost.low_ms, cost.high_ms
    )
}

/// SQL without its line breaks.
pub(super) fn one_line(sql: &str) -> String {
    sql.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What the ledger says that time was spent on, in plain words.
fn in_words(what: &str) -> String {
    match what {
        spent::WORKING => "changing rows".to_owned(),
        spent::RESTING => "pausing between batches".to_owned(),
        spent::RETRYING => "failed tries and waiting to try again".to_owned(),
        spent::TURNS => "waiting while other migrations had their turn".to_owned(),
        spent::PROVING => "reading for the second proof".to_owned(),
        "rest" => "pausing to measure shoppers without it".to_owned(),
        "trust" => "pausing as much as shoppers need".to_owned(),
        source => format!("waiting because of {source}"),
    }
}

/// What a run's time went into, the most first; `None` before anything is known.
pub(super) fn describe_spent(spent: &serde_json::Value) -> Option<String> {
    let seconds = spent.as_object()?.iter();
    let mut seconds: Vec<_> = seconds
        .filter_map(|(what, s)| Some((what, s.as_f64()?)))
        // Less would be told as nothing.
        .filter(|(_, s)| *s >= 0.05)
        .collect();
    seconds.sort_by(|a, b| b.1.total_cmp(&a.1));
    let parts: Vec<_> = seconds
        .iter()
        .map(|(what, s)| format!("{} {s:.1} s", in_words(what)))
        .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}
