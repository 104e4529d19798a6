//! Whether the watch names the right cause: incidents of known causes, with harmless company, one
//! after another against a shop that serves shoppers all the while.
//!
//! `cargo bench --bench watch` plays 200, `-- --cases 20 --seed 7` others, and `-- --cost`
//! measures what watching costs. It prints how many were
//! named rightly and how fast, and every one that was not; `docs/benchmarks.md` says how to read it.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on ends here"
)]

mod cost;
mod stage;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use evenkeel::demo::cases::{Case, Place, Roles, Told, incidents};
use evenkeel::demo::cycles::median;
use evenkeel::watch::log::Log;
use load::{CapacityLimits, Load, Profile, Sessions, Shop, Target, measure_capacity};
use pool::Class;
use rand::SeedableRng;
use rand::rngs::StdRng;
use stage::{MAINTENANCE, PERSON, Stage};

/// The load, as a share of the capacity: little enough to be well, so much that a surge is felt.
const SHARE: f64 = 0.4;
const CASES: u64 = 200;
/// The watch learns meanwhile what is usual.
const FIRST: Duration = Duration::from_secs(25);
const BETWEEN: Duration = Duration::from_millis(500);
const ROLES: Roles = Roles {
    maintenance: MAINTENANCE,
    person: PERSON,
};

fn argument(name: &str, otherwise: u64) -> u64 {
    let mut arguments = std::env::args()
        .skip_while(|argument| argument != name)
        .skip(1);
    arguments
        .next()
        .map_or(otherwise, |value| value.parse().unwrap())
}

#[tokio::main]
async fn main() {
    if std::env::args().any(|argument| argument == "--cost") {
        return cost::measure().await;
    }
    let cases = argument("--cases", CASES);
    let mut random = StdRng::seed_from_u64(argument("--seed", 1));
    let stage = Stage::open(true).await;
    let profile = Profile::default();
    let sessions = Sessions::LogIn(stage.shoppers().await);
    let target = Target::new(stage.address()).unwrap();
    let shop = Arc::new(Shop::learn(target, &profile, sessions).await.unwrap());
    let limits = CapacityLimits::default();
    let capacity = measure_capacity(&shop, &profile, &limits)
        .await
        .unwrap()
        .rps;
    let peak = capacity * SHARE;
    eprintln!("capacity {capacity:.0} requests per second, load {peak:.0}");
    let load = Load::start(&shop, &profile, peak).unwrap();
    let place = Place {
        options: stage.options(),
        log: Log::open(stage.journal()).await.unwrap(),
        rate: load.rate(),
        peak,
    };
    tokio::time::sleep(FIRST).await;
    let mut all = Vec::new();
    let mut browse = Vec::new();
    for number in 1..=cases {
        let case = Case::draw(&mut random, ROLES);
        let before = load.live().class(Class::Browse);
        let told = case.play(&place, ROLES).await.unwrap();
        let after = load.live().class(Class::Browse);
        let (failed, sent) = (after.failed - before.failed, after.sent - before.sent);
        let served = 1.0 - failed as f64 / sent as f64;
        if told.stopped_s.is_finite() {
            browse.push(served);
        }
        let right = if told.is_right() { "right" } else { "WRONG" };
        eprintln!(
            "{number:4} {right} {} as {} after {:.1} s: {:?} by `{}`, beside {:?}; browse {:.1} %",
            told.cause,
            told.verdict,
            told.named_s,
            case.befalls,
            case.actor.application,
            case.decoys,
            100.0 * served
        );
        if !told.is_right() {
            eprintln!("     {}", told.sentence);
        }
        all.push(told);
        tokio::time::sleep(BETWEEN).await;
    }
    load.stop().await;
    print(&all);
    println!(
        "browse while those were played: least {:.2} %, median {:.2} % served",
        100.0 * browse.iter().copied().fold(1.0, f64::min),
        100.0 * median(browse.iter().copied())
    );
    let judged: HashSet<_> = all.iter().filter_map(|told| told.incident).collect();
    let mut beside = incidents(&place).await;
    beside.retain(|incident| !judged.contains(&incident.id));
    println!("incidents beside those of the cases: {}", beside.len());
    for incident in beside {
        println!("  {} {}", incident.opened_at, incident.title);
    }
    stage.close().await;
}

fn print(all: &[Told]) {
    let mut kinds: BTreeMap<&str, Vec<&Told>> = BTreeMap::new();
    for told in all {
        kinds.entry(told.cause).or_default().push(told);
        kinds.entry("all").or_default().push(told);
    }
    println!(
        "{:18} {:>7} {:>7} {:>16} {:>10}",
        "cause", "played", "right", "median, s", "slowest"
    );
    for (cause, told) in kinds {
        let right: Vec<f64> = told
            .iter()
            .filter(|t| t.is_right())
            .map(|t| t.named_s)
            .collect();
        println!(
            "{cause:18} {:7} {:7} {:16.2} {:10.2}",
            told.len(),
            right.len(),
            median(right.iter().copied()),
            right.iter().copied().fold(f64::NAN, f64::max)
        );
    }
    // Those that it may end: stopped within two seconds, and shoppers well within five?
    let stopped: Vec<&Told> = all
        .iter()
        .filter(|told| told.stopped_s.is_finite())
        .collect();
    let within = |of: fn(&Told) -> f64, most: f64| stopped.iter().filter(|t| of(t) <= most).count();
    println!(
        "\nof {} that it ended: named within 1 s {}, stopped within 2 s {}, shoppers well within 5 s {}",
        stopped.len(),
        within(|told| told.named_s, 1.0),
        within(|told| told.stopped_s, 2.0),
        within(|told| told.normal_s, 5.0)
    );
    println!(
        "medians: stopped after {:.2} s, shoppers well after {:.2} s",
        median(stopped.iter().map(|told| told.stopped_s)),
        median(stopped.iter().map(|told| told.normal_s))
    );
    let innocents: i64 = all.iter().map(|told| told.innocents_ended).sum();
    println!("innocent sessions ended: {innocents}");
}
