//! The watch: names whatever overloads the database, stops it where it may, tells people, and keeps
//! the record that the postmortem is made from.
//!
//! # Layout
//!
//! - `keeper`: the task that looks, judges, writes down and acts
//! - `sessions`: what the sessions of the database do; `shoppers`: how shoppers are; `statements`: what
//!   the shop usually sends
//! - `culprit`: who is to blame, a pure function of these; `finding`: what it says
//! - `breaker`: what may be done to whom, and doing it
//! - `desk`: what is an incident and what is written down of it; `event`: what happens in one;
//!   `incident`: their fold; `log`: where they are kept
//! - `journal`: the log's files on this machine; `record`: its tables; `replicator`: keeps both alike;
//!   `register`: what a process knows of them
//! - `response`: what people do to incidents; `changes`: what somebody changed; `impact`: what an
//!   incident has cost; `postmortem`: what is written of it
//! - `escalation`: who is told next, and when; `notify`: how they are told; `ticket`: links in messages
//!   that entitle to something; `signing`: what both are signed with
//! - `alerts`: which readings are worth a person's time; `metrics`: what is exported of all this

pub mod alerts;
pub mod breaker;
pub mod changes;
pub mod culprit;
pub mod desk;
pub mod escalation;
pub mod event;
pub mod finding;
pub mod impact;
pub mod incident;
pub mod journal;
pub mod keeper;
mod lease;
pub mod log;
pub mod metrics;
pub mod notify;
pub mod postmortem;
pub mod record;
pub mod register;
pub mod replicator;
pub mod response;
pub mod sessions;
pub mod shoppers;
mod signing;
pub mod statements;
pub mod ticket;
