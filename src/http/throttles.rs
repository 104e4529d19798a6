//! Caps on the pace of migrations, for whoever has the admin token.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use garde::Validate;
use pool::Class;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::ApiError;
use super::extract::{self, Path};
use super::ops::{ACTOR, Operator};
use crate::app::App;
use crate::migration::control::ControlError;
use crate::migration::definition;
use crate::migration::throttle::{self, Throttle, ThrottleError};

/// The addresses of throttles.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(add))
        .routes(routes!(remove))
}

impl From<ThrottleError> for ApiError {
    fn from(err: ThrottleError) -> Self {
        match err {
            ThrottleError::Duty(_) => Self::field("duty", err.to_string()),
            ThrottleError::Both => Self::field("duty", err.to_string()),
            ThrottleError::Extra(_) => Self::field("extra_ms", err.to_string()),
            ThrottleError::Time => Self::field("for", err.to_string()),
            ThrottleError::Reason => Self::field("why", err.to_string()),
            ThrottleError::Whom => Self::field("migration", err.to_string()),
            ThrottleError::Unknown(_) => Self::not_found("throttle"),
            ThrottleError::Pool(err) => err.into(),
            ThrottleError::Database(err) => crate::store::StoreError::from(err).into(),
        }
    }
}

/// List the throttles in force.
#[utoipa::path(get, path = "/ops/migrations/throttles", tag = "operations",
    security(("bearer" = [])), responses((status = OK, body = Vec<Throttle>)))]
async fn list(State(app): State<App>, _: Operator) -> Result<Json<Vec<Throttle>>, ApiError> {
    let list = app
        .pool
        .run(Class::Background, async |conn| {
            Ok::<_, ThrottleError>(throttle::list(conn).await?)
        })
        .await?;
    Ok(Json(list))
}

/// What is asked for.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Add {
    /// Name of the migration; absent for all.
    #[garde(length(chars, min = 1, max = 100), custom(one_line))]
    #[schema(
        min_length = 1,
        max_length = 100,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$",
        example = "orders_total"
    )]
    migration: Option<String>,
    /// Share of the time to work at most, from 0 (stand still) to 1.
    #[serde(default = "unlimited")]
    #[garde(range(min = 0.0, max = 1.0))]
    #[schema(minimum = 0, maximum = 1, example = 0.5)]
    duty: f64,
    /// Milliseconds at the 95th percentile that shoppers may pay beyond the pace's own budget; then
    /// the duty is 1.
    #[serde(default)]
    #[garde(range(min = 0.0, max = throttle::MOST_MS))]
    #[schema(minimum = 0, maximum = 100)]
    extra_ms: f64,
    /// For how long, e.g. `30m`; at most a week.
    #[serde(rename = "for")]
    #[schema(
        min_length = 2,
        max_length = 5,
        example = "30m",
        pattern = "^([1-9][0-9]{0,3}[sm]|([1-9][0-9]?|1[0-5][0-9]|16[0-8])h|[1-7]d)$"
    )]
    #[garde(length(chars, min = 1, max = 50))]
    time: String,
    /// Why, for whoever wonders about the pace.
    #[garde(length(chars, min = 1, max = 500), custom(extract::one_line))]
    #[schema(
        min_length = 1,
        max_length = 500,
        example = "sale",
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$"
    )]
    why: String,
}

fn unlimited() -> f64 {
    1.0
}

fn one_line(text: &Option<String>, context: &()) -> garde::Result {
    text.as_deref()
        .map_or(Ok(()), |text| extract::one_line(text, context))
}

/// Cap the pace of a migration, or of all, for a time.
#[utoipa::path(post, path = "/ops/migrations/throttles", tag = "operations", request_body = Add,
    security(("bearer" = [])), 
    responses((status = CREATED, body = Throttle),
        (status = NOT_FOUND, description = "There is no such migration")))]
async fn add(
    State(app): State<App>,
    _: Operator,
    extract::Json(wanted): extract::Json<Add>,
) -> Result<(StatusCode, Json<Throttle>), ApiError> {
    if let Some(name) = &wanted.migration {
        definition::load(&app.settings.migration.definitions, name).map_err(ControlError::from)?;
    }
    let request = throttle::Request {
        migration: wanted.migration.as_deref(),
        duty: wanted.duty,
        extra_ms: wanted.extra_ms,
        time: duration(&wanted.time)?,
        reason: &wanted.why,
    };
    let throttle = app
        .pool
        .run(Class::Background, async |conn| {
            throttle::add(conn, &request, ACTOR).await
        })
        .await?;
    Ok((StatusCode::CREATED, Json(throttle)))
}

fn duration(text: &str) -> Result<Duration, ApiError> {
    humantime::parse_duration(text)
        .map_err(|err| ApiError::field("for", format!("{err}; write e.g. 30m or 2h")))
}

/// End a throttle before its time.
#[utoipa::path(delete, path = "/ops/migrations/throttles/{id}", tag = "operations",
    security(("bearer" = [])), params(("id" = i64, Path, description = "Number of the throttle")),
    responses((status = OK, body = Throttle)))]
async fn remove(
    State(app): State<App>,
    _: Operator,
    Path(id): Path<i64>,
) -> Result<Json<Throttle>, ApiError> {
    let removed = app
        .pool
        .run(Class::Background, async |conn| {
            throttle::remove(conn, id, ACTOR).await
        })
        .await?;
    Ok(Json(removed))
}
