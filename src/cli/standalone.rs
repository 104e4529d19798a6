//! `evenkeel migrate run --standalone`: drives a run in this process, without a shop.

use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;
use tokio_util::sync::CancellationToken;

use super::database::Database;
use super::duration::human;
use super::migrate::{MigrateError, actor, describe, headline, second};
use crate::app::App;
use crate::config::Settings;
use crate::migration::control;
use crate::migration::definition::Definition;
use crate::migration::governor::Sensors;
use crate::migration::ledger::{self, LedgerError, Run, State};
use crate::migration::progress::Progress;
use crate::migration::runner::{End, Runner};
use crate::shutdown::Shutdown;

/// Drives the run `queued` to its end at `duty`.
///
/// # Errors
/// [`MigrateError`]; a run that did not complete is one.
pub(super) async fn run(
    settings: &Settings,
    database: &Database,
    conn: &mut PgConnection,
    queued: &Run,
    duty: f64,
) -> Result<(), MigrateError> {
    let app = App::new(settings.clone(), database.options.clone());
    let mut pace = settings.pace.clone();
    pace.duty_max = duty;
    pace.duty_min = pace.duty_min.min(duty);
    let sensors = Sensors {
        latencies: None,
        pool: app.pool.clone(),
        surroundings: Some(app.surroundings.clone()),
    };
    let stop = CancellationToken::new();
    let sampler = app.sampler(false);
    let sampling = app.shutdown.token().clone();
    app.shutdown
        .spawn(async move { sampler.run(sampling).await });
    let runner = Runner::new(sensors, settings.migration.clone(), pace, stop.clone());
    let began = Instant::now();
    let drive = drive(&runner, settings, queued.id);
    tokio::pin!(drive);
    let end = tokio::select! {
        end = &mut drive => end?,
        _ = Shutdown::signalled() => {
            stop.cancel();
            drive.await?
        }
    };
    app.shutdown.finish().await;
    app.pool.close().await;
    let run = ledger::find(conn, queued.id).await?;
    let completed = run.state == State::Completed;
    let progress = Progress::of(conn, run).await?;
    match end {
        _ if completed => {
            println!("{}", headline(&progress));
            if let Some(proof) = progress.run.second_proof() {
                println!("  second proof: {}", second(&proof));
            }
            println!("  took {}", human(began.elapsed()));
            Ok(())
        }
        Some(_) => Err(MigrateError::Told(describe(&progress))),
        None => Err(MigrateError::Told(format!(
            "run {} of {} is not taken, because another process drives it or another run is under \
             way; `evenkeel migrate status` shows them",
            queued.id, queued.migration
        ))),
    }
}

/// A new run of `name` by the definition that `load` reads, or the one that is queued or was left by a
/// process that died. `again` runs one that is complete.
///
/// # Errors
/// [`MigrateError`] says what to do.
pub(super) async fn queue(
    conn: &mut PgConnection,
    name: &str,
    load: impl Fn() -> Result<Definition, MigrateError>,
    again: bool,
) -> Result<Run, MigrateError> {
    match ledger::latest(conn, name).await {
        // It goes on as it was declared then, so its file need not even be there.
        Ok(run) if matches!(run.state, State::Queued | State::Running) => {
            // Which definition cannot be read any more says the run.
            if let Ok(definition) = run.declared() {
                control::refuse_powerless(conn, &definition).await?;
            }
            println!("going on with run {} of {}", run.id, run.migration);
            if load().is_ok_and(|definition| definition.text != run.definition) {
                println!(
                    "  as it was declared when the run was started; the file has changed since"
                );
            }
            return Ok(run);
        }
        Ok(_) | Err(LedgerError::NeverRun(_)) => {}
        Err(err) => return Err(err.into()),
    }
    let definition = load()?;
    Ok(control::start_or_again(conn, &definition, &actor(), again).await?)
}

/// Drives what is due until run `id` has been driven; `None` when others keep it.
async fn drive(runner: &Runner, settings: &Settings, id: i64) -> Result<Option<End>, MigrateError> {
    let engine = &settings.migration;
    // The lease of a process that died runs out within this.
    let patience = engine.lease + engine.poll * 2 + Duration::from_secs(1);
    let mut since = Instant::now();
    loop {
        let taken = match runner.take().await {
            // Somebody holds the ledger for the moment, or froze while it did.
            Err(failure) if failure.is_contention() => None,
            taken => taken?,
        };
        match taken {
            Some(run) => {
                if run.id != id {
                    println!(
                        "driving run {} of {} first, which was queued before",
                        run.id, run.migration
                    );
                }
                let (taken, end) = (run.id, runner.drive(run).await);
                if taken == id || end == End::ShutDown {
                    return Ok(Some(end));
                }
                since = Instant::now();
            }
            None if since.elapsed() > patience => return Ok(None),
            None => tokio::time::sleep(engine.poll).await,
        }
    }
}
