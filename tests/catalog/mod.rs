//! The catalogue: product files and the sample shop.

mod command;
mod import;
mod sample;
