//! What the sessions of the database do, as plain data.

pub mod fingerprint;
mod read;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::Deserialize;

pub(in crate::watch) use read::{read, rights};

/// All that was seen at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When it was asked for.
    pub at: Instant,
    /// The same by this process's wall clock.
    pub wall: DateTime<Utc>,
    /// How long the answer took.
    pub took: Duration,
    /// What the database said.
    pub sample: Sample,
}

impl Snapshot {
    /// Whether it says something about now.
    pub fn is_fresh_at(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) <= STALE
    }
}

/// A snapshot that is older says nothing about now.
const STALE: Duration = Duration::from_secs(2);

/// What the database says of itself and its sessions.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Sample {
    /// Connections that clients have, of all databases.
    pub connections: u32,
    /// Connections that ordinary roles can have.
    pub connections_max: u32,
    /// WAL written since the server's beginning, in bytes.
    pub wal_bytes: i64,
    /// Checkpoints that were asked for before their time.
    pub checkpoints_requested: i64,
    /// The farthest behind of the replicas, in seconds.
    pub replica_lag_s: Option<f64>,
    /// Connections by application and role, whatever they do.
    pub clients: Vec<Clients>,
    /// Sessions that do something, or hold something that others wait for.
    pub sessions: Vec<Session>,
    /// What the connections of the shop run or have run last.
    pub shop_statements: Vec<String>,
}

/// How many connections somebody has.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Clients {
    /// How they call themselves.
    pub application: String,
    /// Their role.
    pub role: String,
    /// How many.
    pub connections: u32,
}

/// What a session is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum State {
    /// A statement runs or waits.
    #[serde(rename = "active")]
    Active,
    /// A transaction is open and nothing runs.
    #[serde(rename = "idle in transaction")]
    IdleInTransaction,
    /// The same after an error.
    #[serde(rename = "idle in transaction (aborted)")]
    Aborted,
    /// Everything else, or not for our eyes.
    #[default]
    #[serde(other)]
    Other,
}

/// One session.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Session {
    /// Its process id on the server.
    pub pid: i32,
    /// Its role; empty where it has none.
    pub role: String,
    /// How it calls itself; may be empty.
    pub application: String,
    /// Where it comes from; `None` on the server's own machine.
    pub client: Option<String>,
    /// What it is at.
    #[serde(default)]
    pub state: State,
    /// When its connection was opened, by the server's clock. `None` where it may not be seen, as
    /// with the following.
    pub backend_start: Option<DateTime<Utc>>,
    /// When its transaction began.
    pub xact_start: Option<DateTime<Utc>>,
    /// How long its transaction has been open, in seconds.
    pub xact_s: Option<f64>,
    /// How long its statement has been running or has been over, in seconds.
    pub statement_s: Option<f64>,
    /// What it waits for, as `pg_stat_activity` groups it: `Lock`, `IO`, `Client`, …
    pub wait: Option<String>,
    /// The beginning of its statement.
    pub query: Option<String>,
    /// The sessions that it waits for, directly.
    #[serde(default)]
    pub blocked_by: Vec<i32>,
    /// The lock that it waits for, such as `RowExclusiveLock on orders`.
    pub wants: Option<String>,
    /// How long it has been waiting for it, in seconds.
    pub waits_s: Option<f64>,
    /// The strong locks of relations that it holds, if somebody waits for it.
    #[serde(default)]
    pub holds: Vec<String>,
}

impl Session {
    /// Whether a statement of it runs, rather than waiting for a lock or its client.
    pub fn is_working(&self) -> bool {
        self.state == State::Active && !matches!(self.wait.as_deref(), Some("Lock" | "Client"))
    }

    /// Whether it waits for a lock.
    pub fn is_blocked(&self) -> bool {
        !self.blocked_by.is_empty()
    }
}

/// Those who wait for one session, and whom it is that they wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Who waits for nobody.
    pub root: i32,
    /// Everybody who waits for the root, directly or behind others.
    pub victims: Vec<i32>,
    /// The victim behind which most of the others wait; the root's only direct victim, often.
    pub first_victim: Option<i32>,
}

