//! Act 3: the same change at the same peak, as a safe schema step and a background migration.

use std::path::Path;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use sqlx::postgres::PgConnection;

use super::cycles::{self, Cycle, Felt, Period, median};
use super::evidence::{Act, Classes, MigrationFigures};
use super::scene::{Footage, Scene};
use super::shop::{Safeguards, Shop};
use super::{DemoError, Pace, Production};
use crate::app::App;
use crate::config::Settings;
use crate::db::schema;
use crate::migration::definition::{self, Definition};
use crate::migration::keyset::Keyset;
use crate::migration::ledger::{self, Run, State};
use crate::migration::sweep;

/// The declared migration that fills what the script of act 1 filled.
pub const MIGRATION: &str = "orders_placed_day";
/// Where its file is, or else the one built in.
const DEFINITIONS: &str = "migrations/background";
/// Who commands, in the migration's log.
const ACTOR: &str = "evenkeel demo";
const WARM_UP: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(100);
/// The migration has this long after the peak; without shoppers it needs seconds.
const AFTER_PEAK_PATIENCE: Duration = Duration::from_secs(60);

/// What the act recorded.
#[derive(Debug)]
pub struct Guarded {
    /// Its figures.
    pub act: Act,
    /// Everything that happened.
    pub footage: Footage,
    /// The periods with the migration and those without.
    pub cycles: Vec<Cycle>,
    /// What shoppers felt in them.
    pub felt: Vec<Felt>,
    /// The same without any migration.
    pub control: Vec<Felt>,
    /// When the migration ran without pauses at peak, if it did.
    pub sustained: Option<Period>,
}

/// The migration under the demo's command.
struct Command {
    conn: PgConnection,
    run: i64,
}

/// Plays the act.
///
/// # Errors
/// When the shop, the load, the database or the migration fails.
pub async fn play(production: &Production<'_>) -> Result<Guarded, DemoError> {
    let Production {
        stage,
        screen,
        pace,
        ..
    } = *production;
    screen.heading("Act 3 · The same change, guarded");
    screen
        .say("A pool with a bulkhead, and the change as a schema step and a background migration.");
    let journal = stage.directory().join("guarded");
    let guard = Safeguards::On {
        journal: journal.clone(),
        settings: String::new(),
    };
    let definition = definition::load(Path::new(DEFINITIONS), MIGRATION)?;
    let shop = Shop::start(stage, "guarded", guard).await?;
    let mut conn = stage.connect("evenkeel demo: operator").await?;
    let mut scene = production.scene(&shop, Some(production.orders)).await?;
    scene.dawn().await;
    scene.pass(WARM_UP).await;

    let from = Instant::now();
    scene
        .during(schema::apply(&mut conn, schema::latest()))
        .await?;
    let took = from.elapsed().as_secs_f64() * 1e3;
    scene.note(format!(
        "the column is added, nullable and with a default for new orders: {took:.0} ms"
    ));
    let rows_total = scene.during(count_pending(&mut conn)).await?;

    let mut rng = StdRng::seed_from_u64(production.seed);
    scene.note("control: cycles without a migration");
    let mut control = Vec::new();
    for on_first in cycles::shuffled(pace.control_cycles, &mut rng) {
        control.push(cycle(&mut scene, pace, on_first, None).await?);
    }

    scene.note(format!("{MIGRATION} is queued: {rows_total} rows"));
    let mut command = Command::queue(conn, &definition).await?;
    let mut played = Vec::new();
    for on_first in cycles::shuffled(pace.cycles, &mut rng) {
        played.push(cycle(&mut scene, pace, on_first, Some(&mut command)).await?);
    }

    let before = command.read().await?;
    let on_time: Duration = played.iter().map(|cycle| cycle.on.to - cycle.on.from).sum();
    let sustained = command.sustain(&mut scene, pace.sustain).await?;
    let at_peak = command.read().await?;
    scene.note(match at_peak.state {
        State::Completed => "the migration is complete; the peak ends".to_owned(),
        _ => format!(
            "the peak ends with {} of {rows_total} rows changed",
            at_peak.rows_changed
        ),
    });
    let footage = scene.end().await;
    let done = command.complete(production).await?;
    shop.stop().await?;

    let verified = {
        let spinner = screen.spinner("verifying every row");
        let verified = verify(production, &definition, &mut command.conn).await?;
        spinner.finish_and_clear();
        verified
    };
    let felt = |cycles: &[Cycle]| -> Vec<Felt> {
        let cycles = cycles.iter();
        cycles.map(|cycle| cycle.felt(&footage.recording)).collect()
    };
    let (felt, control) = (felt(&played), felt(&control));
    let sustained_time = sustained.map_or(Duration::ZERO, |period| period.to - period.from);
    let rate = |rows: i64, time: Duration| {
        if time.is_zero() {
            f64::NAN
        } else {
            rows as f64 / time.as_secs_f64()
        }
    };
    let figures = MigrationFigures {
        rows_total,
        rows_changed: done.rows_changed,
        rows_per_s: rate(at_peak.rows_changed, on_time + sustained_time),
        p99_on_ms: median(felt.iter().map(|felt| felt.on_ms)),
        p99_off_ms: median(felt.iter().map(|felt| felt.off_ms)),
        p99_ratio_median: median(felt.iter().map(|felt| felt.ratio)),
        cycles: felt.len(),
        verified,
        control_ratio_median: median(control.iter().map(|felt| felt.ratio)),
        control_cycles: control.len(),
        p99_sustained_ms: sustained.map_or(f64::NAN, |period| {
            footage.recording.all_classes(period.from, period.to).p99_ms
        }),
        sustained_rows_per_s: rate(at_peak.rows_changed - before.rows_changed, sustained_time),
        rows_after_peak: done.rows_changed - at_peak.rows_changed,
    };
    Ok(Guarded {
        act: Act {
            name: "guarded",
            classes: Classes::of(&footage.recording),
            outage: None,
            watch: None,
            migration: Some(figures),
        },
        footage,
        cycles: played,
        felt,
        control,
        sustained,
    })
}

