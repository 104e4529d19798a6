//! The migration engine against real tables.

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
mod peers;
mod plans;
mod process;
mod refusals;
mod scenarios;
mod sessions;
mod shop;
mod signals;
mod walks;
