//! The HTTP API, over TCP.

mod accounts;
mod answers;
mod brake;
mod description;
mod edge;
mod lifecycle;
mod lock;
mod log;
mod malformed;
mod observability;
mod ops;
mod orders;
mod pages;
mod products;
mod restart;
mod retention;
mod statements;
mod strict;
mod throttles;
