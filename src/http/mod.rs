//! The HTTP interface: extract, make one domain call, respond.
