//! How long something takes, for people.

use std::time::Duration;

use indicatif::HumanDuration;

/// `time` in its largest unit, and in milliseconds below a second.
pub fn human(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{} ms", time.as_micros().div_ceil(1000))
    } else {
        HumanDuration(time).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_than_a_second_is_not_zero() {
        assert_eq!(human(Duration::from_millis(340)), "340 ms");
        assert_eq!(human(Duration::from_micros(10)), "1 ms");
        assert_eq!(human(Duration::from_secs(1)), "1 second");
        assert_eq!(human(Duration::from_secs(5400)), "2 hours");
    }
}
