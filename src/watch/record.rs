//! The record of incidents in PostgreSQL: `evenkeel.incident_events`, and `evenkeel.incidents` for lists.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use tracing::warn;
use uuid::Uuid;

use super::event::Event;
use super::incident::{Incident, Summary};
use crate::db::schema::none_if_absent;

/// The transactions here. None waits for long, or keeps others waiting if its client freezes.
pub(super) const BEGIN: &str = "BEGIN; SET LOCAL statement_timeout = 2000; \
    SET LOCAL lock_timeout = 1000; SET LOCAL idle_in_transaction_session_timeout = 5000";
/// What a new process brings along of incidents that are over.
const HISTORY: TimeDelta = TimeDelta::days(30);

/// Why an incident was not found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// Not an identity nor the beginning of one.
    #[error("`{0}` is no incident's id; `evenkeel incident list` shows them")]
    NoId(String),
    /// Nothing begins so.
    #[error("there is no incident {0}; `evenkeel incident list` shows them")]
    Unknown(String),
    /// More than one does.
    #[error("several incidents begin with {given}: {}; give more of the id", .ids.join(", "))]
    Ambiguous {
        /// What was given.
        given: String,
        /// Some of them.
        ids: Vec<String>,
    },
    /// The database refused.
    #[error("{}", pool::summarize(.0))]
    Database(#[from] sqlx::Error),
}

/// Stores events, each once however often it is given, in one short transaction.
///
/// # Errors
/// What the database says; nothing is stored then.
pub async fn store(conn: &mut PgConnection, events: &[Event]) -> Result<(), sqlx::Error> {
    let mut moved: Vec<Uuid> = events
        .iter()
        .filter(|event| event.what.moves())
        .map(|event| event.incident)
        .collect();
    moved.sort_unstable();
    moved.dedup();
    let mut tx = conn.begin_with(BEGIN).await?;
    // One after another, so that each sees the events of the one before when it derives the list.
    for incident in &moved {
        sqlx::query(
            "SELECT pg_advisory_xact_lock(hashtextextended('evenkeel incident ' || $1, 0))",
        )
        .bind(incident.to_string())
        .execute(&mut *tx)
        .await?;
    }
    insert(&mut tx, events).await?;
    if !moved.is_empty() {
        derive(&mut tx, &moved).await?;
    }
    tx.commit().await
}

async fn insert(conn: &mut PgConnection, events: &[Event]) -> Result<(), sqlx::Error> {
    let column = |of: fn(&Event) -> Uuid| -> Vec<Uuid> { events.iter().map(of).collect() };
    let bodies: Vec<_> = events.iter().map(body).collect();
    let by: Vec<_> = events.iter().map(|event| storable(&event.by)).collect();
    let what: Vec<_> = events.iter().map(|event| event.what.name()).collect();
    let at: Vec<_> = events.iter().map(|event| event.at).collect();
    sqlx::query(
        "INSERT INTO evenkeel.incident_events (id, incident, at, by, what, body)
         SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[], $5::text[], $6::jsonb[])
             ON CONFLICT (id) DO NOTHING",
    )
    .bind(column(|event| event.id))
    .bind(column(|event| event.incident))
    .bind(at)
    .bind(by)
    .bind(what)
    .bind(bodies)
    .execute(conn)
    .await?;
    Ok(())
}

/// An event as the database can store it: PostgreSQL knows no NUL.
fn body(event: &Event) -> Json<Value> {
    let mut value = serde_json::to_value(event).unwrap_or_default();
    without_nul(&mut value);
    Json(value)
}

