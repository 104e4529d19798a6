//! The HTTP API, over TCP.

mod accounts;
mod malformed;
mod orders;
mod pages;
mod products;
mod statements;
