//! A simulated shop in virtual time: load in, latency out, the migration's own work included.
//!
//! One server of a given capacity with a queue, in steps of five milliseconds. Latency is service
//! time stretched by utilisation, plus the time that the backlog takes; the migration takes its share
//! of the capacity while it works.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use evenkeel::class::Class;
use evenkeel::config::Pace as Settings;
use evenkeel::db::gate::GateReading;
use evenkeel::migration::governor::Governor;
use evenkeel::migration::pace::Order;
use evenkeel::pressure::{InFlight, Latencies, Outcome};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Exp1, Poisson};
use serde::Deserialize;

const STEP: Duration = Duration::from_millis(5);

/// What happens in the shop.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    pub seed: u64,
    /// Requests per second that the shop can serve while the migration rests.
    pub capacity: f64,
    /// Time that a request takes in an empty shop.
    pub service_ms: f64,
    /// Share of the capacity that the migration takes while it works.
    pub cost: f64,
    pub load: Vec<Load>,
    #[serde(default)]
    pub stuck: Vec<Stuck>,
    #[serde(default)]
    pub failures: Vec<Failures>,
}

/// Offered load until a time, changing evenly from `from` to `to` requests per second.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    pub until_s: f64,
    pub from: f64,
    pub to: f64,
    /// How far a second's rate strays from this, as a share of it.
    #[serde(default)]
    pub noise: f64,
}

/// Checkouts that arrive and are not answered before a time.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stuck {
    pub at_s: f64,
    pub until_s: f64,
    pub requests: usize,
}

/// A time in which a share of all requests fails.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failures {
    pub from_s: f64,
    pub until_s: f64,
    pub share: f64,
}

/// The pace after one sample.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub at_s: f64,
    pub duty: f64,
    pub order: Order,
}

/// What came of it.
pub struct Played {
    pub samples: Vec<Sample>,
    /// When every request arrived and how long it took, in seconds and milliseconds.
    pub requests: Vec<(f64, f64)>,
}

struct Open {
    ends: Instant,
    request: InFlight,
    outcome: Outcome,
}

impl PartialEq for Open {
    fn eq(&self, other: &Self) -> bool {
        self.ends == other.ends
    }
}
impl Eq for Open {}
impl PartialOrd for Open {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Open {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.ends.cmp(&other.ends)
    }
}

impl Script {
    /// Requests per second at `t` seconds.
    fn rate(&self, t: f64, random: &mut StdRng) -> f64 {
        let mut began = 0.0;
        for load in &self.load {
            if t < load.until_s {
                let along = (t - began) / (load.until_s - began);
                let rate = load.from + (load.to - load.from) * along;
                return rate * (1.0 + load.noise * random.random_range(-1.0..1.0));
            }
            began = load.until_s;
        }
        0.0
    }

    /// Plays the script with a migration that costs `cost` of the capacity.
    pub fn play(&self, settings: &Settings, cost: f64) -> Played {
        let mut random = StdRng::seed_from_u64(self.seed);
        let origin = Instant::now();
        let latencies = Latencies::new(origin);
        let mut governor = Governor::new(settings.clone(), origin);
        let mut gates = [GateReading {
            max: 6,
            ..GateReading::default()
        }; 4];
        let mut open: BinaryHeap<Reverse<Open>> = BinaryHeap::new();
        let (mut samples, mut requests) = (Vec::new(), Vec::new());
        let (mut working, mut backlog) = (0.0, 0.0_f64);
        let until = self.load.last().map_or(0.0, |load| load.until_s);
        let steps = (until / STEP.as_secs_f64()) as u32;
        let per_sample = (settings.sample.as_micros() / STEP.as_micros()) as u32;
        for step in 0..steps {
            let now = origin + STEP * step;
            let t = now.duration_since(origin).as_secs_f64();
            while open.peek().is_some_and(|Reverse(next)| next.ends <= now) {
                let Some(Reverse(next)) = open.pop() else {
                    break;
                };
                next.request.finish(next.outcome, next.ends);
            }
            for stuck in &self.stuck {
                if (stuck.at_s..stuck.at_s + STEP.as_secs_f64()).contains(&t) {
                    for _ in 0..stuck.requests {
                        open.push(Reverse(Open {
                            ends: origin + Duration::from_secs_f64(stuck.until_s),
                            request: latencies.arrive(Class::Checkout, now),
                            outcome: Outcome::Ok,
                        }));
                    }
                }
            }
            let rate = self.rate(t, &mut random).max(0.0);
            let mean = rate * STEP.as_secs_f64();
            let arrivals = match Poisson::new(mean) {
                Ok(poisson) => poisson.sample(&mut random) as u64,
                Err(_) => 0,
            };
            let capacity = self.capacity * (1.0 - cost * working);
            backlog = (backlog + arrivals as f64 - capacity * STEP.as_secs_f64()).max(0.0);
            // Chance bunches arrivals within a step; only what outlasts one is a queue.
            let queued_s = (backlog / capacity - STEP.as_secs_f64()).max(0.0);
            let utilisation = (rate / capacity).min(0.97);
            let failing = self
                .failures
                .iter()
                .find(|f| (f.from_s..f.until_s).contains(&t));
            for _ in 0..arrivals {
                let chance: f64 = Exp1.sample(&mut random);
                let service = self.service_ms * (0.7 + 0.3 * chance) / (1.0 - utilisation);
                let took_ms = service + queued_s * 1e3;
                let class = match random.random_range(0..100) {
                    0..80 => Class::Browse,
                    80..92 => Class::Account,
                    _ => Class::Checkout,
                };
                let fails = failing.is_some_and(|f| random.random_bool(f.share));
                open.push(Reverse(Open {
                    ends: now + Duration::from_secs_f64(took_ms / 1e3),
                    request: latencies.arrive(class, now),
                    outcome: if fails { Outcome::Failed } else { Outcome::Ok },
                }));
                requests.push((t, took_ms));
                let gate = &mut gates[class.index()];
                gate.granted += 1;
                gate.waited_us += (queued_s * 1e6) as u64;
            }
            for gate in &mut gates {
                gate.oldest_wait_ms = queued_s * 1e3;
                gate.waiting = (backlog / 3.0) as usize;
            }
            if step % per_sample == 0 {
                let pace = governor.decide(Some(&latencies), &gates, now);
                working = if pace.order == Order::Work {
                    pace.duty
                } else {
                    0.0
                };
                samples.push(Sample {
                    at_s: t,
                    duty: pace.duty,
                    order: pace.order,
                });
            }
        }
        Played { samples, requests }
    }
}
