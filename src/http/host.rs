//! The header `Host`, as RFC 9112 (3.2) wants it: a request that leaves open which host is meant is for
//! nobody, and proxies on the way would not agree whose it is.

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderValue, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::{ApiError, Kind};

/// Refuses a request of HTTP/1.1 without exactly one `Host`, and of any version with one that is none.
pub(super) async fn required(request: Request, next: Next) -> Response {
    match objection(&request) {
        Some(detail) => ApiError::new(Kind::MALFORMED, detail).into_response(),
        None => next.run(request).await,
    }
}

fn objection(request: &Request) -> Option<&'static str> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version() == Version::HTTP_11 => {
            Some("A request of HTTP/1.1 has the header Host.")
        }
        (Some(_), Some(_)) => Some("The header Host is there more than once."),
        (Some(host), None) if !is_host(host) => {
            Some("The header Host is not a host's name or address with or without a port.")
        }
        _ => None,
    }
}

/// A host with or without a port; empty where the client has none to name.
fn is_host(host: &HeaderValue) -> bool {
    if host.is_empty() {
        return true;
    }
    let authority = Authority::try_from(host.as_bytes());
    // It may have a user's name, which is no part of a host.
    authority.is_ok_and(|authority| !authority.as_str().contains('@'))
}
