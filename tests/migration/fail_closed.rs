//! Every source of signals × every way in which it can fail: nothing speeds up.
//!
//! The table is played against the judges that the governor uses, in virtual time: a healthy shop
//! until the duty climbs, then one fault. A fault that can be told at once may not raise the duty by a
//! single sample; one that shows only by what does not change is believed for `stale_after`, and from
//! then on the duty only falls.

use std::time::{Duration, Instant};

use evenkeel::migration::governor::Governor;
use pool::Class;
use pool::gate::GateReading;
use pressure::database::{self, Oldest, Replica, Sample, Table};
use pressure::fleet::{self, Member, Report};
use pressure::frozen::{Frozen, Meters};
use pressure::latency::Totals;
use pressure::pace::Pace;
use pressure::settings::{Budgets, PaceSettings as Settings};
use pressure::{Latencies, LatencyReading, Signal, Surroundings, Targets, Verdict};
use pressure::{saturation, surroundings};

/// What every source shows at one moment.
#[derive(Clone)]
struct World {
    now: Instant,
    /// When the latencies and the gates were read.
    measured: Instant,
    latency: LatencyReading,
    totals: Totals,
    gate: GateReading,
    /// Whether there is a reading of the gates to compare with.
    gate_before: bool,
    database: database::Reading,
    other: Member,
}

impl World {
    fn healthy(origin: Instant, settings: &Settings, tick: u32) -> Self {
        let now = origin + settings.sample * tick;
        let n = f64::from(tick);
        let latency = LatencyReading {
            completed: 250 + u64::from(tick % 7),
            failed: 0,
            in_flight: 3,
            oldest_ms: 1.0,
            p50_ms: Some(1.0),
            p95_ms: Some(2.0),
            p99_ms: Some(2.5),
        };
        let gate = GateReading {
            in_use: 2,
            max: 6,
            granted: 1000 + u64::from(tick) * 25,
            ..GateReading::default()
        };
        Self {
            now,
            measured: now,
            latency,
            totals: Totals {
                completed: 1000 + u64::from(tick) * 25,
                failed: 0,
            },
            gate,
            gate_before: true,
            database: database::Reading {
                at: now - Duration::from_millis(10),
                sample: Sample {
                    clock_s: 1e9 + n * settings.sample.as_secs_f64(),
                    role: "shop".to_owned(),
                    sees_all: true,
                    wal_bytes: Some(1_000_000_000 + i64::from(tick) * 1_000_000),
                    checkpoints_requested: Some(1),
                    replicas: vec![Replica {
                        name: "r".to_owned(),
                        state: Some("streaming".to_owned()),
                        behind_bytes: Some(1000),
                        lag_s: Some(0.1),
                        reply_s: Some(1e9 + n),
                    }],
                    tables: vec![Table {
                        name: "t".to_owned(),
                        dead: Some(20_000),
                        live: Some(100_000),
                        vacuums: Some(3),
                    }],
                    oldest: Some(Oldest {
                        holder: "session 1".to_owned(),
                        xmin: "700".to_owned(),
                        age_s: Some(1.0 + n * settings.sample.as_secs_f64()),
                    }),
                    foreign_sessions: 1,
                    lock_waiters: Some(0),
                    longest_wait_s: None,
                },
            },
            other: Member {
                process: "other".to_owned(),
                sequence: 1000 + i64::from(tick),
                at: now - Duration::from_millis(20),
                report: Ok(Report {
                    totals: [Totals {
                        completed: 1000 + u64::from(tick) * 25,
                        failed: 0,
                    }; 3],
                    fast_window_ms: 250,
                    fast: [latency; 3],
                    slow: [latency; 3],
                    gates: [gate; 4],
                    takes_runs: true,
                }),
            },
        }
    }

    fn report(&mut self) -> &mut Report {
        self.other.report.as_mut().unwrap()
    }
}

/// The judges of one governor.
#[derive(Default)]
struct Judges {
    targets: Targets,
    frozen: Frozen,
    database: database::Judge,
    fleet: fleet::Judge,
    gates: Option<[GateReading; 4]>,
}

