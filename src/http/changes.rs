//! Changes that others report, in the format of PagerDuty's change events, so that whatever tells
//! PagerDuty of a deploy can tell this shop of it, too.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use garde::Validate;
use pool::Class;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::ApiError;
use super::extract::{self, one_line};
use super::ops::Operator;
use crate::app::App;
use crate::watch::changes::{self, Change, ChangeError, Kind};

/// The address of changes.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(report))
}

impl From<ChangeError> for ApiError {
    fn from(err: ChangeError) -> Self {
        match err {
            ChangeError::Summary => Self::field("payload.summary", err.to_string()),
            ChangeError::Source => Self::field("payload.source", err.to_string()),
            ChangeError::Time => Self::field("payload.timestamp", err.to_string()),
            ChangeError::Body => Self::field("payload.custom_details", err.to_string()),
            ChangeError::Pool(err) => err.into(),
            ChangeError::Database(err) => crate::store::StoreError::from(err).into(),
        }
    }
}

/// A change event. Members that are not named here are ignored.
#[derive(Deserialize, Validate, ToSchema)]
struct ChangeEvent {
    /// Ignored: the bearer token says who may.
    #[garde(length(chars, max = 100))]
    #[schema(max_length = 100, pattern = r"^[^\u0000]*$")]
    #[serde(default)]
    routing_key: String,
    /// What was changed.
    #[garde(dive)]
    payload: Payload,
    /// Where to read more.
    #[garde(length(max = 20), dive)]
    #[schema(max_items = 20)]
    #[serde(default)]
    links: Vec<Link>,
}

/// What was changed.
#[derive(Deserialize, Validate, ToSchema)]
struct Payload {
    /// In a few words.
    #[garde(length(chars, min = 1, max = changes::LONGEST_SUMMARY), custom(one_line))]
    #[schema(
        min_length = 1,
        max_length = 1024,
        example = "deployed 1.4.2",
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$"
    )]
    summary: String,
    /// When, in RFC 3339: within the last 30 days; now if absent.
    #[schema(format = DateTime)]
    #[garde(custom(moment))]
    timestamp: Option<String>,
    /// Where it was changed.
    #[garde(length(chars, max = changes::LONGEST_SOURCE), custom(one_line))]
    #[schema(
        max_length = 255,
        example = "ci",
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$"
    )]
    #[serde(default)]
    source: String,
    /// Anything else, at most 16 KiB with the links. `kind` in here is `deploy`, `job`, `config`, `migration` or `other`; without it
    /// the summary's words decide.
    #[garde(skip)]
    #[serde(default)]
    #[schema(value_type = Object)]
    custom_details: Map<String, Value>,
}

/// Where to read more.
#[derive(Deserialize, Serialize, Validate, ToSchema)]
struct Link {
    /// Its address.
    #[garde(length(chars, min = 1, max = 2000), custom(web_address))]
    #[schema(
        min_length = 7,
        max_length = 2000,
        example = "https://ci.example.org/build/17",
        pattern = r"^https?://[^\s\u0000-\u001f\u007f-\u009f]*$"
    )]
    href: String,
    /// What is there.
    #[garde(length(chars, max = 255), custom(one_line))]
    #[schema(
        max_length = 255,
        example = "build 17",
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$"
    )]
    #[serde(default)]
    text: String,
}

/// The answer that PagerDuty's clients expect.
#[derive(Serialize, ToSchema)]
struct Accepted {
    status: &'static str,
    message: &'static str,
}

/// Report that something was deployed, scheduled or configured.
#[utoipa::path(post, path = "/ops/changes", tag = "operations", request_body = ChangeEvent,
    security(("bearer" = [])), responses((status = ACCEPTED, body = Accepted)))]
async fn report(
    State(app): State<App>,
    _: Operator,
    extract::Json(event): extract::Json<ChangeEvent>,
) -> Result<(StatusCode, Json<Accepted>), ApiError> {
    let now = Utc::now();
    let change = event.into_change(now);
    app.pool
        .run(Class::Background, async |conn| {
            changes::add(conn, &change, now).await
        })
        .await?;
    let accepted = Accepted {
        status: "success",
        message: "Change event processed",
    };
    Ok((StatusCode::ACCEPTED, Json(accepted)))
}

impl ChangeEvent {
    fn into_change(self, now: DateTime<Utc>) -> Change {
        let payload = self.payload;
        let said = payload.custom_details.get("kind");
        let said = said.and_then(|kind| serde_json::from_value(kind.clone()).ok());
        Change {
            at: payload.timestamp.as_deref().and_then(parse).unwrap_or(now),
            kind: said.unwrap_or_else(|| Kind::of_words(&payload.summary)),
            summary: payload.summary,
            source: payload.source,
            body: json!({"custom_details": payload.custom_details, "links": self.links}),
        }
    }
}

/// PagerDuty's own examples write the offset without a colon.
fn parse(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%z"))
        .ok()
        .map(|at| at.to_utc())
}

fn moment(text: &Option<String>, _: &()) -> garde::Result {
    match text.as_deref().map(parse) {
        Some(None) => Err(garde::Error::new("write e.g. 2024-06-20T10:00:00Z")),
        _ => Ok(()),
    }
}

fn web_address(text: &str, _: &()) -> garde::Result {
    let is_web = text.starts_with("https://") || text.starts_with("http://");
    if is_web && !text.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Ok(());
    }
    Err(garde::Error::new("an http or https address is wanted"))
}
