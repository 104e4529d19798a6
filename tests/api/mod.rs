//! The HTTP API, over TCP.

mod accounts;
mod orders;
mod products;
