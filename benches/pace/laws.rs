//! The laws that others steer by, beside which ours is measured.
//!
//! Each is given what Evenkeel's governor is given, every 100 ms, and says which share of the time to
//! work. What they do not have, they do not get: none cancels a batch in flight.

use pool::Class;
use pressure::LatencyReading;

/// What shoppers felt when a law is asked.
#[derive(Clone, Debug)]
pub struct Felt {
    /// Each class of shoppers over the last quarter of a second.
    pub lately: [LatencyReading; Class::SHOPPERS.len()],
    /// The same over a second in which no migration ran.
    pub at_rest: [LatencyReading; Class::SHOPPERS.len()],
}

impl Felt {
    /// The worst of all classes' 95th percentiles, each as a multiple of what it is at rest.
    /// Classes with next to no requests say nothing.
    fn inflation(&self, of: fn(&LatencyReading) -> Option<f64>) -> f64 {
        let classes = self.lately.iter().zip(&self.at_rest);
        let ratios = classes
            .filter(|(now, _)| now.completed >= ENOUGH)
            .filter_map(|(now, rest)| Some(of(now)? / of(rest)?));
        ratios.fold(0.0, f64::max)
    }

    fn failed(&self) -> bool {
        self.lately.iter().any(|class| class.failed > 0)
    }
}

/// Fewer requests than this have no 95th percentile.
const ENOUGH: u64 = 20;

/// A way to decide how fast to go.
pub trait Law: Send {
    /// The share of the time to work, after a sample.
    fn duty(&mut self, felt: &Felt) -> f64;
}

/// The least duty of every law, so that each can find out that things are better.
const LEAST: f64 = 0.01;
/// How far above the 95th percentile at rest the laws that have a target let it rise.
const TARGET: f64 = 1.25;

/// Batches sized by time and nothing else: Spirit, pt-online-schema-change.
pub struct TargetTime;

impl Law for TargetTime {
    fn duty(&mut self, _: &Felt) -> f64 {
        1.0
    }
}

/// Additive increase, multiplicative decrease: half when shoppers are above target.
pub struct Aimd(pub f64);

impl Law for Aimd {
    fn duty(&mut self, felt: &Felt) -> f64 {
        if felt.failed() || felt.inflation(|class| class.p95_ms) > TARGET {
            self.0 /= 2.0;
        } else {
            self.0 += 0.02;
        }
        self.0 = self.0.clamp(LEAST, 1.0);
        self.0
    }
}

/// TCP Vegas (Brakmo and Peterson, 1995) with the duty as the window: the share of the median
/// latency that is queueing, times the duty, is kept between two bounds.
pub struct Vegas(pub f64);

impl Vegas {
    const ALPHA: f64 = 0.02;
    const BETA: f64 = 0.06;
    const STEP: f64 = 0.02;
}

impl Law for Vegas {
    fn duty(&mut self, felt: &Felt) -> f64 {
        let queueing = 1.0 - 1.0 / felt.inflation(|class| class.p50_ms).max(1.0);
        let excess = self.0 * queueing;
        if felt.failed() {
            self.0 /= 2.0;
        } else if excess < Self::ALPHA {
            self.0 += Self::STEP;
        } else if excess > Self::BETA {
            self.0 -= Self::STEP;
        }
        self.0 = self.0.clamp(LEAST, 1.0);
        self.0
    }
}

/// A proportional-integral controller on the distance from the target, with its integral held
/// within what the duty can do (anti-windup).
#[derive(Default)]
pub struct Pi {
    integral: f64,
}

impl Pi {
    const PROPORTIONAL: f64 = 0.1;
    const INTEGRAL: f64 = 0.02;
}

impl Law for Pi {
    fn duty(&mut self, felt: &Felt) -> f64 {
        let inflation = felt.inflation(|class| class.p95_ms);
        let error = if felt.failed() {
            -1.0
        } else {
            (TARGET - inflation).clamp(-1.0, 1.0)
        };
        self.integral = (self.integral + Self::INTEGRAL * error).clamp(0.0, 1.0);
        (self.integral + Self::PROPORTIONAL * error).clamp(LEAST, 1.0)
    }
}
