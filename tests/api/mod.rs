//! The HTTP API, over TCP.

mod accounts;
mod malformed;
mod orders;
mod products;
mod statements;
