//! Which of several processes watches: a row with an end, by the database's clock.
//!
//! Two that watch at once would do no harm to the shop, because a session can be ended only once,
//! but people would be told twice. So the lease has no fencing token, and whoever held it last goes
//! on while the database is lost, which is when somebody has to.

use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;

/// How long the lease lasts.
const LASTS: Duration = Duration::from_secs(6);
/// How often it is renewed.
const RENEWED: Duration = Duration::from_secs(2);
/// Who has not held it watches all the same when the database has been lost for so long: the holder
/// may be lost, too.
const ORPHANED: Duration = Duration::from_secs(15);

/// The lease as one process knows it.
#[derive(Debug)]
pub(super) struct Lease {
    process: String,
    held: bool,
    asked_at: Option<Instant>,
    answered_at: Instant,
}

impl Lease {
    /// A lease that has not been asked for.
    pub(super) fn new(process: String, now: Instant) -> Self {
        Self {
            process,
            held: false,
            asked_at: None,
            answered_at: now,
        }
    }

    /// Whether this process watches.
    pub(super) fn is_held(&self, now: Instant) -> bool {
        self.held || now - self.answered_at >= ORPHANED
    }

    /// Whether it is time to ask for it.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.asked_at.is_none_or(|at| now - at >= RENEWED)
    }

    /// Asks for it, or for more of it.
    ///
    /// # Errors
    /// What the database says.
    pub(super) async fn ask(
        &mut self,
        conn: &mut PgConnection,
        now: Instant,
    ) -> Result<(), sqlx::Error> {
        self.asked_at = Some(now);
        let row = sqlx::query(
            "INSERT INTO evenkeel.watch_lease AS lease (holder, until)
             VALUES ($1, clock_timestamp() + make_interval(secs => $2))
                 ON CONFLICT (singleton) DO UPDATE SET holder = $1, until = EXCLUDED.until
              WHERE lease.holder = $1 OR lease.until < clock_timestamp()",
        )
        .bind(&self.process)
        .bind(LASTS.as_secs_f64())
        .execute(conn)
        .await?;
        self.held = row.rows_affected() == 1;
        self.answered_at = now;
        Ok(())
    }

    /// Holds it without having got it.
    pub(super) fn assume(&mut self) {
        self.held = true;
    }

    /// Gives it back, so that another process watches at once.
    ///
    /// # Errors
    /// What the database says.
    pub(super) async fn give_back(&mut self, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        self.held = false;
        sqlx::query("DELETE FROM evenkeel.watch_lease WHERE holder = $1")
            .bind(&self.process)
            .execute(conn)
            .await?;
        Ok(())
    }
}
