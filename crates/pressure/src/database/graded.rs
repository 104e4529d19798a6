//! How far each source has used up its budget.

use std::time::{Duration, Instant};

use super::doubt::{denied, doubt};
use super::judge::Held;
use super::{Reading, Replica, Sample, Table};
use crate::settings::{Budget, PaceSettings as Settings};
use crate::signal::Verdict;

/// A replica reports at least every `wal_receiver_status_interval`, 10 s unless set; three missed
/// reports are silence.
const REPLY_SILENCE: Duration = Duration::from_secs(30);
/// A table with fewer dead rows than this has no debt worth waiting for.
const FEW_ROWS: f64 = 10_000.0;
/// A replica this close behind, in bytes, is not behind although PostgreSQL has no time for it.
const CAUGHT_UP: i64 = 16 * 1024 * 1024;
const MIB: f64 = 1024.0 * 1024.0;

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

/// The rate between the `first` reading of the window and the `last`.
pub(super) fn wal(budget: Budget, first: &Reading, last: &Reading) -> Judged {
    let seconds = last.at.saturating_duration_since(first.at).as_secs_f64();
    let (Some(from), Some(to)) = (first.sample.wal_bytes, last.sample.wal_bytes) else {
        return doubt("the WAL position could not be read");
    };
    if seconds <= 0.0 {
        return doubt("first sample");
    }
    if to < from {
        return doubt("the WAL position went back: this is another server, or an older state");
    }
    let rate = (to - from) as f64 / MIB / seconds;
    let mut judged = graded(budget, rate, "MiB/s of WAL");
    let requested = |sample: &Sample| sample.checkpoints_requested.unwrap_or(0);
    let checkpoints = requested(&last.sample) - requested(&first.sample);
    if let Some((_, reason)) = judged.as_mut().filter(|_| checkpoints > 0) {
        reason.push_str("; it forced a checkpoint");
    }
    judged
}

/// `silent` is how long ago it last reported.
pub(super) fn replica(
    budget: Budget,
    sample: &Sample,
    replica: &Replica,
    silent: Duration,
) -> Judged {
    let Some(state) = &replica.state else {
        return denied(sample, "replica_lag", "the state of replicas");
    };
    if silent > REPLY_SILENCE {
        return doubt(format!("it has not reported for {silent:.0?}"));
    }
    let Some(behind) = replica.behind_bytes else {
        return doubt(format!(
            "it is in state {state} and has no position to measure"
        ));
    };
    let behind_mib = behind as f64 / MIB;
    if state != "streaming" {
        return doubt(format!(
            "it is in state {state}, {behind_mib:.1} MiB behind"
        ));
    }
    match replica.lag_s {
        // A clock that was set back makes it negative, if only by a hair.
        Some(lag) if !lag.is_finite() || lag < -0.1 => doubt(format!("a lag of {lag} s")),
        Some(lag) => graded(budget, lag, "s behind").map(|(verdict, reason)| {
            (
                verdict,
                format!("{reason}; {behind_mib:.1} MiB to replay there"),
            )
        }),
        None if behind <= CAUGHT_UP => None,
        None => doubt(format!("{behind_mib:.1} MiB behind, but no time is known")),
    }
}

/// `reset` says that its statistics began anew since the reading before.
pub(super) fn dead_rows(budget: Budget, table: &Table, reset: bool) -> Judged {
    if reset {
        return doubt("its statistics were reset");
    }
    let (Some(dead), Some(live)) = (table.dead, table.live) else {
        return doubt("PostgreSQL keeps no statistics of it (is track_counts off?)");
    };
    if dead < 0 || live < 0 {
        return doubt(format!("{dead} dead and {live} live rows"));
    }
    let (dead, live) = (dead as f64, live as f64);
    if dead < FEW_ROWS {
        return None;
    }
    graded(budget, dead / live.max(1.0), "dead rows per live row").map(|(verdict, reason)| {
        let reason = format!("{reason}; {dead:.0} of them wait for vacuum");
        (verdict, reason)
    })
}

/// `held` is what was known of it before, if there is anything to wait for.
pub(super) fn oldest(budget: Budget, sample: &Sample, held: Option<&Held>, at: Instant) -> Judged {
    if !sample.sees_all && sample.foreign_sessions > 0 {
        return denied(sample, "xmin_age", "other roles' transactions");
    }
    let (oldest, held) = (sample.oldest.as_ref()?, held?);
    if held.rejuvenated {
        return doubt(format!("{} became younger", oldest.holder));
    }
    let seen = at.saturating_duration_since(held.since).as_secs_f64();
    let age = oldest.age_s.unwrap_or(seen);
    if !age.is_finite() || age < -1.0 {
        return doubt(format!("{} is {age} s old", oldest.holder));
    }
    graded(budget, age, "s old").map(|(verdict, reason)| {
        let holder = &oldest.holder;
        (
            verdict,
            format!("vacuum waits for {holder}, which is {reason}"),
        )
    })
}

pub(super) fn lock_waits(settings: &Settings, budget: Budget, sample: &Sample) -> Judged {
    let Some(waiters) = sample.lock_waiters else {
        return doubt("the locks could not be read");
    };
    let longest = sample.longest_wait_s.unwrap_or(0.0);
    if !longest.is_finite() || longest < -1.0 || waiters < 0 {
        return doubt(format!("{waiters} wait for {longest} s"));
    }
    if (waiters as f64) < budget.soft {
        return None;
    }
    let critical = longest > settings.critical.as_secs_f64();
    let verdict = if critical || waiters as f64 >= budget.hard {
        Verdict::Stop
    } else {
        Verdict::Cut
    };
    let reason = format!(
        "{waiters} wait for a lock of the batch, the first for {:.0} ms; the limits are {:.0} and \
         {:.0} sessions",
        longest.max(0.0) * 1e3,
        budget.soft,
        budget.hard
    );
    Some((verdict, reason))
}
