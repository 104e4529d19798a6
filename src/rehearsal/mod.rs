//! Peak load, simulated from outside over TCP.

pub mod load;
