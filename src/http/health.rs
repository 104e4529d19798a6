//! Whether the process lives, and whether the shop is open. See
//! `docs/decisions/0001-readiness-per-class.md`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use garde::Validate;
use pool::Class;
use pool::probe::Reachability;
use pressure::LatencyReading;
use pressure::latency::SLOW;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::ApiError;
use super::extract::Query;
use crate::app::App;

/// A class fails when at least this share of its requests of the last second failed.
const FAILED_SHARE: f64 = 0.1;
/// A class fails when one of its requests has been under way for this long.
const STUCK: Duration = Duration::from_secs(1);

/// The addresses of health.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(live))
        .routes(routes!(ready))
}

/// How well something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Status {
    /// As it should be.
    Ready,
    /// Some requests are answered.
    Degraded,
    /// None is.
    Unavailable,
}

/// How well one class is served.
#[derive(Debug, Serialize, ToSchema)]
struct ClassHealth {
    status: Status,
    /// What is wrong; absent when nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// How well the shop is.
#[derive(Debug, Serialize, ToSchema)]
struct Readiness {
    status: Status,
    /// Whether PostgreSQL answers: `reachable`, `unreachable` or `unknown`.
    #[schema(value_type = String)]
    database: Reachability,
    /// How well each class is served: checkout, account, browse.
    classes: BTreeMap<&'static str, ClassHealth>,
}

#[derive(Debug, Deserialize, Validate, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ReadyQuery {
    /// Answer for this class alone: checkout, account or browse.
    #[garde(inner(custom(shopper)))]
    #[param(value_type = Option<String>, pattern = "^(checkout|account|browse)$")]
    #[serde(default)]
    class: Option<Class>,
}

fn shopper(class: &Class, _: &()) -> garde::Result {
    if Class::SHOPPERS.contains(class) {
        return Ok(());
    }
    Err(garde::Error::new("must be checkout, account or browse"))
}

/// Whether the process runs.
#[utoipa::path(get, path = "/health/live", tag = "health", responses((status = OK, description = "It runs")))]
async fn live() -> StatusCode {
    StatusCode::OK
}

/// Whether the shop is open: 200 as long as any class is served, 503 otherwise and once the process has
/// been told to end.
///
/// With `class`, 503 when that class is not served.
#[utoipa::path(get, path = "/health/ready", tag = "health", params(ReadyQuery),
    responses((status = OK, body = Readiness), (status = 503, body = Readiness)))]
async fn ready(
    State(app): State<App>,
    Query(query): Query<ReadyQuery>,
) -> Result<(StatusCode, Json<Readiness>), ApiError> {
    let now = Instant::now();
    let readings = Class::SHOPPERS.map(|class| (class, app.latencies.read(class, SLOW, now)));
    let mut health = assess(app.probe.reading(), &readings);
    if app.shutdown.is_announced() {
        health.status = Status::Unavailable;
    }
    let asked = query
        .class
        .and_then(|class| health.classes.get(class.name()));
    let open = match asked {
        Some(class) => class.status == Status::Ready && health.status != Status::Unavailable,
        None => health.status != Status::Unavailable,
    };
    let code = if open {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    Ok((code, Json(health)))
}

fn assess(database: Reachability, readings: &[(Class, LatencyReading)]) -> Readiness {
    let classes: BTreeMap<_, _> = readings
        .iter()
        .map(|(class, reading)| {
            let reason = complaint(reading);
            let status = match reason {
                Some(_) => Status::Unavailable,
                None => Status::Ready,
            };
            (class.name(), ClassHealth { status, reason })
        })
        .collect();
    let failing = classes
        .values()
        .filter(|class| class.reason.is_some())
        .count();
    let status = if database == Reachability::Unreachable || failing == classes.len() {
        Status::Unavailable
    } else if database == Reachability::Unknown || failing > 0 {
        Status::Degraded
    } else {
        Status::Ready
    };
    Readiness {
        status,
        database,
        classes,
    }
}

fn complaint(reading: &LatencyReading) -> Option<String> {
    if reading.oldest_ms >= STUCK.as_secs_f64() * 1e3 {
        let oldest = reading.oldest_ms / 1e3;
        return Some(format!("a request has been waiting for {oldest:.1} s"));
    }
    let (failed, completed) = (reading.failed, reading.completed);
    if failed > 0 && failed as f64 >= FAILED_SHARE * completed as f64 {
        return Some(format!(
            "{failed} of {completed} requests failed within a second"
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(completed: u64, failed: u64, oldest_ms: f64) -> LatencyReading {
        LatencyReading {
            completed,
            failed,
            in_flight: 0,
            oldest_ms,
            p50_ms: None,
            p95_ms: None,
            p99_ms: None,
        }
    }

    fn status(database: Reachability, readings: [LatencyReading; 3]) -> Status {
        let readings: Vec<_> = Class::SHOPPERS.into_iter().zip(readings).collect();
        assess(database, &readings).status
    }

    #[test]
    fn one_failing_class_degrades_and_all_of_them_close_the_shop() {
        use Reachability::{Reachable, Unknown, Unreachable};
        let (fine, failing, stuck) = (
            reading(100, 9, 0.0),
            reading(100, 10, 0.0),
            reading(0, 0, 1_000.0),
        );
        for (database, classes, expected) in [
            (Reachable, [fine, fine, fine], Status::Ready),
            (Reachable, [failing, fine, fine], Status::Degraded),
            (Reachable, [stuck, fine, fine], Status::Degraded),
            (Reachable, [stuck, failing, stuck], Status::Unavailable),
            (Unknown, [fine, fine, fine], Status::Degraded),
            (Unreachable, [fine, fine, fine], Status::Unavailable),
        ] {
            assert_eq!(
                status(database, classes),
                expected,
                "{database:?} {classes:?}"
            );
        }
    }
}
