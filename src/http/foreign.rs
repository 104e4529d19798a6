//! Errors that libraries answer with (a router, a file server, the compression) become problem documents,
//! as all others are.

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::error::{ApiError, Kind, PROBLEM};

/// Replaces the body of an error that is neither a problem document nor a page or report of ours.
pub(super) async fn as_problem(response: Response) -> Response {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    // The compression turns an answer that was ready into a refusal.
    if !is_error || (is_ours(response.headers()) && status != StatusCode::NOT_ACCEPTABLE) {
        return response;
    }
    let mut problem = ApiError::new(kind(status), "").into_response();
    // Such as the methods that are allowed.
    for (name, value) in response.headers() {
        if !name.as_str().starts_with("content-") {
            problem.headers_mut().insert(name, value.clone());
        }
    }
    problem
}

fn is_ours(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    [PROBLEM, "application/json", "text/html"]
        .iter()
        .any(|ours| kind.starts_with(ours))
}

fn kind(status: StatusCode) -> Kind {
    const KNOWN: [Kind; 7] = [
        Kind::MALFORMED,
        Kind::NOT_FOUND,
        Kind::METHOD_NOT_ALLOWED,
        Kind::NOT_ACCEPTABLE,
        Kind::TOO_SLOW,
        Kind::TOO_LARGE,
        Kind::INTERNAL,
    ];
    let known = KNOWN.into_iter().find(|kind| kind.status == status);
    // RFC 9457's name for a problem that is no more than its status.
    known.unwrap_or(Kind {
        uri: "about:blank",
        title: status.canonical_reason().unwrap_or("Error"),
        status,
    })
}
