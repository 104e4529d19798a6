//! Behaviour of the shop and its tools, one module per domain.

mod load;
