//! Which duty shoppers are known to bear: learnt from trials, kept through moments of pain.
//!
//! After every [`Trial`](crate::pressure::trial::Trial) the trusted duty takes a step up or down.
//! The steps are equally long, so it settles where half of the trials find more than the budget: at
//! the duty whose *median* effect is the budget. Noise moves it up as often as down, however heavy
//! its tails are (stochastic approximation of a quantile: Robbins and Monro, 1951).
//!
//! A cut is another matter: it is answered at once, whoever's doing it is. Whether it is also held
//! against the trusted duty depends on whether shoppers suffer as much while the engine rests.

use crate::config::Pace as Settings;
use crate::pressure::trial::Finding;

/// Where the trusted duty begins when there are shoppers: one part in twenty is next to nothing, and
/// enough to be felt in a trial if the migration is heavy.
const FIRST: f64 = 0.05;
/// A step up, and the inverse of a step down.
const STEP: f64 = 1.25;
/// A step up until the first harm is found.
const START: f64 = 2.0;
/// A step up on too little evidence.
const GROPE: f64 = 1.1;
/// How many budgets an effect has to be, as a power, to halve the trusted duty at once.
const HEAVY: i32 = 3;
/// A trial at less than this share of the trusted duty does not show that more is harmless.
const TRIED: f64 = 0.7;
/// Time after which what was seen counts a third, in seconds.
const MEMORY_S: f64 = 30.0;
/// Seconds of rest that must have been seen before a cut can be called somebody else's doing.
const ENOUGH_REST_S: f64 = 1.0;
/// Shoppers suffer by themselves when they suffer at rest at least this many times as often.
const EXCULPATES: f64 = 0.5;

/// How much of some time was bad.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    bad_s: f64,
    s: f64,
}

impl Tally {
    fn add(&mut self, bad: bool, elapsed_s: f64) {
        self.s += elapsed_s;
        if bad {
            self.bad_s += elapsed_s;
        }
    }

    fn fade(&mut self, elapsed_s: f64) {
        let kept = (-elapsed_s / MEMORY_S).exp();
        self.s *= kept;
        self.bad_s *= kept;
    }

    fn share(&self) -> f64 {
        if self.s > 0.0 {
            self.bad_s / self.s
        } else {
            0.0
        }
    }
}

/// The trusted duty and what it rests on.
#[derive(Clone, Debug)]
pub struct Trust {
    duty: Option<f64>,
    starting: bool,
    at_work: Tally,
    at_rest: Tally,
}

impl Default for Trust {
    /// Nothing is known, and nobody is there to be disturbed.
    fn default() -> Self {
        Self {
            duty: None,
            starting: true,
            at_work: Tally::default(),
            at_rest: Tally::default(),
        }
    }
}

impl Trust {
    /// The duty that shoppers bear; `None` while there are none.
    pub fn duty(&self) -> Option<f64> {
        self.duty
    }

    /// There are no shoppers; what the last ones bore says little of the next.
    pub fn nobody(&mut self) {
        self.duty = None;
        self.starting = true;
    }

    /// There are shoppers.
    pub fn somebody(&mut self, settings: &Settings) {
        let first = FIRST.clamp(settings.duty_min, settings.duty_max);
        self.duty.get_or_insert(first);
    }

    /// Takes a sample into account that was made at work (or else at rest): whether shoppers
    /// suffered, and for how long it stands.
    pub fn sampled(&mut self, at_work: bool, bad: bool, elapsed_s: f64) {
        self.at_work.fade(elapsed_s);
        self.at_rest.fade(elapsed_s);
        let tally = if at_work {
            &mut self.at_work
        } else {
            &mut self.at_rest
        };
        tally.add(bad, elapsed_s);
    }

    /// Takes a trial into account in which the duty was `duty` on average.
    pub fn tried(&mut self, settings: &Settings, finding: &Finding, duty: f64) {
        let Some(trusted) = self.duty else {
            return;
        };
        let tried = duty >= trusted * TRIED;
        let next = match finding {
            Finding::Harmless(_) if !tried => trusted,
            Finding::Harmless(_) if self.starting => trusted * START,
            Finding::Harmless(_) => trusted * STEP,
            Finding::TooFew if !tried => trusted,
            Finding::TooFew => trusted * GROPE,
            Finding::Harmful(effect, _) => {
                self.starting = false;
                let heavy = effect.factor > settings.slow_factor.powi(HEAVY);
                trusted.min(duty) / if heavy { START } else { STEP }
            }
        };
        self.duty = Some(next.clamp(settings.duty_min, settings.duty_max));
    }

    /// Shoppers suffer badly at `duty`. Returns whether the migration is to blame, as far as is
    /// known: if they suffer at rest about as often, it is not.
    pub fn suffered(&mut self, settings: &Settings, duty: f64) -> bool {
        let known = self.at_rest.s >= ENOUGH_REST_S;
        if known && self.at_rest.share() >= EXCULPATES * self.at_work.share() {
            return false;
        }
        self.starting = false;
        if let Some(trusted) = self.duty {
            let next = trusted.min(duty) / START;
            self.duty = Some(next.clamp(settings.duty_min, settings.duty_max));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pressure::trial::Effect;

    fn effect(factor: f64) -> Effect {
        Effect { factor, error: 0.1 }
    }

    fn trust(duty: f64) -> Trust {
        Trust {
            duty: Some(duty),
            starting: false,
            ..Trust::default()
        }
    }

    #[test]
    fn steps_up_and_down_undo_each_other() {
        let settings = Settings::default();
        let mut trust = trust(0.2);
        trust.tried(&settings, &Finding::Harmless(effect(1.0)), 0.2);
        trust.tried(&settings, &Finding::Harmful(effect(1.2), None), 0.25);
        let duty = trust.duty().expect("somebody is there");
        assert!((duty - 0.2).abs() < 1e-9, "{duty}");
    }

    #[test]
    fn a_duty_that_was_not_tried_is_not_proven() {
        let settings = Settings::default();
        let mut trust = trust(0.4);
        trust.tried(&settings, &Finding::Harmless(effect(1.0)), 0.1);
        assert_eq!(trust.duty(), Some(0.4));
        // Harm at a tenth says that a tenth is too much already.
        trust.tried(&settings, &Finding::Harmful(effect(1.2), None), 0.1);
        assert!(trust.duty().expect("somebody is there") < 0.1);
    }

    #[test]
    fn pain_that_is_there_at_rest_too_is_not_blamed_on_the_migration() {
        let settings = Settings::default();
        let mut trust = trust(0.4);
        for _ in 0..20 {
            trust.sampled(true, true, 0.1);
            trust.sampled(false, true, 0.1);
        }
        assert!(!trust.suffered(&settings, 0.4));
        assert_eq!(trust.duty(), Some(0.4));
        for _ in 0..200 {
            trust.sampled(true, true, 0.1);
            trust.sampled(false, false, 0.1);
        }
        assert!(trust.suffered(&settings, 0.4));
        assert_eq!(trust.duty(), Some(0.2));
    }

    #[test]
    fn blame_is_not_lifted_before_rest_has_been_seen() {
        let mut trust = trust(0.4);
        trust.sampled(true, true, 0.1);
        assert!(trust.suffered(&Settings::default(), 0.4));
    }
}
