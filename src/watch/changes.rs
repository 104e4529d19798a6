//! What somebody changed: deploys, jobs, settings that were told from outside, and the migrations and
//! schema steps that the project's own tables know.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::FromRow;
use sqlx::postgres::PgConnection;
use utoipa::ToSchema;

/// Characters of a summary, as in PagerDuty's change events.
pub const LONGEST_SUMMARY: usize = 1024;
/// Characters of a source.
pub const LONGEST_SOURCE: usize = 255;
/// Bytes of everything else, as JSON.
pub const LARGEST_BODY: usize = 16 * 1024;
/// More than anybody can read.
const MOST: i64 = 500;
/// How long ago a change may have been made when it is reported.
const LATEST_REPORT: TimeDelta = TimeDelta::days(30);
/// How far clocks may differ.
const CLOCK_SKEW: TimeDelta = TimeDelta::minutes(5);

/// What was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum Kind {
    /// A new version of something that runs.
    Deploy,
    /// A job began, ended or was rescheduled.
    Job,
    /// A setting.
    Config,
    /// Data or the schema.
    Migration,
    /// Something else.
    Other,
}

impl Kind {
    /// Its name in JSON and in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Job => "job",
            Self::Config => "config",
            Self::Migration => "migration",
            Self::Other => "other",
        }
    }

    /// The kind of a change that says only in words what it is.
    pub fn of_words(summary: &str) -> Self {
        const WORDS: [(Kind, &[&str]); 4] = [
            (
                Kind::Deploy,
                &["deploy", "release", "rollout", "rolled out", "build"],
            ),
            (Kind::Migration, &["migration", "migrate", "schema"]),
            (Kind::Job, &["cron", "job", "schedule"]),
            (Kind::Config, &["config", "setting", "feature flag"]),
        ];
        let summary = summary.to_lowercase();
        let said = |words: &[&str]| words.iter().any(|word| summary.contains(word));
        let kind = WORDS.into_iter().find(|(_, words)| said(words));
        kind.map_or(Self::Other, |(kind, _)| kind)
    }
}

/// Something that was changed.
#[derive(Clone, Debug, PartialEq, Serialize, FromRow, ToSchema)]
pub struct Change {
    /// When, by the clock of whoever told.
    pub at: DateTime<Utc>,
    /// What.
    pub kind: Kind,
    /// In a few words.
    pub summary: String,
    /// Where that was reported from.
    pub source: String,
    /// Whatever else was told.
    #[schema(value_type = Object)]
    pub body: Value,
}

/// Why a change is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Its summary.
    #[error("a summary is one line of 1 to {LONGEST_SUMMARY} characters")]
    Summary,
    /// Its source.
    #[error("a source is one line of at most {LONGEST_SOURCE} characters")]
    Source,
    /// Its time.
    #[error("the time of a change lies within the last 30 days, and not in the future")]
    Time,
    /// The rest of it.
    #[error("the details are at most {LARGEST_BODY} bytes of JSON")]
    Body,
    /// No connection.
    #[error(transparent)]
    Pool(#[from] pool::PoolError),
    /// The database refused.
    #[error("{}", pool::summarize(.0))]
    Database(#[from] sqlx::Error),
}

/// Stores a change that was reported at `now`.
///
/// # Errors
/// [`ChangeError`] says what to change.
pub async fn add(
    conn: &mut PgConnection,
    change: &Change,
    now: DateTime<Utc>,
) -> Result<(), ChangeError> {
    let is_line =
        |text: &str, most| text.chars().count() <= most && !text.contains(char::is_control);
    if change.summary.trim().is_empty() || !is_line(&change.summary, LONGEST_SUMMARY) {
        return Err(ChangeError::Summary);
    }
    if !is_line(&change.source, LONGEST_SOURCE) {
        return Err(ChangeError::Source);
    }
    if change.at < now - LATEST_REPORT || change.at > now + CLOCK_SKEW {
        return Err(ChangeError::Time);
    }
    if change.body.to_string().len() > LARGEST_BODY {
        return Err(ChangeError::Body);
    }
    sqlx::query(
        "INSERT INTO evenkeel.changes (at, kind, summary, source, body) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(change.at)
    .bind(change.kind.name())
    .bind(change.summary.trim())
    .bind(&change.source)
    .bind(&change.body)
    .execute(conn)
    .await?;
    Ok(())
}

/// What was changed from `from` on, oldest first; of very many the newest.
///
/// # Errors
/// What the database says.
pub async fn since(
    conn: &mut PgConnection,
    from: DateTime<Utc>,
) -> Result<Vec<Change>, sqlx::Error> {
    let mut changes: Vec<Change> = sqlx::query_as(
        "SELECT at, kind, summary, source, body FROM evenkeel.changes WHERE at >= $1
          UNION ALL
         SELECT started_at, 'migration', format('migration %s started (run %s, queued by %s)', migration, id, started_by),
                'evenkeel migrate', jsonb_build_object('run', id) FROM evenkeel.runs WHERE started_at >= $1
          UNION ALL
         SELECT finished_at, 'migration', format('migration %s %s (run %s)', migration, state, id),
                'evenkeel migrate', jsonb_build_object('run', id) FROM evenkeel.runs WHERE finished_at >= $1
          UNION ALL
         SELECT done_at, 'migration', format('schema statement %s of run %s (%s): %s', number, run_id, step, left(statement, 200)),
                'evenkeel migrate', jsonb_build_object('run', run_id) FROM evenkeel.steps WHERE done_at >= $1
          UNION ALL
         SELECT applied_at, 'migration', format('schema step %s applied: %s', version, description),
                'evenkeel serve', '{}' FROM evenkeel.schema_steps WHERE applied_at >= $1
          ORDER BY at DESC LIMIT $2",
    )
    .bind(from)
    .bind(MOST)
    .fetch_all(conn)
    .await?;
    changes.reverse();
    Ok(changes)
}