fn without_nul(value: &mut Value) {
    match value {
        Value::String(text) => *text = storable(text),
        Value::Array(values) => values.iter_mut().for_each(without_nul),
        Value::Object(members) => members.values_mut().for_each(without_nul),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Brings the list's rows of `incidents` up to date with their events.
async fn derive(conn: &mut PgConnection, incidents: &[Uuid]) -> Result<(), sqlx::Error> {
    for incident in incidents {
        let bodies = sqlx::query_scalar(
            "SELECT body FROM evenkeel.incident_events
              WHERE incident = $1 AND what IN ('opened', 'recovered', 'relapsed', 'resolved')",
        )
        .bind(incident)
        .fetch_all(&mut *conn)
        .await?;
        // Its beginning may come later, from another process.
        let Some(incident) = Incident::fold(read(bodies)) else {
            continue;
        };
        sqlx::query(
            "INSERT INTO evenkeel.incidents (id, opened_at, title, severity, stage, key)
             VALUES ($1, $2, $3, $4, $5, $6)
                 ON CONFLICT (id) DO UPDATE
                SET opened_at = EXCLUDED.opened_at, title = EXCLUDED.title,
                    severity = EXCLUDED.severity, stage = EXCLUDED.stage, key = EXCLUDED.key",
        )
        .bind(incident.id)
        .bind(incident.opened_at)
        .bind(storable(&incident.title))
        .bind(incident.severity.name())
        .bind(incident.stage.name())
        .bind(storable(&incident.key))
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// Events from their bodies. One that a newer version wrote and this one does not know is left out.
fn read(bodies: Vec<Json<Value>>) -> Vec<Event> {
    let events = bodies.into_iter().filter_map(|Json(body)| {
        serde_json::from_value(body)
            .inspect_err(|err| warn!(%err, "an event of an incident cannot be read"))
            .ok()
    });
    events.collect()
}

/// The newest incidents, newest first.
///
/// # Errors
/// What the database says.
pub async fn list(conn: &mut PgConnection, limit: i64) -> Result<Vec<Summary>, sqlx::Error> {
    let incidents = sqlx::query_as(
        "SELECT id, opened_at, title, severity, stage, key FROM evenkeel.incidents
          ORDER BY opened_at DESC, id DESC LIMIT $1",
    );
    none_if_absent(incidents.bind(limit).fetch_all(conn).await)
}

/// The incident `id` with all its events.
///
/// # Errors
/// [`FindError::Unknown`].
pub async fn find(conn: &mut PgConnection, id: Uuid) -> Result<Incident, FindError> {
    let bodies =
        sqlx::query_scalar("SELECT body FROM evenkeel.incident_events WHERE incident = $1")
            .bind(id)
            .fetch_all(conn)
            .await?;
    Incident::fold(read(bodies)).ok_or_else(|| FindError::Unknown(id.to_string()))
}

/// The incident whose identity begins with `given`.
///
/// # Errors
/// [`FindError`].
pub async fn identify(conn: &mut PgConnection, given: &str) -> Result<Uuid, FindError> {
    let prefix = prefix(given)?;
    let ids = sqlx::query_scalar(
        "SELECT id FROM evenkeel.incidents WHERE id::text LIKE $1 || '%' ORDER BY id LIMIT 5",
    );
    only(
        given,
        none_if_absent(ids.bind(&prefix).fetch_all(conn).await)?,
    )
}

/// The one of `known` whose identity begins with `given`.
///
/// # Errors
/// [`FindError`].
pub fn identify_among(known: &[Uuid], given: &str) -> Result<Uuid, FindError> {
    let prefix = prefix(given)?;
    let fits = |id: &&Uuid| id.to_string().starts_with(&prefix);
    only(given, known.iter().filter(fits).copied().take(5).collect())
}

fn prefix(given: &str) -> Result<String, FindError> {
    let plain = |c: char| c.is_ascii_hexdigit() || c == '-';
    if given.is_empty() || given.len() > 36 || !given.chars().all(plain) {
        return Err(FindError::NoId(given.to_owned()));
    }
    Ok(given.to_ascii_lowercase())
}

fn only(given: &str, ids: Vec<Uuid>) -> Result<Uuid, FindError> {
    match ids.as_slice() {
        [] => Err(FindError::Unknown(given.to_owned())),
        [id] => Ok(*id),
        several => Err(FindError::Ambiguous {
            given: given.to_owned(),
            ids: several.iter().map(Uuid::to_string).collect(),
        }),
    }
}

/// Where the record ends: positions up to this one have been given out.
pub(super) async fn end(conn: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT coalesce(max(position), 0) FROM evenkeel.incident_events")
        .fetch_one(conn)
        .await
}

/// The positions behind `position` that are visible.
pub(super) async fn visible_behind(
    conn: &mut PgConnection,
    position: i64,
) -> Result<Vec<i64>, sqlx::Error> {
    sqlx::query_scalar("SELECT position FROM evenkeel.incident_events WHERE position > $1")
        .bind(position)
        .fetch_all(conn)
        .await
}

/// Which events the database has of the `incidents`, of those that are not over and of recent ones.
pub(super) async fn holds(
    conn: &mut PgConnection,
    incidents: &[Uuid],
    now: DateTime<Utc>,
) -> Result<HashSet<Uuid>, sqlx::Error> {
    let ids: Vec<Uuid> = sqlx::query_scalar(
        "SELECT id FROM evenkeel.incident_events
          WHERE incident = ANY ($1) OR at >= $2
             OR incident IN (SELECT id FROM evenkeel.incidents WHERE stage <> 'resolved')",
    )
    .bind(incidents)
    .bind(now - HISTORY)
    .fetch_all(conn)
    .await?;
    Ok(ids.into_iter().collect())
}

/// The events `ids`.
pub(super) async fn fetch(
    conn: &mut PgConnection,
    ids: &[Uuid],
) -> Result<Vec<Event>, sqlx::Error> {
    let bodies =
        sqlx::query_scalar("SELECT body FROM evenkeel.incident_events WHERE id = ANY ($1)")
            .bind(ids)
            .fetch_all(conn)
            .await?;
    Ok(read(bodies))
}

/// The next events behind `position`, without those at the positions `seen`.
pub(super) async fn behind(
    conn: &mut PgConnection,
    position: i64,
    seen: &[i64],
    limit: i64,
) -> Result<Vec<(i64, Option<Event>)>, sqlx::Error> {
    let sql = "SELECT position, body FROM evenkeel.incident_events
                WHERE position > $1 AND position <> ALL ($2) ORDER BY position LIMIT $3";
    let rows: Vec<(i64, Json<Value>)> = sqlx::query_as(sql)
        .bind(position)
        .bind(seen)
        .bind(limit)
        .fetch_all(conn)
        .await?;
    let rows = rows.into_iter();
    Ok(rows
        .map(|(position, body)| (position, read(vec![body]).pop()))
        .collect())
}
