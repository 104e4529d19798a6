//! Hours of the week, as the shop's customers live them: by the clock on their wall, with its summer
//! time.

use chrono::{DateTime, Utc};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Hours of a week.
pub const HOURS: usize = 7 * 24;

/// A time zone.
#[derive(Clone, Debug)]
pub struct Calendar(TimeZone);

impl Calendar {
    /// The zone with a name such as `Europe/London`; `None` if there is none.
    pub fn named(name: &str) -> Option<Self> {
        TimeZone::get(name).ok().map(Self)
    }

    /// Time since Monday midnight, in hours.
    pub fn hours_into_week(&self, at: DateTime<Utc>) -> f64 {
        let offset = Timestamp::from_second(at.timestamp())
            .map_or(0, |timestamp| self.0.to_offset(timestamp).seconds());
        // The epoch was a Thursday.
        let local = at.timestamp() + i64::from(offset) + 3 * 86_400;
        local.rem_euclid(7 * 86_400) as f64 / 3600.0
    }
}

impl Default for Calendar {
    fn default() -> Self {
        Self(TimeZone::UTC)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_of_the_week_stays_where_the_clock_on_the_wall_says() {
        let london = Calendar::named("Europe/London").unwrap();
        let hour = |text: &str| london.hours_into_week(text.parse().unwrap());
        // Mondays at noon, in winter and in summer.
        assert_eq!(hour("2024-01-15T12:00:00Z"), 12.0);
        assert_eq!(hour("2024-07-15T11:00:00Z"), 12.0);
        assert_eq!(hour("2024-01-21T23:30:00Z"), 167.5);
        assert!(Calendar::named("Europe/Lundon").is_none());
    }
}