impl Judges {
    fn judge(&mut self, settings: &Settings, world: &World) -> Vec<Signal> {
        let World { now, measured, .. } = *world;
        let gates = [world.gate; 4];
        let before = self.gates.replace(gates).filter(|_| world.gate_before);
        let mut signals = saturation::judge(before.as_ref(), &gates, measured);
        for class in Class::SHOPPERS {
            let latency = &world.latency;
            signals.push(
                self.targets
                    .judge(settings, class, latency, latency, measured),
            );
            let meters = Meters {
                totals: world.totals,
                fast: world.latency,
                gate: world.gate,
            };
            signals.extend(self.frozen.judge(settings, class, &meters, now));
        }
        let database = Some(&world.database);
        let budgets = Budgets::default();
        signals.extend(self.database.judge(settings, &budgets, database, None, now));
        let fleet = fleet::Reading {
            at: now,
            members: vec![world.other.clone()],
        };
        signals.extend(self.fleet.judge(settings, Some(&fleet), None, now));
        signals
    }
}

/// Turns a healthy moment into a faulty one, given the last one before the fault.
type Fault = fn(&mut World, &World);

/// Whether it shows at once or only by what does not change, and whether it lasts.
#[derive(Clone, Copy, PartialEq)]
enum Shows {
    Once,
    AtOnce,
    InTime,
}

const HOUR: Duration = Duration::from_secs(3600);

fn jump(world: &mut World, forward: bool) {
    world.now = if forward {
        world.now + HOUR
    } else {
        world.now.checked_sub(HOUR).unwrap()
    };
    world.measured = world.now;
}

