//! Peak load, simulated from outside over TCP.
