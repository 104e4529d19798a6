//! What shoppers do, how often, and how patient they are.

use std::str::FromStr;
use std::time::Duration;

use pool::Class;
use rand::distr::weighted::WeightedIndex;
use rand::rngs::StdRng;
use rand_distr::Distribution;

use crate::LoadError;

/// One thing that a shopper does: one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Looks at one product.
    ProductDetail,
    /// Opens a page of the product list, of the whole shop or of a category.
    ProductList,
    /// Searches for a word.
    Search,
    /// Opens the order history.
    OrderHistory,
    /// Opens one order of the past.
    OrderDetail,
    /// Opens the account page.
    Me,
    /// Logs in with a password.
    LogIn,
    /// Places an order.
    PlaceOrder,
}

impl Action {
    /// Every action, in the order of the fields of [`Mix`].
    pub const ALL: [Action; 8] = [
        Action::ProductDetail,
        Action::ProductList,
        Action::Search,
        Action::OrderHistory,
        Action::OrderDetail,
        Action::Me,
        Action::LogIn,
        Action::PlaceOrder,
    ];

    /// The class that the action is counted under.
    pub const fn class(self) -> Class {
        match self {
            Action::ProductDetail | Action::ProductList | Action::Search => Class::Browse,
            Action::OrderHistory | Action::OrderDetail | Action::Me | Action::LogIn => {
                Class::Account
            }
            Action::PlaceOrder => Class::Checkout,
        }
    }
}

/// How often each action happens, as weights; only their proportions matter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mix([f64; Action::ALL.len()]);

impl Default for Mix {
    /// In percent. Log-in is rare because hashing a password costs 30 ms of a core: shoppers stay
    /// logged in.
    fn default() -> Self {
        Self([60.0, 12.0, 8.0, 6.0, 4.0, 1.95, 0.05, 8.0])
    }
}

impl Mix {
    /// The weight of one action.
    pub fn weight(&self, action: Action) -> f64 {
        self.0[action as usize]
    }

    /// The weights of all actions of `class` together.
    pub fn class_weight(&self, class: Class) -> f64 {
        Action::ALL
            .into_iter()
            .filter(|action| action.class() == class)
            .map(|action| self.weight(action))
            .sum()
    }

    /// The same mix with another weight for one action.
    #[must_use]
    pub fn with(mut self, action: Action, weight: f64) -> Self {
        self.0[action as usize] = weight;
        self
    }

    /// The same mix with `class` scaled to `weight`; the proportions inside the class stay.
    #[must_use]
    pub fn with_class(mut self, class: Class, weight: f64) -> Self {
        let scale = weight / self.class_weight(class);
        for action in Action::ALL {
            if action.class() == class {
                self.0[action as usize] *= scale;
            }
        }
        self
    }

    /// Whether any action needs a shopper who is logged in.
    pub fn needs_sessions(&self) -> bool {
        self.class_weight(Class::Account) + self.class_weight(Class::Checkout) > 0.0
    }

    pub(crate) fn chooser(&self) -> Result<Chooser, LoadError> {
        let index = WeightedIndex::new(self.0).map_err(|_| {
            LoadError::Profile(
                "the mix needs weights that are not negative, at least one of them above 0".into(),
            )
        })?;
        Ok(Chooser(index))
    }
}

impl FromStr for Mix {
    type Err = String;

    /// Reads `browse=80,account=12,checkout=8`: a weight per class; a class that is left out keeps
    /// its default.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut mix = Mix::default();
        for part in text.split(',') {
            let wrong = || {
                format!(
                    "`{part}` is not a weight: write for example browse=80,account=12,checkout=8"
                )
            };
            let (name, weight) = part.split_once('=').ok_or_else(wrong)?;
            let class = Class::SHOPPERS
                .into_iter()
                .find(|class| class.name() == name.trim())
                .ok_or_else(wrong)?;
            let weight: f64 = weight.trim().parse().map_err(|_| wrong())?;
            if !weight.is_finite() || weight < 0.0 {
                return Err(wrong());
            }
            mix = mix.with_class(class, weight);
        }
        mix.chooser().map_err(|err| err.to_string())?;
        Ok(mix)
    }
}

/// Draws actions in the proportions of a mix.
#[derive(Debug)]
pub(crate) struct Chooser(WeightedIndex<f64>);

impl Chooser {
    pub(crate) fn choose(&self, rng: &mut StdRng) -> Action {
        Action::ALL[self.0.sample(rng)]
    }
}

/// A crowd of shoppers.
#[derive(Clone, Debug)]
pub struct Profile {
    /// What they do.
    pub mix: Mix,
    /// An order has one to this many lines.
    pub max_lines: usize,
    /// How long a shopper waits, from the moment when the request was due.
    pub deadline: Duration,
    /// Requests under way at once; what arrives beyond it is not sent and counts as failed. Further
    /// bounded by half of the files that the process may open, because every request needs a socket.
    pub max_in_flight: usize,
    /// Products that shoppers look at and order, all of them equally often.
    pub products: usize,
    /// The same seed gives the same arrivals and actions.
    pub seed: u64,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            mix: Mix::default(),
            max_lines: 3,
            deadline: Duration::from_secs(2),
            max_in_flight: 20_000,
            products: 500,
            seed: 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn the_default_mix_is_80_12_8_and_actions_are_drawn_in_its_proportions() {
        let mix = Mix::default();
        let percent = Class::SHOPPERS.map(|class| mix.class_weight(class).round());
        assert_eq!(percent, [8.0, 12.0, 80.0]);
        let chooser = mix.chooser().expect("the default is valid");
        let mut rng = StdRng::seed_from_u64(1);
        let drawn = (0..100_000).map(|_| chooser.choose(&mut rng));
        let details = drawn.filter(|a| *a == Action::ProductDetail).count();
        assert!((58_000..62_000).contains(&details), "{details}");
    }

    #[test]
    fn a_mix_is_read_by_class_and_a_wrong_one_is_refused_with_an_example() {
        let mix: Mix = "browse=50, checkout=0".parse().expect("valid");
        assert!((mix.class_weight(Class::Browse) - 50.0).abs() < 1e-9);
        assert_eq!(mix.class_weight(Class::Checkout), 0.0);
        assert!((mix.class_weight(Class::Account) - 12.0).abs() < 1e-9);
        for wrong in [
            "browse",
            "browse=-1",
            "browse=x",
            "shop=3",
            "",
            "browse=NaN",
            "browse=0,account=0,checkout=0",
        ] {
            assert!(wrong.parse::<Mix>().is_err(), "{wrong} was accepted");
        }
    }
}
