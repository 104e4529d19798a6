//! Small shifts that last: a one-sided CUSUM (Page, 1954) against what is usual in that hour of the
//! week.
//!
//! Every five minutes the score grows by how far the mean is beyond what days differ by anyway, and
//! falls by how far it is not, never below 0. With half the shift tolerated that is the log-likelihood
//! ratio of a normal distribution that has shifted and one that has not; but whole days are a tenth
//! busier or quieter than others, so that more is tolerated than half. One mean adds at most a third of
//! what is needed: only what lasts fires.

use chrono::{DateTime, TimeDelta, Utc};

use super::anomaly::Direction;
use super::baseline::Baseline;
use super::reading::Reading;
use super::series::Series;
use super::track::Verdict;

/// Over how long the means are that are judged.
pub const STEP: TimeDelta = TimeDelta::minutes(5);
/// A score beyond this many times the decision is not remembered: it has to come down again.
const REMEMBERED: f64 = 2.0;

/// A shift that is looked for.
#[derive(Clone, Debug)]
pub struct Shift {
    /// Of what.
    pub series: Series,
    /// To which side.
    pub direction: Direction,
    /// How large it is at least, as a share of the usual.
    pub change: f64,
    /// How far days differ anyway, as a share of the usual: what is no farther lowers the score.
    pub tolerated: f64,
    /// Score at which it counts as shown; odds of about e to this.
    pub decision: f64,
}

/// The score of a shift so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Score(f64);

impl Shift {
    /// Takes the next mean, whose time ends at `means.at`.
    pub fn judge(&self, score: &mut Score, means: &Reading, baseline: &Baseline) -> Verdict {
        let Some(gain) = self.gain(means, baseline, means.at - STEP / 2) else {
            return Verdict::Unknown;
        };
        let gain = gain.min(self.decision / 3.0);
        score.0 = (score.0 + gain).clamp(0.0, self.decision * REMEMBERED);
        if score.0 < self.decision {
            return Verdict::Not;
        }
        Verdict::Holds(format!(
            "{} has been {} its usual by about {:.0} % for some time (score {:.0} of {:.0})",
            self.series,
            self.direction.name(),
            self.change * 100.0,
            score.0,
            self.decision,
        ))
    }

    fn gain(&self, means: &Reading, baseline: &Baseline, at: DateTime<Utc>) -> Option<f64> {
        let now = means.get(self.series)?;
        let usual = baseline
            .usual(self.series, at)?
            .at_least_natural(self.series, STEP);
        if usual.level <= 0.0 {
            return Some(0.0);
        }
        let excess = self.direction.excess(now, usual.level) - usual.level * self.tolerated;
        Some(usual.level * self.change / usual.spread.powi(2) * excess)
    }
}
