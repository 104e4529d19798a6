//! A budget is used up by degrees.

use super::doubt::doubt;
use crate::config::Budget;
use crate::pressure::signal::Verdict;

/// A verdict and its reason; `None` while the budget is kept.
pub(super) type Judged = Option<(Verdict, String)>;

/// Slow between the limits, Cut from the hard one on.
pub(super) fn graded(budget: Budget, used: f64, unit: &str) -> Judged {
    let Budget { soft, hard, .. } = budget;
    if !used.is_finite() {
        return doubt(format!("{used} {unit}"));
    }
    if used < soft {
        return None;
    }
    let limits = format!("the limits are {soft} and {hard}");
    if used >= hard {
        return Some((Verdict::Cut, format!("{used:.1} {unit}; {limits}")));
    }
    let share = (used - soft) / (hard - soft) * 100.0;
    let reason = format!("{used:.1} {unit}; {limits}, {share:.0} % of the way");
    Some((Verdict::Slow, reason))
}
