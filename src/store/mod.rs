//! The shop's domain with its SQL. Functions take a connection; the caller owns the transaction.

pub mod import;
