//! A shop under peak load, watched, with everything recorded.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use load::{LiveCounters, Load, Profile, Rate, Recording, Shop as Learnt};
use pool::Class;
use sqlx::postgres::PgConnection;

use super::DemoError;
use super::observer::{Observer, Sample};
use super::screen::{Board, Interval, Screen};
use super::shop::Pages;

/// The share of the peak that an act begins with, and how it rises from there.
const DAWN: f64 = 0.1;
const DAWN_LASTS: Duration = Duration::from_secs(2);
const DAWN_STEPS: u32 = 10;

/// A load under way and whoever watches it.
#[derive(Debug)]
pub struct Scene<'a> {
    load: Load,
    observer: Observer,
    screen: &'a Screen,
    board: Board,
    events: Vec<Event>,
    began: DateTime<Utc>,
    peak: f64,
    /// When the board was last renewed, and the counters then.
    shown: (Instant, LiveCounters),
}

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Event {
    /// When, as an offset into the recording.
    pub at: Duration,
    /// What, in a clause.
    pub what: String,
}

/// Everything that was recorded of an act.
#[derive(Debug)]
pub struct Footage {
    /// Every request.
    pub recording: Recording,
    /// What was seen from outside.
    pub samples: Vec<Sample>,
    /// What happened.
    pub events: Vec<Event>,
    /// The date and time of offset zero.
    pub began: DateTime<Utc>,
}

impl<'a> Scene<'a> {
    /// Sends a load to a shop that was learnt, to begin with a share of the peak, and watches it over `conn`. The board has a bar for
    /// a migration of `rows`.
    ///
    /// # Errors
    /// When the load cannot be started.
    pub fn begin(
        screen: &'a Screen,
        shop: &Arc<Learnt>,
        profile: &Profile,
        peak: f64,
        watch: (PgConnection, Pages),
        rows: Option<u64>,
    ) -> Result<Self, DemoError> {
        let load = Load::start(shop, profile, peak * DAWN)?;
        let shown = (Instant::now(), load.live());
        Ok(Self {
            shown,
            load,
            observer: Observer::start(watch.0, watch.1),
            screen,
            board: screen.board(peak, rows),
            events: Vec::new(),
            began: Utc::now(),
            peak,
        })
    }

    /// Raises the load from [`DAWN`] to the peak, as a morning does: a shop that has just started
    /// opens its connections and fills its caches meanwhile.
    pub async fn dawn(&mut self) {
        self.note("shoppers arrive");
        for step in 1..=DAWN_STEPS {
            self.pass(DAWN_LASTS / DAWN_STEPS).await;
            let share = DAWN + (1.0 - DAWN) * f64::from(step) / f64::from(DAWN_STEPS);
            self.load.set_rate(self.peak * share);
        }
        self.note("peak traffic, normal service");
    }

    /// The rate of its load, and what it is at peak.
    pub fn rate(&self) -> (Rate, f64) {
        (self.load.rate(), self.peak)
    }

    /// The time since the beginning.
    pub fn now(&self) -> Duration {
        self.load.began().elapsed()
    }

    /// Records and prints that something happened now.
    pub fn note(&mut self, what: impl Into<String>) {
        self.note_at(self.now(), what);
    }

    /// Records and prints that something happened at an offset into the recording.
    pub fn note_at(&mut self, at: Duration, what: impl Into<String>) {
        let what = what.into();
        let seconds = at.as_secs_f64();
        self.screen.say(&format!("{seconds:7.1} s  {what}"));
        self.events.push(Event { at, what });
    }

    /// Requests that have failed so far.
    pub fn failed(&self) -> u64 {
        let live = self.load.live();
        Class::SHOPPERS
            .map(|class| live.class(class).failed)
            .iter()
            .sum()
    }

    /// Lets time pass.
    pub async fn pass(&mut self, time: Duration) {
        self.during(tokio::time::sleep(time)).await;
    }

    /// Renews the board until `work` is done.
    pub async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            let due = self.shown.0 + self.screen.renewal();
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep_until(due.into()) => self.show(),
            }
        }
    }

    fn show(&mut self) {
        let (since, before) = self.shown;
        let after = self.load.live();
        let interval = Interval {
            before,
            after,
            lasted: since.elapsed(),
            at: self.now(),
        };
        self.board.show(&interval, self.observer.latest().as_ref());
        self.shown = (Instant::now(), after);
    }

    /// Ends the load, waits for what is under way, and hands over what was recorded.
    pub async fn end(self) -> Footage {
        let recording = self.load.stop().await;
        Footage {
            recording,
            samples: self.observer.stop().await,
            events: self.events,
            began: self.began,
        }
    }
}
