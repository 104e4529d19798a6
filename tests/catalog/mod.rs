//! The catalogue: product files and the sample shop.

mod import;
mod sample;
