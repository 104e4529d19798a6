//! The demo's judgement on recordings that are made up, so that the right answer is known.

mod claims;
mod outage;
