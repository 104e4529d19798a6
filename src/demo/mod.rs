//! The demo: the outage of June 20, and the same change without one.
//!
//! # Layout
//!
//! - `stage`: a PostgreSQL of its own, thrown away at the end
//! - `shop`: the shop as a child process; `observer`: what is seen of it from outside
//! - `scene`: a load at peak, watched and recorded; `screen`: the terminal
//! - `naive`: act 1; `outage`: when the shop was down
//! - `watched`: act 2; `people`: whom the watch calls
//! - `guarded`: act 3; `cycles`: what shoppers feel of the migration
//! - `stories`: other causes than the script; `cases`: incidents of known causes, and what the watch says
//! - `trouble`: what befalls a database, as people and jobs cause it
//! - `evidence`: the figures and the claims; `report`: what is written

pub mod cases;
pub mod cycles;
mod error;
pub mod evidence;
mod guarded;
mod naive;
mod observer;
pub mod outage;
mod people;
mod report;
mod scene;
mod screen;
mod shop;
mod stage;
mod stories;
pub mod trouble;
pub mod watched;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::postgres::PgConnection;

pub use error::DemoError;
use evidence::Evidence;
use load::{
    Capacity, CapacityLimits, Credentials, Load, Profile, Sessions, Shop as Learnt,
    measure_capacity,
};
use report::Story;
use scene::Scene;
use screen::Screen;
use shop::{Safeguards, Shop};
use stage::Stage;

use crate::config::Database;
use crate::db::schema;
use crate::shutdown::Shutdown;
use crate::store::sample::{self, DEMO_PASSWORD, SampleSize};

/// The schema step that all acts are about.
const CHANGE: i64 = 3;
/// The peak, as a share of what the shop sustains.
const PEAK: f64 = 0.6;
/// Requests per second that one load generator certainly sends on time beside a shop.
const GENERATOR_MAX: f64 = 8_000.0;
/// Shoppers who are logged in. Every log-in hashes a password, so they are not many.
const SHOPPERS: i64 = 24;
const WARM_UP: Duration = Duration::from_secs(2);

/// What is to be played.
#[derive(Clone, Debug)]
pub struct Options {
    /// Smaller and shorter.
    pub quick: bool,
    /// Where the report goes.
    pub report: PathBuf,
    /// Whether other causes than the script are played, too.
    pub stories: bool,
    /// Draws arrivals, requests and the order of the cycles.
    pub seed: u64,
}

/// How large and how long.
#[derive(Clone, Copy, Debug)]
struct Pace {
    size: SampleSize,
    script_patience: Duration,
    control_cycles: usize,
    cycles: usize,
    on: Duration,
    off: Duration,
    /// How long the migration may run at peak without pauses.
    sustain: Duration,
}

impl Pace {
    fn full() -> Self {
        Self {
            size: SampleSize {
                products: 2_000,
                accounts: 20_000,
                orders: 2_000_000,
            },
            script_patience: Duration::from_secs(20),
            control_cycles: 4,
            cycles: 10,
            on: Duration::from_secs(5),
            off: Duration::from_secs(3),
            sustain: Duration::from_secs(60),
        }
    }

    fn quick() -> Self {
        Self {
            size: SampleSize {
                products: 1_000,
                accounts: 5_000,
                orders: 600_000,
            },
            script_patience: Duration::from_secs(8),
            control_cycles: 3,
            cycles: 10,
            on: Duration::from_millis(2_300),
            off: Duration::from_millis(1_200),
            sustain: Duration::from_secs(4),
        }
    }
}

/// What all acts are played with.
#[derive(Debug)]
struct Production<'a> {
    stage: &'a Stage,
    screen: &'a Screen,
    pace: Pace,
    profile: Profile,
    peak: f64,
    orders: u64,
    seed: u64,
}

impl<'a> Production<'a> {
    /// Sends the peak to `shop`.
    async fn scene(&self, shop: &Shop, rows: Option<u64>) -> Result<Scene<'a>, DemoError> {
        let learnt = learn(self.stage, shop, &self.profile).await?;
        let watch = self.stage.connect("evenkeel demo: observer").await?;
        Scene::begin(
            self.screen,
            &learnt,
            &self.profile,
            self.peak,
            (watch, shop.pages()),
            rows,
        )
    }
}

/// Plays the acts, writes the report, and removes everything else again, also on Ctrl-C and
/// SIGTERM. Returns the claims that did not hold, each as a sentence.
///
/// # Errors
/// [`DemoError`] when it could not be played to its end.
pub async fn play(options: &Options, database: &Database) -> Result<Vec<String>, DemoError> {
    let screen = Screen::new();
    if database.url.is_some() {
        screen.say("DATABASE_URL is ignored: the demo plays only on a database of its own.");
    }
    let interrupted = Shutdown::signalled();
    tokio::pin!(interrupted);
    let stage = tokio::select! {
        stage = Stage::open(database, |text| screen.say(text)) => stage?,
        _ = &mut interrupted => return Err(DemoError::Interrupted),
    };
    screen.say(&format!(
        "a PostgreSQL of its own runs in {}",
        stage.directory().display()
    ));
    let played = tokio::select! {
        played = acts(options, &stage, &screen) => played,
        _ = &mut interrupted => Err(DemoError::Interrupted),
    };
    let closed = stage.close().await;
    let broken = played?;
    closed?;
    Ok(broken)
}

