//! Evenkeel: a storefront backend that stays upright while its data is migrated.

pub mod db;
