//! Which duty shoppers are known to bear: learnt from trials, kept through moments of pain.
//!
//! After every [`Trial`](crate::trial::Trial) the trusted duty is multiplied by a power: how
//! many standard errors the effect was within the budget, or beyond it, but no more than a few. It
//! settles where these cancel out, which is where the effect is the budget. Little evidence moves it
//! little; much evidence fast; and no single trial, however odd, moves it far (stochastic
//! approximation, Robbins and Monro, 1951, of an M-estimate, Huber, 1964).
//!
//! A cut is another matter: it is answered at once, whoever's doing it is, and held against the
//! trusted duty. Unless shoppers suffer as often while the engine rests: then it is neither.

use crate::settings::PaceSettings as Settings;
use crate::trial::Effect;

/// Where the trusted duty begins when there are shoppers: one part in twenty is next to nothing, and
/// enough to be felt in a trial if the migration is heavy.
const FIRST: f64 = 0.05;
/// What a trial multiplies the trusted duty by for every standard error within the budget.
const STEP: f64 = 1.25;
/// Standard errors beyond which more make no difference.
const FAR: f64 = 3.0;
/// A step up on too little evidence.
const GROPE: f64 = 1.15;
/// Trials in a row that agree count more and more, up to so many times: their errors cancel out.
const AGREED: f64 = 3.0;
/// What every trial that agrees with the one before it adds to that.
const AGREES: f64 = 0.5;
/// What a cut divides the trusted duty by.
const CUT: f64 = 2.0;
/// A trial at less than this share of the trusted duty does not show that more is harmless.
const TRIED: f64 = 0.7;
/// Time after which what was seen counts a third, in seconds.
const MEMORY_S: f64 = 60.0;
/// Rests in which shoppers suffered that must have been seen before any of it is called somebody
/// else's doing.
const ENOUGH_RESTS: f64 = 1.5;
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

/// The trusted duty and what it rests on. At first nothing is known, and nobody there.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    duty: Option<f64>,
    /// Whether the last trial was within the budget, and how much the next counts if it agrees.
    last: Option<(bool, f64)>,
    at_work: Tally,
    at_rest: Tally,
    /// Rests in which shoppers suffered.
    bad_rests: f64,
}

impl Trust {
    /// The duty that shoppers bear; `None` while there are none.
    pub fn duty(&self) -> Option<f64> {
        self.duty
    }

    /// There are no shoppers; what the last ones bore says little of the next.
    pub fn nobody(&mut self) {
        (self.duty, self.last) = (None, None);
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
        self.bad_rests *= (-elapsed_s / MEMORY_S).exp();
        let tally = if at_work {
            &mut self.at_work
        } else {
            &mut self.at_rest
        };
        tally.add(bad, elapsed_s);
    }

    /// A rest has ended in which shoppers suffered at some time.
    pub fn suffered_at_rest(&mut self) {
        self.bad_rests += 1.0;
    }

    /// Takes a trial into account in which the duty was `duty` on average; `effect` is `None` when
    /// there were too few requests.
    pub fn tried(&mut self, settings: &Settings, effect: Option<&Effect>, duty: f64) {
        let Some(trusted) = self.duty else {
            return;
        };
        let step = match effect {
            None => GROPE,
            Some(effect) if effect.margin.is_nan() => return,
            Some(effect) => {
                let margin = effect.margin.clamp(-FAR, FAR);
                STEP.powf((margin * self.agreement(margin > 0.0)).clamp(-FAR, FAR))
            }
        };
        let next = match (duty >= trusted * TRIED, step < 1.0) {
            (true, _) => trusted * step,
            // Harm at less than is trusted says more than its size.
            (false, true) => duty * step,
            (false, false) => trusted,
        };
        self.duty = Some(next.clamp(settings.duty_min, settings.duty_max));
    }

    /// How much a trial counts that was `within` the budget or not.
    fn agreement(&mut self, within: bool) -> f64 {
        let (counts, next) = match self.last {
            Some((last, counts)) if last == within => (counts, (counts + AGREES).min(AGREED)),
            _ => (1.0, 1.0),
        };
        self.last = Some((within, next));
        counts
    }

    /// Whether shoppers suffer about as often while the engine rests.
    pub fn innocent(&self) -> bool {
        self.bad_rests >= ENOUGH_RESTS && self.at_rest.share() >= EXCULPATES * self.at_work.share()
    }

    /// Shoppers suffer badly at `duty`, and by that of the migration.
    pub fn suffered(&mut self, settings: &Settings, duty: f64) {
        if let Some(trusted) = self.duty {
            // What is next to nothing is not what they suffer by; if it is, trials will tell.
            let next = (trusted.min(duty) / CUT).max(trusted.min(FIRST));
            self.duty = Some(next.clamp(settings.duty_min, settings.duty_max));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(margin: f64) -> Effect {
        Effect {
            class: None,
            factor: 1.0,
            error: 0.1,
            margin,
        }
    }

    fn trust(duty: f64) -> Trust {
        Trust {
            duty: Some(duty),
            ..Trust::default()
        }
    }

    #[test]
    fn steps_up_and_down_undo_each_other() {
        let settings = Settings::default();
        let mut trust = trust(0.2);
        trust.tried(&settings, Some(&effect(1.5)), 0.2);
        let up = trust.duty().expect("somebody is there");
        trust.tried(&settings, Some(&effect(-1.5)), up);
        let duty = trust.duty().expect("somebody is there");
        assert!(up > 0.25 && (duty - 0.2).abs() < 1e-9, "{up}, {duty}");
    }

    #[test]
    fn one_odd_trial_moves_it_by_no_more_than_half() {
        let settings = Settings::default();
        let mut trust = trust(0.4);
        trust.tried(&settings, Some(&effect(-1e9)), 0.4);
        assert!(trust.duty().expect("somebody is there") > 0.2);
        trust.tried(&settings, Some(&effect(f64::NAN)), 0.4);
        assert!(trust.duty().expect("somebody is there") > 0.2);
    }

    #[test]
    fn a_duty_that_was_not_tried_is_not_proven() {
        let settings = Settings::default();
        let mut trust = trust(0.4);
        trust.tried(&settings, Some(&effect(2.0)), 0.1);
        assert_eq!(trust.duty(), Some(0.4));
        // Harm at a tenth says that a tenth is too much already.
        trust.tried(&settings, Some(&effect(-1.0)), 0.1);
        assert!(trust.duty().expect("somebody is there") < 0.1);
    }

    #[test]
    fn the_migration_is_innocent_of_pain_that_is_there_at_rest_too() {
        let mut trust = trust(0.4);
        for _ in 0..20 {
            trust.sampled(true, true, 0.1);
            trust.sampled(false, true, 0.1);
            trust.suffered_at_rest();
        }
        assert!(trust.innocent());
        for _ in 0..200 {
            trust.sampled(true, true, 0.1);
            trust.sampled(false, false, 0.1);
        }
        assert!(!trust.innocent());
    }

    #[test]
    fn nobody_is_innocent_before_rest_has_been_seen() {
        let mut trust = trust(0.4);
        trust.sampled(true, true, 0.1);
        trust.sampled(false, false, 10.0);
        assert!(!trust.innocent());
    }
}
