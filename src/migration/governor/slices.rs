//! Slices of work and the rests between them: what was felt in each, and what follows from it.

use std::time::{Duration, Instant};

use super::SETTLE;
use crate::class::Class;
use crate::pressure::Windows;
use crate::pressure::cost::{Cost, Costs, Felt};
use crate::pressure::latency::SLOW;
use crate::pressure::trial::{Slice, Trial};

/// A slice of work that has ended, until the rest after it has.
#[derive(Clone, Copy, Debug)]
struct Worked {
    before: Slice,
    work: Slice,
    duty: f64,
}

/// What is remembered of the slices.
#[derive(Clone, Debug, Default)]
pub(super) struct Slices {
    /// The last rest, unless something has spoilt the comparison since.
    rested: Option<Slice>,
    worked: Option<Worked>,
    /// The sum of the duties of the slice of work so far, and how many they are.
    duties: (f64, u32),
    costs: Costs,
    /// What was last found out about the costs.
    known: Vec<Cost>,
}

impl Slices {
    /// What is known of the migration's effect on shoppers.
    pub(super) fn costs(&self) -> &[Cost] {
        &self.known
    }

    /// What was felt so far compares with nothing that comes.
    pub(super) fn forget(&mut self) {
        (self.rested, self.worked) = (None, None);
    }

    /// A slice of work begins.
    pub(super) fn begin_work(&mut self) {
        self.duties = (0.0, 0);
    }

    /// The duty of a sample at work.
    pub(super) fn at_work(&mut self, duty: f64) {
        self.duties.0 += duty;
        self.duties.1 += 1;
    }

    /// A slice of work has ended that began at `since`. Returns requests per second of the busiest
    /// class. One that was `broken` off when things went badly costs what it costs, but compares with
    /// nothing: what follows would look better by chance alone.
    pub(super) fn end_work(
        &mut self,
        latencies: &dyn Windows,
        since: Instant,
        broken: bool,
        now: Instant,
    ) -> f64 {
        let window = window(since, now);
        let work = Class::SHOPPERS.map(|class| latencies.read(class, window, now));
        let (sum, n) = self.duties;
        let before = self.rested.take().filter(|_| !broken);
        self.worked = before.map(|before| Worked {
            before,
            work,
            duty: sum / f64::from(n.max(1)),
        });
        if let Some(counts) = counts(latencies, window, now) {
            self.costs.worked(&counts);
        }
        let busiest = work.iter().map(|reading| reading.completed).max();
        busiest.unwrap_or(0) as f64 / window.as_secs_f64()
    }

    /// A rest has ended that began at `since`; one after a slice that was `broken` off says nothing
    /// of the cost. Returns what was felt, and the trial that it completes with its mean duty.
    pub(super) fn end_rest(
        &mut self,
        latencies: &dyn Windows,
        since: Instant,
        broken: bool,
        now: Instant,
    ) -> (Slice, Option<(Trial, f64)>) {
        let window = window(since, now);
        let rest = Class::SHOPPERS.map(|class| latencies.read(class, window, now));
        self.rested = Some(rest);
        if let Some(counts) = counts(latencies, window, now).filter(|_| !broken)
            && self.costs.rested(&counts)
        {
            self.known = self.costs.estimates();
        }
        let trial = self.worked.take().map(|Worked { before, work, duty }| {
            let trial = Trial {
                before,
                work,
                after: rest,
            };
            (trial, duty)
        });
        (rest, trial)
    }
}

fn counts(latencies: &dyn Windows, window: Duration, now: Instant) -> Option<Felt> {
    let [a, b, c] = Class::SHOPPERS.map(|class| latencies.counts(class, window, now));
    Some([a?, b?, c?])
}

/// The part of a slice that is measured: not its beginning, and no more than is remembered.
fn window(since: Instant, now: Instant) -> Duration {
    let lasted = now.saturating_duration_since(since);
    lasted.saturating_sub(SETTLE).clamp(SETTLE, SLOW)
}
