//! Telling people of an incident.
//!
//! # Layout
//!
//! - `notice`: what is said, the same by every channel; `words`: its wording
//! - `webhook`, `slack`, `pagerduty`, `alertmanager`, `email`: a way of saying it each
//! - `destination`: where a message may go; `post`, `tls`: how it gets there
//! - `channel`: one of the ways, as the settings have it
//! - `escalator`: the task that sends what is due and records it

mod alertmanager;
mod channel;
mod destination;
mod email;
mod escalator;
mod notice;
mod pagerduty;
mod post;
mod slack;
mod tls;
mod webhook;
mod words;

pub use channel::{Channel, SendError};
pub use destination::{Destination, DestinationError, Reach};
pub use escalator::Escalator;
pub use notice::{Ask, Done, Links, Notice};
pub use post::Poster;
