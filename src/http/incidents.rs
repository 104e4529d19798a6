//! Incidents, for whoever has the admin token.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use garde::Validate;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::error::{ApiError, Kind};
use super::extract::{self, Path};
use super::ops::{ACTOR, Operator};
use crate::app::App;
use crate::watch::incident::{Incident, Summary};
use crate::watch::record::FindError;
use crate::watch::register::{Register, RegisterError};
use crate::watch::response::Refusal;

/// The addresses of incidents.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(acknowledge))
        .routes(routes!(allow))
        .routes(routes!(note))
        .routes(routes!(resolve))
}

impl From<RegisterError> for ApiError {
    fn from(err: RegisterError) -> Self {
        match err {
            RegisterError::Find(FindError::Database(err)) | RegisterError::Database(err) => {
                crate::store::StoreError::from(err).into()
            }
            RegisterError::Find(_) => Self::not_found("incident"),
            RegisterError::Refused(err @ (Refusal::Over(_) | Refusal::NoQuestion(_))) => {
                Self::new(Kind::CONFLICT, err.to_string())
            }
            RegisterError::Refused(err @ Refusal::Name) => Self::field("by", err.to_string()),
            RegisterError::Refused(err @ Refusal::Note) => Self::field("text", err.to_string()),
            RegisterError::Pool(err) => err.into(),
        }
    }
}

fn register(app: &App) -> Register<'_> {
    Register {
        log: app.incidents.as_ref(),
        pool: &app.pool,
    }
}

/// List the newest incidents, newest first.
#[utoipa::path(get, path = "/ops/incidents", tag = "operations", security(("bearer" = [])),
    responses((status = OK, body = Vec<Summary>)))]
async fn list(State(app): State<App>, _: Operator) -> Result<Json<Vec<Summary>>, ApiError> {
    Ok(Json(register(&app).list().await?))
}

/// Show an incident with everything that happened in it.
#[utoipa::path(get, path = "/ops/incidents/{id}", tag = "operations", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "Identity of the incident")),
    responses((status = OK, body = Incident)))]
async fn show(
    State(app): State<App>,
    _: Operator,
    Path(id): Path<Uuid>,
) -> Result<Json<Incident>, ApiError> {
    Ok(Json(register(&app).find(id).await?))
}

/// Who acts.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Who {
    /// Your name.
    #[serde(default = "operator")]
    #[garde(length(chars, min = 1, max = 100), custom(extract::one_line))]
    #[schema(
        min_length = 1,
        max_length = 100,
        example = "Ann",
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$"
    )]
    by: String,
}

fn operator() -> String {
    ACTOR.to_owned()
}

/// Say that you take care; nobody further is told then.
#[utoipa::path(post, path = "/ops/incidents/{id}/acknowledge", tag = "operations",
    security(("bearer" = [])), request_body = Who,
    params(("id" = Uuid, Path, description = "Identity of the incident")),
    responses((status = OK, body = Incident),
        (status = CONFLICT, description = "It is over, or there is nothing to allow")))]
async fn acknowledge(
    State(app): State<App>,
    _: Operator,
    Path(id): Path<Uuid>,
    extract::Json(who): extract::Json<Who>,
) -> Result<Json<Incident>, ApiError> {
    Ok(Json(register(&app).acknowledge(id, &who.by).await?))
}

/// Allow what the watch asked for last; it is done once.
#[utoipa::path(post, path = "/ops/incidents/{id}/allow", tag = "operations",
    security(("bearer" = [])), request_body = Who,
    params(("id" = Uuid, Path, description = "Identity of the incident")),
    responses((status = OK, body = Incident),
        (status = CONFLICT, description = "It is over, or there is nothing to allow")))]
async fn allow(
    State(app): State<App>,
    _: Operator,
    Path(id): Path<Uuid>,
    extract::Json(who): extract::Json<Who>,
) -> Result<Json<Incident>, ApiError> {
    Ok(Json(register(&app).allow(id, &who.by).await?))
}

/// Somebody's words.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Note {
    /// Your name.
    #[serde(default = "operator")]
    #[garde(length(chars, min = 1, max = 100), custom(extract::one_line))]
    #[schema(
        min_length = 1,
        max_length = 100,
        example = "Ann",
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$"
    )]
    by: String,
    /// The words.
    #[garde(length(chars, min = 1, max = 4000))]
    #[schema(
        min_length = 1,
        max_length = 4000,
        example = "The import was stopped.",
        pattern = r"^[^\u0000-\u0008\u000b-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u0008\u000b-\u001f\u007f-\u009f]*$"
    )]
    text: String,
}

/// Add your words to the timeline.
#[utoipa::path(post, path = "/ops/incidents/{id}/notes", tag = "operations",
    security(("bearer" = [])), request_body = Note,
    params(("id" = Uuid, Path, description = "Identity of the incident")),
    responses((status = CREATED, body = Incident)))]
async fn note(
    State(app): State<App>,
    _: Operator,
    Path(id): Path<Uuid>,
    extract::Json(note): extract::Json<Note>,
) -> Result<(StatusCode, Json<Incident>), ApiError> {
    let incident = register(&app).note(id, &note.by, &note.text).await?;
    Ok((StatusCode::CREATED, Json(incident)))
}

/// Say that it is over.
#[utoipa::path(post, path = "/ops/incidents/{id}/resolve", tag = "operations",
    security(("bearer" = [])), request_body = Who,
    params(("id" = Uuid, Path, description = "Identity of the incident")),
    responses((status = OK, body = Incident),
        (status = CONFLICT, description = "It is over, or there is nothing to allow")))]
async fn resolve(
    State(app): State<App>,
    _: Operator,
    Path(id): Path<Uuid>,
    extract::Json(who): extract::Json<Who>,
) -> Result<Json<Incident>, ApiError> {
    Ok(Json(register(&app).resolve(id, &who.by).await?))
}
