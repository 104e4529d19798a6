//! Which statements the shop usually sends.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::sessions::fingerprint::fingerprint;

/// A statement that was first seen so long ago belongs to the shop, in seconds.
const ESTABLISHED_S: f64 = 600.0;
/// How long the shop has to have been watched before anything is new, in seconds.
const LEARNT_S: f64 = 20.0;
/// Statements that are remembered. A shop has a few dozen.
const MOST: usize = 1_000;

/// The statements and when they were first seen.
#[derive(Clone, Debug, Default)]
pub struct Statements {
    seen: HashMap<String, DateTime<Utc>>,
    since: Option<DateTime<Utc>>,
}

impl Statements {
    /// Takes what the shop's sessions were at into account. In calm everything seen is the shop's usual doing.
    pub fn learn<'a>(&mut self, queries: impl Iterator<Item = &'a str>, now: DateTime<Utc>) {
        self.since.get_or_insert(now);
        for query in queries {
            let print = fingerprint(query);
            if print.is_empty() {
                continue;
            }
            if self.seen.len() < MOST {
                self.seen.entry(print).or_insert(now);
            }
        }
    }

    /// The newest statement that most of `queries` run and how many of them do; `None` when they
    /// run what they always run, or the shop has not been watched for long enough.
    pub fn newcomers<'a>(
        &self,
        queries: impl Iterator<Item = &'a str>,
        now: DateTime<Utc>,
    ) -> Option<(String, usize)> {
        let watched_s = (now - self.since?).as_seconds_f64();
        if watched_s < LEARNT_S {
            return None;
        }
        let mut counts: HashMap<String, usize> = HashMap::new();
        for query in queries {
            *counts.entry(fingerprint(query)).or_default() += 1;
        }
        let (print, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
        let established = self.seen.get(&print).is_some_and(|first| {
            let first_s = (now - *first).as_seconds_f64();
            // Early on nothing is older than the watch itself.
            first_s >= ESTABLISHED_S.min(watched_s / 2.0)
        });
        (!established && !print.is_empty()).then_some((print, count))
    }
}
