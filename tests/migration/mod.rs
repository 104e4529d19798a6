//! The migration engine against real tables.

mod changes;
mod completeness;
mod contention;
mod deaths;
mod fixture;
mod flat;
mod foreign;
mod freeze;
mod interruptions;
mod keys;
mod kill;
mod kinds;
mod leases;
mod lint;
mod peers;
mod plans;
mod process;
mod refusals;
mod scenarios;
mod sessions;
mod shop;
mod signals;
mod walks;
