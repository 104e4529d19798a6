//! The files of `static/`, served from the binary.

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rust_embed::{EmbeddedFile, RustEmbed};

use super::error::ApiError;
use super::extract::Path;
use crate::app::App;

/// Scripts, styles and data come from here alone; product images may come from any HTTPS address.
/// Nothing inline runs, so text that finds its way into a page cannot either.
const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; img-src 'self' https:; base-uri 'none'; form-action 'self'; \
     frame-ancestors 'none'",
);
/// Browsers ask every time whether the file has changed; the answer is mostly 304.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("no-cache");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

#[derive(RustEmbed)]
#[folder = "static/"]
struct Files;

/// `/`, and the files of `static/` under `/static/`.
pub fn router() -> Router<App> {
    Router::new()
        .route(
            "/",
            get(async |headers: HeaderMap| serve("index.html", &headers)),
        )
        .route("/static/{*path}", get(file))
}

async fn file(Path(path): Path<String>, headers: HeaderMap) -> Response {
    serve(&path, &headers)
}

fn serve(path: &str, request: &HeaderMap) -> Response {
    let Some(file) = Files::get(path) else {
        return ApiError::not_found("page").into_response();
    };
    let etag = etag(&file);
    let mut response = if is_known(request, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        file.data.into_response()
    };
    let headers = response.headers_mut();
    // Text types carry their character set; the others are what they are.
    let kind = mime_guess::from_path(path).first_or_octet_stream();
    let kind = match kind.type_() {
        mime_guess::mime::TEXT => format!("{kind}; charset=utf-8"),
        _ => kind.to_string(),
    };
    for (name, value) in [(header::CONTENT_TYPE, kind), (header::ETAG, etag)] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    headers.insert(header::CACHE_CONTROL, CACHE_CONTROL);
    headers.insert(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    response
}

/// The beginning of the file's SHA-256: files of different content have different tags. Weak, because the
/// compressed file has the same.
fn etag(file: &EmbeddedFile) -> String {
    let hash = file.metadata.sha256_hash();
    let start = hash.iter().take(16).map(|byte| format!("{byte:02x}"));
    format!("W/\"{}\"", start.collect::<String>())
}

/// Whether the browser already has the file with this tag.
fn is_known(request: &HeaderMap, etag: &str) -> bool {
    let tags = request.get_all(header::IF_NONE_MATCH);
    let tags = tags.iter().filter_map(|value| value.to_str().ok());
    tags.flat_map(|value| value.split(','))
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|tag| tag == etag.trim_start_matches("W/") || tag == "*")
}
