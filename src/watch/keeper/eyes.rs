//! What the watch sees of the database: over a connection of its own, at its own times.

use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use sqlx::postgres::PgConnectOptions;
use tracing::{debug, warn};

use super::APPLICATION;
use super::line::{Line, Unheard};
use crate::config::Watch as Settings;
use crate::watch::changes::{self, Change};
use crate::watch::culprit::Database;
use crate::watch::lease::Lease;
use crate::watch::metrics::Board;
use crate::watch::sessions::{self, Snapshot};

/// How long the database may take to say what it is at; the connection is given up after that.
const PATIENCE: Duration = Duration::from_secs(1);
/// Looks in a row without an answer, after which the database counts as lost.
const LOST: u32 = 2;
/// Looking may take a hundredth of the time while all is well.
const CHEAP: u32 = 100;
/// A tenth while shoppers suffer, which is rare, but no pause longer than `LONGEST` then: a server that is
/// overwhelmed answers late, and that is when somebody has to look.
const URGENT: u32 = 10;
const LONGEST: Duration = Duration::from_secs(1);
/// How often is read what was changed, beside the moment when shoppers begin to suffer, and how far back.
const CHANGES_EVERY: Duration = Duration::from_secs(30);
const CHANGES_SINCE: TimeDelta = TimeDelta::hours(12);

/// Looks at the database.
pub(super) struct Eyes {
    /// Where it asks.
    pub(super) line: Line,
    shop: String,
    lease: Lease,
    snapshot: Option<Snapshot>,
    looked_at: Option<Instant>,
    unanswered: u32,
    problem: String,
    changes: Vec<Change>,
    changes_at: Option<Instant>,
    board: Board,
}

impl Eyes {
    /// Looks by `options` for a shop whose sessions call themselves `shop`.
    pub(super) fn new(options: PgConnectOptions, shop: &str, process: &str, now: Instant) -> Self {
        Self {
            line: Line::new(options.application_name(APPLICATION), PATIENCE),
            shop: shop.to_owned(),
            lease: Lease::new(process.to_owned(), now),
            snapshot: None,
            looked_at: None,
            unanswered: 0,
            problem: String::new(),
            changes: Vec::new(),
            changes_at: None,
            board: Board::default(),
        }
    }

    /// Where what it does is counted.
    pub(super) fn post_to(&mut self, board: Board) {
        self.board = board;
    }

    /// Counts an act on a session.
    pub(super) fn acted(&self) {
        self.board.acted();
    }

    /// Says what the role lacks: at the start, rather than when it matters.
    pub(super) async fn tell_rights(&mut self) {
        match self
            .line
            .ask(async |conn| sessions::rights(conn).await)
            .await
        {
            Ok(lacking) => {
                for lack in lacking {
                    warn!("the watch is not whole: {lack}");
                }
            }
            Err(Unheard { problem, .. }) => warn!(%problem, "the watch does not see the database"),
        }
    }

    /// Whether this process is the one that watches; asks for it when it is time.
    pub(super) async fn leads(&mut self, now: Instant) -> bool {
        if self.lease.is_due(now) {
            let lease = &mut self.lease;
            let asked = self.line.ask(async |conn| lease.ask(conn, now).await).await;
            // Where there is no lease, nobody else can have it. That nobody answers, looks will tell.
            if asked.is_err_and(|unheard| !unheard.lost) {
                self.lease.assume();
            }
        }
        self.lease.is_held(now)
    }

    /// Lets another process watch.
    pub(super) async fn leave(&mut self) {
        let lease = &mut self.lease;
        // It ends by itself, too.
        let _ = self
            .line
            .ask(async |conn| lease.give_back(conn).await)
            .await;
    }

    /// Looks, when it is time: the more rarely, the longer a look takes. Whether it did and saw.
    pub(super) async fn look(&mut self, settings: &Settings, trouble: bool, now: Instant) -> bool {
        let took = self.snapshot.as_ref().map_or(Duration::ZERO, |s| s.took);
        let every = if trouble || self.unanswered > 0 {
            settings.trouble.max((took * URGENT).min(LONGEST))
        } else {
            settings.calm.max(took * CHEAP)
        };
        if self.looked_at.is_some_and(|at| now - at < every) {
            return false;
        }
        self.looked_at = Some(now);
        let shop = self.shop.as_str();
        match self
            .line
            .ask(async |conn| sessions::read(conn, shop).await)
            .await
        {
            Ok(snapshot) => {
                self.unanswered = 0;
                self.problem.clear();
                self.board.looked(snapshot.took);
                debug!(took = ?snapshot.took, sessions = snapshot.sample.sessions.len(), "looked");
                self.snapshot = Some(snapshot);
                self.read_changes(now).await;
                true
            }
            Err(unheard) => {
                self.unheard(unheard);
                false
            }
        }
    }

    /// Makes the next look due at once.
    pub(super) fn look_again(&mut self) {
        self.looked_at = None;
    }

    /// Makes the next look read what was changed, too.
    pub(super) fn read_changes_again(&mut self) {
        self.changes_at = None;
    }

    /// The last snapshot, however old it is.
    pub(super) fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    /// What was changed lately.
    pub(super) fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// What the database is to the watch.
    pub(super) fn database(&self, now: Instant) -> Database<'_> {
        if self.unanswered >= LOST {
            return Database::Lost(&self.problem);
        }
        match self.snapshot.as_ref().filter(|s| s.is_fresh_at(now)) {
            Some(snapshot) => Database::Answers(&snapshot.sample),
            None => Database::Unheard,
        }
    }

    async fn read_changes(&mut self, now: Instant) {
        if self.changes_at.is_some_and(|at| now - at < CHANGES_EVERY) {
            return;
        }
        self.changes_at = Some(now);
        let since = Utc::now() - CHANGES_SINCE;
        match self
            .line
            .ask(async |conn| changes::since(conn, since).await)
            .await
        {
            Ok(changes) => self.changes = changes,
            Err(Unheard { problem, .. }) => {
                warn!(%problem, "the watch cannot read what was changed")
            }
        }
    }

    fn unheard(&mut self, Unheard { problem, lost }: Unheard) {
        if self.problem != problem {
            warn!(%problem, "the watch does not see the database");
        }
        self.unanswered = if lost { self.unanswered + 1 } else { 0 };
        self.board.unanswered();
        self.problem = problem;
    }
}
