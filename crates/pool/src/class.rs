//! The classes of work that compete for the database.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a piece of work is for. The order of the variants is the order of service.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Placing orders: what the shop lives from.
    Checkout,
    /// Logging in, sessions, order history.
    Account,
    /// Looking at products.
    Browse,
    /// Migrations, operations and other work that no shopper waits for.
    Background,
}

impl Class {
    /// All classes, in order of service.
    pub const ALL: [Class; 4] = [
        Class::Checkout,
        Class::Account,
        Class::Browse,
        Class::Background,
    ];
    /// The classes in which a shopper waits for the answer.
    pub const SHOPPERS: [Class; 3] = [Class::Checkout, Class::Account, Class::Browse];

    /// The name in lower case, as metrics, settings and reports spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Class::Checkout => "checkout",
            Class::Account => "account",
            Class::Browse => "browse",
            Class::Background => "background",
        }
    }

    /// Position in [`Class::ALL`], for arrays that hold one entry per class.
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
