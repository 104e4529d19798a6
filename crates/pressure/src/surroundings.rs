//! Everything that is judged beside the shoppers of this process: the database, the rest of the
//! fleet, operators' rules, and whether our own meters still move.

use std::sync::Arc;
use std::time::Instant;

use pool::Class;
use pool::gate::GateReading;
use tokio::sync::watch;

use crate::frozen::{Frozen, Meters};
use crate::latency::FAST;
use crate::rules::{Cap, Rule};
use crate::settings::{Budgets, PaceSettings as Settings};
use crate::signal::{Signal, Verdict};
use crate::{Windows, database, fleet, rules};

/// What operators' rules are called where they cannot be read.
const THROTTLES: &str = "throttles";

/// The last readings of all sources. `None` was never measured.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The primary.
    pub database: Option<Arc<database::Reading>>,
    /// The other processes.
    pub fleet: Option<Arc<fleet::Reading>>,
    /// The operators' rules.
    pub rules: Option<Arc<rules::Reading>>,
    /// Why there are no newer ones.
    pub problem: Option<Arc<str>>,
}

/// A migration that this process drives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Driven {
    /// Its name.
    pub migration: String,
    /// The table that it walks; empty when it walks none.
    pub table: String,
}

/// Where whoever drives a migration hears of its surroundings, and says that it drives. Cheap to
/// clone.
#[derive(Clone, Debug)]
pub struct Surroundings {
    process: Arc<str>,
    budgets: Arc<Budgets>,
    seen: watch::Sender<Seen>,
    driven: watch::Sender<Vec<Driven>>,
}

/// Keeps the measuring frequent while a migration is driven; dropped, it ends that.
#[derive(Debug)]
pub struct Driving {
    surroundings: Surroundings,
    this: Driven,
}

impl Surroundings {
    /// Surroundings of the process that calls itself `process`, of which nothing is known yet.
    pub fn new(process: &str, budgets: Budgets) -> Self {
        Self {
            process: process.into(),
            budgets: Arc::new(budgets),
            seen: watch::Sender::default(),
            driven: watch::Sender::default(),
        }
    }

    /// How this process calls itself.
    pub fn process(&self) -> &str {
        &self.process
    }

    /// What was last measured.
    pub fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Waits until operators' rules have been read, which is the last to be.
    pub async fn measured(&self) {
        let mut seen = self.seen.subscribe();
        // The sender lives in `self`: this ends by its condition alone.
        let _ = seen.wait_for(|seen| seen.rules.is_some()).await;
    }

    /// What operators allow `migration` at `now`, beside what they allow all of them.
    pub fn caps_of(&self, migration: &str, now: Instant) -> Vec<Cap> {
        let seen = self.seen.borrow();
        let rules = seen.rules.as_ref();
        rules.map_or_else(Vec::new, |rules| rules.caps(Some(migration), now))
    }

    /// Publishes a measurement.
    pub fn publish(&self, change: impl FnOnce(&mut Seen)) {
        self.seen.send_modify(change);
    }

    /// The migrations that are driven, to be watched for changes.
    pub fn driven(&self) -> watch::Receiver<Vec<Driven>> {
        self.driven.subscribe()
    }

    fn names(&self) -> Vec<String> {
        let driven = self.driven.borrow();
        driven
            .iter()
            .map(|driven| driven.migration.clone())
            .collect()
    }

    /// Says that this process drives a migration.
    pub fn drive(&self, this: Driven) -> Driving {
        self.driven.send_modify(|driven| driven.push(this.clone()));
        Driving {
            surroundings: self.clone(),
            this,
        }
    }
}

impl Drop for Driving {
    fn drop(&mut self) {
        self.surroundings.driven.send_modify(|driven| {
            if let Some(at) = driven.iter().position(|driven| *driven == self.this) {
                driven.swap_remove(at);
            }
        });
    }
}

/// The judges of all surroundings of one migration, and what they judge next.
#[derive(Clone, Debug, Default)]
pub struct Outlook {
    /// `None` where nothing watches the surroundings.
    watched: Option<(Arc<Budgets>, Seen)>,
    /// The migrations that this process drives.
    driven: Vec<String>,
    database: database::Judge,
    fleet: fleet::Judge,
    frozen: Frozen,
}

impl Outlook {
    /// Takes what was last measured.
    pub fn look(&mut self, surroundings: Option<&Surroundings>) {
        self.watched = surroundings.map(|s| (s.budgets.clone(), s.seen()));
        self.driven = surroundings.map_or_else(Vec::new, Surroundings::names);
    }

    /// Judges what was last looked at, and whether this process's own meters still move.
    pub fn judge(
        &mut self,
        settings: &Settings,
        latencies: Option<&dyn Windows>,
        gates: &[GateReading; 4],
        now: Instant,
    ) -> Vec<Signal> {
        let mut signals = Vec::new();
        if let Some(latencies) = latencies {
            for class in Class::SHOPPERS {
                let meters = Meters {
                    totals: latencies.totals(class),
                    fast: latencies.read(class, FAST, now),
                    gate: gates[class.index()],
                };
                signals.extend(self.frozen.judge(settings, class, &meters, now));
            }
        }
        let Some((budgets, seen)) = &self.watched else {
            return signals;
        };
        let problem = seen.problem.as_deref();
        signals.extend(self.database.judge(
            settings,
            budgets,
            seen.database.as_deref(),
            problem,
            now,
        ));
        signals.extend(
            self.fleet
                .judge(settings, seen.fleet.as_deref(), problem, now),
        );
        signals.extend(rules_unread(settings, seen, now));
        signals
    }

    /// Takes the fleet's readings since `rested` into its baselines; the migration rests.
    pub fn observe(&mut self, rested: Instant) {
        if let Some((_, seen)) = &self.watched {
            self.fleet.observe(seen.fleet.as_deref(), rested);
        }
    }

    /// The rule that lets shoppers pay most beyond the pace's own budget at `now`.
    pub fn allowance(&self, now: Instant) -> Option<&Rule> {
        let (_, seen) = self.watched.as_ref()?;
        seen.rules.as_ref()?.allowance(&self.driven, now)
    }

    /// What operators allow all migrations together at `now`. Nothing, until that has been read once; rules that were read
    /// long ago still hold until they end.
    pub fn caps(&self, now: Instant) -> Vec<Cap> {
        let Some((_, seen)) = &self.watched else {
            return Vec::new();
        };
        let Some(rules) = &seen.rules else {
            return vec![Cap {
                duty: 0.0,
                source: THROTTLES.to_owned(),
                reason: format!("not read yet{}", because(seen)),
            }];
        };
        rules.caps(None, now)
    }
}

/// Whoever cannot read what operators ask for may be doing what they forbade.
fn rules_unread(settings: &Settings, seen: &Seen, now: Instant) -> Option<Signal> {
    let rules = seen.rules.as_ref()?;
    let reason = match now.checked_duration_since(rules.at) {
        Some(age) if age <= settings.stale_after => return None,
        Some(age) => format!("last read {age:.1?} ago"),
        None => "their time lies in the future".to_owned(),
    };
    Some(Signal {
        source: THROTTLES.to_owned(),
        verdict: Verdict::Unknown,
        at: now,
        reason: reason + &because(seen),
    })
}

fn because(seen: &Seen) -> String {
    let problem = seen.problem.as_deref();
    problem.map_or(String::new(), |problem| format!(": {problem}"))
}
