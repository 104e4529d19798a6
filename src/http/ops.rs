//! Operations on background migrations, for whoever has the admin token.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use garde::Validate;
use pool::{Class, PoolError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tracing::warn;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::{ApiError, Kind};
use super::extract::{self, Path, bearer};
use crate::app::App;
use crate::migration::batch::session_name;
use crate::migration::certificate::{self, Certificate, Later};
use crate::migration::control::{self, ControlError};
use crate::migration::definition::{self, Definition, DefinitionError};
use crate::migration::governor::Sensors;
use crate::migration::keyset::Keyset;
use crate::migration::ledger::{self, LedgerError, State as RunState};
use crate::migration::physical::{self, Physical, Question};
use crate::migration::progress::Progress;
use crate::migration::proofs::Verified;
use crate::migration::sweep::verify;

/// Who acts, for the ledger: the token says that somebody may, not who it is.
pub(super) const ACTOR: &str = "operator over HTTP";

/// Share of a request's time limit after which a verification answers with what it knows.
const ANSWERED_AT: f64 = 0.7;

/// The addresses of operations.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(start))
        .routes(routes!(status))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(cancel))
        .routes(routes!(check))
        .routes(routes!(proof))
}

/// Proof that the request carries the admin token.
pub(super) struct Operator;

impl FromRequestParts<App> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let given = parts.headers.get(header::AUTHORIZATION);
        let given = given.and_then(|value| value.to_str().ok()).and_then(bearer);
        let (Some(given), Some(wanted)) = (given, &app.settings.ops.admin_token) else {
            return Err(ApiError::new(
                Kind::UNAUTHENTICATED,
                "Send the operations token, which is ops.admin_token or, where that is not set, printed at start, as a bearer token.",
            ));
        };
        // Digests have one length, so that the comparison tells nothing about the token's.
        let (given, wanted) = (Sha256::digest(given), Sha256::digest(wanted));
        if bool::from(given.as_slice().ct_eq(wanted.as_slice())) {
            Ok(Self)
        } else {
            Err(ApiError::new(
                Kind::UNAUTHENTICATED,
                "This is not the operations token, which is ops.admin_token or, where that is not set, printed at start.",
            ))
        }
    }
}

impl From<ControlError> for ApiError {
    fn from(err: ControlError) -> Self {
        match err {
            ControlError::Definition(err @ DefinitionError::Read { .. }) => Self::internal(&err),
            ControlError::Definition(DefinitionError::Unknown { .. }) => {
                Self::not_found("migration")
            }
            ControlError::Definition(err @ DefinitionError::NoWayBack(_)) => {
                Self::new(Kind::CONFLICT, err.to_string())
            }
            ControlError::Definition(err) => Self::field("name", err.to_string()),
            ControlError::Unsafe(err) => Self::field("name", err.to_string()),
            ControlError::Keyset(err) => Self::field("name", err.to_string()),
            ControlError::Ledger(LedgerError::NoRun(_) | LedgerError::NeverRun(_)) => {
                Self::not_found("run")
            }
            ControlError::Ledger(err) => Self::new(Kind::CONFLICT, err.to_string()),
            ControlError::Complete(err) => Self::new(Kind::CONFLICT, err.to_string()),
            ControlError::TakenBack { .. } => Self::new(Kind::CONFLICT, err.to_string()),
            ControlError::Rights(err) => Self::new(Kind::CONFLICT, err.to_string()),
            ControlError::Unknown(_) => Self::not_found("migration"),
            ControlError::Pool(err @ PoolError::Pooler(_)) => {
                Self::new(Kind::CONFLICT, err.to_string())
            }
            ControlError::Pool(err) => err.into(),
            ControlError::Database(err) => crate::store::StoreError::from(err).into(),
        }
    }
}

/// A migration that is declared or has run, and its newest run.
#[derive(Serialize, ToSchema)]
struct Listed {
    name: String,
    /// Absent, as the two below, when the file is broken or gone.
    title: Option<String>,
    owner: Option<String>,
    table: Option<String>,
    /// What is wrong with its file; absent when nothing is.
    problem: Option<String>,
    /// Absent when it was never started.
    run: Option<Progress>,
}

/// List the declared migrations, each with its newest run.
#[utoipa::path(get, path = "/ops/migrations", tag = "operations", security(("bearer" = [])),
    responses((status = OK, body = Vec<Listed>)))]
