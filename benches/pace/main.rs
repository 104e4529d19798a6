//! What shoppers pay for a migration, and how fast it goes: Evenkeel's pace beside those of others.
//!
//! `cargo bench --bench pace` runs it, `-- --quick` a short version, `-- 85 step` those parts of it, and
//! `-- --watch` shows ours at work with `RUST_LOG=evenkeel::migration=debug`; `docs/benchmarks.md` says
//! how to read it. One shop, one database, one load at several shares of the capacity, which is measured
//! anew before each. The contestants take turns in an order drawn anew in each round, and every turn
//! lies between two stretches of time without any migration, by which it is judged: machines drift,
//! and only neighbours in time can be compared. A turn in which nobody works is the control.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on ends here"
)]

mod contest;
mod front;
mod laws;
mod report;
mod shop;
mod stage;
mod walk;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use contest::{Period, Shop};
use load::{CapacityLimits, Load, Profile, Sessions, Shop as Learnt, Target, measure_capacity};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use report::{Report, Turn};
use shop::{CONTESTANTS, EVERYBODY, OURS, UNPACED};
use stage::Stage;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The loads, as shares of the capacity.
const LOADS: [f64; 3] = [0.30, 0.60, 0.85];
/// The load step, as shares of the capacity.
const STEP: [f64; 2] = [0.30, 0.95];
/// For its first second a contestant measures the shop at rest, which would flatter it.
const ON_SETTLES: Duration = Duration::from_millis(1_200);
const ON: Duration = Duration::from_millis(2_800);
/// The last batch and its queue end first.
const OFF_SETTLES: Duration = Duration::from_millis(400);
const OFF: Duration = Duration::from_millis(1_600);
/// How long a contestant works before the load step, so that its duty has risen.
const BEFORE_STEP: Duration = Duration::from_secs(12);
const AFTER_STEP: Duration = Duration::from_secs(3);
const IDLE: Duration = Duration::from_secs(4);
const WATCHED: Duration = Duration::from_secs(12);
/// What the shop bears for a second it may not bear for minutes.
const CAPACITY_STEP: Duration = Duration::from_secs(4);

/// A part that can be asked for by name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Idle,
    /// One of [`LOADS`].
    Load(usize),
    Step,
}

impl Part {
    fn named(name: &str) -> Option<Self> {
        match name {
            "idle" => Some(Self::Idle),
            "step" => Some(Self::Step),
            percent => {
                let load = |share: &f64| format!("{:.0}", share * 100.0) == percent;
                LOADS.iter().position(load).map(Self::Load)
            }
        }
    }

    fn all() -> Vec<Self> {
        let loads = (0..LOADS.len()).map(Self::Load);
        [Self::Idle]
            .into_iter()
            .chain(loads)
            .chain([Self::Step])
            .collect()
    }
}

struct Length {
    cycles: usize,
    steps: usize,
    idle_rounds: usize,
}

const FULL: Length = Length {
    cycles: 10,
    steps: 5,
    idle_rounds: 5,
};
const QUICK: Length = Length {
    cycles: 2,
    steps: 1,
    idle_rounds: 1,
};

struct Bench {
    stage: Stage,
    shop: Shop,
    learnt: Arc<Learnt>,
    profile: Profile,
    random: StdRng,
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, argument, url, address] = arguments.as_slice()
        && argument == shop::ARGUMENT
    {
        return shop::run(url, address.parse().unwrap()).await;
    }
    let length = if arguments.iter().any(|a| a == "--quick") {
        QUICK
    } else {
        FULL
    };
    let mut parts: Vec<Part> = arguments.iter().filter_map(|a| Part::named(a)).collect();
    if parts.is_empty() {
        parts = Part::all();
    }
    let stage = Stage::open().await;
    let shop = Shop::start(&stage.url());
    let profile = Profile::default();
    let sessions = Sessions::LogIn(stage.shoppers().await);
    let target = Target::new(shop.address).unwrap();
    let learnt = Arc::new(Learnt::learn(target, &profile, sessions).await.unwrap());
    let mut bench = Bench {
        stage,
        shop,
        learnt,
        profile,
        random: StdRng::seed_from_u64(1),
    };
    if arguments.iter().any(|a| a == "--watch") {
        bench.watch().await;
    } else {
        let report = bench.play(&length, &parts).await;
        report.publish(Path::new(env!("CARGO_TARGET_TMPDIR")));
    }
    bench.shop_stops().await;
}

impl Bench {
    /// Ours alone at the second of the loads for a minute; its trials are in the shop's log.
    async fn watch(&mut self) {
        let capacity = self.capacity().await;
        let load = Load::start(&self.learnt, &self.profile, capacity * LOADS[1]).unwrap();
        let mut turns = Vec::new();
        for _ in 0..5 {
            tokio::time::sleep(WATCHED / 10).await;
            let off = self.rest(&load).await;
            self.shop.on(OURS);
            let from = load.began().elapsed();
            tokio::time::sleep(WATCHED).await;
            let to = load.began().elapsed();
            turns.push((off, Period { from, to }, self.shop.off()));
        }
        let recording = load.stop().await;
        for (off, on, rows) in turns {
            eprintln!(
                "p99 {:.1} ms with, {:.1} without; {} failed; {:.0} rows/s",
                on.p99_ms(&recording),
                off.p99_ms(&recording),
                on.failed(&recording),
                rows as f64 / WATCHED.as_secs_f64()
            );
        }
    }