/// A cell: source, as the causes name it; fault; when it shows; what happens.
#[rustfmt::skip]
const CELLS: [(&str, &str, Shows, Fault); 56] = [
    ("browse latency", "missing", Shows::AtOnce, |w, _| w.latency.p95_ms = None),
    ("browse latency", "stale", Shows::InTime, |w, b| w.measured = b.measured),
    ("browse latency", "frozen", Shows::InTime, |w, b| (w.latency, w.totals) = (b.latency, b.totals)),
    ("browse latency", "reset", Shows::Once, |w, _| w.totals.completed = 1),
    ("browse latency", "not a number", Shows::AtOnce, |w, _| w.latency.p95_ms = Some(f64::NAN)),
    ("browse latency", "clock forward", Shows::Once, |w, _| jump(w, true)),
    ("browse latency", "clock back", Shows::Once, |w, _| jump(w, false)),

    ("browse connections", "missing", Shows::AtOnce, |w, _| w.gate_before = false),
    ("browse connections", "stale", Shows::InTime, |w, b| w.measured = b.measured),
    ("browse connections", "frozen", Shows::InTime, |w, b| w.gate = b.gate),
    ("browse connections", "reset", Shows::Once, |w, _| w.gate.granted = 1),
    ("browse connections", "not a number", Shows::AtOnce, |w, _| w.gate.oldest_wait_ms = f64::NAN),
    ("browse connections", "clock forward", Shows::Once, |w, _| jump(w, true)),
    ("browse connections", "clock back", Shows::Once, |w, _| jump(w, false)),

    ("wal", "missing", Shows::AtOnce, |w, _| w.database.sample.wal_bytes = None),
    ("wal", "stale", Shows::InTime, |w, b| w.database = b.database.clone()),
    ("wal", "frozen", Shows::AtOnce, |w, b| w.database.sample = b.database.sample.clone()),
    ("wal", "reset", Shows::Once, |w, _| w.database.sample.wal_bytes = Some(1)),
    ("wal", "not a number", Shows::AtOnce, |w, _| w.database.sample.clock_s = f64::NAN),
    ("wal", "clock forward", Shows::Once, |w, _| w.database.sample.clock_s += 3600.0),
    ("wal", "clock back", Shows::Once, |w, _| w.database.sample.clock_s -= 3600.0),

    ("replica lag of r", "missing", Shows::AtOnce, |w, _| w.database.sample.replicas.clear()),
    ("replica lag", "stale", Shows::InTime, |w, b| w.database = b.database.clone()),
    ("replica lag", "frozen", Shows::AtOnce, |w, b| w.database.sample = b.database.sample.clone()),
    ("replica lag of r", "reset", Shows::AtOnce, |w, _| w.database.sample.replicas[0].behind_bytes = None),
    ("replica lag of r", "not a number", Shows::AtOnce, |w, _| w.database.sample.replicas[0].lag_s = Some(f64::NAN)),
    ("replica lag of r", "clock forward", Shows::AtOnce, |w, _| w.database.sample.replicas[0].lag_s = Some(3600.1)),
    ("replica lag of r", "clock back", Shows::AtOnce, |w, _| w.database.sample.replicas[0].lag_s = Some(-3599.9)),

    ("dead rows of t", "missing", Shows::AtOnce, |w, _| w.database.sample.tables[0].dead = None),
    ("dead rows", "stale", Shows::InTime, |w, b| w.database = b.database.clone()),
    ("dead rows", "frozen", Shows::AtOnce, |w, b| w.database.sample = b.database.sample.clone()),
    ("dead rows of t", "reset", Shows::Once, |w, _| {
        let t = &mut w.database.sample.tables[0];
        (t.dead, t.live, t.vacuums) = (Some(0), Some(0), Some(0));
    }),
    ("dead rows of t", "not a number", Shows::AtOnce, |w, _| w.database.sample.tables[0].live = Some(-1)),
    ("dead rows", "clock forward", Shows::Once, |w, _| w.database.sample.clock_s += 3600.0),
    ("dead rows", "clock back", Shows::Once, |w, _| w.database.sample.clock_s -= 3600.0),

    ("oldest transaction", "missing", Shows::AtOnce, |w, _| w.database.sample.sees_all = false),
    ("oldest transaction", "stale", Shows::InTime, |w, b| w.database = b.database.clone()),
    ("oldest transaction", "frozen", Shows::AtOnce, |w, b| w.database.sample = b.database.sample.clone()),
    ("oldest transaction", "reset", Shows::Once, |w, _| w.database.sample.oldest.as_mut().unwrap().age_s = Some(0.0)),
    ("oldest transaction", "not a number", Shows::AtOnce, |w, _| w.database.sample.oldest.as_mut().unwrap().age_s = Some(f64::NAN)),
    ("oldest transaction", "clock forward", Shows::AtOnce, |w, _| w.database.sample.oldest.as_mut().unwrap().age_s = Some(3601.0)),
    ("oldest transaction", "clock back", Shows::AtOnce, |w, _| w.database.sample.oldest.as_mut().unwrap().age_s = Some(-3599.0)),

    ("lock waits", "missing", Shows::AtOnce, |w, _| w.database.sample.lock_waiters = None),
    ("lock waits", "stale", Shows::InTime, |w, b| w.database = b.database.clone()),
    ("lock waits", "frozen", Shows::AtOnce, |w, b| w.database.sample = b.database.sample.clone()),
    ("lock waits", "reset", Shows::AtOnce, |w, _| w.database.sample.lock_waiters = Some(-1)),
    ("lock waits", "not a number", Shows::AtOnce, |w, _| w.database.sample.longest_wait_s = Some(f64::NAN)),
    ("lock waits", "clock forward", Shows::AtOnce, |w, _| (w.database.sample.lock_waiters, w.database.sample.longest_wait_s) = (Some(1), Some(3600.0))),
    ("lock waits", "clock back", Shows::AtOnce, |w, _| w.database.sample.longest_wait_s = Some(-3600.0)),

    ("shoppers at other", "missing", Shows::AtOnce, |w, _| w.other.report = Err("it cannot be read".to_owned())),
    ("shoppers at other", "stale", Shows::InTime, |w, b| w.other.at = b.other.at),
    ("shoppers at other", "frozen", Shows::InTime, |w, b| w.other = b.other.clone()),
    ("shoppers at other", "reset", Shows::AtOnce, |w, _| w.other.sequence = 1),
    ("browse latency at other", "not a number", Shows::AtOnce, |w, _| w.report().fast = [LatencyReading { p95_ms: Some(f64::NAN), ..w.latency }; 3]),
    ("shoppers at other", "clock forward", Shows::AtOnce, |w, _| w.other.at += HOUR),
    ("shoppers at other", "clock back", Shows::AtOnce, |w, _| w.other.at = w.other.at.checked_sub(HOUR).unwrap()),
];

