//! Which answers are compressed.
//!
//! An answer that holds a secret and something that a stranger can make its reader send gives the secret away by
//! its length, however it is encrypted (BREACH). So only what is the same for everybody is compressed: products,
//! pages, documentation. At the operators' port everything is: its secret is a bearer token, which no
//! page can make a browser send.

use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{And, NotForContentType, Predicate, SizeAbove};

/// Bytes from which an answer is compressed: a smaller one is one packet either way.
const LEAST: u64 = 1024;

/// Compresses what is worth it for clients that accept it.
pub(super) fn layer() -> CompressionLayer<And<SizeAbove, NotForContentType>> {
    // Level 1: most of what can be saved, for a few hundredths of a millisecond per answer.
    CompressionLayer::new()
        .quality(CompressionLevel::Fastest)
        .compress_when(SizeAbove::new(LEAST).and(NotForContentType::IMAGES))
}
