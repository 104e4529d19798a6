//! Slices of work and the rests between them: what was felt in each, and what follows from it.

use std::time::{Duration, Instant};

use pool::Class;
use pressure::Windows;
use pressure::cost::{Cost, Costs, Felt};
use pressure::trial::{Slice, Trial, WINDOW};

use super::SETTLE;

/// Windows of rest that the next slice of work is compared with, besides those of the rest after it.
const REMEMBERED: usize = 3;

/// A slice of work that has ended, until the rest after it has.
#[derive(Clone, Debug)]
struct Worked {
    before: Slice,
    work: Slice,
    duty: f64,
}

/// What is remembered of the slices.
#[derive(Clone, Debug, Default)]
pub(super) struct Slices {
    /// The windows of the slice under way.
    windows: Slice,
    /// When the last of them ended; at first, when the slice before it has drained.
    measured: Option<Instant>,
    /// The windows of the last rests, unless something has spoilt the comparison since.
    rested: Slice,
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
        self.rested.clear();
        self.worked = None;
    }

    /// A slice begins.
    pub(super) fn begin(&mut self, now: Instant) {
        self.windows.clear();
        self.measured = Some(now + SETTLE);
        self.duties = (0.0, 0);
    }

    /// A sample of a slice of work (with the duty) or of rest (`None`). A rest after a slice that was
    /// `broken` off says nothing of the cost: it begins when things go badly.
    pub(super) fn sample(
        &mut self,
        latencies: &dyn Windows,
        duty: Option<f64>,
        broken: bool,
        now: Instant,
    ) {
        if let Some(duty) = duty {
            self.duties.0 += duty;
            self.duties.1 += 1;
        }
        let passed = self
            .measured
            .map(|last| now.saturating_duration_since(last));
        if passed.is_some_and(|passed| passed >= WINDOW) {
            self.measured = Some(now);
            self.windows
                .push(Class::SHOPPERS.map(|class| latencies.read(class, WINDOW, now)));
            self.count(latencies, WINDOW, duty.is_some(), broken, now);
        }
    }

    fn count(
        &mut self,
        latencies: &dyn Windows,
        window: Duration,
        work: bool,
        broken: bool,
        now: Instant,
    ) {
        let [a, b, c] = Class::SHOPPERS.map(|class| latencies.counts(class, window, now));
        let (Some(a), Some(b), Some(c)) = (a, b, c) else {
            return;
        };
        let felt: Felt = [a, b, c];
        if work {
            self.costs.worked(&felt);
        } else if !broken {
            self.costs.rested(&felt);
        }
    }

    /// A slice of work has ended. Returns requests per second of the busiest class. One that was
    /// `broken` off when things went badly costs what it costs, but compares with nothing: what
    /// follows would look better by chance alone.
    pub(super) fn end_work(&mut self, latencies: &dyn Windows, broken: bool, now: Instant) -> f64 {
        if broken && let Some(last) = self.measured {
            // What broke it off is not in a whole window yet.
            let rest = now.saturating_duration_since(last);
            self.count(latencies, rest, true, false, now);
        }
        let work = std::mem::take(&mut self.windows);
        let (sum, n) = self.duties;
        let total = |i: usize| work.iter().map(|window| window[i].completed).sum::<u64>();
        let busiest = (0..Class::SHOPPERS.len()).map(total).max().unwrap_or(0);
        let rate = busiest as f64 / (WINDOW * work.len().max(1) as u32).as_secs_f64();
        let compares = !broken && !self.rested.is_empty();
        self.worked = compares.then(|| Worked {
            before: self.rested.clone(),
            work,
            duty: sum / f64::from(n.max(1)),
        });
        rate
    }

    /// A rest has ended. Returns what was felt, and the trial that it completes with its mean duty.
    pub(super) fn end_rest(&mut self, broken: bool) -> (Slice, Option<(Trial, f64)>) {
        let rest = std::mem::take(&mut self.windows);
        if !broken && self.costs.next_trial() {
            self.known = self.costs.estimates();
        }
        let trial = self.worked.take().map(|Worked { before, work, duty }| {
            let trial = Trial {
                before,
                work,
                after: rest.clone(),
            };
            (trial, duty)
        });
        self.rested.extend_from_slice(&rest);
        let surplus = self.rested.len().saturating_sub(REMEMBERED);
        self.rested.drain(..surplus);
        (rest, trial)
    }
}
