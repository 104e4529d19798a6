//! A simulated shop in virtual time: load in, what shoppers feel out, the migration's own work
//! included.
//!
//! One server of a given capacity with a queue, in ticks of 25 ms. Latency is service time stretched
//! by utilisation, plus the time that the backlog takes; the migration takes its share of the
//! capacity while it works. No request is simulated by itself: a class of `n` requests in a tick has
//! a 95th percentile with the sampling error that `n` requests have, so that a minute takes a
//! millisecond and thousands of them can be played.

use std::time::{Duration, Instant};

use evenkeel::migration::governor::Governor;
use evenkeel::migration::turns::Line;
use pool::Class;
use pool::gate::GateReading;
use pressure::latency::Totals;
use pressure::pace::Order;
use pressure::settings::PaceSettings as Settings;
use pressure::trial::SAMPLING_ERROR;
use pressure::{LatencyReading, Windows};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Exp1, Poisson, StandardNormal};
use serde::Deserialize;

const TICK: Duration = Duration::from_millis(25);
/// The classes' shares of the requests, in the order of `Class::SHOPPERS`.
const MIX: [f64; 3] = [0.08, 0.12, 0.80];
/// Of requests whose latency is `0.7 + 0.3·Exp(1)`: the 95th percentile and the mean.
const P95: f64 = 0.7 + 0.3 * 3.0;
/// Requests that one connection has in work before it counts as waiting.
const CONNECTIONS: f64 = 6.0;

/// What happens in the shop.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// Requests per second that the shop can serve while the migration rests.
    pub capacity: f64,
    /// Time that a request takes in an empty shop.
    pub service_ms: f64,
    /// Share of the capacity that the migration takes while it works.
    pub cost: f64,
    /// What the cost gains per second, as a share of it: a migration that becomes heavier.
    #[serde(default)]
    pub cost_grows: f64,
    /// For how long work is felt after it ends: flushes, caches, vacuum.
    #[serde(default)]
    pub lingers_s: f64,
    pub load: Vec<Load>,
    #[serde(default)]
    pub stuck: Vec<Stuck>,
    #[serde(default)]
    pub failures: Vec<Failures>,
    #[serde(default)]
    pub slower: Vec<Slower>,
    pub stalls: Option<Stalls>,
    /// Migrations that share the budget; a single one when there are none.
    #[serde(default)]
    pub competing: Vec<Competitor>,
}

/// A migration that competes with others for the same budget.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Competitor {
    /// How long its batches take on average; each is between half and one and a half times as long.
    pub batch_ms: f64,
    /// When it begins.
    #[serde(default)]
    pub from_s: f64,
    /// Times at which it has nothing to run: it waits for a lock, or is paused.
    #[serde(default)]
    pub away: Vec<(f64, f64)>,
}

/// Offered load until a time, changing evenly from `from` to `to` requests per second.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    pub until_s: f64,
    pub from: f64,
    pub to: f64,
    /// How far a tick's rate strays from this, as a share of it.
    #[serde(default)]
    pub noise: f64,
}

/// Checkouts that arrive and are not answered before a time.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stuck {
    pub at_s: f64,
    pub until_s: f64,
    pub requests: u64,
}

/// A time in which a share of all requests fails.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failures {
    pub from_s: f64,
    pub until_s: f64,
    pub share: f64,
}

/// A time over which everything becomes slower, evenly up to `times`, and stays so: a slow drift.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slower {
    pub from_s: f64,
    pub until_s: f64,
    pub times: f64,
}

/// Moments in which the machine does something else.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stalls {
    pub per_s: f64,
    /// How long each lasts on average.
    pub ms: f64,
}

/// The pace after one sample.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub at_s: f64,
    pub duty: f64,
    pub order: Order,
}

impl Sample {
    /// The share of the time until the next sample that is worked.
    pub fn worked(&self) -> f64 {
        match self.order {
            Order::Work => self.duty,
            Order::Wait | Order::Cancel => 0.0,
        }
    }
}

/// What came of it.
pub struct Played {
    pub samples: Vec<Sample>,
    /// Every batch of the competing migrations: when, whose, and how long it took.
    pub batches: Vec<(f64, usize, f64)>,
    /// What shoppers felt in every tick: when, how many they were, and their mean latency.
    pub felt: Vec<(f64, f64, f64)>,
}