    /// Measures the capacity of a shop that has warmed up. It is not the same after an hour: the
    /// machine does other work as well, and the tables have grown.
    async fn capacity(&self) -> f64 {
        let limits = CapacityLimits {
            step: CAPACITY_STEP,
            ..CapacityLimits::default()
        };
        let warm = Load::start(&self.learnt, &self.profile, limits.start).unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        warm.stop().await;
        let capacity = measure_capacity(&self.learnt, &self.profile, &limits)
            .await
            .unwrap()
            .rps;
        eprintln!("capacity: {capacity:.0} requests per second");
        capacity
    }

    async fn play(&mut self, length: &Length, parts: &[Part]) -> Report {
        let mut report = Report::default();
        for part in parts {
            self.stage.tidy().await;
            match part {
                Part::Idle => self.idle_rounds(length.idle_rounds, &mut report).await,
                Part::Load(load) => self.cycles(LOADS[*load], length.cycles, &mut report).await,
                Part::Step => self.steps(length.steps, &mut report).await,
            }
        }
        report
    }

    async fn idle_rounds(&mut self, rounds: usize, report: &mut Report) {
        for round in 1..=rounds {
            for name in self.shuffled([OURS, UNPACED]) {
                let rate = self.idle(name).await;
                eprintln!("idle, round {round}: {name} {rate:.0} rows/s");
                report.idle(name, rate);
            }
        }
    }

    async fn cycles(&mut self, share: f64, cycles: usize, report: &mut Report) {
        let capacity = self.capacity().await;
        let load = Load::start(&self.learnt, &self.profile, capacity * share).unwrap();
        tokio::time::sleep(OFF).await;
        let mut turns = Vec::new();
        for round in 1..=cycles {
            eprintln!(
                "{:.0} % of capacity, round {round} of {cycles}",
                share * 100.0
            );
            for name in self.shuffled(EVERYBODY) {
                turns.push(self.turn(&load, name).await);
            }
        }
        let end = self.rest(&load).await;
        let recording = load.stop().await;
        report.cycles(share, capacity, &turns, end, &recording);
    }

    async fn steps(&mut self, rounds: usize, report: &mut Report) {
        for round in 1..=rounds {
            let capacity = self.capacity().await;
            for name in self.shuffled(CONTESTANTS) {
                let halved = self.step(name, capacity).await;
                eprintln!("load step, round {round}: {name} {halved:?}");
                report.step(name, halved);
            }
        }
    }

    fn shuffled<const N: usize>(&mut self, mut names: [&'static str; N]) -> [&'static str; N] {
        names.shuffle(&mut self.random);
        names
    }

    /// A stretch of time without any migration.
    async fn rest(&self, load: &Load) -> Period {
        tokio::time::sleep(OFF_SETTLES).await;
        let from = load.began().elapsed();
        tokio::time::sleep(OFF).await;
        Period {
            from,
            to: load.began().elapsed(),
        }
    }

    /// A stretch of rest, and then one in which `name` works.
    async fn turn(&mut self, load: &Load, name: &'static str) -> Turn {
        let off = self.rest(load).await;
        let works = name != shop::CONTROL;
        if works {
            self.shop.on(name);
        }
        let began = Instant::now();
        tokio::time::sleep(ON_SETTLES).await;
        let from = load.began().elapsed();
        tokio::time::sleep(ON).await;
        let on = Period {
            from,
            to: load.began().elapsed(),
        };
        let worked = began.elapsed();
        let rows = if works { self.shop.off() } else { 0 };
        Turn {
            name,
            off,
            on,
            rows_per_s: rows as f64 / worked.as_secs_f64(),
        }
    }

    /// Rows per second without shoppers. The first second, in which a baseline is looked for, does
    /// not count for anybody.
    async fn idle(&mut self, name: &'static str) -> f64 {
        self.shop.on(name);
        tokio::time::sleep(ON_SETTLES).await;
        let before = self.stage.rows(name).await;
        let began = Instant::now();
        tokio::time::sleep(IDLE).await;
        let rows = self.stage.rows(name).await - before;
        let took = began.elapsed();
        self.shop.off();
        rows as f64 / took.as_secs_f64()
    }

    /// How long after a load step `name` takes to halve its duty.
    async fn step(&mut self, name: &'static str, capacity: f64) -> Option<Duration> {
        let load = Load::start(&self.learnt, &self.profile, capacity * STEP[0]).unwrap();
        tokio::time::sleep(OFF).await;
        self.shop.on(name);
        tokio::time::sleep(BEFORE_STEP).await;
        load.set_rate(capacity * STEP[1]);
        let step = Instant::now();
        tokio::time::sleep(AFTER_STEP).await;
        let halved = self.shop.halved_after(step);
        // First the load: where the shop is overrun, nobody hears that they are to end.
        load.stop().await;
        self.shop.off();
        halved
    }

    async fn shop_stops(self) {
        drop(self.shop);
        self.stage.close().await;
    }
}