async fn list(State(app): State<App>, _: Operator) -> Result<Json<Vec<Listed>>, ApiError> {
    let dir = &app.settings.migration.definitions;
    let all = app
        .pool
        .run(Class::Background, async |conn| {
            let mut all = Vec::new();
            for migration in control::list(conn, dir).await? {
                let run = match migration.run {
                    Some(run) => Some(Progress::of(conn, run).await?),
                    None => None,
                };
                all.push(listed(migration.name, migration.definition, run));
            }
            Ok::<_, ControlError>(all)
        })
        .await?;
    Ok(Json(all))
}

fn listed(
    name: String,
    definition: Option<Result<Definition, DefinitionError>>,
    run: Option<Progress>,
) -> Listed {
    let (definition, problem) = match definition {
        Some(Ok(definition)) => (Some(definition), None),
        Some(Err(err)) => (None, Some(err.to_string())),
        None => (None, Some("its file is gone".to_owned())),
    };
    let (title, owner, table) = definition.map_or((None, None, None), |d| {
        (Some(d.title), Some(d.owner), Some(d.table))
    });
    Listed {
        name,
        title,
        owner,
        table,
        problem,
        run,
    }
}

/// What to start.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Start {
    /// Name of the migration.
    #[garde(length(chars, min = 1, max = 100), custom(extract::one_line))]
    #[schema(
        min_length = 1,
        max_length = 100,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$",
        example = "orders_total"
    )]
    name: String,
    /// Whether to run a migration again that is complete, for rows that became pending since.
    #[garde(skip)]
    #[serde(default)]
    again: bool,
}

/// Queue a run of a migration. One that is complete is refused, unless `again` is asked for.
#[utoipa::path(post, path = "/ops/migrations", tag = "operations", request_body = Start,
    security(("bearer" = [])),
    responses((status = CREATED, body = Progress),
        (status = NOT_FOUND, description = "There is no such migration"),
        (status = CONFLICT, description = "It is complete, under way, or cannot run on this database")))]
async fn start(
    State(app): State<App>,
    _: Operator,
    extract::Json(Start { name, again }): extract::Json<Start>,
) -> Result<(StatusCode, Json<Progress>), ApiError> {
    let definition =
        definition::load(&app.settings.migration.definitions, &name).map_err(ControlError::from)?;
    let progress = app
        .pool
        .author()
        .run(async |conn| {
            let run = control::start_or_again(conn, &definition, ACTOR, again).await?;
            Ok::<_, ControlError>(Progress::of(conn, run).await?)
        })
        .await?;
    Ok((StatusCode::CREATED, Json(progress)))
}

/// Show how far a run is, how fast it goes and what limits it.
#[utoipa::path(get, path = "/ops/migrations/{run}", tag = "operations", security(("bearer" = [])),
    params(("run" = i64, Path, description = "Number of the run")),
    responses((status = OK, body = Progress)))]
async fn status(
    State(app): State<App>,
    _: Operator,
    Path(run): Path<i64>,
) -> Result<Json<Progress>, ApiError> {
    let progress = app
        .pool
        .run(Class::Background, async |conn| {
            let run = ledger::find(conn, run).await?;
            Ok::<_, ControlError>(Progress::of(conn, run).await?)
        })
        .await?;
    Ok(Json(progress))
}

/// Stop a run after the batch in flight; its cursor is kept.
#[utoipa::path(post, path = "/ops/migrations/{run}/pause", tag = "operations",
    security(("bearer" = [])), params(("run" = i64, Path, description = "Number of the run")),
    responses((status = OK, body = Progress),
        (status = CONFLICT, description = "The state of the run does not permit it")))]
async fn pause(app: State<App>, by: Operator, run: Path<i64>) -> Result<Json<Progress>, ApiError> {
    command(app, by, run, RunState::Paused).await
}

/// Let a paused or failed run go on.
#[utoipa::path(post, path = "/ops/migrations/{run}/resume", tag = "operations",
    security(("bearer" = [])), params(("run" = i64, Path, description = "Number of the run")),
    responses((status = OK, body = Progress),
        (status = CONFLICT, description = "The state of the run does not permit it")))]
async fn resume(app: State<App>, by: Operator, run: Path<i64>) -> Result<Json<Progress>, ApiError> {
    command(app, by, run, RunState::Queued).await
}

/// Give a run up; what was changed stays changed.
#[utoipa::path(post, path = "/ops/migrations/{run}/cancel", tag = "operations",
    security(("bearer" = [])), params(("run" = i64, Path, description = "Number of the run")),
    responses((status = OK, body = Progress),
        (status = CONFLICT, description = "The state of the run does not permit it")))]