/// Plays the two periods of a cycle; without a `command` neither has a migration. The migration is
/// left paused.
async fn cycle(
    scene: &mut Scene<'_>,
    pace: Pace,
    on_first: bool,
    command: Option<&mut Command>,
) -> Result<Cycle, DemoError> {
    if on_first {
        let on = with(scene, pace.on, command).await?;
        let off = without(scene, pace.off).await;
        Ok(Cycle { on, off })
    } else {
        let off = without(scene, pace.off).await;
        let on = with(scene, pace.on, command).await?;
        Ok(Cycle { on, off })
    }
}

async fn with(
    scene: &mut Scene<'_>,
    time: Duration,
    command: Option<&mut Command>,
) -> Result<Period, DemoError> {
    let Some(command) = command else {
        return Ok(without(scene, time).await);
    };
    command.to(State::Queued).await?;
    scene.note("migration on");
    let period = without(scene, time).await;
    command.to(State::Paused).await?;
    scene.note("migration off");
    Ok(period)
}

async fn without(scene: &mut Scene<'_>, time: Duration) -> Period {
    let from = scene.now();
    scene.pass(time).await;
    let to = scene.now();
    Period { from, to }
}

impl Command {
    /// Queues the migration and pauses it before it begins.
    async fn queue(mut conn: PgConnection, definition: &Definition) -> Result<Self, DemoError> {
        let run = ledger::enqueue(&mut conn, MIGRATION, &definition.text, ACTOR).await?;
        let mut command = Self { conn, run: run.id };
        command.to(State::Paused).await?;
        Ok(command)
    }

    async fn read(&mut self) -> Result<Run, DemoError> {
        Ok(ledger::find(&mut self.conn, self.run).await?)
    }

    /// Pauses or resumes, unless the migration is complete already.
    async fn to(&mut self, state: State) -> Result<(), DemoError> {
        match ledger::command(&mut self.conn, self.run, state, ACTOR).await {
            Ok(_) => Ok(()),
            Err(err) => match self.read().await?.state {
                State::Completed => Ok(()),
                _ => Err(err.into()),
            },
        }
    }

    /// Lets the migration run at peak until it is complete, at most for `patience`.
    async fn sustain(
        &mut self,
        scene: &mut Scene<'_>,
        patience: Duration,
    ) -> Result<Option<Period>, DemoError> {
        if self.read().await?.state == State::Completed {
            return Ok(None);
        }
        self.to(State::Queued).await?;
        scene.note("migration on, without pauses");
        let from = scene.now();
        while scene.now() - from < patience && !self.is_complete().await? {
            scene.pass(POLL).await;
        }
        Ok(Some(Period {
            from,
            to: scene.now(),
        }))
    }

    /// Whether it is complete.
    async fn is_complete(&mut self) -> Result<bool, DemoError> {
        let run = self.read().await?;
        match run.state {
            State::Completed => Ok(true),
            State::Failed | State::Cancelled => Err(DemoError::Migration {
                state: run.state.name(),
                reason: run.error.unwrap_or_default(),
            }),
            _ => Ok(false),
        }
    }

    /// Waits for the rest, now that no shopper is there.
    async fn complete(&mut self, production: &Production<'_>) -> Result<Run, DemoError> {
        let began = Instant::now();
        let bar = production.screen.bar("after peak", production.orders);
        while !self.is_complete().await? {
            let run = self.read().await?;
            bar.set_position(u64::try_from(run.rows_changed).unwrap_or_default());
            if began.elapsed() > AFTER_PEAK_PATIENCE {
                return Err(DemoError::Migration {
                    state: run.state.name(),
                    reason: format!("{} rows changed so far", run.rows_changed),
                });
            }
            tokio::time::sleep(POLL).await;
        }
        bar.finish_and_clear();
        self.read().await
    }
}

async fn count_pending(conn: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) FROM orders WHERE placed_day IS NULL")
        .fetch_one(conn)
        .await
}

/// Whether nothing is pending, by the engine's walk over the keys and by a count that knows nothing
/// of the engine.
async fn verify(
    production: &Production<'_>,
    definition: &Definition,
    conn: &mut PgConnection,
) -> Result<bool, DemoError> {
    let settings = Settings::default();
    let keyset = Keyset::resolve(conn, definition).await?;
    let app = App::new(settings.clone(), production.stage.options());
    let found = sweep::verify(&app.pool, &settings.migration, definition, &keyset, None).await?;
    app.pool.close().await;
    Ok(found.is_complete() && count_pending(conn).await? == 0)
}
