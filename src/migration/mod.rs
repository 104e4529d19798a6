//! The background-migration engine.
