//! How much to do in the next transaction, from how long the last two took.

use std::time::Duration;

/// What was done in one transaction.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Of how much: the rows of a batch.
    pub size: f64,
    /// How long it took.
    pub took: Duration,
}

impl Work {
    /// By what to multiply the size of the next one, so that it takes `target`. Back to the size of `before`, where
    /// that was larger and took hardly longer.
    pub fn next_factor(self, before: Option<Self>, target: Duration) -> f64 {
        let by_time = target.as_secs_f64() / self.seconds();
        match before {
            Some(before) if by_time < 1.0 && self.is_hardly_shorter_than(before) => {
                before.size / self.size.max(1.0)
            }
            _ => by_time,
        }
    }

    fn seconds(self) -> f64 {
        self.took.as_secs_f64().max(1e-6)
    }

    /// Whether it is smaller than `before` and saved less than half of the time that it would have, did the time
    /// go by size alone. Then most of the time is every transaction's, such as that of a subquery which reads
    /// another table, and still smaller ones would take as long and get nowhere.
    fn is_hardly_shorter_than(self, before: Self) -> bool {
        let share = self.size / before.size.max(1.0);
        share < 1.0 && self.seconds() > before.seconds() * (1.0 + share) / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_millis(25);

    /// The least size, of 2,000 at first, of work that takes `fixed_ms`, and `each_us` for each of what they do.
    fn least(fixed_ms: f64, each_us: f64) -> f64 {
        let (mut size, mut before, mut least) = (2_000.0, None, f64::INFINITY);
        for _ in 0..100 {
            let work = Work {
                size,
                took: Duration::from_secs_f64(fixed_ms / 1e3 + size * each_us / 1e6),
            };
            size *= work.next_factor(before, TARGET).clamp(0.5, 2.0);
            before = Some(work);
            least = size.min(least);
        }
        least.round()
    }

    #[test]
    fn work_does_not_shrink_where_that_makes_it_no_shorter() {
        // What goes by size alone is bounded by the target.
        assert_eq!(least(0.0, 100.0), 250.0);
        assert_eq!(least(5.0, 100.0), 200.0);
        // Of what every transaction takes, however small it is, nothing is saved.
        assert!(least(40.0, 1.0) >= 1_000.0);
        assert!(least(400.0, 100.0) >= 1_000.0);
        // As long as half of the time goes by size, smaller ones save some.
        assert_eq!(least(40.0, 50.0), 250.0);
    }
}