impl Sample {
    /// The session with this process id.
    pub fn session(&self, pid: i32) -> Option<&Session> {
        self.sessions.iter().find(|session| session.pid == pid)
    }

    /// Who waits for whom, the longest queue first. Sessions that wait for each other in a circle
    /// have no root; PostgreSQL ends those by itself.
    pub fn chains(&self) -> Vec<Chain> {
        let blocked: HashMap<i32, &[i32]> = self
            .sessions
            .iter()
            .filter(|session| session.is_blocked())
            .map(|session| (session.pid, session.blocked_by.as_slice()))
            .collect();
        // Everybody ahead of a session, the roots among them.
        let ahead_of = |pid: i32| {
            let mut ahead = HashSet::new();
            let mut next: Vec<i32> = blocked[&pid].to_vec();
            while let Some(one) = next.pop() {
                if one != pid && ahead.insert(one) {
                    next.extend(blocked.get(&one).into_iter().flat_map(|by| by.iter()));
                }
            }
            ahead
        };
        let mut victims: HashMap<i32, Vec<i32>> = HashMap::new();
        let mut behind: HashMap<i32, usize> = HashMap::new();
        for pid in blocked.keys() {
            for ahead in ahead_of(*pid) {
                if blocked.contains_key(&ahead) {
                    *behind.entry(ahead).or_default() += 1;
                } else {
                    victims.entry(ahead).or_default().push(*pid);
                }
            }
        }
        let mut chains: Vec<Chain> = victims
            .into_iter()
            .map(|(root, mut victims)| {
                victims.sort_unstable();
                let first_victim = victims
                    .iter()
                    .copied()
                    .max_by_key(|pid| (behind.get(pid).copied().unwrap_or(0), -i64::from(*pid)))
                    .filter(|pid| behind.contains_key(pid));
                Chain {
                    root,
                    victims,
                    first_victim,
                }
            })
            .collect();
        chains.sort_by_key(|chain| (std::cmp::Reverse(chain.victims.len()), chain.root));
        chains
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(edges: &[(i32, &[i32])]) -> Sample {
        let sessions = edges.iter().map(|(pid, blocked_by)| Session {
            pid: *pid,
            blocked_by: blocked_by.to_vec(),
            ..Session::default()
        });
        Sample {
            sessions: sessions.collect(),
            ..Sample::default()
        }
    }

    #[test]
    fn the_root_is_who_waits_for_nobody_not_the_first_victim() {
        // 1 reads, 2 wants to alter, 3 to 5 want to read behind 2.
        let chains = sample(&[(1, &[]), (2, &[1]), (3, &[2]), (4, &[2]), (5, &[2, 1])]).chains();
        assert_eq!(
            chains,
            [Chain {
                root: 1,
                victims: vec![2, 3, 4, 5],
                first_victim: Some(2)
            }]
        );
    }

    #[test]
    fn a_queue_for_one_session_has_no_first_victim() {
        let chains = sample(&[(1, &[]), (2, &[1]), (3, &[1])]).chains();
        assert_eq!(chains[0].first_victim, None);
        assert_eq!(chains[0].victims, [2, 3]);
    }

    #[test]
    fn sessions_that_wait_for_each_other_end_nothing() {
        assert_eq!(sample(&[(1, &[2]), (2, &[1]), (3, &[1])]).chains(), []);
        let chains = sample(&[(1, &[2]), (2, &[1, 9]), (9, &[])]).chains();
        assert_eq!(chains[0].root, 9);
    }

    #[test]
    fn the_longest_queue_comes_first() {
        let chains = sample(&[(1, &[]), (2, &[1]), (7, &[]), (8, &[7]), (9, &[7])]).chains();
        assert_eq!(chains.iter().map(|c| c.root).collect::<Vec<_>>(), [7, 1]);
    }
}