/// What a class felt so far.
#[derive(Clone, Copy, Default)]
struct Felt {
    requests: f64,
    failed: f64,
    /// Their 95th percentile, sampling error included, times their number.
    p95_sum: f64,
}

/// What every class had felt by the end of every tick.
struct Memory {
    origin: Instant,
    ticks: Vec<[Felt; 3]>,
    stuck: Vec<(Instant, Instant, u64)>,
}

impl Windows for Memory {
    fn read(&self, class: Class, window: Duration, now: Instant) -> LatencyReading {
        let ticks = (window.as_micros() / TICK.as_micros()) as usize;
        let until = self.felt(class, self.ticks.len());
        let before = self.felt(class, self.ticks.len().saturating_sub(ticks));
        let requests = until.requests - before.requests;
        let p95 = (requests > 0.0).then(|| (until.p95_sum - before.p95_sum) / requests);
        let stuck = self
            .stuck
            .iter()
            .filter(|(from, until, _)| class == Class::Checkout && (*from..*until).contains(&now));
        let (in_flight, oldest) = stuck.fold((0, Duration::ZERO), |(n, oldest), (from, _, of)| {
            (n + of, oldest.max(now.duration_since(*from)))
        });
        assert!(now >= self.origin);
        LatencyReading {
            completed: requests as u64,
            failed: (until.failed - before.failed) as u64,
            in_flight,
            oldest_ms: oldest.as_secs_f64() * 1e3,
            p50_ms: p95.map(|p95| p95 / P95),
            p95_ms: p95,
            p99_ms: p95.map(|p95| p95 * 1.4),
        }
    }

    fn totals(&self, class: Class) -> Totals {
        let felt = self.felt(class, self.ticks.len());
        Totals {
            completed: felt.requests as u64,
            failed: felt.failed as u64,
        }
    }
}

impl Memory {
    /// What `class` had felt before tick `n`.
    fn felt(&self, class: Class, n: usize) -> Felt {
        n.checked_sub(1)
            .map_or(Felt::default(), |last| self.ticks[last][class.index()])
    }
}

/// The competing migrations, and the line in which they wait for their turns.
#[derive(Default)]
struct Competition {
    line: Line,
    /// Seconds of work that are due.
    budget_s: f64,
    batches: Vec<(f64, usize, f64)>,
}

impl Competition {
    /// Spends another `budget_s` seconds of work on batches.
    fn spend(&mut self, all: &[Competitor], budget_s: f64, t: f64, random: &mut SmallRng) {
        for (who, competitor) in all.iter().enumerate() {
            let mut away = competitor.away.iter();
            let away = away.any(|(from, until)| (*from..*until).contains(&t));
            if t < competitor.from_s || away {
                self.line.give_up(who as i64);
            } else {
                self.line.arrive(who as i64);
            }
        }
        self.budget_s += budget_s;
        while self.budget_s > 0.0
            && let Some(first) = self.line.first()
        {
            let who = first as usize;
            let took = all[who].batch_ms / 1e3 * random.random_range(0.5..1.5);
            self.line.begin(first);
            self.line.end(first, Duration::from_secs_f64(took));
            self.line.arrive(first);
            self.budget_s -= took;
            self.batches.push((t, who, took));
        }
    }
}

impl Script {
    /// Requests per second at `t` seconds.
    fn rate(&self, t: f64, random: &mut SmallRng) -> f64 {
        let mut began = 0.0;
        for load in &self.load {
            if t < load.until_s {
                let along = (t - began) / (load.until_s - began);
                let rate = load.from + (load.to - load.from) * along;
                let noise: f64 = random.random_range(-1.0..1.0);
                return (rate * (1.0 + load.noise * noise)).max(0.0);
            }
            began = load.until_s;
        }
        0.0
    }

    /// How many times slower everything is at `t` seconds.
    fn slowness(&self, t: f64) -> f64 {
        let drift = |s: &Slower| {
            let along = ((t - s.from_s) / (s.until_s - s.from_s)).clamp(0.0, 1.0);
            1.0 + (s.times - 1.0) * along
        };
        self.slower.iter().map(drift).product()
    }