async fn acts(options: &Options, stage: &Stage, screen: &Screen) -> Result<Vec<String>, DemoError> {
    let pace = if options.quick {
        Pace::quick()
    } else {
        Pace::full()
    };
    let profile = Profile {
        seed: options.seed,
        ..Profile::default()
    };
    screen.heading("The shop");
    fill(stage, screen, pace.size).await?;
    let capacity = capacity(stage, screen, &profile, options.quick).await?;
    let peak = (capacity.rps * PEAK).min(GENERATOR_MAX);
    let bounded = if peak < capacity.rps * PEAK {
        ", which is all that one load generator sends"
    } else {
        ""
    };
    screen.say(&format!(
        "capacity: {:.0} requests per second; the peak of all acts: {peak:.0}, {:.0} % of \
         it{bounded}",
        capacity.rps,
        peak / capacity.rps * 100.0
    ));
    let production = Production {
        stage,
        screen,
        pace,
        profile,
        peak,
        orders: pace.size.orders.into(),
        seed: options.seed,
    };
    watched::create_roles(&production).await?;
    let naive = naive::play(&production).await?;
    let watched = watched::play(&production).await?;
    let guarded = guarded::play(&production).await?;
    let stories = match options.stories {
        true => Some(stories::play(&production).await?),
        false => None,
    };
    let story = Story {
        evidence: Evidence {
            capacity_rps: capacity.rps,
            peak_rps: peak,
            acts: [naive.act.clone(), watched.act.clone(), guarded.act.clone()],
            stories,
        },
        naive,
        watched,
        guarded,
    };
    report::write(&options.report, &story)?;
    report::summary(screen, &options.report, &story.evidence);
    Ok(story.evidence.broken_claims())
}

/// The shop's database as it was before the change.
async fn fill(stage: &Stage, screen: &Screen, size: SampleSize) -> Result<(), DemoError> {
    let mut conn = stage.connect("evenkeel demo: sample").await?;
    schema::apply_without(&mut conn, CHANGE).await?;
    let bar = Mutex::new(screen.bar("orders", 1));
    sample::fill(&mut conn, size, &|done, of| {
        let bar = bar.lock();
        bar.set_length(of);
        bar.set_position(done);
    })
    .await?;
    bar.lock().finish_and_clear();
    screen.say(&format!(
        "{} products, {} accounts, {} orders",
        size.products, size.accounts, size.orders
    ));
    sqlx::query("CHECKPOINT").execute(&mut conn).await?;
    Ok(())
}

async fn capacity(
    stage: &Stage,
    screen: &Screen,
    profile: &Profile,
    quick: bool,
) -> Result<Capacity, DemoError> {
    let guard = Safeguards::On {
        journal: stage.directory().join("capacity"),
        settings: String::new(),
    };
    let shop = Shop::start(stage, "capacity", guard).await?;
    let learnt = learn(stage, &shop, profile).await?;
    let spinner = screen.spinner("measuring what the shop sustains");
    let mut limits = CapacityLimits::default();
    if quick {
        limits.start = 400.0;
        limits.factor = 1.5;
        limits.refinements = 1;
    }
    warm_up(&learnt, profile, limits.start).await?;
    let capacity = measure_capacity(&learnt, profile, &limits).await?;
    spinner.finish_and_clear();
    shop.stop().await?;
    if capacity.rps <= 0.0 {
        return Err(DemoError::NoCapacity);
    }
    Ok(capacity)
}

/// Lets a shop that has just started open its connections and read its tables.
async fn warm_up(shop: &Arc<Learnt>, profile: &Profile, rate: f64) -> Result<(), DemoError> {
    let load = Load::start(shop, profile, rate)?;
    tokio::time::sleep(WARM_UP).await;
    load.stop().await;
    Ok(())
}

/// Logs shoppers in who have ordered before.
async fn learn(stage: &Stage, shop: &Shop, profile: &Profile) -> Result<Arc<Learnt>, DemoError> {
    let mut conn = stage.connect("evenkeel demo").await?;
    let people = shoppers(&mut conn).await?;
    let learnt = Learnt::learn(shop.target()?, profile, Sessions::LogIn(people)).await?;
    Ok(Arc::new(learnt))
}

/// Sample accounts that have ordered before, spread over all, as those who are in the shop.
///
/// # Errors
/// What the database says.
pub async fn shoppers(conn: &mut PgConnection) -> Result<Vec<Credentials>, sqlx::Error> {
    let emails: Vec<String> =
        sqlx::query_scalar("SELECT email FROM accounts WHERE id % 101 = 0 ORDER BY id LIMIT $1")
            .bind(SHOPPERS)
            .fetch_all(conn)
            .await?;
    let people = emails.into_iter().map(|email| Credentials {
        email,
        password: DEMO_PASSWORD.to_owned(),
    });
    Ok(people.collect())
}
