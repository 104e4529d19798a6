//! The watch: who is named, what is done about it, and what is written down.

mod culprits;
mod incident_cli;
mod incident_http;
mod judgements;
mod postmortem;
mod record;
mod escalation;
mod notify;
mod stage;
mod story;
mod trade;
