//! The watch: who is named, what is done about it, and what is written down.

mod alerts;
mod culprits;
mod escalation;
mod incident_cli;
mod incident_http;
mod judgements;
mod links;
mod lost;
mod notify;
mod postmortem;
mod processes;
mod record;
mod stage;
mod story;
mod trade;
