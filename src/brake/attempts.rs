//! How much each network has tried of late. Time is a parameter.
//!
//! A network may make `at_once` attempts, and gets one back every so often. One number per network says how
//! many are spent: the time at which all of them will have come back (the generic cell rate algorithm). It
//! can be bounded, which limiters with an entry per key for ever cannot, and an attempt that turns out to be
//! harmless can be given back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Origin;

/// Networks in each of the two generations: about 5 MB in all.
const GENERATION: usize = 50_000;

/// What networks have tried. Cheap to clone.
#[derive(Clone)]
pub struct Attempts(Arc<Inner>);

struct Inner {
    /// How long it takes until one comes back.
    interval: Duration,
    at_once: u32,
    spent: Mutex<Spent>,
}

/// When all attempts of a network will have come back. When the first generation is full it becomes the
/// second, and the second is forgotten: whoever is still active has moved to the first.
#[derive(Default)]
struct Spent {
    young: HashMap<Origin, Instant>,
    old: HashMap<Origin, Instant>,
}

impl Spent {
    fn until(&self, origin: Origin, now: Instant) -> Instant {
        let until = self.young.get(&origin).or_else(|| self.old.get(&origin));
        until.map_or(now, |until| now.max(*until))
    }

    fn set(&mut self, origin: Origin, until: Instant) {
        if self.young.len() >= GENERATION && !self.young.contains_key(&origin) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(origin, until);
    }
}

impl Attempts {
    /// Allows every network `at_once` attempts, and then `per_minute`. Both are at least 1.
    pub fn new(at_once: u32, per_minute: u32) -> Self {
        Self(Arc::new(Inner {
            interval: Duration::from_secs(60) / per_minute.max(1),
            at_once: at_once.max(1),
            spent: Mutex::default(),
        }))
    }

    /// Spends an attempt of `origin`, and says how many of its attempts are spent now, this one included.
    ///
    /// # Errors
    /// How long it takes until the next one has come back, when all are spent.
    pub fn spend(&self, origin: Origin, now: Instant) -> Result<u32, Duration> {
        let Inner {
            interval, at_once, ..
        } = *self.0;
        let mut spent = self.0.spent.lock();
        let until = spent.until(origin, now) + interval;
        let left = until.duration_since(now).saturating_sub(interval * at_once);
        if !left.is_zero() {
            return Err(left);
        }
        spent.set(origin, until);
        let debt = until
            .duration_since(now)
            .as_nanos()
            .div_ceil(interval.as_nanos());
        Ok(u32::try_from(debt).unwrap_or(u32::MAX))
    }

    /// Gives back one that turned out to be no guess.
    pub fn give_back(&self, origin: Origin, now: Instant) {
        let mut spent = self.0.spent.lock();
        let until = spent.until(origin, now);
        let before = until.checked_sub(self.0.interval).unwrap_or(now);
        spent.set(origin, before.max(now));
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn origin(number: u32) -> Origin {
        Origin::from(IpAddr::from(Ipv4Addr::from_bits(number)))
    }

    fn after(now: Instant, seconds: u64) -> Instant {
        now + Duration::from_secs(seconds)
    }

    #[test]
    fn a_network_has_its_attempts_at_once_and_then_as_many_as_come_back() {
        let (attempts, now) = (Attempts::new(3, 6), Instant::now());
        for spent in 1..=3 {
            assert_eq!(attempts.spend(origin(1), now), Ok(spent));
        }
        assert_eq!(attempts.spend(origin(1), now), Err(Duration::from_secs(10)));
        assert_eq!(
            attempts.spend(origin(2), now),
            Ok(1),
            "others have their own"
        );
        assert_eq!(
            attempts.spend(origin(1), after(now, 4)),
            Err(Duration::from_secs(6))
        );
        assert_eq!(attempts.spend(origin(1), after(now, 10)), Ok(3));
        assert_eq!(
            attempts.spend(origin(1), after(now, 100)),
            Ok(1),
            "all are back"
        );
    }

    #[test]
    fn whoever_gives_back_what_it_spent_is_never_held_up() {
        let (attempts, now) = (Attempts::new(2, 1), Instant::now());
        for _ in 0..100 {
            assert_eq!(attempts.spend(origin(1), now), Ok(1));
            attempts.give_back(origin(1), now);
        }
        attempts.give_back(origin(1), now);
        assert_eq!(attempts.spend(origin(1), now), Ok(1), "nothing is saved up");
    }

    #[test]
    fn a_crowd_of_networks_takes_no_more_room_and_forgets_nobody_who_goes_on() {
        let (attempts, now) = (Attempts::new(2, 1), Instant::now());
        assert_eq!(attempts.spend(origin(0), now), Ok(1));
        assert_eq!(attempts.spend(origin(0), now), Ok(2));
        for crowd in 1..=(3 * GENERATION as u32) {
            attempts.spend(origin(crowd), now).expect("is its first");
            if crowd % 10_000 == 0 {
                attempts.give_back(origin(0), now);
                assert_eq!(attempts.spend(origin(0), now), Ok(2));
            }
        }
        let spent = attempts.0.spent.lock();
        assert!(spent.young.len() + spent.old.len() <= 2 * GENERATION);
    }
}
