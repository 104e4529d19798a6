//! What the processes of a shop tell each other, in `evenkeel.readings`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pressure::fleet::{GONE_AFTER, Member, Reading, Report};
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use tracing::warn;

use crate::migration::ledger;

/// A process's reports as seen from here: which was the last, and when it was written.
#[derive(Clone, Copy, Debug)]
struct Heard {
    sequence: i64,
    at: Instant,
    /// When it was first read here; silence counts from then on, whatever the clocks say.
    read: Instant,
}

/// The row of this process and the memory of the others'.
#[derive(Debug)]
pub(super) struct Fleet {
    process: String,
    sequence: i64,
    heard: HashMap<String, Heard>,
    last_read: Option<Instant>,
}

impl Fleet {
    pub(super) fn new(process: &str) -> Self {
        Self {
            process: process.to_owned(),
            sequence: 0,
            heard: HashMap::new(),
            last_read: None,
        }
    }

    /// Writes `report` when a migration runs anywhere, or when it is `due` anyway. Whether one runs,
    /// and whether it was written.
    pub(super) async fn publish(
        &mut self,
        conn: &mut PgConnection,
        report: Option<&Report>,
        due: bool,
    ) -> Result<(bool, bool), sqlx::Error> {
        self.sequence += 1;
        sqlx::query_as(
            "WITH active AS MATERIALIZED (
                 SELECT EXISTS (SELECT FROM evenkeel.runs
                                 WHERE state = 'running' AND lease_until >= clock_timestamp()) AS yes),
             put AS (
                 INSERT INTO evenkeel.readings (process, sequence, at, body)
                 SELECT $1, $2, clock_timestamp(), $3 FROM active
                  WHERE $3 IS NOT NULL AND (yes OR $4)
                     ON CONFLICT (process) DO UPDATE
                    SET sequence = EXCLUDED.sequence, at = EXCLUDED.at, body = EXCLUDED.body
              RETURNING 1)
             SELECT yes, EXISTS (SELECT FROM put) FROM active",
        )
        .bind(&self.process)
        .bind(self.sequence)
        .bind(report.map(Json))
        .bind(due)
        .fetch_one(conn)
        .await
    }

    /// The last report of every other process. One that has been silent for [`GONE_AFTER`] is
    /// declared gone.
    pub(super) async fn read(
        &mut self,
        conn: &mut PgConnection,
        asked: Instant,
    ) -> Result<Reading, sqlx::Error> {
        let rows: Vec<(String, i64, f64, Json<serde_json::Value>)> = sqlx::query_as(
            "SELECT process, sequence, extract(epoch FROM clock_timestamp() - at)::float8, body
               FROM evenkeel.readings WHERE process <> $1 ORDER BY process",
        )
        .bind(&self.process)
        .fetch_all(&mut *conn)
        .await?;
        // After a break in reading, silence is counted anew: it was us who did not listen.
        let listened = self.last_read.replace(asked);
        if listened.is_none_or(|last| asked.saturating_duration_since(last) > GONE_AFTER / 2) {
            self.heard.clear();
        }
        self.heard
            .retain(|process, _| rows.iter().any(|row| row.0 == *process));
        let mut members = Vec::new();
        for (process, sequence, age_s, Json(body)) in rows {
            let at = self.hear(&process, sequence, age_s, asked);
            let silent = self
                .heard
                .get(&process)
                .map_or(Duration::ZERO, |h| asked.saturating_duration_since(h.read));
            if silent >= GONE_AFTER {
                self.declare_gone(conn, &process, sequence).await?;
                continue;
            }
            let report = serde_json::from_value(body)
                .map_err(|err| format!("its report cannot be read: {err}"));
            members.push(Member {
                process,
                sequence,
                at,
                report,
            });
        }
        Ok(Reading { at: asked, members })
    }

    /// When report `sequence` was written, by this process's clock. The database's clock only says
    /// how long before it was first read, and never more than since the report before.
    fn hear(&mut self, process: &str, sequence: i64, age_s: f64, asked: Instant) -> Instant {
        let before = self.heard.get(process).copied();
        if let Some(before) = before.filter(|before| before.sequence == sequence) {
            return before.at;
        }
        let age = Duration::try_from_secs_f64(age_s.max(0.0)).unwrap_or(GONE_AFTER);
        let since = before.map_or(GONE_AFTER, |b| asked.saturating_duration_since(b.read));
        let at = asked.checked_sub(age.min(since)).unwrap_or(asked);
        let heard = Heard {
            sequence,
            at,
            read: asked,
        };
        self.heard.insert(process.to_owned(), heard);
        at
    }

    async fn declare_gone(
        &mut self,
        conn: &mut PgConnection,
        process: &str,
        sequence: i64,
    ) -> Result<(), sqlx::Error> {
        // Unless it has spoken in this very moment.
        let gone =
            sqlx::query("DELETE FROM evenkeel.readings WHERE process = $1 AND sequence = $2")
                .bind(process)
                .bind(sequence)
                .execute(&mut *conn)
                .await?;
        if gone.rows_affected() == 1 {
            warn!(process, "declared gone: it fell silent without leaving");
            let detail = format!("{process} has been silent for {GONE_AFTER:?}");
            ledger::record_of_fleet(conn, &self.process, "process declared gone", &detail).await?;
        }
        self.heard.remove(process);
        Ok(())
    }

    /// Removes what dead processes left behind, while no migration runs that they could matter to.
    pub(super) async fn tidy(&self, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        let gone: Vec<String> = sqlx::query_scalar(
            "DELETE FROM evenkeel.readings
              WHERE process <> $1 AND at < clock_timestamp() - make_interval(secs => $2)
          RETURNING process",
        )
        .bind(&self.process)
        .bind(GONE_AFTER.as_secs_f64())
        .fetch_all(&mut *conn)
        .await?;
        for process in gone {
            let detail = format!("{process} has been silent for more than {GONE_AFTER:?}");
            ledger::record_of_fleet(conn, &self.process, "process declared gone", &detail).await?;
        }
        Ok(())
    }
}

/// Takes this process's row away: it ends in order and is not silent.
pub(super) async fn leave(conn: &mut PgConnection, process: &str) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM evenkeel.readings WHERE process = $1")
        .bind(process)
        .execute(conn)
        .await?;
    Ok(())
}