async fn cancel(app: State<App>, by: Operator, run: Path<i64>) -> Result<Json<Progress>, ApiError> {
    command(app, by, run, RunState::Cancelled).await
}

async fn command(
    State(app): State<App>,
    _: Operator,
    Path(run): Path<i64>,
    to: RunState,
) -> Result<Json<Progress>, ApiError> {
    let progress = app
        .pool
        .run(Class::Background, async |conn| {
            let run = ledger::command(conn, run, to, ACTOR).await?;
            Ok::<_, ControlError>(Progress::of(conn, run).await?)
        })
        .await?;
    Ok(Json(progress))
}

/// Look for rows that a run has left, changing nothing: once by key and once by physical position. The
/// second answer is unknown when it was not there within the time limit of a request.
#[utoipa::path(post, path = "/ops/migrations/{run}/verify", tag = "operations",
    security(("bearer" = [])), params(("run" = i64, Path, description = "Number of the run")),
    responses((status = OK, body = Verified),
        (status = CONFLICT, description = "The state of the run does not permit it")))]
async fn check(
    State(app): State<App>,
    _: Operator,
    Path(run): Path<i64>,
) -> Result<Json<Verified>, ApiError> {
    let began = Instant::now();
    let (run, definition, keyset, certificate) = app
        .pool
        .author()
        .run(async |conn| {
            let run = ledger::find(conn, run).await?;
            let definition = run.declared()?;
            let keyset = Keyset::resolve(conn, &definition).await?;
            let certificate = certificate::of_run(conn, run.id).await?;
            Ok::<_, ControlError>((run, definition, keyset, certificate))
        })
        .await?;
    let engine = &app.settings.migration;
    let by_key = verify(
        &app.pool,
        engine,
        &definition,
        &keyset,
        certificate.as_ref(),
    )
    .await;
    let by_key = by_key.map_err(ControlError::from)?;
    let session = session_name(&run.migration, run.id, physical::SESSION);
    let question = Question::new(&definition, &keyset, session);
    let left = app.settings.http.request_timeout.mul_f64(ANSWERED_AT);
    let limit = left.saturating_sub(began.elapsed()).min(engine.proof_limit);
    let physical = beside_shoppers(&app, &question, limit).await;
    let found = Verified {
        direction: run.direction,
        condition: definition.pending.clone(),
        by_key,
        physical,
    };
    if certificate.is_some() {
        let counted = (found.by_key.rows, found.by_key.pending);
        let keep = async |conn: &mut _| {
            Ok::<_, ControlError>(
                certificate::store_later(conn, run.id, ACTOR, counted, &found.physical).await?,
            )
        };
        if let Err(err) = app.pool.run(Class::Background, keep).await {
            warn!(run = run.id, error = %err, "a proof is not kept beside its certificate");
        }
    }
    Ok(Json(found))
}

/// Reads a table by physical position at the pace that this process's shoppers allow.
async fn beside_shoppers(app: &App, question: &Question<'_>, limit: Duration) -> Physical {
    let settings = &app.settings;
    let sensors = Sensors {
        latencies: Some(app.latencies.clone()),
        pool: app.pool.clone(),
        surroundings: None,
    };
    physical::read_beside(
        &sensors,
        &settings.pace,
        &settings.migration,
        question,
        limit,
    )
    .await
}

/// A certificate, and what was found since.
#[derive(Serialize, ToSchema)]
struct Proved {
    #[serde(flatten)]
    certificate: Certificate,
    /// The newest proof that somebody asked for after the run was certified.
    later: Option<Later>,
}

/// Show what a completed run certifies.
#[utoipa::path(get, path = "/ops/migrations/{run}/certificate", tag = "operations",
    security(("bearer" = [])), params(("run" = i64, Path, description = "Number of the run")),
    responses((status = OK, body = Proved)))]
async fn proof(
    State(app): State<App>,
    _: Operator,
    Path(run): Path<i64>,
) -> Result<Json<Proved>, ApiError> {
    let proof = app
        .pool
        .run(Class::Background, async |conn| {
            let certificate = certificate::of_run(conn, run).await?;
            let later = certificate::newest_later(conn, run).await?;
            Ok::<_, ControlError>(certificate.map(|certificate| Proved { certificate, later }))
        })
        .await?;
    proof
        .map(Json)
        .ok_or_else(|| ApiError::not_found("certificate"))
}
