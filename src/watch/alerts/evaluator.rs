//! All rules together, over what has been read so far.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};

use super::baseline::Baseline;
use super::firing::{Firing, State};
use super::history::Point;
use super::reading::Reading;
use super::rules::{Bound, Kind, Rule, Rules};
use super::series::Series;
use super::shift::Score;
use super::span::{Completed, Spans};
use super::track::{Track, Verdict};

/// Resolutions, in seconds, at which rules over spans are judged.
const BURNS: i64 = 10;
const ANOMALIES: i64 = 60;
const SHIFTS: i64 = 300;
/// Points that wait to be saved; when the database is away for longer, the oldest are given up.
const UNSAVED: usize = 2000;

/// Says what fires. Has no clock and asks nobody: what it says follows from its rules and the
/// readings that it was given. Its memory does not grow.
#[derive(Clone, Debug)]
pub struct Evaluator {
    rules: Rules,
    states: Vec<(Track, Score)>,
    last: Option<DateTime<Utc>>,
    spans: Spans,
    baseline: Baseline,
    unsaved: VecDeque<Point>,
}

impl Evaluator {
    /// Has read nothing yet.
    pub fn new(rules: Rules) -> Self {
        let baseline = Baseline::new(
            rules.calendar.clone(),
            rules.weeks,
            rules.least_weeks,
            &rules.learnt(),
        );
        Self {
            states: vec![Default::default(); rules.rules.len()],
            rules,
            last: None,
            spans: Spans::new(),
            baseline,
            unsaved: VecDeque::new(),
        }
    }

    /// Takes a reading and returns what has changed by it. To be called at every tick, with an empty
    /// reading when nothing could be read. A reading that is not later than the last changes nothing.
    pub fn observe(&mut self, reading: &Reading) -> Vec<Firing> {
        if self.last.is_some_and(|last| reading.at <= last) {
            return Vec::new();
        }
        self.last = Some(reading.at);
        let completed = self.spans.take(reading);
        let mut changes = Vec::new();
        for (rule, (track, score)) in self.rules.rules.iter().zip(&mut self.states) {
            for (at, verdict) in judge(
                rule,
                score,
                reading,
                &completed,
                &self.spans,
                &self.baseline,
            ) {
                let change = track.step(at, verdict, rule.patience);
                changes.extend(change.map(|change| Firing {
                    rule: rule.name.clone(),
                    severity: rule.severity,
                    title: rule.title.clone(),
                    state: change.state,
                    since: change.since,
                    at,
                    detail: change.detail,
                }));
            }
        }
        self.keep(completed);
        changes
    }

    /// Takes what was read by an earlier process, oldest first, as [`super::history::load`] gives it.
    /// What began to fire then is in [`Self::current`], and is not reported anew.
    pub fn restore<'a>(&mut self, readings: impl IntoIterator<Item = &'a Reading>) {
        for reading in readings {
            self.observe(reading);
        }
        self.unsaved.clear();
    }

    /// What is pending or fires now.
    pub fn current(&self) -> Vec<Firing> {
        self.describe(|_| true)
    }

    /// What fires now, without that whose condition has ceased to hold and may come back.
    pub fn persisting(&self) -> Vec<Firing> {
        self.describe(Track::persists)
    }

    fn describe(&self, wanted: impl Fn(&Track) -> bool) -> Vec<Firing> {
        let states = self.rules.rules.iter().zip(&self.states);
        states
            .filter(|(_, (track, _))| wanted(track))
            .filter_map(|(rule, (track, _))| {
                let (state, since, at, detail) = track.current()?;
                Some(Firing {
                    rule: rule.name.clone(),
                    severity: rule.severity,
                    title: rule.title.clone(),
                    state,
                    since,
                    at,
                    detail: detail.to_owned(),
                })
            })
            .collect()
    }

    /// What fires now.
    pub fn firing(&self) -> Vec<Firing> {
        let mut current = self.current();
        current.retain(|firing| firing.state == State::Firing);
        current
    }

    /// The rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Takes the points that are to be saved with [`super::history::save`].
    pub fn take_unsaved(&mut self) -> Vec<Point> {
        self.unsaved.drain(..).collect()
    }

    /// Gives back points that could not be saved.
    pub fn give_back(&mut self, points: Vec<Point>) {
        for point in points.into_iter().rev() {
            self.unsaved.push_front(point);
        }
        self.bound_unsaved();
    }

    fn keep(&mut self, completed: Vec<Completed>) {
        for completed in completed {
            if completed.seconds == SHIFTS {
                self.baseline.learn(&completed.means);
            }
            self.unsaved.extend(Point::of(completed));
        }
        self.bound_unsaved();
    }

    fn bound_unsaved(&mut self) {
        let excess = self.unsaved.len().saturating_sub(UNSAVED);
        self.unsaved.drain(..excess);
    }
}

/// Whether the rule's condition holds, and when. Rules over spans are judged when the means that
/// they look at are completed, and say nothing in between.
fn judge(
    rule: &Rule,
    score: &mut Score,
    reading: &Reading,
    completed: &[Completed],
    spans: &Spans,
    baseline: &Baseline,
) -> Vec<(DateTime<Utc>, Verdict)> {
    let completes = |seconds| completed.iter().any(|means| means.seconds == seconds);
    let once = |verdict| vec![(reading.at, verdict)];
    match &rule.kind {
        Kind::Threshold { series, bound } => once(threshold(*series, *bound, reading)),
        Kind::NoData { series } => once(no_data(*series, reading)),
        Kind::Burn(burn) if completes(BURNS) => once(burn.judge(spans)),
        Kind::Anomaly(anomaly) if completes(ANOMALIES) => {
            once(anomaly.judge(spans, baseline, reading.at))
        }
        Kind::Burn(_) | Kind::Anomaly(_) => Vec::new(),
        // Every mean counts, also when one reading completes several.
        Kind::Shift(shift) => completed
            .iter()
            .filter(|means| means.seconds == SHIFTS)
            .map(|means| (reading.at, shift.judge(score, &means.means, baseline)))
            .collect(),
    }
}

fn threshold(series: Series, bound: Bound, reading: &Reading) -> Verdict {
    match reading.get(series) {
        None => Verdict::Unknown,
        Some(value) if bound.is_broken_by(value) => {
            Verdict::Holds(format!("{series} is {value:.4}, {bound}"))
        }
        Some(_) => Verdict::Not,
    }
}

fn no_data(series: Series, reading: &Reading) -> Verdict {
    match reading.get(series) {
        None => Verdict::Holds(format!("{series} is unknown")),
        Some(_) => Verdict::Not,
    }
}
