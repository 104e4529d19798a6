//! The HTTP API, over TCP.

mod accounts;
mod brake;
mod edge;
mod lifecycle;
mod lock;
mod malformed;
mod observability;
mod ops;
mod orders;
mod pages;
mod products;
mod restart;
mod retention;
mod statements;
mod throttles;
