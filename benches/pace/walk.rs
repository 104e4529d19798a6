//! A peer's migration: the same batches as Evenkeel's, in one transaction with their cursor, with
//! another law between them.

use std::time::{Duration, Instant};

use evenkeel::app::App;
use evenkeel::config::Engine;
use evenkeel::migration::batch::{Batch, Outcome};
use evenkeel::migration::definition::Definition;
use evenkeel::migration::keyset::{KeyValue, Keyset};
use evenkeel::migration::ledger::{Lease, Phase, Tries};
use evenkeel::migration::retry::Failure;
use pool::Class;
use pressure::LatencyReading;
use pressure::latency::{FAST, SLOW};
use sqlx::postgres::PgConnection;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::laws::{Felt, Law};

/// Rows of the batches of the peer that does not size them, and its sleep between two.
const FIXED_ROWS: u32 = 1_000;
const FIXED_SLEEP: Duration = Duration::from_millis(50);
/// How often the laws are asked.
const SAMPLE: Duration = Duration::from_millis(100);

/// How a peer decides.
pub enum Peer {
    /// So many rows, so long a sleep, whatever happens.
    Fixed,
    /// A law on the duty; batches are sized by time.
    Steered(Box<dyn Law>),
}

/// Where a peer's walk is.
pub struct Position {
    pub definition: Definition,
    pub keyset: Keyset,
    pub lease: Lease,
    pub cursor: Option<KeyValue>,
    pub end: KeyValue,
    pub rows: u32,
}

fn read(app: &App, window: Duration) -> [LatencyReading; Class::SHOPPERS.len()] {
    let now = Instant::now();
    Class::SHOPPERS.map(|class| app.latencies.read(class, window, now))
}

impl Peer {
    /// Works until it is told to stop, after a second in which it measures the shop at rest. Tells every duty to `tell`.
    pub async fn work(
        &mut self,
        app: &App,
        position: &mut Position,
        stop: &CancellationToken,
        tell: impl Fn(f64) + Sync,
    ) -> Result<(), Failure> {
        tokio::time::sleep(SLOW).await;
        let at_rest = read(app, SLOW);
        let (publish, mut duty) = watch::channel(0.01);
        let Self::Steered(law) = self else {
            return fixed(app, position, stop, tell).await;
        };
        let steer = async {
            let mut ticks = tokio::time::interval(SAMPLE);
            loop {
                ticks.tick().await;
                let felt = Felt {
                    lately: read(app, FAST),
                    at_rest,
                };
                let next = law.duty(&felt);
                tell(next);
                publish.send_replace(next);
            }
        };
        let walk = async {
            while !stop.is_cancelled() {
                let began = Instant::now();
                let engine = &app.settings.migration;
                position.batch(app, engine).await?;
                let took = began.elapsed();
                loop {
                    let share = *duty.borrow_and_update();
                    let rest = took.mul_f64((1.0 - share) / share);
                    let left = rest.saturating_sub(began.elapsed() - took);
                    if left.is_zero() || stop.is_cancelled() {
                        break;
                    }
                    tokio::select! {
                        () = tokio::time::sleep(left) => {}
                        _ = duty.changed() => {}
                        () = stop.cancelled() => {}
                    }
                }
            }
            Ok(())
        };
        tokio::select! {
            done = walk => done,
            () = steer => Ok(()),
        }
    }
}

async fn fixed(
    app: &App,
    position: &mut Position,
    stop: &CancellationToken,
    tell: impl Fn(f64),
) -> Result<(), Failure> {
    let engine = Engine {
        batch_min: FIXED_ROWS,
        batch_max: FIXED_ROWS,
        ..app.settings.migration.clone()
    };
    position.rows = FIXED_ROWS;
    while !stop.is_cancelled() {
        let began = Instant::now();
        position.batch(app, &engine).await?;
        let took = began.elapsed().as_secs_f64();
        tell(took / (took + FIXED_SLEEP.as_secs_f64()));
        tokio::select! {
            () = tokio::time::sleep(FIXED_SLEEP) => {}
            () = stop.cancelled() => {}
        }
    }
    Ok(())
}

impl Position {
    /// One batch; begins anew at the end of the table. A lock that is held too long is no failure
    /// of the law's: the batch is tried again.
    async fn batch(&mut self, app: &App, engine: &Engine) -> Result<(), Failure> {
        let batch = Batch {
            definition: &self.definition,
            keyset: &self.keyset,
            lease: self.lease,
            number: 1,
            phase: Phase::Main,
            cursor: self.cursor.as_ref(),
            end: &self.end,
            rows: self.rows,
            target: engine.batch_target,
            // Peers size by the time of the last batch alone.
            before: None,
            tries: &Tries::default(),
            proved: true,
        };
        let work =
            async |conn: &mut PgConnection| batch.run(conn, engine).await.map_err(Failure::from);
        match app.pool.run(Class::Background, work).await {
            Ok(Outcome::Committed {
                range, next_rows, ..
            }) => {
                self.cursor = Some(range.upper);
                self.rows = next_rows;
            }
            Ok(Outcome::Exhausted) => self.rewind(app).await?,
            Ok(Outcome::StillPending(why)) => {
                return Err(Failure::Database(sqlx::Error::Protocol(why)));
            }
            Ok(Outcome::LeaseLost) => {
                return Err(Failure::Database(sqlx::Error::Protocol(
                    "lease lost".to_owned(),
                )));
            }
            Err(failure) if failure.is_contention() => {}
            // Shoppers have all the connections.
            Err(Failure::Pool(_)) => {}
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    async fn rewind(&mut self, app: &App) -> Result<(), Failure> {
        self.cursor = None;
        let run = self.lease.run;
        let rewind = async |conn: &mut PgConnection| {
            sqlx::query("UPDATE evenkeel.runs SET cursor = NULL WHERE id = $1")
                .bind(run)
                .execute(conn)
                .await?;
            Ok::<_, Failure>(())
        };
        app.pool.run(Class::Background, rewind).await
    }
}