/// Plays a healthy shop and then the fault, if there is one; says what is wrong with the result.
fn play(source: &str, shows: Shows, fault: Option<Fault>) -> Result<(), String> {
    let settings = Settings::default();
    // The fault sets clocks back, too.
    let origin = Instant::now() + HOUR * 2;
    let mut judges = Judges::default();
    let mut pace = Pace::initial(&settings, origin);
    let mut tick = 0;
    while pace.duty < 0.1 {
        let world = World::healthy(origin, &settings, tick);
        let signals = judges.judge(&settings, &world);
        pace = pace.next(&settings, &signals, world.now);
        tick += 1;
        if tick > 100 {
            return Err(format!("a healthy shop does not speed up: {pace:?}"));
        }
    }
    let last = World::healthy(origin, &settings, tick - 1);
    let lasts = if shows == Shows::Once { 1 } else { 30 };
    let late = settings.stale_after.as_millis() / settings.sample.as_millis() + 2;
    let mut bound = pace.duty;
    for i in 0..lasts {
        let mut world = World::healthy(origin, &settings, tick + i);
        if let Some(fault) = fault {
            fault(&mut world, &last);
        }
        let signals = judges.judge(&settings, &world);
        let next = pace.next(&settings, &signals, world.now);
        if shows == Shows::InTime && u128::from(i) < late {
            bound = next.duty;
        } else {
            if next.duty > bound {
                return Err(format!("sped up from {bound} to {} after {i}", next.duty));
            }
            let named = |c: &&_| {
                let c: &pressure::pace::Cause = c;
                c.source.starts_with(source) && c.verdict >= Verdict::Unknown
            };
            if !next.causes.iter().any(|c| named(&c)) {
                return Err(format!("is not named after {i}: {:?}", next.causes));
            }
        }
        pace = next;
    }
    Ok(())
}

#[test]
fn no_fault_of_any_source_speeds_a_migration_up() {
    let mut sources = std::collections::BTreeMap::<&str, usize>::new();
    let mut wrong = String::new();
    for (source, what, shows, fault) in CELLS {
        *sources.entry(source).or_default() += 1;
        if let Err(why) = play(source, shows, Some(fault)) {
            wrong += &format!("{source}, {what}: {why}\n");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    // Without a fault it does speed up and names nothing, or the table could not fail.
    let why = play("", Shows::AtOnce, None).unwrap_err();
    assert!(why.contains("sped up"), "{why}");
}

#[test]
fn every_fault_shows_in_the_governor_as_well() {
    let settings = Settings::default();
    let origin = Instant::now();
    let watched = Surroundings::new("this", Budgets::default());
    let latencies = Latencies::new(origin);
    let gates = [GateReading::default(); 4];
    let mut governor = Governor::new(settings.clone(), 1, origin);
    let mut tick = |i: u32, change: &dyn Fn(&mut surroundings::Seen, World)| {
        let world = World::healthy(origin, &settings, i);
        let now = world.now;
        watched.publish(|seen| change(seen, world));
        governor.look(Some(&watched));
        governor.decide(Some(&latencies), &gates, now)
    };
    let healthy = |seen: &mut surroundings::Seen, world: World| {
        seen.rules = Some(std::sync::Arc::new(pressure::rules::Reading {
            at: world.now,
            rules: Vec::new(),
        }));
        seen.fleet = Some(std::sync::Arc::new(fleet::Reading {
            at: world.now,
            members: vec![world.other],
        }));
        seen.database = Some(std::sync::Arc::new(world.database));
    };
    let mut before = 0.0;
    for i in 1..25 {
        before = tick(i, &healthy).duty;
    }
    assert!(before > 0.02, "it does not speed up at all: {before}");
    // Nothing is published any more: every source goes stale, and every one is named.
    let mut last = None;
    for i in 25..45 {
        last = Some(tick(i, &|_, _| ()));
    }
    let last = last.unwrap();
    let named: Vec<_> = last.causes.iter().map(|c| c.source.as_str()).collect();
    for source in [
        "wal",
        "replica lag",
        "dead rows",
        "oldest transaction",
        "lock waits",
        "fleet",
        "throttles",
    ] {
        assert!(named.contains(&source), "{source}: {last:?}");
    }
    let next = tick(45, &|_, _| ());
    assert!(next.duty < last.duty, "{next:?}");
}
