//! The background-migration engine.
//!
//! A [`definition`] is a declared change. A *run* of it lives in the [`ledger`]; the [`runner`] of
//! any process that gets the lease walks the table by [`keyset`], one [`batch`] per transaction, at
//! the [pace](pressure::pace) that the [`governor`] derives from what shoppers feel, and ends with a [`sweep`]
//! that proves by the declared predicate that nothing was missed. A [`physical`] read, which shares
//! neither index nor order with that walk, proves it a second time. A [`change`] has schema statements
//! before and after that walk. What would lock, rewrite or scan a live table is refused by the
//! [`lint`].

pub mod batch;
pub mod certificate;
pub mod change;
pub mod checksum;
pub mod columns;
pub mod control;
pub mod definition;
pub mod eta;
pub mod fault;
pub mod governor;
pub mod keyset;
pub mod late;
pub mod ledger;
pub mod lint;
pub mod names;
pub mod pending;
pub mod physical;
pub mod plan;
pub mod presence;
pub mod progress;
pub mod proofs;
pub mod retry;
pub mod rights;
pub mod runner;
pub mod sampler;
pub mod sizing;
pub mod snapshot;
pub mod source;
pub mod spent;
pub mod sweep;
pub mod throttle;
pub mod turns;
pub mod undo;
