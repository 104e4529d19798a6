//! What a run's time is spent on.

use std::collections::BTreeMap;
use std::time::Duration;

use pressure::pace::Pace;

/// A batch was at work.
pub const WORKING: &str = "working";
/// The engine rested because it works a share of the time only, and nothing else limited it.
pub const RESTING: &str = "resting";
/// The table was read by physical position.
pub const PROVING: &str = "second proof";
/// Another run had the turn.
pub const TURNS: &str = "turns";
/// A batch had failed, most often for a lock, and was to be tried again.
pub const RETRYING: &str = "retrying";

/// Seconds by what they were spent on, since the ledger was last told.
#[derive(Clone, Debug, Default)]
pub struct Spent {
    seconds: BTreeMap<String, f64>,
}

impl Spent {
    /// Adds `time` to what was spent on `what`.
    pub fn on(&mut self, what: &str, time: Duration) {
        *self.seconds.entry(what.to_owned()).or_default() += time.as_secs_f64();
    }

    /// The seconds as the ledger adds them up, rounded to microseconds.
    pub fn to_json(&self) -> serde_json::Value {
        let rounded = self.seconds.iter();
        let rounded = rounded.map(|(what, s)| (what.clone(), ((s * 1e6).round() / 1e6).into()));
        serde_json::Value::Object(rounded.collect())
    }

    /// Begins anew.
    pub fn clear(&mut self) {
        self.seconds.clear();
    }
}

/// What time is spent on that `pace` makes the engine wait: the worst of what limits it.
pub fn waited_for(pace: &Pace) -> String {
    let worst = pace.causes.first();
    worst.map_or_else(|| RESTING.to_owned(), |cause| cause.source.clone())
}