    /// Plays the script, with the migration or (`settings` are `None`) without.
    pub fn play(&self, settings: Option<&Settings>, seed: u64) -> Played {
        let mut random = SmallRng::seed_from_u64(seed);
        let origin = Instant::now();
        let at = |s: f64| origin + Duration::from_secs_f64(s);
        let mut memory = Memory {
            origin,
            ticks: Vec::new(),
            stuck: self
                .stuck
                .iter()
                .map(|s| (at(s.at_s), at(s.until_s), s.requests))
                .collect(),
        };
        let mut governor = settings.map(|settings| {
            let per_sample = settings.sample.as_micros() / TICK.as_micros();
            (
                Governor::new(settings.clone(), seed, origin),
                per_sample as u32,
            )
        });
        let mut gates = [GateReading {
            max: 6,
            ..GateReading::default()
        }; 4];
        let (mut samples, mut felt) = (Vec::new(), Vec::new());
        let mut competition = Competition::default();
        let (mut working, mut lingering, mut backlog, mut stalled_s) = (0.0, 0.0, 0.0_f64, 0.0);
        let tick_s = TICK.as_secs_f64();
        let until = self.load.last().map_or(0.0, |load| load.until_s);
        for tick in 0..(until / tick_s) as u32 {
            let now = origin + TICK * tick;
            let t = tick_s * f64::from(tick);
            let rate = self.rate(t, &mut random);
            if let Some(stalls) = &self.stalls
                && random.random_bool(stalls.per_s * tick_s)
            {
                let length: f64 = Exp1.sample(&mut random);
                stalled_s += length * stalls.ms / 1e3;
            }
            let stall = stalled_s.min(tick_s);
            stalled_s -= stall;
            // Work is felt for a while after it has ended.
            let settles = if self.lingers_s > 0.0 {
                1.0 - (-tick_s / self.lingers_s).exp()
            } else {
                1.0
            };
            lingering += (working - lingering) * settles;
            let cost = (self.cost * (1.0 + self.cost_grows * t) * lingering).min(0.9);
            let capacity = self.capacity * (1.0 - cost) / self.slowness(t);
            let served = capacity * (tick_s - stall);
            backlog = (backlog + rate * tick_s - served).max(0.0);
            let queued_s = backlog / capacity + stall / 2.0;
            let utilisation = (rate / capacity).min(0.97);
            let mean_ms = self.service_ms * self.slowness(t) / (1.0 - utilisation) + queued_s * 1e3;
            let failing = self
                .failures
                .iter()
                .find(|f| (f.from_s..f.until_s).contains(&t));
            let mut classes = memory.ticks.last().copied().unwrap_or_default();
            for (class, share) in Class::SHOPPERS.into_iter().zip(MIX) {
                let n = Poisson::new(rate * share * tick_s);
                let n: f64 = n.map_or(0.0, |n| n.sample(&mut random));
                let error: f64 = StandardNormal.sample(&mut random);
                let error = (SAMPLING_ERROR / n.max(1.0).sqrt() * error).max(-0.9);
                let felt = &mut classes[class.index()];
                felt.requests += n;
                felt.failed += failing.map_or(0.0, |f| (n * f.share).round());
                felt.p95_sum += n * mean_ms * P95 * (1.0 + error);
                let gate = &mut gates[class.index()];
                gate.granted += n as u64;
                gate.waited_us += (n * queued_s * 1e6) as u64;
                gate.oldest_wait_ms = queued_s * 1e3;
                gate.waiting = (backlog * share / CONNECTIONS) as usize;
            }
            felt.push((t, rate * tick_s, mean_ms));
            competition.spend(&self.competing, working * tick_s, t, &mut random);
            memory.ticks.push(classes);
            if let Some((governor, per_sample)) = &mut governor
                && tick % *per_sample == 0
            {
                let pace = governor.decide(Some(&memory), &gates, now);
                let sample = Sample {
                    at_s: t,
                    duty: pace.duty,
                    order: pace.order,
                };
                working = sample.worked();
                samples.push(sample);
            }
        }
        Played {
            samples,
            batches: competition.batches,
            felt,
        }
    }
}
