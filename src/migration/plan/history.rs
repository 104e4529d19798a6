//! What earlier runs tell of the duty that shoppers leave to a migration.

use serde::Serialize;
use sqlx::postgres::PgConnection;

use super::predict::Quantiles;
use crate::db::schema::none_if_absent;

/// Days that are looked back.
const DAYS: i32 = 30;
/// An hour of the day is known when batches have worked in it over this many seconds.
const KNOWN_S: f64 = 5.0;
/// A longer time between two batches is a pause that somebody made, or a process that died.
const PAUSE_S: f64 = 60.0;

/// A prediction for a start at an hour of the day.
#[derive(Clone, Debug, Serialize)]
pub struct Hour {
    /// The hour, UTC.
    pub hour: u32,
    /// The share of the time that runs have worked in it.
    pub duty: f64,
    /// How long the main phase takes from there, in seconds.
    #[serde(flatten)]
    pub takes: Quantiles,
}

/// Duties of earlier runs.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    /// Over all hours; `None` without earlier runs.
    pub duty: Option<f64>,
    hours: [Option<f64>; 24],
}

/// Reads the batches of the last month.
pub(super) async fn read(conn: &mut PgConnection) -> Result<History, sqlx::Error> {
    let hours = sqlx::query_as(
        "SELECT extract(hour FROM committed_at AT TIME ZONE 'UTC')::int,
                (sum(least(took_ms / 1e3, passed)))::float8, sum(passed)::float8
           FROM (SELECT committed_at, took_ms,
                        extract(epoch FROM committed_at - lag(committed_at)
                                OVER (PARTITION BY run_id ORDER BY number))::float8 AS passed
                   FROM evenkeel.batches
                  WHERE committed_at > now() - make_interval(days => $1)) AS b
          WHERE passed > 0 AND passed < $2 AND took_ms IS NOT NULL
          GROUP BY 1",
    )
    .bind(DAYS)
    .bind(PAUSE_S)
    .fetch_all(conn);
    let hours: Vec<(i32, f64, f64)> = none_if_absent(hours.await)?;
    let mut history = History::default();
    let (mut worked, mut passed) = (0.0, 0.0);
    for (hour, hour_worked, hour_passed) in hours {
        worked += hour_worked;
        passed += hour_passed;
        let slot = usize::try_from(hour).ok();
        if let Some(slot) = slot.and_then(|hour| history.hours.get_mut(hour))
            && hour_passed >= KNOWN_S
        {
            *slot = Some(duty(hour_worked, hour_passed));
        }
    }
    history.duty = (passed > 0.0).then(|| duty(worked, passed));
    Ok(history)
}

fn duty(worked: f64, passed: f64) -> f64 {
    (worked / passed).clamp(1e-3, 1.0)
}

impl History {
    /// For every known hour, how long a run takes that is started in it and takes `full` at full
    /// duty. Hours that are not known have the mean duty.
    pub(super) fn by_hour(&self, full: Quantiles) -> Vec<Hour> {
        let Some(mean) = self.duty else {
            return Vec::new();
        };
        let known = self.hours.iter().enumerate();
        known
            .filter_map(|(hour, duty)| {
                Some(Hour {
                    hour: u32::try_from(hour).ok()?,
                    duty: (*duty)?,
                    takes: Quantiles {
                        p50_s: self.takes(hour, full.p50_s, mean),
                        p90_s: self.takes(hour, full.p90_s, mean),
                    },
                })
            })
            .collect()
    }

    fn takes(&self, start: usize, full_s: f64, mean: f64) -> f64 {
        const HOUR_S: f64 = 3600.0;
        let at = |hour: usize| self.hours[hour % 24].unwrap_or(mean);
        let a_day: f64 = (0..24).map(|hour| at(hour) * HOUR_S).sum();
        let days = (full_s / a_day).floor();
        let mut left = full_s - days * a_day;
        let mut took = days * 24.0 * HOUR_S;
        for hour in start..start + 24 {
            let most = at(hour) * HOUR_S;
            if left <= most {
                return took + left / at(hour);
            }
            left -= most;
            took += HOUR_S;
        }
        took
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_is_started_at_peak_takes_longer_and_gains_when_the_night_comes() {
        let mut history = History {
            duty: Some(0.5),
            ..History::default()
        };
        history.hours[2] = Some(1.0);
        history.hours[10] = Some(0.1);
        let two_hours = Quantiles {
            p50_s: 1800.0,
            p90_s: 7200.0,
        };
        let by_hour = history.by_hour(two_hours);
        let [night, peak] = by_hour.as_slice() else {
            panic!("{by_hour:?}");
        };
        assert!((night.takes.p50_s - 1800.0).abs() < 1e-6, "{night:?}");
        // One hour of work in the first, then half an hour per hour.
        assert!((night.takes.p90_s - 3.0 * 3600.0).abs() < 1e-6, "{night:?}");
        // 360 s of work in the first hour, the other 1440 s at half speed.
        assert!((peak.takes.p50_s - 6480.0).abs() < 1e-6, "{peak:?}");
        assert!(History::default().by_hour(two_hours).is_empty());
    }
}
