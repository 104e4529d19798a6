//! Whether a run will miss its deadline, and what it would cost shoppers to make it.
//!
//! Nothing is hurried here: the engine names a price, and somebody decides whether to pay it.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

/// A run that will be late.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct Late {
    /// Seconds after its deadline by which it will be done nine times in ten; `None` when nobody can
    /// tell when.
    pub by_s: Option<f64>,
    /// Milliseconds at the 95th percentile that shoppers would have to pay beyond the budget for it to
    /// be in time. `None` when it is not their budget that holds the run back, or the deadline has
    /// passed.
    pub extra_ms: Option<f64>,
}

/// Whether a run whose end is `left_s` away nine times in ten (`None`: nobody can tell) will miss
/// `deadline`. What a migration costs shoppers grows about as its duty does, so going so many times as
/// fast takes so many times the budget.
pub fn foresee(
    deadline: DateTime<Utc>,
    now: DateTime<Utc>,
    left_s: Option<f64>,
    pace: Option<&serde_json::Value>,
) -> Option<Late> {
    let until_s = (deadline - now).num_milliseconds() as f64 / 1e3;
    let Some(left_s) = left_s else {
        return Some(Late {
            by_s: None,
            extra_ms: None,
        });
    };
    if left_s <= until_s {
        return None;
    }
    let held_back = pace.filter(|pace| pace["trusted"].as_f64().is_some_and(|duty| duty < 1.0));
    let budget_ms = held_back.and_then(|pace| pace["budget_ms"].as_f64());
    let extra_ms = budget_ms
        .filter(|_| until_s > 0.0)
        .map(|budget| budget * (left_s / until_s - 1.0));
    Some(Late {
        by_s: Some(left_s - until_s),
        extra_ms,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn late(left_s: Option<f64>, until_s: i64, pace: serde_json::Value) -> Option<Late> {
        let now = Utc::now();
        foresee(
            now + chrono::Duration::seconds(until_s),
            now,
            left_s,
            Some(&pace),
        )
    }

    #[test]
    fn a_run_that_is_in_time_is_not_late() {
        assert_eq!(late(Some(50.0), 100, json!({})), None);
    }

    #[test]
    fn going_three_times_as_fast_takes_three_times_the_budget() {
        let pace = json!({"trusted": 0.2, "budget_ms": 0.6});
        let late = late(Some(300.0), 100, pace).expect("it is late");
        assert_eq!(late.by_s.map(f64::round), Some(200.0));
        assert!(
            (late.extra_ms.expect("a price") - 1.2).abs() < 1e-3,
            "{late:?}"
        );
    }

    #[test]
    fn no_price_is_named_where_it_would_buy_nothing() {
        let full = json!({"trusted": 1.0, "budget_ms": 0.6});
        assert_eq!(late(Some(300.0), 100, full).and_then(|l| l.extra_ms), None);
        let past = json!({"trusted": 0.2, "budget_ms": 0.6});
        assert_eq!(late(Some(300.0), -1, past).and_then(|l| l.extra_ms), None);
        let unknown = late(None, 100, json!({"trusted": 0.2, "budget_ms": 0.6}));
        assert_eq!(unknown.map(|l| (l.by_s, l.extra_ms)), Some((None, None)));
    }
}
