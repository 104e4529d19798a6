//! Headers that every answer has, unless whoever made it has set its own.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::Response;

/// Nothing is loaded, run or framed: right for everything that is no page.
const NOTHING: HeaderValue =
    HeaderValue::from_static("default-src 'none'; base-uri 'none'; frame-ancestors 'none'");
/// What the page of the API's documentation needs: its own files, its inline styles, and images that are
/// part of them.
const DOCUMENTATION: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; \
     form-action 'self'; frame-ancestors 'none'",
);

/// No page uses a camera, a payment sheet or any other of these.
const PERMISSIONS: HeaderValue = HeaderValue::from_static(
    "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), magnetometer=(), \
     microphone=(), midi=(), payment=(), publickey-credentials-get=(), screen-wake-lock=(), usb=(), \
     web-share=(), xr-spatial-tracking=()",
);

const COMMON: [(HeaderName, HeaderValue); 7] = [
    // Answers are for whoever asked: products, too, change with every order.
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    ),
    // For browsers that do not know `frame-ancestors`.
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    // A page that opens one of ours, or is opened by it, gets no hold of it.
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    // For what reads PDF and Flash policies.
    (
        HeaderName::from_static("x-permitted-cross-domain-policies"),
        HeaderValue::from_static("none"),
    ),
];

/// Once a browser has seen the service over TLS, it does not come without for a year.
const TLS_ONLY: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Adds to `response` what it lacks. `over_tls`: clients reach the service over TLS.
pub(super) async fn complete<B>(
    State(over_tls): State<bool>,
    mut response: Response<B>,
) -> Response<B> {
    let headers = response.headers_mut();
    name_charset(headers);
    for (name, value) in COMMON {
        headers.entry(name).or_insert(value);
    }
    if over_tls {
        headers
            .entry(header::STRICT_TRANSPORT_SECURITY)
            .or_insert(TLS_ONLY);
    }
    let policy = if is_page(headers) {
        let permissions = HeaderName::from_static("permissions-policy");
        headers.entry(permissions).or_insert(PERMISSIONS);
        DOCUMENTATION
    } else {
        NOTHING
    };
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(policy);
    response
}

/// All text is UTF-8; not every library says so.
fn name_charset(headers: &mut HeaderMap) {
    let Some(kind) = headers.get_mut(header::CONTENT_TYPE) else {
        return;
    };
    let text = kind.to_str().ok().filter(|kind| kind.starts_with("text/"));
    let named = text.filter(|kind| !kind.contains("charset"));
    let named = named.map(|kind| HeaderValue::try_from(format!("{kind}; charset=utf-8")));
    if let Some(Ok(named)) = named {
        *kind = named;
    }
}

/// The start page and links in messages bring their own, stricter policy.
fn is_page(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.starts_with("text/html")
}
