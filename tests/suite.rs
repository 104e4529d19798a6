//! Behaviour of the shop and its tools, one module per domain.

mod catalog;
mod load;
mod support;
