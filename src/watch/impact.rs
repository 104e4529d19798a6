//! What an incident has cost, by the shop's own counters and by the orders that are placed otherwise.

pub mod orders;

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

pub use orders::Trade;
use pool::Class;

use super::event::{Event, Impact, What};

/// A reading speaks for the time since the one before, but not for longer than this: what shoppers
/// felt while nobody looked is not known.
const SPEAKS_FOR: TimeDelta = TimeDelta::seconds(60);

/// Requests of a class between the beginning and the end of an incident, as the shop counted them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requests {
    /// The class.
    pub class: Class,
    /// How many arrived.
    pub arrived: u64,
    /// How many of them failed.
    pub failed: u64,
}

/// The cost of an incident with these `requests`, while orders went as `trade` says.
///
/// Where nothing is known about orders, each failed attempt to place one counts as lost, which is an
/// upper bound: some were tried again.
pub fn impact(requests: &[Requests], trade: Option<&Trade>) -> Impact {
    let failed_checkouts = requests
        .iter()
        .filter(|requests| requests.class == Class::Checkout)
        .map(|requests| requests.failed as f64)
        .sum();
    let orders_lost = match trade {
        Some(trade) => (trade.expected - trade.placed).max(0.0),
        None => failed_checkouts,
    };
    let value = trade.and_then(|trade| trade.mean_minor);
    let count = |of: fn(&Requests) -> u64| requests.iter().map(|r| (r.class, of(r))).collect();
    Impact {
        failed: count(|requests| requests.failed),
        arrived: count(|requests| requests.arrived),
        orders_lost,
        // Saturates: nobody's shop is worth more.
        money_at_risk_minor: value.map(|mean| (orders_lost * mean).round() as i64),
    }
}

/// What the readings among `events` add up to until `end`, for whoever did not count himself. The
/// error is that of rates over a second, read about as often.
pub fn felt(events: &[Event], end: DateTime<Utc>) -> Vec<Requests> {
    let mut sums: BTreeMap<Class, (f64, f64)> = BTreeMap::new();
    let mut before = None;
    let mut events: Vec<_> = events.iter().filter(|event| event.at <= end).collect();
    events.sort_by_key(|event| (event.at, event.id));
    for event in events {
        let What::Felt { classes } = &event.what else {
            continue;
        };
        // The first one speaks for the second that it was taken over.
        let since = event.at - before.unwrap_or(event.at - TimeDelta::seconds(1));
        before = Some(event.at);
        let seconds = since.min(SPEAKS_FOR).as_seconds_f64();
        for felt in classes {
            let (arrived, failed) = sums.entry(felt.class).or_default();
            *arrived += felt.arrivals_per_s * seconds;
            *failed += felt.failed_per_s * seconds;
        }
    }
    let requests = sums.into_iter().map(|(class, (arrived, failed))| Requests {
        class,
        arrived: arrived.round() as u64,
        failed: failed.round() as u64,
    });
    requests.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::event::Felt;
    use uuid::Uuid;

    fn counted() -> [Requests; 2] {
        let requests = |class, arrived, failed| Requests {
            class,
            arrived,
            failed,
        };
        [
            requests(Class::Checkout, 100, 80),
            requests(Class::Browse, 1000, 10),
        ]
    }

    #[test]
    fn lost_orders_are_those_that_were_expected_and_not_placed() {
        let trade = Trade {
            expected: 90.0,
            placed: 20.0,
            mean_minor: Some(4999.5),
        };
        let impact = impact(&counted(), Some(&trade));
        assert_eq!(impact.orders_lost, 70.0);
        assert_eq!(impact.money_at_risk_minor, Some(349_965));
        assert_eq!(
            impact.failed,
            [(Class::Checkout, 80), (Class::Browse, 10)].to_vec()
        );
        assert_eq!(
            impact.arrived,
            [(Class::Checkout, 100), (Class::Browse, 1000)].to_vec()
        );
    }

    #[test]
    fn more_orders_than_expected_lose_nothing() {
        let trade = Trade {
            expected: 20.0,
            placed: 90.0,
            mean_minor: None,
        };
        let impact = impact(&counted(), Some(&trade));
        assert_eq!(impact.orders_lost, 0.0);
        assert_eq!(impact.money_at_risk_minor, None);
    }

    #[test]
    fn without_knowledge_of_orders_failed_checkouts_count() {
        let impact = impact(&counted(), None);
        assert_eq!(impact.orders_lost, 80.0);
        assert_eq!(impact.money_at_risk_minor, None);
    }

    #[test]
    fn readings_add_up_over_the_time_that_they_speak_for() {
        let from: DateTime<Utc> = "2024-06-20T10:00:00Z".parse().unwrap();
        let reading = |second: i64, rate: f64| Event {
            id: Uuid::now_v7(),
            incident: Uuid::nil(),
            at: from + TimeDelta::seconds(second),
            by: "watch".to_owned(),
            what: What::Felt {
                classes: vec![Felt {
                    class: Class::Browse,
                    arrivals_per_s: rate,
                    failed_per_s: rate / 2.0,
                    p95_ms: None,
                }],
            },
        };
        // 1 s at 10, 2 s at 20, at most a minute of the gap at 30; the last is after the end.
        let events = [
            reading(1003, 30.0),
            reading(1, 10.0),
            reading(3, 20.0),
            reading(2000, 1.0),
        ];
        let felt = felt(&events, from + TimeDelta::seconds(1500));
        let arrived = 10 + 40 + 60 * 30;
        let expected = Requests {
            class: Class::Browse,
            arrived,
            failed: arrived / 2,
        };
        assert_eq!(felt, [expected]);
    }
}
